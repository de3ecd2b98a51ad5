"""Reactions: what people did with a post by a time, by the law, beside what stands with the post."""

from typing import Any

from sandbox.world import gains, reaction, traits
from sandbox.world.law import Law
from sandbox.world.reaction import Counts, Reaction
from sandbox.x.posts import Metrics, Post
from sandbox.x.store.store import Span, Store
from sandbox.x.world.population import DAY_MS, Inhabited

KEPT = 10_000  # posts whose reactions are remembered; any other is worked out again


class LawfulReactions:
    """The law's reactions to the account's posts, and what people's own posts gained.

    Both follow from the seed, the post, the people, and what the account posted before; nothing is stored.

    Attributes:
        followers: Since when (milliseconds since 1970) each person who ever follows the account does.
    """

    def __init__(self, store: Store, inhabited: Inhabited, *, grows: bool) -> None:
        """Begins with the first followers; `grows`: people's posts are the world's own, not a file's."""
        self._store = store
        self._inhabited = inhabited
        self._grows = grows
        self._reactions: dict[int, Reaction] = {}
        self._gains: dict[int, Counts] = {}
        self.followers: dict[int, int] = dict.fromkeys(inhabited.first_followers, 0)

    @property
    def _law(self) -> Law:
        return self._inhabited.law

    def of(self, post: Post, now_ms: int) -> Metrics:
        """A post's metrics at a time (milliseconds since 1970): a later reading is never smaller."""
        if post.repost_of is not None:
            return post.metrics
        if post.author_id == self._store.account.id:
            # People's likes, replies and quotes stand with the post too, from their own moment on.
            return _joined(post.metrics, self.reaction(post).counts(now_ms), stored=True)
        index = self._inhabited.indexes.get(post.author_id)
        if index is None or not self._grows:
            return post.metrics
        most = self._gains.get(post.id)
        if most is None:
            most = self._gains[post.id] = gains.most(
                self._law,
                self._inhabited.population,
                self._inhabited.population.people[index],
                post_id=post.id,
                at_ms=post.created_ms,
                traits=traits.shape(post.text, answers=_answers(post)),
            )
            _forget(self._gains)
        return _joined(post.metrics, gains.by(self._law, most, now_ms - post.created_ms), stored=False)

    def reaction(self, post: Post) -> Reaction:
        """Everything that people will ever do with a post of the account."""
        found = self._reactions.get(post.id)
        if found is None:
            found = self._reactions[post.id] = self._react(post)
            _forget(self._reactions)
        return found

    def _react(self, post: Post) -> Reaction:
        to = self._store.post(post.reply_to) if post.reply_to is not None else None
        return reaction.react(
            self._law,
            self._inhabited.population,
            post_id=post.id,
            at_ms=post.created_ms,
            traits=traits.read(post.text, answers=_answers(post), earlier=self._earlier(post)),
            followers=self.followers,
            addressed=self._inhabited.indexes.get(to.author_id) if to else None,
        )

    def _earlier(self, post: Post) -> list[frozenset[str]]:
        novelty = self._law.novelty
        since_ms = post.created_ms - round(novelty.days * DAY_MS)
        posts = self._store.posts_of(post.author_id, Span(until_id=post.id, start_ms=since_ms), novelty.posts)
        return [traits.words(one.text) for one in posts if one.repost_of is None]


def _forget(found: dict[int, Any]) -> None:
    """Lets the oldest go where too many are remembered."""
    if len(found) > KEPT:
        del found[next(iter(found))]


def _answers(post: Post) -> traits.Answers | None:
    if post.reply_to is not None:
        return "reply"
    return None if post.quote_of is None else "quote"


def _joined(stands: Metrics, counts: Counts, *, stored: bool) -> Metrics:
    """Counts that stand with the post and the law's; `stored`: people's acts are in both."""

    def both(mine: int, lawful: int) -> int:
        return max(mine, lawful) if stored else mine + lawful

    return Metrics(
        impressions=stands.impressions + counts.impressions,
        bookmarks=stands.bookmarks + counts.bookmarks,
        retweets=stands.retweets + counts.reposts,
        likes=both(stands.likes, counts.likes),
        replies=both(stands.replies, counts.replies),
        quotes=both(stands.quotes, counts.quotes),
    )
