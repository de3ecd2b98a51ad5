"""Engagement: decides what to do with the best candidates, and proposes it. It never sends."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, Literal

from pydantic import Field

from coordination.accounts import Account
from coordination.candidates import Candidate
from workers.base import Worker, WorkerSettings
from workers.context import Platform
from workers.crash_points import CrashPoints
from workers.errors import NoGrantError
from workers.intervals import minutes
from workers.outside.proposing import Act, Action, Proposed, Proposing
from workers.outside.reads import read
from workers.platforms.writers import Writer
from workers.platforms.writers.choice import responder
from workers.platforms.writers.responses import ResponseBrief
from workers.platforms.x import Post

ACTIONS: Final[tuple[Action, ...]] = ("quote", "reply", "like")
"""The acts by what they are worth: the first that score, tier and caps allow is taken."""


class EngagementSettings(WorkerSettings):
    """Engagement's live settings.

    Attributes:
        batch_size: candidates that one step looks at.
        lease_s: how long a taken candidate is nobody else's.
        lock_minutes: how long a post is locked while an act on it is prepared.
        deadline_s: an act that could not go out within so many seconds expires.
        max_age_h: hours after which a post is not engaged with any more.
        quote_min_score: the score from which a post is quoted, 0 to 100.
        reply_min_score: the score from which it is answered.
        like_min_score: the score from which it is liked.
        quotes_per_step: quotes that one step proposes at most.
        replies_per_step: replies that one step proposes at most.
        likes_per_step: likes that one step proposes at most.
        quotes_per_day: quotes within 24 hours of fleet time at most.
        replies_per_day: replies within 24 hours at most.
        likes_per_day: likes within 24 hours at most.
    """

    batch_size: int = Field(default=10, ge=1, le=100)
    lease_s: float = Field(default=300, ge=10, le=3600)
    lock_minutes: float = Field(default=5, ge=1, le=60)
    deadline_s: float = Field(default=7200, ge=1, le=604_800)
    max_age_h: float = Field(default=24, ge=1, le=168)
    quote_min_score: float = Field(default=75, ge=0, le=100)
    reply_min_score: float = Field(default=60, ge=0, le=100)
    like_min_score: float = Field(default=40, ge=0, le=100)
    quotes_per_step: int = Field(default=1, ge=0, le=100)
    replies_per_step: int = Field(default=2, ge=0, le=100)
    likes_per_step: int = Field(default=4, ge=0, le=100)
    quotes_per_day: int = Field(default=10, ge=0, le=1000)
    replies_per_day: int = Field(default=30, ge=0, le=1000)
    likes_per_day: int = Field(default=60, ge=0, le=1000)

    def min_score(self, action: Action) -> float:
        """The score from which that is done."""
        scores: dict[Action, float] = {
            "quote": self.quote_min_score,
            "reply": self.reply_min_score,
            "like": self.like_min_score,
        }
        return scores[action]

    def left(self, proposed: Mapping[str, int]) -> dict[Action, int]:
        """How many of each a step may propose, after what was proposed in the last 24 hours."""
        caps: dict[Action, tuple[int, int]] = {
            "quote": (self.quotes_per_step, self.quotes_per_day),
            "reply": (self.replies_per_step, self.replies_per_day),
            "like": (self.likes_per_step, self.likes_per_day),
        }
        left: dict[Action, int] = {}
        for action, (step, day) in caps.items():
            left[action] = max(0, min(step, day - proposed.get(action, 0)))
        return left


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to do with a candidate, and why not each better action."""

    action: Action
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class NoChoice:
    """Nothing is to be done with it.

    Attributes:
        reason: why not each of the actions.
        waits: whether only a cap is in the way, so that it may be done later.
    """

    reason: str
    waits: bool


@dataclass(kw_only=True)
class Round:
    """What one step goes by, and what came of it.

    Attributes:
        now: fleet time.
        left: how many of each action that the tier allows may still be chosen.
        denied: the actions that the account's tier never allows here, with the reason.
        texts: recent texts, none of which may come again.
        open: what was taken and not decided yet.
        chosen: what to do with those of them that an act was chosen for.
    """

    account: Account
    now: datetime
    left: dict[Action, int]
    denied: Mapping[Action, str]
    texts: set[str]
    open: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    chosen: dict[str, Choice] = field(default_factory=dict[str, Choice])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    stopped: str | None = None


