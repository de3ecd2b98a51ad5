"""Tasks: what the workers' messages say, one model a kind.

`kind` names the model inside the payload, so that one type of message can carry several.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Task(BaseModel):
    """A payload: its fields can't be changed, and no others are allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AnalysePost(Task):
    """Look at a post that somebody pointed the account to; for role `content_analysis`.

    Attributes:
        account: the account that was addressed.
        post_id: the post to look at.
        mention_id: the post that pointed to it, whose author gets the answer.
    """

    kind: Literal["analyse_post"] = "analyse_post"
    account: str
    post_id: str = Field(pattern=r"^[0-9]{1,19}$")
    mention_id: str = Field(pattern=r"^[0-9]{1,19}$")


class PostAnalysed(Task):
    """What came of it.

    Attributes:
        found: whether the platform showed the post.
        score: 0 to 100, None where there is none.
        topic: the account's topic that it fits best.
        handle: its author.
        parts: each part of the score.
        reason: why so, in words.
    """

    kind: Literal["post_analysed"] = "post_analysed"
    account: str
    post_id: str
    mention_id: str
    found: bool
    score: float | None = None
    topic: str | None = None
    handle: str | None = None
    parts: dict[str, float] = Field(default_factory=dict[str, float])
    reason: str


class SystemIssue(Task):
    """Something that a worker can't mend and a person should know; for role `system_issue`."""

    kind: Literal["system_issue"] = "system_issue"
    severity: Literal["info", "warning", "error"] = "warning"
    issue: str = Field(min_length=1, max_length=500)


class RateLimitCrossed(Task):
    """An endpoint's use crossed 80 or 95 percent, or fell below them again.

    Attributes:
        health: healthy below 80 percent, warning below 95, critical from there on.
    """

    kind: Literal["rate_limit_crossed"] = "rate_limit_crossed"
    account: str
    endpoint: str
    health: Literal["healthy", "warning", "critical"]
    used_percent: float


class KillSwitchChanged(Task):
    """A person, or the fleet itself, stopped or freed all outside writes. `changed_at` is real time."""

    kind: Literal["kill_switch_changed"] = "kill_switch_changed"
    on: bool
    reason: str
    changed_at: datetime


class ResourceRequest(Task):
    """May something shared be had? For the coordinator, whose answer is an `Availability`.

    Attributes:
        resource_type: what sort of thing.
        resource_id: which of them; None: any.
        priority: of who asks.
    """

    resource_type: str
    resource_id: str | None = None
    priority: Literal["low", "medium", "high", "critical"] = "medium"


class Availability(Task):
    """Whether something shared may be had now. Asking reserves nothing: who is told yes takes it itself.

    Attributes:
        available: whether it may be had at this moment.
        queue_position: where who asks would stand.
        estimated_wait_minutes: how long that would last.
        reason: why so, in words.
    """

    kind: Literal["availability"] = "availability"
    resource_type: str
    resource_id: str | None = None
    available: bool
    queue_position: int | None = None
    estimated_wait_minutes: float | None = None
    reason: str = ""


class Claimant(Task):
    """One of those who contend for a thing. `since` is when it first asked, with its offset."""

    worker: str
    priority: Literal["low", "medium", "high", "critical"] = "medium"
    since: datetime | None = None
    version: int | None = None


class Conflict(Task):
    """Workers that want the same; for the coordinator, which tells each the `ConflictDecision`.

    Attributes:
        kind: what sort of conflict.
        thing: what they contend for.
        contenders: two at least, each worker once.
        capacity: how much there is of it where it can be divided.
        spacing_s: seconds between two where their times collide.
        key: one settlement however often it is asked for; None: one a message.
    """

    kind: Literal["resource", "priority", "schedule", "state"]
    thing: str
    contenders: list[Claimant]
    capacity: float | None = None
    spacing_s: float = 60
    key: str | None = None


class ConflictDecision(Task):
    """How a conflict was settled; `open` where a person must still decide."""

    kind: Literal["decision"] = "decision"
    conflict: str
    thing: str
    state: Literal["decided", "open"]
    strategy: str
    winner: str | None
    grants: list[dict[str, Any]]
    reason: str


class StateChanged(Task):
    """A key of the shared state has a new version. Whoever needs the value reads it."""

    key: str
    version: int


class Escalation(Task):
    """Something is urgent: a `message` or `job` by its id, or anything else by a name. It may say more.

    Attributes:
        kind: what sort of thing.
        id: which of them.
        content: which of them, where it is a piece of content.
        ticket: which of them, where it waits in a queue.
        priority: what it is to be; None: one step more than it is.
        reason: why, in words.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    id: str | None = None
    content: str | None = None
    ticket: str | None = None
    priority: Literal["low", "medium", "high", "critical"] | None = None
    reason: str = "it waits too long"

    @property
    def which(self) -> str:
        """Name the one of its kind."""
        return self.id or self.content or self.ticket or "of no name"
