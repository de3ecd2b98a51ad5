"""Mentions: answers those who called the account, once each."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field

from coordination.accounts import Account
from coordination.interactions import Interaction
from coordination.messages import Message
from workers.base import Worker, WorkerSettings
from workers.content.addressing import Addressed
from workers.context import Platform
from workers.crash_points import CrashPoints
from workers.errors import NoGrantError
from workers.handlers import handles
from workers.intervals import minutes
from workers.outside.identity import confirm
from workers.outside.mention_walk import MentionWalk, item_name
from workers.platforms.writers import Draft, Writer, WriterError
from workers.platforms.writers.answers import AnswerBrief, Report
from workers.platforms.writers.choice import answerer
from workers.tasks import AnalysePost, PostAnalysed

ANALYST = "content_analysis"
DAY_S: Final = 86_400
PUT_OFF_S: Final = 600
"""A mention for which nobody finds words now is looked at again after so many seconds of fleet time."""
LOST = frozenset({"rejected", "expired", "cancelled", "dry_run"})
"""States in which an answer never goes out any more; a parked one may still, when a person resumes it."""


class MentionsSettings(WorkerSettings):
    """The mentions worker's live settings.

    Attributes:
        batch_size: mentions that one step acts on at most.
        pages_per_step: pages of 100 mentions that one step reads at most; the next step goes on from there.
        overlap_s: how far behind the newest known mention is read again, for those that X shows late.
        lease_s: how long a mention in hand is nobody else's; longer than a model may take to answer.
        delegation_s: after so many seconds without a finding an answer is given without it.
        deadline_s: an answer that could not go out within so many seconds expires.
        hourly_cap: answers to one author within an hour at most.
        conversation_cap: answers in one conversation at most.
    """

    batch_size: int = Field(default=100, ge=1, le=1000)
    pages_per_step: int = Field(default=10, ge=1, le=100)
    overlap_s: float = Field(default=30, ge=0, le=3600)
    lease_s: float = Field(default=180, ge=1, le=3600)
    delegation_s: float = Field(default=600, ge=1, le=86_400)
    deadline_s: float = Field(default=3600, ge=1, le=604_800)
    hourly_cap: int = Field(default=3, ge=0, le=1000)
    conversation_cap: int = Field(default=6, ge=0, le=1000)


class Mentions(Worker):
    """Answer those who called the account, once each; hear who asks to be left alone."""

    name = "mentions"
    every = minutes(1)
    needs = (Platform.X,)
    settings_model = MentionsSettings
    settings: MentionsSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    _told = ""
    _said: frozenset[str] | None = None
    _told_wordless: datetime | None = None

    def first_run(self) -> None:
        """Go on where the process before this one ended."""
        _ = self._crash
        self.step()

    def step(self) -> None:
        """Store what is new, then act on what is open."""
        verdict = self.fleet.policy.check(self.context.account, "mentions")
        if not verdict.allowed:
            self._tell_once(verdict.reason)
            return
        self._told = ""
        self._read()
        self._crash.pass_by("mentions.after_walk")
        self._act()

    @handles("TASK_DELEGATION", PostAnalysed)
    def analysed(self, message: Message, finding: PostAnalysed) -> None:
        """Keep what a delegation found and answer the one who asked."""
        kept = self.fleet.interactions.found(
            finding.account, finding.mention_id, {**finding.model_dump(), "message": message.id}
        )
        self._crash.pass_by("mentions.after_found")
        if kept is None:
            self.log.warning("a finding for a mention that nobody knows", mention=finding.mention_id)
        elif finding.account == self.context.account:
            self._act()

    def _read(self) -> None:
        account = self._account
        walk = MentionWalk(
            fleet=self.fleet,
            x=self.context.x,
            account=account.name,
            to=_addressed(account),
            worker_id=self.worker_id,
            crash=self._crash,
        )
        settings = self.settings
        try:
            for noted in walk.pages(overlap_s=settings.overlap_s, at_most=settings.pages_per_step):
                self.progress.tick()
                self.log.info("read", new=noted.noted, open=noted.open, position=noted.cursor.position)
                if self.draining.is_set():
                    return
        except NoGrantError as error:
            self.log.info(str(error), retry_after_s=error.retry_after_s)

    def _act(self) -> None:
        """Act on up to a batch of open mentions, one in hand at a time."""
        interactions, account = self.fleet.interactions, self.context.account
        self._said = None
        for _ in range(self.settings.batch_size):
            if self.draining.is_set():
                return
            taken = interactions.take(account, 1, self.settings.lease_s)
            if not taken:
                return
            self._crash.pass_by("mentions.after_take")
            name = item_name(taken[0].platform_id)
            self.each(taken, key=lambda _: name, handle=self._handle)
            if self.fleet.failed_items.among([name]).get(name) == "dead":
                reason = f"given up after failures: dead letter {name} says why"
                self._ignore(taken[0], reason)

    def _handle(self, mention: Interaction) -> None:
        """Decide about one mention; every way ends in a settled or a delegated one."""
        if mention.request == "opt_out":
            self._let_go(mention)
        elif mention.proposed is not None:  # by a process that ended before it could say so
            self._conclude(mention, mention.proposed)
        elif refusal := self._refusal(mention):
            self._ignore(mention, refusal)
        elif mention.request == "analyse" and mention.state == "seen" and mention.finding is None:
            self._delegate(mention)
        else:
            self._answer(mention)
        self._crash.pass_by("mentions.after_settle")

    def _let_go(self, mention: Interaction) -> None:
        account = self.context.account
        self.fleet.opt_outs.record(
            account, mention.author_id, mention.handle, mention.platform_id, mention.text
        )
        self._crash.pass_by("mentions.after_opt_out")
        self._ignore(mention, "asked to be left alone")

    def _refusal(self, mention: Interaction) -> str:
        """Why it must not be answered; empty where it may."""
        verdict = self.fleet.policy.check(
            self.context.account, "reply", mention.platform_id, mention.author_id
        )
        self._crash.pass_by("mentions.after_policy")
        if not verdict.allowed:
            return f"policy: {verdict.reason}"
        if mention.answers_to_author >= self.settings.hourly_cap:
            return f"cap: {mention.answers_to_author} answers to this author within the hour"
        if mention.answers_in_conversation >= self.settings.conversation_cap:
            return f"cap: {mention.answers_in_conversation} answers in this conversation"
        return ""

    def _delegate(self, mention: Interaction) -> None:
        account, post_id = self.context.account, mention.subject or mention.platform_id
        task = AnalysePost(account=account, post_id=post_id, mention_id=mention.platform_id)
        message = self.fleet.messages.send(
            "TASK_DELEGATION",
            ANALYST,
            task.model_dump(),
            to="role",
            priority="high",
            dedupe_key=f"mention:{account}:{mention.platform_id}",
            ttl_s=self.settings.delegation_s,
        )
        self._crash.pass_by("mentions.after_send")
        state = self.fleet.interactions.delegated(
            account,
            mention.platform_id,
            message,
            due_in_s=self.settings.delegation_s,
            reason=f"asked to look at post {post_id}",
        )
        self._crash.pass_by("mentions.after_delegation")
        if self._stands(mention, "delegated", state):
            self.log.info("delegated", mention=mention.platform_id, task=message, post=post_id)

    def _answer(self, mention: Interaction) -> None:
        account = self.fleet.accounts.get(self.context.account)
        brief = AnswerBrief(
            words=mention.text,
            topics=account.topics,
            report=_report(mention.finding),
            avoid=self._avoid(),
            seed=int.from_bytes(sha256(f"{account.name} {mention.platform_id}".encode()).digest()[:8], "big"),
        )
        try:
            draft = self._answerer.write(brief)
        except WriterError as error:  # no fault of the mention's: it waits for words
            self._put_off(mention, error.reason)
            return
        self._tell_fallback(draft)
        self._crash.pass_by("mentions.after_writing")
        intent = self.fleet.ledger.propose(
            account.name,
            "reply",
            mention.platform_id,
            draft.text,
            deadline=mention.now + timedelta(seconds=self.settings.deadline_s),
            origin={
                "worker": self.name,
                "author_id": mention.author_id,
                "handle": mention.handle,
                "why": _why(mention),
                "writer": draft.writer,
                "topic": draft.topic,
                **draft.detail,
            },
        )
        self._said = brief.avoid | {draft.text}
        self._crash.pass_by("mentions.after_propose")
        self._conclude(mention, intent.id)

    def _avoid(self) -> frozenset[str]:
        """What X may call a duplicate: it looks a day back, and an answer goes out within its deadline."""
        if self._said is None:
            days = 1 + self.settings.deadline_s / DAY_S
            self._said = self.fleet.ledger.queue(self.context.account, texts_of_days=days).texts
        return self._said

    def _put_off(self, mention: Interaction, why: str) -> None:
        """Leave it open for later; a person is told of the first one in a day."""
        state = self.fleet.interactions.put_off(
            self.context.account, mention.platform_id, f"waits for words: {why}", due_in_s=PUT_OFF_S
        )
        if not self._stands(mention, mention.state, state):
            return
        self.log.info("put off", mention=mention.platform_id, reason=why, due_in_s=PUT_OFF_S)
        if self._told_wordless is None or mention.now >= self._told_wordless + timedelta(seconds=DAY_S):
            self._told_wordless = mention.now
            self.fleet.audit.event("warning", "answers_put_off", f"mentions wait for words: {why}")

    def _conclude(self, mention: Interaction, intent_id: str) -> None:
        """An intent is there: settle by what became of it; no second answer is proposed for a lost one."""
        intent = self.fleet.ledger.get(intent_id) or {}
        state = intent.get("state")
        if state in LOST:
            reason = intent.get("reason") or "no reason kept"
            self._ignore(mention, f"answer {intent_id} {state}: {reason}")
            return
        stands = self.fleet.interactions.answered(
            self.context.account, mention.platform_id, intent_id, _why(mention)
        )
        if self._stands(mention, "answered", stands):
            self.log.info("answered", mention=mention.platform_id, intent=intent_id, state=state)

    def _ignore(self, mention: Interaction, reason: str) -> None:
        state = self.fleet.interactions.ignored(self.context.account, mention.platform_id, reason)
        if self._stands(mention, "ignored", state):
            self.log.info("not answered", mention=mention.platform_id, reason=reason)

    def _stands(self, mention: Interaction, said: str, state: str | None) -> bool:
        """Whether what was said of it is kept; not where its lease ran out and another process has it."""
        if state != said:
            now = state or "in other hands"
            self.log.warning("too late: another has it", mention=mention.platform_id, said=said, now=now)
        return state == said

    def _tell_once(self, reason: str) -> None:
        if self._told != reason:
            self._told = reason
            self.log.warning("mentions are not read", reason=reason)
            self.fleet.audit.event("warning", "mentions_denied", f"mentions are not read: {reason}")

    def _tell_fallback(self, draft: Draft) -> None:
        if draft.fallback_reason:
            self.log.warning("the model gave no answer: the built-in did", reason=draft.fallback_reason)

    @cached_property
    def _account(self) -> Account:
        """Whose mentions these are, asked once a life: a new sandbox knows the account by another id."""
        return confirm(self.fleet, self.context.x, self.context.account, self.worker_id)

    @cached_property
    def _crash(self) -> CrashPoints:
        return CrashPoints(self.fleet.accounts.get(self.context.account))

    @cached_property
    def _answerer(self) -> Writer[AnswerBrief]:
        return answerer(self.context.config)


def _addressed(account: Account) -> Addressed:
    if account.platform_user_id is None or account.handle is None:
        raise NoGrantError("who the account is on the platform is not known yet", retry_after_s=None)
    return Addressed(
        user_id=account.platform_user_id,
        handle=account.handle,
        hosts=frozenset({urlsplit(account.api_url).netloc.lower()}),
    )


def _report(finding: Mapping[str, Any] | None) -> Report | None:
    if finding is None:
        return None
    return Report(found=bool(finding.get("found")), score=finding.get("score"), topic=finding.get("topic"))


def _why(mention: Interaction) -> str:
    if mention.request != "analyse":
        return "spoke to the account"
    told = "with what was found" if mention.finding else "nothing came back in time"
    return f"asked to look at post {mention.subject}: {told}"