class Engagement(Worker):
    """Propose quotes, replies and likes for the best candidates; never send."""

    name = "engagement"
    every = minutes(5)
    needs = (Platform.X,)
    settings_model = EngagementSettings
    settings: EngagementSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    _told: str | None = None

    def first_run(self) -> None:
        """Refuse to start where a rehearsal's crash point is set for a real account."""
        _ = self._crash

    def step(self) -> None:
        """Take the best candidates, choose what may be done, read those again, propose; tell the outcome."""
        account = self.fleet.accounts.get(self.context.account)
        denied = self._denied(account)
        if self._is_idle(account, denied):
            return
        job = self._begin(account, denied)
        if not any(job.left.values()):
            self.log.info("every cap is reached")
            return
        taken = self.fleet.candidates.take(
            account.name,
            self.settings.batch_size,
            self.settings.lease_s,
            min_score=min(self.settings.min_score(action) for action in job.left),
        )
        job.open = {candidate.platform_id: candidate for candidate in taken}
        self._crash.pass_by("engagement.after_take")
        try:
            if taken:
                self._engage_all(job)
        finally:
            self._put_back(job)
        self._tell(job, len(taken))

    def _begin(self, account: Account, denied: Mapping[Action, str]) -> Round:
        candidates = self.fleet.candidates
        candidates.give_up(account.name, max_age_h=self.settings.max_age_h)
        pool = candidates.pool(account.name)
        left = self.settings.left(pool.proposed)
        return Round(
            account=account,
            now=pool.now,
            left={action: number for action, number in left.items() if action not in denied},
            denied=denied,
            texts=set(self.fleet.ledger.queue(account.name).texts),
        )

    # What may be done at all

    def _denied(self, account: Account) -> dict[Action, str]:
        """What the tier never allows towards a candidate, and why.

        An act for those alone who called the account is among it: whoever did is answered by mentions.
        """
        rules = self.fleet.policy.of(account.name)
        denied: dict[Action, str] = {}
        for action in ACTIONS:
            if rules.get(action, "deny") != "allow":
                denied[action] = self.fleet.policy.check(account.name, action).reason
        return denied

    def _is_idle(self, account: Account, denied: Mapping[Action, str]) -> bool:
        """Whether the tier allows nothing of all this; says why, once."""
        why = "; ".join(denied.values()) if len(denied) == len(ACTIONS) else None
        if why is not None and why != self._told:
            self.log.warning("idle", reason=why)
            self.fleet.audit.event(
                "warning", "engagement_idle", f"{account.name} engages with nobody's posts: {why}"
            )
        self._told = why
        return why is not None

    # The candidates of one step

    def _engage_all(self, job: Round) -> None:
        """Choose first: each post that is read may cost money, and only what is chosen is read."""
        self.each(list(job.open.values()), key=_choice_name, handle=lambda one: self._choose_for(job, one))
        chosen = [job.open[platform_id] for platform_id in job.chosen]
        if not chosen or self.draining.is_set():
            return
        posts, gone = self._read_again(job)
        self._crash.pass_by("engagement.after_read")

        def engage(candidate: Candidate) -> None:
            if job.stopped is not None:
                return
            post = posts.get(candidate.platform_id)
            if post is None:
                self._pass(job, candidate, f"gone: {gone.get(candidate.platform_id, 'X shows it no more')}")
            else:
                self._engage(job, candidate, post)

        self.each(chosen, key=_item_name, handle=engage)

    def _choose_for(self, job: Round, candidate: Candidate) -> None:
        """Choose what to do with a candidate; decide about it where that is nothing."""
        choice = self._choose(job, candidate)
        self._crash.pass_by("engagement.after_policy")
        if isinstance(choice, Choice):
            job.chosen[candidate.platform_id] = choice
            job.left[choice.action] -= 1
        elif choice.waits:
            self._leave(job, candidate, choice.reason)
        else:
            self._pass(job, candidate, choice.reason)

    def _choose(self, job: Round, candidate: Candidate) -> Choice | NoChoice:
        """The first action that score, tier, policy and caps allow."""
        refused: dict[str, str] = {}
        waits = False
        for action in ACTIONS:
            wanted = self.settings.min_score(action)
            if action in job.denied:
                refused[action] = job.denied[action]
            elif candidate.score < wanted:
                refused[action] = f"score {candidate.score:.1f}, wanted are {wanted:g}"
            else:
                verdict = self.fleet.policy.check(
                    job.account.name, action, candidate.platform_id, candidate.author_id
                )
                if not verdict.allowed:
                    refused[action] = verdict.reason
                elif job.left[action] <= 0:
                    refused[action] = "its cap is reached"
                    waits = True
                else:
                    return Choice(action=action, refused=refused)
        return NoChoice(reason="; ".join(f"{action}: {why}" for action, why in refused.items()), waits=waits)

    def _read_again(self, job: Round) -> tuple[dict[str, Post], dict[str | None, str]]:
        """The chosen as they are now, in one request, and why some are not."""
        try:
            answer = read(
                self.fleet,
                "get_tweets",
                lambda: self.context.x.posts(list(job.chosen)),
                account=job.account.name,
                worker_id=self.worker_id,
                priority="low",
            )
        except NoGrantError as error:
            job.stopped = str(error)
            return {}, {}
        return {post.id: post for post in answer.value}, {item.id: item.reason for item in answer.missing}

    def _engage(self, job: Round, candidate: Candidate, post: Post) -> None:
        """Lock, take a grant, write, propose; every way ends in a decision about the candidate."""
        if post.author_id != candidate.author_id:
            self._pass(job, candidate, "X says that somebody else wrote it")
            return
        act = self._act(job, candidate, post, job.chosen[candidate.platform_id])
        outcome = self._proposing.propose(act, lock_minutes=self.settings.lock_minutes)
        if isinstance(outcome, Proposed):
            self._settle(job, candidate, act.action, outcome)
        elif outcome.is_final:
            self._pass(job, candidate, outcome.reason)
        else:
            job.stopped = outcome.reason if outcome.stops else job.stopped
            self._leave(job, candidate, outcome.reason)

    def _act(self, job: Round, candidate: Candidate, post: Post, choice: Choice) -> Act:
        wanted = self.settings.min_score(choice.action)
        return Act(
            account=job.account.name,
            action=choice.action,
            candidate=candidate,
            post=post,
            why=f"scores {candidate.score:.1f}, {choice.action} is from {wanted:g}",
            refused=choice.refused,
            avoid=frozenset(job.texts),
            now=job.now,
            deadline_s=self.settings.deadline_s,
        )

    # What becomes of a candidate

    def _settle(self, job: Round, candidate: Candidate, action: Action, made: Proposed) -> None:
        self._decide(job, candidate, "proposed", f"{action} proposed", made.intent.id)
        self._crash.pass_by("engagement.after_decide")
        job.texts.add(made.text)
        job.outcomes[action] += 1
        self.log.info(
            "proposed",
            action=action,
            post=candidate.platform_id,
            intent=made.intent.id,
            score=candidate.score,
        )

    def _pass(self, job: Round, candidate: Candidate, reason: str) -> None:
        self._decide(job, candidate, "passed", reason)
        job.outcomes["passed"] += 1
        self.log.info("passed", post=candidate.platform_id, reason=reason)

    def _leave(self, job: Round, candidate: Candidate, reason: str) -> None:
        self._decide(job, candidate, "waiting", reason)
        job.outcomes["left"] += 1

    def _decide(
        self,
        job: Round,
        candidate: Candidate,
        decision: Literal["proposed", "passed", "waiting"],
        reason: str,
        intent: str | None = None,
    ) -> None:
        held = self.fleet.candidates.decide(
            job.account.name, candidate.platform_id, decision, reason=reason, intent=intent
        )
        job.open.pop(candidate.platform_id, None)
        if not held:
            self.log.warning("the candidate was lost before", post=candidate.platform_id, decision=decision)

    def _put_back(self, job: Round) -> None:
        """What the step left undecided waits again; what fails for good is passed over."""
        if not job.open:
            return
        held = list(job.open.values())
        failed = self.fleet.failed_items.among(
            name(one) for one in held for name in (_choice_name, _item_name)
        )
        for candidate in held:
            dead = [
                name(candidate)
                for name in (_choice_name, _item_name)
                if failed.get(name(candidate)) == "dead"
            ]
            if dead:
                self._pass(job, candidate, f"failed too often: dead letter {dead[0]} says why")
            else:
                self._leave(job, candidate, job.stopped or "the step ended before its turn")

    def _tell(self, job: Round, taken: int) -> None:
        if not taken:
            return
        counts = {name: job.outcomes[name] for name in (*ACTIONS, "passed", "left")}
        proposed = ", ".join(f"{counts[action]} {_named(action, counts[action])}" for action in ACTIONS)
        message = f"looked at {taken}: {proposed} proposed; {counts['passed']} passed, {counts['left']} left"
        if job.stopped:
            message += f" ({job.stopped})"
        self.log.info("engaged", taken=taken, **counts, stopped=job.stopped)
        if counts["left"] < taken:
            self.fleet.audit.event(
                "info", "engaged", message, {"taken": taken, **counts, "stopped": job.stopped}
            )

    # What it works with

    @cached_property
    def _crash(self) -> CrashPoints:
        return CrashPoints(self.fleet.accounts.get(self.context.account))

    @cached_property
    def _proposing(self) -> Proposing:
        return Proposing(
            fleet=self.fleet,
            worker_id=self.worker_id,
            worker=self.name,
            responder=self._responder,
            crash=self._crash,
        )

    @cached_property
    def _responder(self) -> Writer[ResponseBrief]:
        return responder(self.context.config)


def _choice_name(candidate: Candidate) -> str:
    # Its own: a choice that comes out well must not clear the failures of the act that follows it.
    return f"choice:{candidate.platform_id}"


def _item_name(candidate: Candidate) -> str:
    return f"candidate:{candidate.platform_id}"


def _named(action: Action, number: int) -> str:
    if number == 1:
        return action
    return "replies" if action == "reply" else f"{action}s"
