"""Conflicts: where workers got in each other's way, counted, and settled with a reason that is kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from coordination.answers import with_moments
from coordination.database import Database, Json
from coordination.engagement import Priority
from coordination.ids import number_of
from coordination.messages import MAIL
from coordination.plain import plain
from coordination.session import Session, wake

ConflictKind = Literal["resource", "priority", "schedule", "state"]
Strategy = Literal["priority", "first_come", "equal_shares", "newest", "person"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Who wants a thing.

    Attributes:
        worker: its name.
        priority: of what it wants to do.
        since: when it first asked; None: it can't prove that, and comes after those who can.
        version: of the state that it has; for a conflict of states alone.
    """

    worker: str
    priority: Priority = "medium"
    since: datetime | None = None
    version: int | None = None

    def told(self) -> dict[str, Any]:
        """Give it as the database takes it."""
        given: dict[str, Any] = {"worker": self.worker, "priority": self.priority}
        if self.since is not None:
            given["since"] = self.since.isoformat()
        if self.version is not None:
            given["version"] = self.version
        return given


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """A conflict and how it was settled.

    Attributes:
        state: `open` until a person has decided.
        strategy: what told the contenders apart.
        winner: None where they share, or nobody has decided yet.
        grants: each contender with its `place`, best first; also its `share`, or its `wait_s` after the
            first.
        reason: why so, in words.
        decided_at: fleet time.
    """

    id: str
    kind: ConflictKind
    thing: str
    state: Literal["decided", "open"]
    strategy: Strategy
    winner: str | None
    grants: list[dict[str, Any]]
    reason: str
    decided_by: str | None
    decided_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Contention:
    """What is contended at `at` (fleet time), and what happened since the time that was asked for.

    Attributes:
        at: fleet time of the count: the next one's `since`.
        real_at: the same moment in real time.
        engaged_before: sends that were refused since somebody had engaged the content.
        late_reports: senders that reported when their act was somebody else's already.
        redelivered: messages that are delivered again since their holder ended.
        locks_held: engagement locks held now.
    """

    at: datetime
    real_at: datetime
    engaged_before: int
    late_reports: int
    redelivered: int
    locks_held: int


class Conflicts:
    """The coordinator's counts and settlements."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def count(self, since: datetime | None = None) -> Contention:
        """Count what happened since then, by default in the last hour of fleet time.

        One round trip; locks nothing.
        """
        return Contention(**with_moments(self._session.call("count_conflicts", since=since), "at", "real_at"))

    def resolve(
        self,
        key: str,
        kind: ConflictKind,
        thing: str,
        contenders: Iterable[Contender],
        *,
        asked_by: str | None = None,
        asked_at: datetime | None = None,
        capacity: float | None = None,
        spacing_s: float = 60,
    ) -> Settlement:
        """Settle a conflict: by priority, then who came first, then equal shares, else a person does.

        One round trip, and one for each party that is told. Every party gets the settlement as a message.

        Args:
            key: one settlement however often it is asked for.
            kind: of a state the highest version holds; times that collide go one after the other.
            thing: what they contend for.
            contenders: 2 to 100, each worker once.
            asked_by: the worker that asked; None: this one.
            asked_at: when, in fleet time; None: now.
            capacity: what there is of the thing where it can be divided; None: it can't.
            spacing_s: seconds between two in a conflict of schedules.

        Raises:
            InvalidValueError: names the field and what is allowed.
        """
        answer = self._session.call(
            "resolve_conflict",
            key=key,
            kind=kind,
            thing=plain(thing),
            contenders=Json(plain([one.told() for one in contenders])),
            asked_by=asked_by,
            asked_at=asked_at,
            capacity=None if capacity is None else float(capacity),
            spacing_s=float(spacing_s),
        )
        return _settled(self._session.database, answer)


def decide_conflict(
    database: Database, conflict_id: str, winner: str, *, actor: str, reason: str
) -> Settlement:
    """A person decides an open conflict. Audited; told to all parties, its alert taken back.

    Raises:
        InvalidValueError: there is no such conflict, or the winner doesn't contend.
        TransitionRefusedError: it is decided already.
    """
    number = number_of(conflict_id, "conflict")
    answer = database.call("decide_conflict", conflict=number, winner=winner, actor=actor, reason=reason)
    return _settled(database, answer)


def list_conflicts(database: Database, *, state: str | None = None, n: int = 50) -> list[dict[str, Any]]:
    """Give the newest conflicts, newest first: of one state, or all. Locks nothing."""
    return database.rows("list_conflicts", state=state, number=n)


def _settled(database: Database, answer: Mapping[str, Any]) -> Settlement:
    for party in answer["wake"]:
        wake(database, party + MAIL)
    settled = with_moments(answer, "decided_at")
    del settled["wake"]
    return Settlement(**settled)
