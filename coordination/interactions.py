"""Interactions: whoever addressed an account, once each; and how far its mentions were read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from coordination.answers import with_moments
from coordination.database import Json
from coordination.ids import number_of
from coordination.plain import plain
from coordination.session import Session

Kind = Literal["direct", "indirect", "own", "fleet"]
Request = Literal["answer", "analyse", "opt_out", "none"]
Outcome = Literal["answered", "ignored", "delegated", "put_off", "found"]


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far a stream was read; ids are the platform's, times fleet time.

    Attributes:
        position: whatever is not newer was stored; None before the first reading.
        baseline: the newest there was at the first reading; nothing that old is ever answered.
        started_at: when the first reading began; nor is what was posted before.
        ceiling: the newest that a walk through several pages met; None when no walk is under way.
        reached: the oldest that the walk stored; it goes on below.
        now: fleet time of the answer.
    """

    position: str | None
    baseline: str | None
    started_at: datetime | None
    ceiling: str | None
    reached: str | None
    now: datetime


@dataclass(frozen=True, kw_only=True)
class Mention:
    """A post that named the account, as it was judged.

    Attributes:
        platform_id: its id.
        author_id: its author's id.
        handle: its author's username.
        text: its text.
        conversation_id: the id of the post that its conversation began with.
        kind: whether it speaks to the account or merely of it.
        summons: whether its author named the account or quoted it, which lets the account reply.
        request: what it asks for.
        subject: the id of the post that it asks to look at.
        reason: why it is not acted on; None: it is.
        posted_at: when, by the platform's clock.
    """

    platform_id: str
    author_id: str
    handle: str
    text: str
    conversation_id: str | None
    kind: Kind
    summons: bool
    request: Request
    subject: str | None
    reason: str | None
    posted_at: datetime


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of mentions, and what it was asked with.

    Attributes:
        mentions: those on it that could be read.
        newest: the highest id on it, None when it is empty.
        oldest: the lowest.
        is_last: whether nothing newer than the cursor is left below it.
        cursor: the cursor before it was read.
    """

    mentions: Sequence[Mention]
    newest: str | None
    oldest: str | None
    is_last: bool
    cursor: Cursor


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What became of a page.

    Attributes:
        cursor: the cursor now.
        moved: whether this page moved it; else another reader did, who goes on.
        noted: how many mentions were new.
        open: how many of those wait for an act.
    """

    cursor: Cursor
    moved: bool
    noted: int
    open: int


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """An open interaction in this incarnation's hands.

    Attributes:
        proposed: the newest reply proposed to it, whatever became of that; None: none yet.
        answers_to_author: how many of its author's mentions were answered within the hour.
        answers_in_conversation: how many in its conversation were ever.
        finding: what came back of a delegation.
        now: fleet time when it was taken.
    """

    platform_id: str
    author_id: str
    handle: str
    text: str
    conversation_id: str | None
    kind: Kind
    request: Request
    subject: str | None
    state: Literal["seen", "delegated"]
    posted_at: datetime
    finding: dict[str, Any] | None
    proposed: str | None
    answers_to_author: int
    answers_in_conversation: int
    now: datetime


class Interactions:
    """One round trip a call; what changes a row is flushed before it is answered.

    What became of an interaction only its holder says. Each such call gives the state that it has then, or
    None where there is no such interaction or another holds it: then nothing changed. One that was answered
    or ignored before stays so.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_cursor(self, account: str, name: str = "mentions") -> Cursor:
        """Say how far the stream was read."""
        return _cursor(self._session.call("get_cursor", account=account, name=name))

    def note(self, account: str, page: Page, name: str = "mentions") -> Noted:
        """Store a page and move the cursor; storing it again changes nothing.

        The first page of all sets the baseline. Where another reader moved the cursor since
        `page.cursor`, the mentions are stored and the cursor stays.
        """
        answer = self._session.call(
            "note_mentions",
            account=account,
            name=name,
            mentions=Json([_row(mention) for mention in page.mentions]),
            newest=page.newest,
            oldest=page.oldest,
            is_last=page.is_last,
            from_position=page.cursor.position,
            from_reached=page.cursor.reached,
            started_at=page.cursor.now,
        )
        counts = {name: answer.pop(name) for name in ("moved", "noted", "open")}
        return Noted(cursor=_cursor(answer), **counts)

    def take(self, account: str, n: int = 1, lease_s: float = 180) -> list[Interaction]:
        """Take up to `n` that are open and due: opt-outs, then the oldest; for `lease_s` nobody else's.

        Those of a process that died are free at once.
        """
        answer = self._session.call("take_interactions", account=account, n=n, lease_s=float(lease_s))
        return [Interaction(**with_moments(row, "posted_at", "now")) for row in answer]

    def answered(self, account: str, platform_id: str, intent: str, reason: str | None = None) -> str | None:
        """An intent answers it."""
        return self._settle(
            account, platform_id, "answered", intent=number_of(intent, "intent"), reason=reason
        )

    def ignored(self, account: str, platform_id: str, reason: str) -> str | None:
        """Nothing answers it, and why."""
        return self._settle(account, platform_id, "ignored", reason=reason)

    def delegated(
        self, account: str, platform_id: str, message: str, *, due_in_s: float, reason: str | None = None
    ) -> str | None:
        """Another worker looks into it; after `due_in_s` of fleet time it is due again."""
        return self._settle(
            account,
            platform_id,
            "delegated",
            message=number_of(message, "message"),
            due_in_s=due_in_s,
            reason=reason,
        )

    def put_off(self, account: str, platform_id: str, reason: str, *, due_in_s: float) -> str | None:
        """Nothing came of it now, and why: it stays open, due again after `due_in_s` of fleet time."""
        return self._settle(account, platform_id, "put_off", reason=reason, due_in_s=due_in_s)

    def found(self, account: str, platform_id: str, finding: Mapping[str, Any]) -> str | None:
        """A delegation's finding came back: it is due now, whoever says so; who holds it goes on."""
        return self._settle(account, platform_id, "found", finding=finding)

    def _settle(
        self,
        account: str,
        platform_id: str,
        outcome: Outcome,
        *,
        reason: str | None = None,
        intent: int | None = None,
        message: int | None = None,
        finding: Mapping[str, Any] | None = None,
        due_in_s: float | None = None,
    ) -> str | None:
        return self._session.call(
            "settle_interaction",
            account=account,
            platform_id=platform_id,
            outcome=outcome,
            reason=plain(reason),
            intent=intent,
            message=message,
            finding=None if finding is None else Json(plain(dict(finding))),
            due_in_s=due_in_s,
        )


def _row(mention: Mention) -> dict[str, Any]:
    return plain({**asdict(mention), "posted_at": mention.posted_at.isoformat()})


def _cursor(answer: Mapping[str, Any]) -> Cursor:
    return Cursor(**with_moments(answer, "started_at", "now"))
