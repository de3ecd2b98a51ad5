"""Orders: what a person may send with the console's token, read from a request's body and checked.

Types and lengths are checked here; which workers, slots and hosts there are, and what an action may be given,
is the database's to know: its refusal names field, value and what is allowed just the same.
"""

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, StringConstraints, ValidationError
from starlette.requests import Request

from console.answers import RefusedError, bad_value
from coordination.desired import Action

MAX_BODY_BYTES = 16_384
MAX_TIMEOUT_S = 86_400
_LINE = r"^[^\x00-\x1f\x7f]{1,%d}$"
_REASON = "a sentence of 1 to 1000 characters, without control characters, that says why"

Reason = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, pattern=_LINE % 1000)]
Word = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, pattern=_LINE % 200)]


class Order(BaseModel):
    """The body of a POST. `allowed` says for each field what it may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed: ClassVar[Mapping[str, str]]


class KillSwitchOrder(Order):
    """The body of `POST /api/kill-switch`."""

    allowed: ClassVar[Mapping[str, str]] = {"on": "true or false", "reason": _REASON}

    on: StrictBool
    reason: Reason


class CommandOrder(Order):
    """The body of `POST /api/commands`.

    Attributes:
        selector: `worker`, `worker/slot` or `*`; None with a host means what that host holds.
        args: what the action needs beside it, as `replicas` of scale.
        idempotency_key: the same key again gives the first answer again, and changes nothing.
        timeout_s: how long its parts may wait to be done, in seconds; None means the database's own.
    """

    allowed: ClassVar[Mapping[str, str]] = {
        "action": f"one of {', '.join(get_args(Action))}",
        "selector": "a worker, worker/slot or *",
        "host": "a host's name",
        "args": "a JSON object",
        "reason": _REASON,
        "idempotency_key": "1 to 200 characters of your own, without control characters",
        "timeout_s": f"a number of seconds above 0, at most {MAX_TIMEOUT_S}",
    }

    action: Action
    selector: Word | None = None
    host: Word | None = None
    args: Annotated[dict[str, JsonValue], Field(strict=True)] = {}
    reason: Reason
    idempotency_key: Word | None = None
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, strict=True, allow_inf_nan=False)] | None = None


class Acknowledgement(Order):
    """The body of `POST /api/alerts/ID/ack`."""

    allowed: ClassVar[Mapping[str, str]] = {"reason": _REASON}

    reason: Reason


OrderT = TypeVar("OrderT", bound=Order)


def require_token(request: Request, token_file: Path) -> None:
    """Refuse a request that doesn't carry what the token's file holds now."""
    try:
        token = token_file.read_bytes().strip()
    except OSError:
        token = b""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token)
    if not (token and same and scheme.lower() == "bearer"):
        raise RefusedError(
            401,
            "Authorization is missing or wrong: send 'Bearer ' and what console.token "
            "in the state directory holds",
            headers={"www-authenticate": "Bearer"},
        )


async def read_order(request: Request, kind: type[OrderT]) -> OrderT:
    """Read a body of that kind; raise `RefusedError` that names the first field that can't be used."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RefusedError(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        return kind.model_validate(
            json.loads(body, object_pairs_hook=_each_once, parse_constant=_no_such_number)
        )
    except ValidationError as error:
        raise _refusal(error, kind, body) from None
    except (ValueError, RecursionError):
        raise _bad_body(kind, body) from None


def _refusal(error: ValidationError, kind: type[Order], body: bytes) -> RefusedError:
    fault = error.errors(include_url=False)[0]
    field = str(fault["loc"][0]) if fault["loc"] else "body"
    if field == "body":
        return _bad_body(kind, body)
    if fault["type"] == "extra_forbidden":
        return bad_value("field", field, _fields(kind))
    return bad_value(field, None if fault["type"] == "missing" else fault["input"], kind.allowed[field])


def _bad_body(kind: type[Order], body: bytes) -> RefusedError:
    return bad_value("body", body.decode(errors="replace"), f"a JSON object with {_fields(kind)}")


def _fields(kind: type[Order]) -> str:
    *some, last = kind.model_fields
    return f"{', '.join(some)} and {last}" if some else last


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: who reads the first and who reads the last would differ."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise bad_value(name, "given twice", "each field once")
    return dict(pairs)


def _no_such_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
