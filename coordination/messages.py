"""Messages: what one worker tells another: leased, acknowledged, and a dead letter when it fails.

A message is delivered at least once: who dies between its effect and the acknowledgement leaves it to an
heir, who gets it again. An answer that is given with the acknowledgement is given once; every other effect
must bear a second time.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

from coordination.answers import with_moments
from coordination.database import Database, Json
from coordination.engagement import Priority
from coordination.errors import FleetError, LockLostError
from coordination.ids import number_of
from coordination.plain import plain
from coordination.session import Session, wake

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
Complexity = Literal["simple", "moderate", "complex"]


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
class Reply:
    """An answer to a message, which goes to its sender together with the acknowledgement.

    Attributes:
        payload: what it says.
        type: None: the message's own.
        priority: None: the message's own.
        ttl_s: seconds of fleet time for which it may wait.
    """

    payload: Mapping[str, Any]
    type: MessageType | None = None
    priority: Priority | None = None
    ttl_s: float = 3600


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """What became of a rejected message: `waiting`, due in `wait_s` real seconds, or `dead`."""

    state: Literal["waiting", "dead"]
    wait_s: float | None


@dataclass(frozen=True, kw_only=True)
class Escalated:
    """What was done about something urgent.

    Attributes:
        raised: whether its priority rose.
        priority: what it is now; None where it is over.
        alerted: whether a person was told.
    """

    raised: bool
    priority: Priority | None
    alerted: bool


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
        recipient: str | None,
        payload: Mapping[str, Any],
        *,
        to: Literal["worker", "role"] = "worker",
        priority: Priority | None = None,
        reply_to: str | None = None,
        dedupe_key: str | None = None,
        ttl_s: float = 3600,
        max_attempts: int = 5,
    ) -> str:
        """Send to a worker by name, or to whichever has a role; give the message's id.

        The same `dedupe_key` to the same recipient gives the message that is there. A role's message waits
        for the coordinator; one that nobody can take within `ttl_s` of fleet time is a dead letter.

        Args:
            type: what sort of message it is; it says which fields the payload must have.
            recipient: the worker or role; None with `to="role"`: the role that the payload's route names.
            payload: what it says.
            to: what the recipient is.
            priority: None: the route's, else the type's.
            reply_to: the message that it answers.
            dedupe_key: makes it one message however often it is sent.
            ttl_s: seconds of fleet time for which it may wait.
            max_attempts: deliveries after which it is a dead letter.
        """
        answer = self._session.call(
            "send_message",
            type=type,
            recipient=recipient,
            payload=Json(plain(payload)),
            recipient_kind=to,
            priority=priority,
            reply_to=reply_to,
            dedupe_key=dedupe_key,
            ttl_s=float(ttl_s),
            max_attempts=max_attempts,
        )
        if answer["created"]:
            self._wake(COORDINATOR if to == "role" else answer["recipient"] + MAIL)
        return str(answer["id"])

    def delegate(
        self,
        payload: Mapping[str, Any],
        *,
        urgency: Priority = "medium",
        complexity: Complexity = "moderate",
        reply_to: str | None = None,
        dedupe_key: str | None = None,
        ttl_s: float = 3600,
        max_attempts: int = 5,
    ) -> str:
        """Give a task to whoever the route of its kind names; its priority follows from the two words."""
        answer = self._session.call(
            "delegate_task",
            payload=Json(plain(payload)),
            urgency=urgency,
            complexity=complexity,
            reply_to=reply_to,
            dedupe_key=dedupe_key,
            ttl_s=float(ttl_s),
            max_attempts=max_attempts,
        )
        if answer["created"]:
            self._wake(COORDINATOR)
        return str(answer["id"])

    def broadcast(
        self,
        type: MessageType,  # noqa: A002  the protocol's own word
        payload: Mapping[str, Any],
        *,
        priority: Priority | None = None,
        dedupe_key: str | None = None,
        ttl_s: float = 3600,
        max_attempts: int = 5,
    ) -> tuple[str, ...]:
        """Send to every worker that is enabled or runs; give the ids of the messages made.

        A worker that starts within `ttl_s` of fleet time gets it too. None when all have that key.
        """
        answer = self._session.call(
            "broadcast_message",
            type=type,
            payload=Json(plain(payload)),
            priority=priority,
            dedupe_key=dedupe_key,
            ttl_s=float(ttl_s),
            max_attempts=max_attempts,
        )
        for made in answer:
            self._wake(made["worker"] + MAIL)
        return tuple(made["id"] for made in answer)

    def claim(self, n: int = 1, lease_s: float = 300, *, sleeps: bool = True) -> list[Message]:
        """Take up to `n` due messages of this worker: higher priority first, then older.

        A step of priority is worth ten minutes of waiting. Where there are none, who asks counts as asleep
        and is woken by the next message, unless it says with `sleeps=False` that it looks again soon.
        """
        answer = self._session.call("claim_messages", n=n, lease_s=float(lease_s), sleeps=sleeps)
        return [Message(**with_moments(message, "sent_at", "expires_at")) for message in answer]

    def renew(self, message: Message, lease_s: float = 300) -> datetime:
        """Keep it for `lease_s` real seconds from now; give the lease's new end, in real time."""
        answer = self._report("renew_message", message, lease_s=float(lease_s))
        return datetime.fromisoformat(answer["lease_expires_at"])

    def acknowledge(self, message: Message, reply: Reply | None = None) -> str | None:
        """Report that it is done: nobody gets it again. Give the id of the reply, if there is one.

        The reply goes to the sender in the same transaction: both are, or neither.
        """
        told = None
        if reply is not None:
            told = {"payload": plain(reply.payload), "type": reply.type, "priority": reply.priority}
            told["ttl_s"] = str(
                float(reply.ttl_s)
            )  # a text may say nan, which is refused by name; JSON can't
        answer = self._report("acknowledge_message", message, reply=None if told is None else Json(told))
        if answer["reply"] is not None:
            self._wake(answer["to"] + MAIL)
        return answer["reply"]

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
        answer = self._report(
            "reject_message",
            message,
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

    def escalate_waiting(self, n: int = 100) -> list[str]:
        """Raise what nobody took in half of its time, and alert; give the ids. For the coordinator."""
        return [str(one["id"]) for one in self._session.call("escalate_messages", n=n)]

    def escalate(self, kind: str, id: str, reason: str, priority: Priority | None = None) -> Escalated:  # noqa: A002
        """Raise the priority of what is urgent: a `message` or `job` by its id; at critical alert a person.

        Without `priority` it rises by one step. What is of another kind is told alone.
        """
        return Escalated(
            **self._session.call("escalate", kind=kind, id=id, reason=plain(reason), priority=priority)
        )

    def _report(self, function: LiteralString, message: Message, **arguments: Any) -> Any:
        """Report on a held message. One that comes with a lost lease is counted: that is a second call."""
        number = int(message.id)
        try:
            return self._session.call(function, message=number, lease=message.lease, **arguments)
        except LockLostError:
            with suppress(FleetError):  # a count that is missed changes nothing for who lost the lease
                self._session.call("count_late_report", message=number, lease=message.lease)
            raise

    def _wake(self, name: str) -> None:
        wake(self._session.database, name)


def list_messages(
    database: Database, *, state: str | None = None, recipient: str | None = None, n: int = 50
) -> list[dict[str, Any]]:
    """Give the newest messages, newest first: of one state, to one worker or role, or all."""
    return database.rows("list_messages", state=state, recipient=recipient, number=n)


def get_message(database: Database, message_id: str) -> dict[str, Any] | None:
    """Give one message with its payload and every error; None when there is none.

    Raises:
        InvalidValueError: that can be no id.
    """
    return next(iter(database.rows("get_message", message=number_of(message_id, "message"))), None)


def get_message_status(database: Database, hours: float = 24) -> dict[str, Any]:
    """Give what waits, for how long, how fast it is delivered and what failed. One round trip; locks nothing.

    Args:
        database: any role's but the maintainer's.
        hours: how far back, in fleet time, ended messages and conflicts are counted.
    """
    return dict(database.call("get_message_status", hours=float(hours)))


def replay(database: Database, message_id: str, *, actor: str, reason: str) -> dict[str, Any]:
    """A person sends a dead letter once more: attempts and time to live begin anew. Audited.

    Raises:
        InvalidValueError: there is no such message.
        TransitionRefusedError: it is not dead.
    """
    number = number_of(message_id, "message")
    answer = database.call("replay_message", message=number, actor=actor, reason=reason)
    to_role = answer["recipient_kind"] == "role"
    wake(database, COORDINATOR if to_role else answer["recipient"] + MAIL)
    return dict(answer)
