"""Messages: what one worker tells another: leased, acknowledged, and a dead letter when it fails.

A message is delivered at least once: who dies between its effect and the acknowledgement leaves it to an
heir, who gets it again. Effects must bear that.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from coordination.answers import with_moments
from coordination.database import Database, Json
from coordination.engagement import Priority
from coordination.errors import InvalidValueError
from coordination.plain import plain
from coordination.session import Session

COORDINATOR = "coordination"
"""The worker that routes what is sent to a role."""
STATES = ("waiting", "claimed", "acknowledged", "dead")
"""Every state of a message, as the table's own check has them."""
MAIL = "/messages"
"""How a wake-up ends that says: look for messages. One without it asks for the worker's step."""

MessageType = Literal[
    "TASK_DELEGATION",
    "RESOURCE_REQUEST",
    "CONFLICT_RESOLUTION",
    "STATE_SYNC",
    "SYSTEM_EVENT",
    "PRIORITY_ESCALATION",
]


@dataclass(frozen=True, kw_only=True)
class Message:
    """A claimed message; every report on it carries `lease`. Times are fleet time.

    Attributes:
        id: its id, for `reply_to`.
        type: one of `MessageType`.
        sender: the sending worker's name: an answer goes there.
        to: `worker`, `role` or `all` (a broadcast).
        payload: what it says.
        attempt: the number of this delivery, from 1.
        lease: the number that every report on it must carry.
    """

    id: str
    type: MessageType
    sender: str
    to: Literal["worker", "role", "all"]
    payload: dict[str, Any]
    priority: Priority
    reply_to: str | None
    attempt: int
    lease: int
    sent_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """What became of a rejected message: `waiting`, due in `wait_s` real seconds, or `dead`."""

    state: Literal["waiting", "dead"]
    wait_s: float | None


@dataclass(frozen=True, kw_only=True)
class Routed:
    """A role's message and the worker that got it."""

    id: str
    role: str
    worker: str


class Messages:
    """Sends and receives for one worker. A method is one round trip, and one more where it wakes somebody.

    Refused values raise `InvalidValueError`; reports with a lost lease raise `LockLostError`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def send(
        self,
        type: MessageType,  # noqa: A002  the protocol's own word
        recipient: str,
        payload: Mapping[str, Any],
        *,
        to: Literal["worker", "role"] = "worker",
        priority: Priority = "medium",
        reply_to: str | None = None,
        dedupe_key: str | None = None,
        ttl_s: float = 3600,
        max_attempts: int = 5,
    ) -> str:
        """Send to a worker by name, or to whichever has a role; give the message's id.

        The same `dedupe_key` to the same recipient gives the message that is there. A role's message waits
        for the coordinator; one that nobody can take within `ttl_s` of fleet time is a dead letter.
        """
        answer = self._session.call(
            "send_message",
            type=type,
            recipient=recipient,
            payload=_checked(payload),
            recipient_kind=to,
            priority=priority,
            reply_to=reply_to,
            dedupe_key=dedupe_key,
            ttl_s=float(ttl_s),
            max_attempts=max_attempts,
        )
        if answer["created"]:
            self._wake(COORDINATOR if to == "role" else recipient + MAIL)
        return str(answer["id"])

    def broadcast(
        self,
        type: MessageType,  # noqa: A002  the protocol's own word
        payload: Mapping[str, Any],
        *,
        priority: Priority = "medium",
        dedupe_key: str | None = None,
        ttl_s: float = 3600,
        max_attempts: int = 5,
    ) -> tuple[str, ...]:
        """Send to every enabled worker; give the ids of the messages made: none when all have that key."""
        answer = self._session.call(
            "broadcast_message",
            type=type,
            payload=_checked(payload),
            priority=priority,
            dedupe_key=dedupe_key,
            ttl_s=float(ttl_s),
            max_attempts=max_attempts,
        )
        for made in answer:
            self._wake(made["worker"] + MAIL)
        return tuple(made["id"] for made in answer)

    def claim(self, n: int = 1, lease_s: float = 300) -> list[Message]:
        """Take up to `n` due messages of this worker: higher priority first, then older."""
        answer = self._session.call("claim_messages", n=n, lease_s=float(lease_s))
        return [Message(**with_moments(message, "sent_at", "expires_at")) for message in answer]

    def acknowledge(self, message: Message) -> None:
        """Report that it is done: nobody gets it again."""
        self._session.call("acknowledge_message", message=int(message.id), lease=message.lease)

    def reject(
        self, message: Message, error: str, retry_in_s: float | None = 30, *, counts: bool = True
    ) -> Rejected:
        """Report that it is not done.

        Args:
            message: as claimed.
            error: kept with the message.
            retry_in_s: seconds of fleet time until it is due again; None: a dead letter at once.
            counts: False where it was not the message's fault: the attempt is taken back, the error not kept.
        """
        answer = self._session.call(
            "reject_message",
            message=int(message.id),
            lease=message.lease,
            error=plain(error),
            retry_in_s=None if retry_in_s is None else float(retry_in_s),
            counts=counts,
        )
        return Rejected(**answer)

    def route(self, n: int = 100) -> list[Routed]:
        """Give up to `n` messages of roles to workers that have them, and wake those; for the coordinator."""
        routed = [Routed(**one) for one in self._session.call("route_messages", n=n)]
        for worker in sorted({one.worker for one in routed}):
            self._wake(worker + MAIL)
        return routed

    def expire(self) -> tuple[int, int]:
        """End what nobody took in time; give how many, and how many of those were broadcasts."""
        answer = self._session.call("expire_messages")
        return int(answer["expired"]), int(answer["broadcasts"])

    def _wake(self, name: str) -> None:
        # Outside the message's own transaction, as every wake-up: a lost one costs a poll, nothing more.
        self._session.database.call("wake", worker=name)


def list_messages(
    database: Database, *, state: str | None = None, recipient: str | None = None, n: int = 50
) -> list[dict[str, Any]]:
    """Give the newest messages, newest first: of one state, to one worker or role, or all."""
    return database.rows("list_messages", state=state, recipient=recipient, number=n)


def get_message(database: Database, message_id: str) -> dict[str, Any] | None:
    """Give one message with its payload and every error; None when there is none."""
    return next(iter(database.rows("get_message", message=int(message_id))), None)


def replay(database: Database, message_id: str, *, actor: str, reason: str) -> dict[str, Any]:
    """A person sends a dead letter once more: attempts and time to live begin anew. Audited.

    Raises:
        InvalidValueError: there is no such message.
        TransitionRefusedError: it is not dead.
    """
    answer = database.call("replay_message", message=int(message_id), actor=actor, reason=reason)
    to_role = answer["recipient_kind"] == "role"
    database.call("wake", worker=COORDINATOR if to_role else answer["recipient"] + MAIL)
    return dict(answer)


def _checked(payload: Mapping[str, Any]) -> Json:
    try:
        clean = plain(dict(payload))
        json.dumps(clean, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"payload is no JSON ({error}): allowed is a JSON object of at most 64 kB",
            field="payload",
            value=repr(payload)[:200],
            allowed="a JSON object of at most 64 kB",
        ) from None
    return Json(clean)
