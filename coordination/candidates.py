"""Candidates: the pool of posts worth engaging with, each with every part of its score."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from coordination.answers import with_moments
from coordination.database import Database, Json
from coordination.ids import number_of
from coordination.plain import plain
from coordination.session import Session

CANDIDATE_STATES = ("waiting", "taken", "proposed", "passed", "given_up")
"""Every state of a candidate, as the table's own check has them."""

Decision = Literal["proposed", "passed", "waiting"]


@dataclass(frozen=True, kw_only=True)
class Find:
    """A post offered to the pool.

    Attributes:
        platform_id: the platform's id of the post.
        author_id: the platform's id of who wrote it.
        handle: the author's username.
        topic: which of the account's topics it fits.
        origin: what found it: `search`, or the message that asked for it.
        posted_at: when it was written.
        metrics: its public counts when it was scored.
        score: 0 to 100.
        parts: every part of the score, with its inputs.
        replaces: weaker near-duplicates in the pool, which are given up for it.
    """

    platform_id: str
    author_id: str
    handle: str
    text: str
    topic: str
    origin: str
    posted_at: datetime
    metrics: Mapping[str, int]
    score: float
    parts: Mapping[str, object]
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What became of an offer: how many were added, scored anew, known and decided before, or kept outside.

    Attributes:
        fleet: by accounts of the fleet itself.
        opted_out: by people who asked to be left alone.
        given_up: what the offer put out of the pool.
    """

    added: int
    refreshed: int
    known: int
    fleet: int
    opted_out: int
    given_up: int


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate in this incarnation's hands until its lease is over."""

    platform_id: str
    author_id: str
    handle: str
    text: str
    topic: str
    origin: str
    posted_at: datetime
    score: float
    parts: Mapping[str, Any]
    metrics: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A text that a new find may be a copy of; `waiting` says whether a better copy may replace it."""

    platform_id: str
    text: str
    score: float
    waiting: bool


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The pool as it is.

    Attributes:
        now: fleet time.
        states: how many candidates are in each state.
        best: the highest score that waits; None when nothing does.
        oldest: when the oldest that waits was posted.
        proposed: what the calling worker proposed in the last 24 h, by action.
        posts: the texts in the pool, where they were asked for.
    """

    now: datetime
    states: Mapping[str, int]
    best: float | None
    oldest: datetime | None
    proposed: Mapping[str, int]
    posts: tuple[Pooled, ...] = field(default=())

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self.states.get("waiting", 0)


class Candidates:
    """The fleet's candidates. One round trip a call."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def offer(self, account: str, finds: Sequence[Find], *, pool_size: int) -> Offered:
        """Put up to 2000 finds into the pool, which keeps its size: the lowest scores are given up."""
        rows = [plain({**asdict(find), "posted_at": find.posted_at.isoformat()}) for find in finds]
        return Offered(
            **self._session.call("offer_candidates", account=account, finds=Json(rows), pool_size=pool_size)
        )

    def take(self, account: str, n: int, lease_s: float = 300, *, min_score: float = 0) -> list[Candidate]:
        """Take the `n` best that wait; what the dead held comes back first."""
        answer = self._session.call(
            "take_candidates", account=account, n=n, lease_s=float(lease_s), min_score=float(min_score)
        )
        return [Candidate(**with_moments(row, "posted_at")) for row in answer]

    def decide(
        self,
        account: str,
        platform_id: str,
        decision: Decision,
        *,
        reason: str | None = None,
        intent: str | None = None,
    ) -> bool:
        """Say what became of a taken one: `proposed` with its intent, `passed` with a reason, or `waiting`.

        False when this incarnation doesn't hold it any more; then nothing is changed.
        """
        return bool(
            self._session.call(
                "decide_candidate",
                account=account,
                platform_id=platform_id,
                decision=decision,
                reason=plain(reason),
                intent=None if intent is None else number_of(intent, "intent"),
            )
        )

    def give_up(self, account: str, *, max_age_h: float = 24, min_score: float = 0) -> dict[str, int]:
        """Give up what waits and is too old or too weak; give how many of each: `stale`, `weak`."""
        return dict(
            self._session.call(
                "give_up_candidates",
                account=account,
                max_age_h=float(max_age_h),
                min_score=float(min_score),
            )
        )

    def pool(self, account: str, *, posts: bool = False) -> Pool:
        """Say how the pool is."""
        answer = self._session.call("get_pool", account=account, posts=posts)
        texts = tuple(Pooled(**row) for row in answer.pop("posts"))
        return Pool(**with_moments(answer, "now", "oldest"), posts=texts)


def list_candidates(database: Database, *, states: Sequence[str] = (), n: int = 50) -> list[dict[str, Any]]:
    """For persons: what waits first, by score, then the decided, newest first; no states means all."""
    return database.rows("list_candidates", states=list(states) or None, number=n)


def get_candidate(database: Database, platform_id: str) -> list[dict[str, Any]]:
    """For persons: one post with its score's parts, once for each account that found it."""
    return database.rows("get_candidate", platform_id=platform_id)
