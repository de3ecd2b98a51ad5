"""Handlers: methods that take a worker's messages, by the message's type and the payload's kind.

MessageRefusedError   no handler takes it, or its payload is not as it must be: a dead letter at once

A message is delivered at least once. Its handler runs, then it is acknowledged: a process that dies between
the two leaves a message that is handled again, by its heir. So a handler's effects either bear a second time
(a row with a key of its own, `dedupe_key` on what it sends) or go through the ledger, which acts once. An
answer that a handler returns goes to the sender with the acknowledgement, in one transaction: it is given
once.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import isnan
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from coordination.messages import Message, MessageType, Reply
from workers.errors import RegistryError, WorkerError

Method = TypeVar("Method", bound=Callable[..., Reply | None])

LEASE_S: Final = 300.0
"""The least that a message is held for without a tick of its handler. The dead lose theirs at once."""
FIRST_RETRY_S: Final = 10.0
LAST_RETRY_S: Final = 600.0
LONGEST_PUT_OFF_S: Final = 30 * 86_400.0
"""Nothing is put off for longer, whatever a handler or a limit says."""

_HANDLES = "__handles__"


class MessageRefusedError(WorkerError):
    """A message that can't be handled however often it is delivered."""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """One method of a worker and the messages that it takes."""

    method: str
    takes: MessageType
    model: type[BaseModel]

    @property
    def kind(self) -> str | None:
        """The payload's `kind` that the model has, None where it has none: then it takes the whole type."""
        field = self.model.model_fields.get("kind")
        return field.default if field is not None and isinstance(field.default, str) else None

    def __str__(self) -> str:
        return f"{self.takes} of kind {self.kind}" if self.kind else self.takes


def handles(type: MessageType, model: type[BaseModel]) -> Callable[[Method], Method]:  # noqa: A002  see Message
    """Mark a method `(self, message, payload)` as the handler of a type of message, its payload as `model`.

    A model with a default `kind` takes only payloads of that kind, so that one type may have many handlers.
    """

    def mark(method: Method) -> Method:
        setattr(method, _HANDLES, (type, model))
        return method

    return mark


Handlers = Mapping[tuple[str, str | None], Handler]


@cache
def find(kind: type) -> Handlers:
    """Give the handlers of a worker's class, by type and kind.

    Raises:
        RegistryError: two methods take the same.
    """
    found: dict[tuple[str, str | None], Handler] = {}
    for name, method in inspect.getmembers(kind, callable):
        marked = getattr(method, _HANDLES, None)
        if marked is None:
            continue
        handler = Handler(method=name, takes=marked[0], model=marked[1])
        key = (handler.takes, handler.kind)
        if key in found:
            raise RegistryError(f"{kind.__name__}.{name} and .{found[key].method} both take {handler}")
        found[key] = handler
    return found


def choose(handlers: Handlers, message: Message) -> Handler | None:
    """Give the handler of a message: that of its kind, else that of its whole type."""
    kind = message.payload.get("kind")
    own = handlers.get((message.type, kind)) if isinstance(kind, str) else None
    return own or handlers.get((message.type, None))


def handle(worker: object, handlers: Handlers, message: Message) -> Reply | None:
    """Run the handler of a message; give its answer, if it has one.

    Raises:
        MessageRefusedError: no handler takes it, or its payload is not as it must be: never again.
        Exception: whatever the handler raises.
    """
    handler = choose(handlers, message)
    if handler is None:
        kind, taken = message.payload.get("kind"), ", ".join(sorted(str(one) for one in handlers.values()))
        raise MessageRefusedError(
            f"{message.type} of kind {kind!r} has no handler: taken are {taken or 'none at all'}"
        )
    try:
        payload = handler.model.model_validate(message.payload)
    except ValidationError as error:
        raise MessageRefusedError(f"the payload is no {handler.model.__name__}: {_faults(error)}") from None
    answer = getattr(worker, handler.method)(message, payload)
    return answer if isinstance(answer, Reply) else None


def retry_in_s(attempt: int) -> float:
    """Seconds of fleet time until the next delivery, after the `attempt`-th failed: 10, 20, 40 ... 600."""
    return min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt - 1, 16))


def put_off_s(wanted_s: float | None) -> float:
    """Seconds of fleet time by which work is put off: those wanted, from 0 to 30 days; 10 without any."""
    if wanted_s is None or isnan(wanted_s):
        return FIRST_RETRY_S
    return min(max(wanted_s, 0.0), LONGEST_PUT_OFF_S)


def _faults(error: ValidationError) -> str:
    def place(location: tuple[int | str, ...]) -> str:
        return ".".join(str(part) for part in location) or "payload"

    def told(value: Any) -> str:
        return repr(value)[:100]

    return "; ".join(
        f"{place(fault['loc'])} is {told(fault['input'])}: {fault['msg']}" for fault in error.errors()
    )
