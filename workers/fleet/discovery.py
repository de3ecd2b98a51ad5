"""Discovery: finds posts worth engaging with, scores them, and keeps the pool of candidates."""

import html
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from coordination.accounts import Account
from coordination.candidates import Find, Pool, Pooled
from coordination.messages import Message
from workers.base import Worker, WorkerSettings
from workers.content import scoring
from workers.content.addressing import is_named
from workers.content.scoring import Score, Weights, score
from workers.content.searching import query_for
from workers.content.similarity import best_of_each, find_copy, fingerprint, says_again_and_again
from workers.context import Platform
from workers.errors import NoGrantError
from workers.handlers import handles
from workers.intervals import minutes
from workers.outside.identity import identify
from workers.outside.reads import read
from workers.platforms.x import Missing, Post, Read, User, XError
from workers.tasks import AnalysePost, PostAnalysed

SEARCHED = "search"
ACTS = ("quote", "reply", "like")
"""What engagement may do with a find; a summoned reply is the mentions worker's."""
"""The origin of what a search found; what was delegated has the message's."""


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
    def weights(self) -> Weights:
        """The weights of the score's parts."""
        return Weights(
            engagement=self.weight_engagement,
            freshness=self.weight_freshness,
            reach=self.weight_reach,
            topic=self.weight_topic,
            quality=self.weight_quality,
        )


class UnreadablePostError(ValueError):
    """A post that can't be scored: it is kept as a failed item, and the others go on."""


@dataclass(kw_only=True)
class Haul:
    """What one step brings in: what it found, who said what, and why so much of it is left out."""

    account: Account
    now: datetime
    found: int = 0
    searches: list[str] = field(default_factory=list[str])
    finds: dict[str, Find] = field(default_factory=dict[str, Find])
    said: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """The texts by their authors' and their own ids, whatever they are worth; reposts are others' words."""
    dropped: Counter[str] = field(default_factory=Counter[str])


