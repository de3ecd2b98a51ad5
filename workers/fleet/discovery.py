"""Discovery: finds posts worth engaging with, scores them, and keeps the pool of candidates."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from coordination.accounts import Account
from coordination.candidates import Pool
from coordination.messages import Message, Reply
from workers.base import Worker, WorkerSettings
from workers.content.haul import Haul
from workers.content.qualifying import Bar, UnreadablePostError, find_of, why_unsuitable
from workers.content.scoring import Score, Weights
from workers.content.searching import query_for
from workers.context import Platform
from workers.errors import NoGrantError
from workers.handlers import handles
from workers.intervals import minutes
from workers.outside.identity import identify
from workers.outside.reads import read
from workers.platforms.x import Missing, Post, Read, User, XError
from workers.tasks import AnalysePost, PostAnalysed

SEARCHES_EVERY = minutes(15)
SEARCHED = "search"
"""The origin of what a search found; what was delegated has the message's."""
ACTS = ("quote", "reply", "like")
"""What engagement may do with a find; a summoned reply is the mentions worker's."""


class DiscoverySettings(WorkerSettings):
    """Discovery's live settings.

    Attributes:
        batch_size: posts that one search gives at most.
        searches_per_step: topics that one step searches; with more topics they take turns.
        pool_size: candidates that wait at most; the lowest scores are given up.
        max_age_h: hours after which a post is no candidate any more.
        min_score: below it a post is no candidate, 0 to 100.
        languages: codes of the languages that count, such as ["en"]; an empty list takes every one.
        weight_engagement: how much reactions for each reader count.
        weight_freshness: how much a young age counts.
        weight_reach: how much the author's followers count.
        weight_topic: how much the fit to a topic counts.
        weight_quality: how much the text's quality counts.
    """

    batch_size: int = Field(default=50, ge=10, le=100)
    searches_per_step: int = Field(default=3, ge=1, le=20)
    pool_size: int = Field(default=200, ge=1, le=5000)
    max_age_h: float = Field(default=24, ge=1, le=168)
    min_score: float = Field(default=30, ge=0, le=100)
    languages: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")], ...] = Field(
        default=("en",), max_length=20
    )
    weight_engagement: float = Field(default=30, ge=0, le=1000)
    weight_freshness: float = Field(default=20, ge=0, le=1000)
    weight_reach: float = Field(default=15, ge=0, le=1000)
    weight_topic: float = Field(default=20, ge=0, le=1000)
    weight_quality: float = Field(default=15, ge=0, le=1000)

    @property
    def bar(self) -> Bar:
        """What a post must reach to be a candidate."""
        weights = Weights(
            engagement=self.weight_engagement,
            freshness=self.weight_freshness,
            reach=self.weight_reach,
            topic=self.weight_topic,
            quality=self.weight_quality,
        )
        return Bar(
            weights=weights,
            languages=self.languages,
            max_age_h=self.max_age_h,
            min_score=self.min_score,
        )


