"""Qualifying: whether a post may become a candidate, what it is worth, and what the pool keeps of it."""

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from coordination.accounts import Account
from coordination.candidates import Find
from workers.content import scoring
from workers.content.addressing import is_named
from workers.content.scoring import Score, Weights
from workers.platforms.x import Post, User


class UnreadablePostError(ValueError):
    """A post that can't be scored: it is kept as a failed item, and the others go on."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a post must reach to be a candidate.

    Attributes:
        weights: of the score's parts.
        languages: codes of those that count; none given takes every one.
        max_age_h: hours after which it is too old.
        min_score: below it it is worth too little, 0 to 100.
    """

    weights: Weights
    languages: Sequence[str]
    max_age_h: float
    min_score: float

    def score(self, post: Post, users: Mapping[str, User], topics: Sequence[str], now: datetime) -> Score:
        """What the post is worth to an account that talks about these topics.

        Raises:
            UnreadablePostError: it has no author, or no time.
        """
        if post.author_id is None:
            raise UnreadablePostError(f"post {post.id} has no author")
        if post.created_at is None:
            raise UnreadablePostError(f"post {post.id} has no time")
        return scoring.score(
            post,
            users.get(post.author_id),
            topics,
            now,
            weights=self.weights,
            languages=self.languages,
            max_age_h=self.max_age_h,
        )

    def why_below(self, post: Post, scored: Score) -> str | None:
        """Why it doesn't reach the bar, or None."""
        if scored.age_h >= self.max_age_h:
            return "too old"
        if scored.topic is None:
            return "off topic"
        if not scoring.speaks(post.lang, self.languages):
            return "another language"
        if scored.total < self.min_score:
            return "low score"
        return None


def why_unsuitable(post: Post, account: Account, opted_out: Collection[str]) -> str | None:
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