class Discovery(Worker):
    """Find posts worth engaging with, score them, keep the best."""

    name = "discovery"
    every = minutes(15)
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
    def analyse(self, message: Message, task: AnalysePost) -> None:
        """Score one post whatever its age, offer it when it qualifies, and answer whoever asked."""
        analysis = self._analysis(message, task)
        self.fleet.messages.send(
            message.type,
            message.sender,
            analysis.model_dump(mode="json"),
            priority=message.priority,
            reply_to=message.id,
            dedupe_key=f"analysed:{message.id}",
        )
        scored = "no score" if analysis.score is None else f"{analysis.score:.1f}"
        told = f"looked at post {task.post_id} for {message.sender}: {scored}, {analysis.reason}"
        self.fleet.audit.event("info", "analysed", told, {"post": task.post_id, "score": analysis.score})
        self.log.info("analysed", post=task.post_id, score=analysis.score, reason=analysis.reason)

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
            self._turn = int(haul.now.timestamp() // self.every.seconds) * number
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
            if post.author_id is not None and not post.is_repost:
                haul.said.setdefault(post.author_id, {})[post.id] = post.text
            reason = self._unsuitable(post, haul.account, opted_out) or self._take(haul, post, answer.users)
            if reason is not None:
                haul.dropped[reason] += 1

        self.each(answer.value, key=lambda post: f"post:{post.id}", handle=weigh)
        self.each(answer.missing, key=_name_missing, handle=_refuse)
        haul.dropped["unreadable"] += len(answer.missing)

    def _unsuitable(self, post: Post, account: Account, opted_out: set[str]) -> str | None:
        """Why the post is never engaged with whatever its score, or None."""
        if post.author_id is not None and post.author_id == account.platform_user_id:
            return "own"
        if post.author_id in opted_out:
            return "opted out"
        if account.handle is not None and is_named(post, account.handle):
            return "names the account"  # whoever calls it is answered by mentions, and only once
        if post.is_repost:
            return "repost"
        if post.is_reply and post.in_reply_to_user_id != post.author_id:
            return "reply to somebody else"
        return None

    def _take(self, haul: Haul, post: Post, users: Mapping[str, User]) -> str | None:
        """Score a post and put it into the haul, or say why not."""
        if post.id in haul.finds:
            return "found twice"
        scored = self._score(post, users, haul.account, haul.now)
        reason = self._disqualified(post, scored)
        if reason is None:
            haul.finds[post.id] = find_of(post, users, scored, SEARCHED)
        return reason

    def _score(self, post: Post, users: Mapping[str, User], account: Account, now: datetime) -> Score:
        if post.author_id is None:
            raise UnreadablePostError(f"post {post.id} has no author")
        if post.created_at is None:
            raise UnreadablePostError(f"post {post.id} has no time")
        return score(
            post,
            users.get(post.author_id),
            account.topics,
            now,
            weights=self.settings.weights,
            languages=self.settings.languages,
            max_age_h=self.settings.max_age_h,
        )

    def _disqualified(self, post: Post, scored: Score) -> str | None:
        if scored.age_h >= self.settings.max_age_h:
            return "too old"
        if scored.topic is None:
            return "off topic"
        if not scoring.speaks(post.lang, self.settings.languages):
            return "another language"
        if scored.total < self.settings.min_score:
            return "low score"
        return None

    # The pool

    def _keep(self, haul: Haul, pool: Pool) -> None:
        """Leave out spam and copies, offer the rest, give up what is stale, and tell it in one line."""
        name = haul.account.name
        self._leave_out_repeaters(haul)
        finds = self._without_copies(haul, pool)
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

    def _leave_out_repeaters(self, haul: Haul) -> None:
        """Who says nearly the same again and again is left out whole, the best of it too."""
        authors = {find.author_id for find in haul.finds.values()}
        repeaters = {author for author in authors if says_again_and_again(haul.said[author].values())}
        for find in list(haul.finds.values()):
            if find.author_id in repeaters:
                del haul.finds[find.platform_id]
                haul.dropped["says it again and again"] += 1

    def _without_copies(self, haul: Haul, pool: Pool) -> list[Find]:
        """Of every group of copies the best stays; a better copy replaces one that waits in the pool."""
        kept, copies = best_of_each(
            haul.finds.values(), text=lambda find: find.text, rank=lambda find: find.score
        )
        for copy in copies:
            haul.dropped["copy" if copy.is_exact else "near-duplicate"] += 1
        ids = {find.platform_id for find in kept}
        pooled = [post for post in pool.posts if post.platform_id not in ids]
        prints = [fingerprint(post.text) for post in pooled]
        new: list[Find] = []
        for find in kept:
            copy = find_copy(fingerprint(find.text), prints)
            other = None if copy is None else pooled[copy.place]
            if copy is None or other is None:
                new.append(find)
            elif other.waiting and _latest_score(other, haul) < find.score:
                new.append(replace(find, replaces=(other.platform_id,)))
            else:
                haul.dropped["copy" if copy.is_exact else "near-duplicate"] += 1
        return new

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
            scored = self._score(post, seen.users, account, pool.now)
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
        reason = self._unsuitable(post, account, opted_out) or self._disqualified(post, scored)
        if reason is not None:
            return f"no candidate: {reason}"
        haul = Haul(account=account, now=pool.now)
        haul.finds[post.id] = find_of(post, users, scored, f"message:{message.id}")
        finds = self._without_copies(haul, pool)
        if not finds:
            return "no candidate: a copy of one that the pool has"
        offered = self.fleet.candidates.offer(account.name, finds, pool_size=self.settings.pool_size)
        return "a candidate" if offered.added or offered.refreshed else "no candidate: decided before"


def find_of(post: Post, users: Mapping[str, User], scored: Score, origin: str) -> Find:
    """The post as the pool keeps it. Call it for a post with author, time and topic only."""
    author = users.get(post.author_id or "")
    if post.author_id is None or post.created_at is None or scored.topic is None:
        raise UnreadablePostError(f"post {post.id} lacks author, time or topic")
    return Find(
        platform_id=post.id,
        author_id=post.author_id,
        handle=author.username if author else "",
        text=html.unescape(post.text),
        topic=scored.topic,
        origin=origin,
        posted_at=post.created_at,
        metrics=post.metrics.model_dump(exclude_none=True) if post.metrics else {},
        score=scored.total,
        parts=scored.as_json(),
    )


def _latest_score(pooled: Pooled, haul: Haul) -> float:
    """What one in the pool is worth by now, where the haul has it too."""
    found = haul.finds.get(pooled.platform_id)
    return pooled.score if found is None else found.score


def _name_missing(item: Missing) -> str:
    return f"post:{item.id}" if item.id else f"unreadable:{item.reason[:80]}"


def _refuse(item: Missing) -> None:
    raise UnreadablePostError(item.reason)
