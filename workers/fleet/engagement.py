"""Engagement: decides what to do with the best candidates, and proposes it. It never sends."""

from collections.abc import Mapping
from functools import cached_property

from pydantic import Field

from coordination.accounts import Account
from coordination.candidates import Candidate
from workers.base import Worker, WorkerSettings
from workers.context import Platform
from workers.crash_points import CrashPoints
from workers.errors import NoGrantError
from workers.intervals import minutes
from workers.outside.choosing import ACTIONS, Choice, Choosing, denied_by_tier
from workers.outside.proposing import Act, Action, Proposed, Proposing
from workers.outside.reads import read
from workers.outside.round import Round, choice_name, item_name
from workers.platforms.writers import Writer
from workers.platforms.writers.choice import responder
from workers.platforms.writers.responses import ResponseBrief
from workers.platforms.x import Post


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

    @property
    def min_scores(self) -> dict[Action, float]:
        """The score from which each action is done."""
        return {
            "quote": self.quote_min_score,
            "reply": self.reply_min_score,
            "like": self.like_min_score,
        }

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
        denied = denied_by_tier(self.fleet.policy, account.name)
        if self._is_idle(account, denied):
            return
        job = self._begin(account, denied)
        if not any(job.choosing.left.values()):
            self.log.info("every cap is reached")
            return
        taken = self.fleet.candidates.take(
            account.name,
            self.settings.batch_size,
            self.settings.lease_s,
            min_score=min(self.settings.min_scores[action] for action in job.choosing.left),
        )
        job.open = {candidate.platform_id: candidate for candidate in taken}
        self._crash.pass_by("engagement.after_take")
        try:
            if taken:
                self._engage_all(job)
        finally:
            job.put_back()
        self._tell(job, len(taken))

    def _begin(self, account: Account, denied: Mapping[Action, str]) -> Round:
        candidates = self.fleet.candidates
        candidates.give_up(account.name, max_age_h=self.settings.max_age_h)
        pool = candidates.pool(account.name)
        left = self.settings.left(pool.proposed)
        choosing = Choosing(
            policy=self.fleet.policy,
            account=account.name,
            min_scores=self.settings.min_scores,
            denied=denied,
            left={action: number for action, number in left.items() if action not in denied},
        )
        return Round(
            fleet=self.fleet,
            log=self.log,
            account=account,
            now=pool.now,
            choosing=choosing,
            texts=set(self.fleet.ledger.queue(account.name).texts),
        )

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
        self.each(list(job.open.values()), key=choice_name, handle=lambda one: self._choose_for(job, one))
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
                job.pass_over(candidate, f"gone: {gone.get(candidate.platform_id, 'X shows it no more')}")
            else:
                self._engage(job, candidate, post)

        self.each(chosen, key=item_name, handle=engage)

    def _choose_for(self, job: Round, candidate: Candidate) -> None:
        """Choose what to do with a candidate; decide about it where that is nothing."""
        choice = job.choosing.choose(candidate)
        self._crash.pass_by("engagement.after_policy")
        if isinstance(choice, Choice):
            job.chosen[candidate.platform_id] = choice
            job.choosing.taken(choice)
        elif choice.waits:
            job.leave(candidate, choice.reason)
        else:
            job.pass_over(candidate, choice.reason)

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
            job.pass_over(candidate, "X says that somebody else wrote it")
            return
        act = self._act(job, candidate, post, job.chosen[candidate.platform_id])
        outcome = self._proposing.propose(act, lock_minutes=self.settings.lock_minutes)
        if isinstance(outcome, Proposed):
            job.settle(candidate, act.action, outcome)
            self._crash.pass_by("engagement.after_decide")
            job.count(candidate, act.action, outcome)
        elif outcome.is_final:
            job.pass_over(candidate, outcome.reason)
        else:
            job.stopped = outcome.reason if outcome.stops else job.stopped
            job.leave(candidate, outcome.reason)

    def _act(self, job: Round, candidate: Candidate, post: Post, choice: Choice) -> Act:
        wanted = job.choosing.min_scores[choice.action]
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

    def _tell(self, job: Round, taken: int) -> None:
        if not taken:
            return
        message, counts = job.summary(taken)
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