class Discovery(Worker):
    """Find posts worth engaging with, score them, keep the best."""

    name = "discovery"
    every = SEARCHES_EVERY
    needs = (Platform.X,)
    roles: ClassVar[tuple[str, ...]] = ("content_analysis",)
    settings_model = DiscoverySettings
    settings: DiscoverySettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    _told: str | None = None
    _turn: int | None = None

    def step(self) -> None:
        """Search some topics, offer what qualifies, give up what is stale, tell what came of it."""
        account = self.fleet.accounts.get(self.context.account)
        if self._is_idle(account):
            return
        account = identify(self.fleet, self.context.x, account.name, self.worker_id)
        pool = self.fleet.candidates.pool(account.name, posts=True)
        haul = Haul(account=account, now=pool.now)
        failure: XError | None = None
        try:
            self._search(haul)
        except NoGrantError as error:
            self.log.info(str(error), retry_after_s=error.retry_after_s)
        except XError as error:
            failure = error  # what was found before is not lost
        self._keep(haul, pool)
        if failure is not None:
            raise failure

    @handles("TASK_DELEGATION", AnalysePost)
    def analyse(self, message: Message, task: AnalysePost) -> Reply:
        """Score one post whatever its age, offer it when it qualifies, and answer whoever asked."""
        analysis = self._analysis(message, task)
        scored = "no score" if analysis.score is None else f"{analysis.score:.1f}"
        told = f"looked at post {task.post_id} for {message.sender}: {scored}, {analysis.reason}"
        self.fleet.audit.event("info", "analysed", told, {"post": task.post_id, "score": analysis.score})
        self.log.info("analysed", post=task.post_id, score=analysis.score, reason=analysis.reason)
        return Reply(payload=analysis.model_dump(mode="json"))

    # Searching

    def _is_idle(self, account: Account) -> bool:
        """Whether there is nothing to search with, or for; says why, once."""
        verdict = self.fleet.policy.check(account.name, "search")
        why = None
        if not verdict.allowed:
            why = f"no search: {verdict.reason}"
        elif not any(self.fleet.policy.of(account.name).get(act) == "allow" for act in ACTS):
            why = "no search: the tier lets the account act on no find (what is delegated is looked at)"
        elif not account.topics:
            why = (
                f"no search: account {account.name} has no topics; give some with socialfleet account topics"
            )
        if why is not None and why != self._told:
            self.log.warning("idle", reason=why)
            self.fleet.audit.event("warning", "discovery_idle", why)
        self._told = why
        return why is not None

    def _search(self, haul: Haul) -> None:
        since = haul.now - timedelta(hours=self.settings.max_age_h)
        for topic in self._topics_in_turn(haul):
            if self.draining.is_set():
                return
            query = query_for(topic, self.settings.languages)
            if query is None:
                haul.dropped["topic without a word"] += 1
                continue
            answer = read(
                self.fleet,
                "search_tweets",
                lambda query=query: self.context.x.search(
                    query, start_time=since, max_results=self.settings.batch_size
                ),
                account=haul.account.name,
                worker_id=self.worker_id,
                priority="low",
            )
            haul.searches.append(topic)
            self._weigh(haul, answer)

    def _topics_in_turn(self, haul: Haul) -> Iterator[str]:
        """The topics whose turn it is; fleet time says where a new process begins."""
        topics, number = haul.account.topics, self.settings.searches_per_step
        if self._turn is None:
            self._turn = int(haul.now.timestamp() // SEARCHES_EVERY.seconds) * number
        for place in range(min(number, len(topics))):
            yield topics[(self._turn + place) % len(topics)]
        self._turn += number

    # Scoring

    def _weigh(self, haul: Haul, answer: Read[tuple[Post, ...]]) -> None:
        """Score what a search gave; a bad item is kept with its reason and the others go on."""
        haul.found += len(answer.value) + len(answer.missing)
        opted_out = self.fleet.opt_outs.among(
            haul.account.name, {post.author_id for post in answer.value if post.author_id}
        )

        def weigh(post: Post) -> None:
            haul.hear(post)
            reason = why_unsuitable(post, haul.account, opted_out) or self._take(haul, post, answer.users)
            if reason is not None:
                haul.dropped[reason] += 1

        self.each(answer.value, key=lambda post: f"post:{post.id}", handle=weigh)
        self.each(answer.missing, key=_name_missing, handle=_refuse)
        haul.dropped["unreadable"] += len(answer.missing)

    def _take(self, haul: Haul, post: Post, users: Mapping[str, User]) -> str | None:
        """Score a post and put it into the haul, or say why not."""
        if post.id in haul.finds:
            return "found twice"
        bar = self.settings.bar
        scored = bar.score(post, users, haul.account.topics, haul.now)
        reason = bar.why_below(post, scored)
        if reason is None:
            haul.finds[post.id] = find_of(post, users, scored, SEARCHED)
        return reason

    # The pool

    def _keep(self, haul: Haul, pool: Pool) -> None:
        """Leave out spam and copies, offer the rest, give up what is stale, and tell it in one line."""
        name = haul.account.name
        haul.leave_out_repeaters()
        finds = haul.without_copies(pool)
        offered = self.fleet.candidates.offer(name, finds, pool_size=self.settings.pool_size)
        haul.dropped["fleet's own"] += offered.fleet
        haul.dropped["opted out"] += offered.opted_out
        haul.dropped["decided before"] += offered.known
        gone = self.fleet.candidates.give_up(
            name, max_age_h=self.settings.max_age_h, min_score=self.settings.min_score
        )
        waiting = self.fleet.candidates.pool(name).waiting
        dropped = {reason: number for reason, number in sorted(haul.dropped.items()) if number}
        told = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        message = (
            f"searched {len(haul.searches)} topics: {haul.found} found, {offered.added} new, "
            f"{offered.refreshed} scored anew, {sum(dropped.values())} left out"
            + (f" ({told})" if told else "")
            + f", {offered.given_up + sum(gone.values())} given up, {waiting} in the pool"
        )
        self.log.info("searched", topics=haul.searches, found=haul.found, new=offered.added, pool=waiting)
        self.fleet.audit.event(
            "info",
            "discovered",
            message,
            {
                "topics": haul.searches,
                "found": haul.found,
                "new": offered.added,
                "scored_anew": offered.refreshed,
                "dropped": dropped,
                "given_up": {"overfull_or_copy": offered.given_up, **gone},
                "pool": waiting,
            },
        )

    # On delegation

    def _analysis(self, message: Message, task: AnalysePost) -> PostAnalysed:
        def answer(reason: str, **more: object) -> PostAnalysed:
            return PostAnalysed.model_validate(
                {
                    "account": task.account,
                    "post_id": task.post_id,
                    "mention_id": task.mention_id,
                    "found": False,
                    "reason": reason,
                    **more,
                }
            )

        if task.account != self.context.account:
            return answer(f"this process acts for {self.context.account}, not for {task.account}")
        account = self.fleet.accounts.get(task.account)
        seen = read(
            self.fleet,
            "get_tweets",
            lambda: self.context.x.posts([task.post_id], with_context=True),
            account=account.name,
            worker_id=self.worker_id,
            priority=message.priority,
        )
        post = next((post for post in seen.value if post.id == task.post_id), None)
        if post is None:
            return answer("; ".join(item.reason for item in seen.missing) or "X doesn't show it")
        pool = self.fleet.candidates.pool(account.name, posts=True)
        try:
            scored = self.settings.bar.score(post, seen.users, account.topics, pool.now)
        except UnreadablePostError as error:
            return answer(str(error))
        outcome = self._offer_delegated(message, post, seen.users, scored, account, pool)
        author = seen.users.get(post.author_id or "")
        return answer(
            outcome,
            found=True,
            score=scored.total,
            topic=scored.topic,
            handle=author.username if author else None,
            parts={name: round(part.value, 4) for name, part in scored.parts.items()},
        )

    def _offer_delegated(
        self,
        message: Message,
        post: Post,
        users: Mapping[str, User],
        scored: Score,
        account: Account,
        pool: Pool,
    ) -> str:
        """Offer a post that somebody pointed to where it qualifies; say what came of it."""
        opted_out = self.fleet.opt_outs.among(account.name, [post.author_id or ""])
        reason = why_unsuitable(post, account, opted_out) or self.settings.bar.why_below(post, scored)
        if reason is not None:
            return f"no candidate: {reason}"
        haul = Haul(account=account, now=pool.now)
        haul.finds[post.id] = find_of(post, users, scored, f"message:{message.id}")
        finds = haul.without_copies(pool)
        if not finds:
            return "no candidate: a copy of one that the pool has"
        offered = self.fleet.candidates.offer(account.name, finds, pool_size=self.settings.pool_size)
        return "a candidate" if offered.added or offered.refreshed else "no candidate: decided before"


def _name_missing(item: Missing) -> str:
    return f"post:{item.id}" if item.id else f"unreadable:{item.reason[:80]}"


def _refuse(item: Missing) -> None:
    raise UnreadablePostError(item.reason)
