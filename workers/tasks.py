"""Tasks: what the workers' messages say, one model a kind.

`kind` names the model inside the payload, so that one type of message can carry several.
"""

from datetime import datetime
from typing import Literal

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
