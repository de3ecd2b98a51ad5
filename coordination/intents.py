"""Intents: the acts that the ledger knows, their states, and what a sender holds of one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from coordination.breakers import Passage

INTENT_STATES = (
    "draft",
    "awaiting_approval",
    "ready",
    "claimed",
    "sending",
    "posted",
    "rejected",
    "retry_at",
    "unknown",
    "parked",
    "expired",
    "cancelled",
    "dry_run",
)
"""Every state of an intent, as the table's own check has them."""

ACTIONS = ("post", "reply", "quote", "like")
"""Every action of an intent; all but a post have another's post as their target."""

Action = Literal["post", "reply", "quote", "like"]
Outcome = Literal["posted", "rejected", "retry_at", "unknown", "not_written"]
Decision = Literal["approve", "cancel", "resume", "mark_posted"]


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What a proposal became.

    Attributes:
        id: the intent's number.
        state: one of `INTENT_STATES`; `rejected` where the policy refuses the act.
        created: False when the same act, or the same refusal of it, was there already.
        reason: why it is in that state, where there is a reason.
    """

    id: str
    state: str
    created: bool
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A due intent in this incarnation's hands, with the lock on its content.

    Attributes:
        intent: its number.
        account: who acts.
        action: one of `ACTIONS`.
        target: the id of the post that is answered, quoted or liked; a post's own name otherwise.
        text: the exact text; empty for a like.
        attempt: how often it was begun to be sent.
        content: what the lock is on.
        fencing_token: the lock's.
        lease_expires_at: the lock's end, real time.
        passage: what the breaker of the account's posting says.
        user_id: who the account is on the platform; None before anybody asked.
    """

    intent: str
    account: str
    action: Action
    target: str
    text: str
    attempt: int
    content: str
    fencing_token: int
    lease_expires_at: datetime
    passage: Passage
    user_id: str | None = None

    @property
    def endpoint(self) -> str:
        """The limiter's endpoint that the act is a request of, as `fleet.endpoint_of` says it."""
        return "like_tweet" if self.action == "like" else "post_tweet"


@dataclass(frozen=True, kw_only=True)
class Clearance:
    """begin_send's answer: when `sending`, the commit is durable and the clock for the socket runs.

    Attributes:
        sending: whether the request may be written.
        reason: why not.
        attempt: its number, from 1.
        text: the exact bytes to send.
        fence: the database's highest fencing token, for the state directory's `fence`.
        first_sent_at: real time of the intent's first attempt.
    """

    sending: bool
    reason: str | None = None
    attempt: int = 0
    text: str = ""
    fence: int = 0
    first_sent_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What waits to be sent. Times are fleet time; `texts` are the account's of the days asked for."""

    waiting: int
    planned_until: datetime | None
    last_posted_at: datetime | None
    now: datetime
    texts: frozenset[str]
