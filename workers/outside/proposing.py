"""Proposing: one act on a candidate, from the lock on its post to the intent in the ledger.

The lock keeps two workers from preparing acts on one post at once, the grant shows that the platform's limit
has room, the ledger makes the act one that happens once. Lock and grant are given back: whoever sends takes
its own. A process may end between any two of these steps: the database frees what it held.
"""

import html
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Literal

from coordination import Fleet
from coordination.candidates import Candidate
from coordination.engagement import Lease, Refusal
from coordination.errors import LockLostError
from coordination.intents import Intent
from workers.crash_points import CrashPoints
from workers.logs import Log
from workers.platforms.writers import Draft, Writer, WriterError
from workers.platforms.writers.responses import ResponseBrief
from workers.platforms.x import Post

Action = Literal["quote", "reply", "like"]
ENDPOINTS: Final[Mapping[Action, str]] = {"quote": "post_tweet", "reply": "post_tweet", "like": "like_tweet"}
"""Whose limit an act will use when it is sent."""
LIKE: Final = Draft(text="", writer="none", topic="", detail={})
log = Log("proposing")


@dataclass(frozen=True, kw_only=True)
class Act:
    """What is to be done.

    Attributes:
        candidate: as taken from the pool.
        post: the same post as the platform shows it now.
        why: why this action.
        refused: the better actions that were not taken, each with its reason.
        avoid: recent texts, none of which may come again.
        deadline_s: seconds after `now` (fleet time) when it expires unsent.
    """

    account: str
    action: Action
    candidate: Candidate
    post: Post
    why: str
    refused: Mapping[str, str]
    avoid: frozenset[str]
    now: datetime
    deadline_s: float


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """The act is in the ledger, as `text`."""

    intent: Intent
    text: str


@dataclass(frozen=True, kw_only=True)
class NotProposed:
    """It is not.

    Attributes:
        reason: why.
        is_final: whether it never will be; else the candidate may be looked at again.
        stops: whether the others of this action would fare the same now.
    """

    reason: str
    is_final: bool = False
    stops: bool = False


class Proposing:
    """Proposes one act at a time, for one worker."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        worker_id: str,
        worker: str,
        responder: Writer[ResponseBrief],
        crash: CrashPoints,
    ) -> None:
        self._fleet = fleet
        self._worker_id = worker_id
        self._worker = worker
        self._responder = responder
        self._crash = crash

    def propose(self, act: Act, *, lock_minutes: float) -> Proposed | NotProposed:
        """Lock the post, see that the limit has room, write, propose, give lock and grant back."""
        content = act.candidate.platform_id
        lease = self._fleet.engagement.ask(
            content,
            self._worker_id,
            act.action,
            lock_minutes,
            scope="act",
            account=act.account,
            score=act.candidate.score,
        )
        self._crash.pass_by("engagement.after_lock")
        if isinstance(lease, Refusal):
            if lease.reason == "recent_engagement":
                return NotProposed(reason="the fleet engaged with it lately", is_final=True)
            return NotProposed(reason="somebody else works on it")
        with self._held(lease):
            outcome = self._with_grant(act)
        self._crash.pass_by("engagement.after_release")
        if isinstance(outcome, Proposed) and outcome.intent.created and outcome.intent.state == "ready":
            # The proposal's own wake-up found the post locked.
            self._fleet.ledger.wake_sender()
        return outcome

    def _with_grant(self, act: Act) -> Proposed | NotProposed:
        endpoint = ENDPOINTS[act.action]
        grant = self._fleet.rate_limits.can_make_request(endpoint, self._worker_id, "low", act.account)
        self._crash.pass_by("engagement.after_grant")
        if grant.grant_id is None:
            return NotProposed(reason=f"no grant for {endpoint}: {grant.reason}", stops=True)
        try:
            draft = self._write(act)
            self._crash.pass_by("engagement.after_writing")
            intent = self._into_ledger(act, draft)
            self._crash.pass_by("engagement.after_propose")
        except WriterError as error:
            return NotProposed(reason=f"no text: {error.reason}")
        finally:
            # The sender asks for its own; this one showed that there is room.
            self._fleet.rate_limits.release(grant.grant_id)
        if intent.state == "rejected":
            return NotProposed(reason=f"{act.action}: {intent.reason or 'refused'}", is_final=True)
        return Proposed(intent=intent, text=draft.text)

    def _write(self, act: Act) -> Draft:
        if act.action == "like":
            return LIKE
        seed = sha256(f"{act.account} {act.action} {act.candidate.platform_id}".encode()).digest()
        draft = self._responder.write(
            ResponseBrief(
                kind=act.action,
                words=html.unescape(act.post.text),
                topic=act.candidate.topic,
                avoid=act.avoid,
                seed=int.from_bytes(seed[:8], "big"),
            )
        )
        if draft.fallback_reason:
            log.warning("the model gave no text: the built-in did", reason=draft.fallback_reason)
        return draft

    def _into_ledger(self, act: Act, draft: Draft) -> Intent:
        candidate = act.candidate
        return self._fleet.ledger.propose(
            act.account,
            act.action,
            candidate.platform_id,
            draft.text,
            deadline=act.now + timedelta(seconds=act.deadline_s),
            origin={
                "worker": self._worker,
                "author_id": candidate.author_id,
                "handle": candidate.handle,
                "topic": candidate.topic,
                "found": candidate.origin,
                "score": candidate.score,
                "parts": candidate.parts,
                "why": act.why,
                "refused": dict(act.refused),
                "writer": draft.writer,
                **draft.detail,
            },
        )

    @contextmanager
    def _held(self, lease: Lease) -> Generator[None]:
        """The lock, given back without history: the ledger writes that of acts."""
        try:
            yield
        finally:
            try:
                self._fleet.engagement.release_lock(lease)
            except LockLostError as error:
                log.warning("the lock was lost before", reason=str(error))
