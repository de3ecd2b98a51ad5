"""Store: everything the sandbox remembers, in one SQLite file that survives kill -9.

Accepted writes are committed with `synchronous = FULL` before anybody hears of them; the request log and the
limits' windows are committed without waiting for the disk, which a killed process doesn't lose either.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

from sandbox.x import snowflakes
from sandbox.x.posts import Given, Post, Reactions, User
from sandbox.x.store.acts import Acts
from sandbox.x.store.counts import Counts
from sandbox.x.store.database import Database
from sandbox.x.store.media import Media
from sandbox.x.store.reading import Reading, Span, to_post
from sandbox.x.store.record import Record
from sandbox.x.store.tokens import Tokens
from sandbox.x.wire import search
from sandbox.x.world.worlds import World

__all__ = ["DAY_MS", "Span", "Store"]

DAY_MS = 86_400_000

# While a world is loaded, all words of 100,000 posts are gathered and written once, in one sorted piece.
LOADING_BYTES, USUAL_BYTES = 1 << 26, 1 << 20


class Store(Reading, Record):
    """The posts and users, the account's accepted writes, the requests and the limits' windows.

    Attributes:
        account: The one user who may write here.
        people: Who likes, follows, bookmarks and mutes what.
        media: Uploads, and what is attached to posts.
        tokens: OAuth 2.0 codes and tokens.
        counts: How many requests each window took.
        acts: The account's writes as a person reads them.
        reactions: What a post's counts are at a time: as they stand, until a living world says otherwise.
    """

    def __init__(self, path: Path, account: User) -> None:
        """Opens or makes the file at `path`; one of an earlier release is upgraded, its record kept."""
        super().__init__(Database(path), account)
        self.media = Media(self._database)
        self.tokens = Tokens(self._database)
        self.counts = Counts(self._database)
        self.acts = Acts(self._database)
        self.reactions: Reactions = Given()
        with self._database.transaction(durable=True):
            self._database.run("add_user", **asdict(account))
            if self._database.upgraded:
                self._index_own_posts()

    def close(self) -> None:
        """Closes the file; nothing is lost without it."""
        self._database.close()

    # The world

    def meta(self, key: str) -> str | None:
        """A remembered fact about the store, such as the digest of its world."""
        row = self._database.run("get_meta", key=key).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Remembers a fact about the store."""
        with self._database.without_waiting():
            self._database.run("set_meta", key=key, value=value)

    def replace_world(self, world: World) -> None:
        """Puts the world's users, posts and follows in place of the last world's; the account's own stay."""
        run, run_many, own = self._database.run, self._database.run_many, self.account.id
        with self._database.transaction(durable=True):
            run("delete_all_words")
            for statement in ("posts", "users", "likes", "follows"):
                run(f"delete_world_{statement}", account_id=own)
            run_many("add_user", map(vars, world.users))
            names = {user.id: user.username for user in world.users}
            run("set_words_in_memory", bytes=LOADING_BYTES)
            run("drop_posts_by_author")  # made at once in the end, it costs a third
            run_many("add_post", map(_post_row, world.posts))
            run_many("add_words", _word_rows(world.posts, names))
            for batch in world.past:
                run_many("add_plain_post", batch.posts)
                run_many("add_words", batch.words)
            run("create_posts_by_author")
            self._index_own_posts()
            run("set_words_in_memory", bytes=USUAL_BYTES)
            follows = ({"user_id": one, "followed_id": other, "at_ms": 0} for one, other in world.follows)
            run_many("add_follow", follows)
            run("restore_counts", account_id=own)
            run("restore_followers", account_id=own)
            run("set_meta", key="world", value=world.digest)
            run("set_meta", key="rejected_rows", value=str(len(world.reports)))

    def add_life(
        self,
        *,
        posts: Sequence[Post],
        likes: Iterable[tuple[int, int, int]],
        follows: Iterable[tuple[int, int, int]],
        facts: Mapping[str, str],
    ) -> None:
        """Appends what other people did while the sandbox runs, with the facts that say how far that is.

        All of it or nothing; committed without waiting for the disk.

        Args:
            posts: By users of the world; what they answer or quote counts them.
            likes: User id, post id, time in ms since 1970; one twice counts once.
            follows: User id, followed id, time in ms since 1970; one twice counts once.
            facts: For `meta`.
        """
        with self._database.transaction(durable=False):
            self._add_others_posts(posts)
            for user_id, post_id, at_ms in likes:
                self.people.add_like(user_id, post_id, at_ms)
            for user_id, followed_id, at_ms in follows:
                self.people.add_follow(user_id, followed_id, at_ms)
            for key, value in facts.items():
                self._database.run("set_meta", key=key, value=value)

    def add_others_posts(self, posts: Sequence[Post]) -> None:
        """Appends other people's posts while the sandbox runs; what they answer or quote counts them.

        Their authors must be users of the world. Committed without waiting for the disk.
        """
        with self._database.transaction(durable=False):
            self._add_others_posts(posts)

    def _add_others_posts(self, posts: Sequence[Post]) -> None:
        names = {one: user.username for one in {post.author_id for post in posts} if (user := self.user(one))}
        self._database.run_many("add_post", map(_post_row, posts))
        self._database.run_many("add_words", _word_rows(posts, names))
        for post in posts:
            self._count(post, 1)

    def add_others_likes(self, likes: Iterable[tuple[int, int, int]]) -> None:
        """Other people's likes as (user id, post id, time in ms since 1970); one twice counts once."""
        with self._database.transaction(durable=False):
            for user_id, post_id, at_ms in likes:
                self.people.add_like(user_id, post_id, at_ms)

    def add_others_follows(self, follows: Iterable[tuple[int, int, int]]) -> None:
        """Other people's follows as (user id, followed id, time in ms since 1970); one twice counts once."""
        with self._database.transaction(durable=False):
            for user_id, followed_id, at_ms in follows:
                self.people.add_follow(user_id, followed_id, at_ms)

    def _index_own_posts(self) -> None:
        rows = self._database.run("list_own_posts", account_id=self.account.id)
        own = [to_post(row) for row in rows]
        self._database.run_many("add_words", _word_rows(own, {self.account.id: self.account.username}))

    def _count(self, post: Post, step: int) -> None:
        """Adds a post to, or takes it from, the counts of the posts that it refers to."""
        for column, target in (
            ("replies", post.reply_to),
            ("quotes", post.quote_of),
            ("retweets", post.repost_of),
        ):
            if target is not None:
                self.people.add_to_counts(target, **{column: step})

    # The account's writes

    def has_recent_text(self, text: str, at_ms: int) -> bool:
        """Whether the account posted exactly this text within the day before `at_ms`."""
        since_id = snowflakes.from_time(at_ms - DAY_MS)
        own = self.account.id
        return bool(self._database.number("has_recent_text", author_id=own, since_id=since_id, text=text))

    def accept_post(
        self, text: str, *, lang: str, at_ms: int, media_ids: Sequence[int] = (), **values: Any
    ) -> Post:
        """Keeps a post, reply or quote of the account and its line in the record, on the disk on return.

        Args:
            text: The text as sent.
            lang: Its language.
            at_ms: When it was accepted, milliseconds since 1970.
            media_ids: Finished uploads to attach.
            values: More of `Post`: reply_to, quote_of, conversation_id, reply_settings, made_with_ai, ...
        """
        with self._database.transaction(durable=True):
            post = self._add_own_post(text, lang=lang, at_ms=at_ms, **values)
            self.media.attach(post.id, media_ids)
            action = "reply" if post.reply_to else "quote" if post.quote_of else "post"
            target = post.reply_to or post.quote_of
            self._record(at_ms, action, target=target, id_=post.id, text=text)
        return post

    def repost(self, post: Post, at_ms: int) -> None:
        """The account reposts a post, once."""
        if self.repost_by_account(post.id):
            return
        author = self.user(post.author_id)
        text = f"RT @{author.username if author else '?'}: {post.text}"
        with self._database.transaction(durable=True):
            made = self._add_own_post(text, lang=post.lang, at_ms=at_ms, repost_of=post.id)
            self._record(at_ms, "retweet", target=post.id, id_=made.id)

    def unrepost(self, post_id: int, at_ms: int) -> None:
        """Takes the account's repost of a post back, if there is one."""
        if made := self.repost_by_account(post_id):
            with self._database.transaction(durable=True):
                self._remove(made, at_ms)
                self._record(at_ms, "unretweet", target=post_id, id_=made.id)

    def delete(self, post: Post, at_ms: int) -> None:
        """Deletes a post of the account; its line in the record stays."""
        with self._database.transaction(durable=True):
            self._remove(post, at_ms)
            self._record(at_ms, "delete", target=post.id, id_=post.id)

    def hide(self, post: Post, *, hidden: bool, at_ms: int) -> None:
        """Hides a reply, or shows it again."""
        with self._database.transaction(durable=True):
            self._database.run("set_hidden", id=post.id, hidden=hidden)
            self._record(at_ms, "hide" if hidden else "unhide", target=post.id, id_=post.id)

    def like(self, post_id: int, at_ms: int) -> bool:
        """The account likes a post; False where it did already, which writes nothing."""
        return self._once("like", post_id, at_ms, self.people.add_like)

    def unlike(self, post_id: int, at_ms: int) -> bool:
        """Takes the account's like back; False where there was none."""
        return self._once("unlike", post_id, at_ms, self.people.remove_like)

    def bookmark(self, post_id: int, at_ms: int) -> bool:
        """The account bookmarks a post; False where it did already."""
        return self._once("bookmark", post_id, at_ms, self.people.add_bookmark)

    def unbookmark(self, post_id: int, at_ms: int) -> bool:
        """Takes the account's bookmark away; False where there was none."""
        return self._once("unbookmark", post_id, at_ms, self.people.remove_bookmark)

    def follow(self, user_id: int, at_ms: int) -> bool:
        """The account follows a user; False where it did already."""
        return self._once("follow", user_id, at_ms, self.people.add_follow)

    def unfollow(self, user_id: int, at_ms: int) -> bool:
        """The account no longer follows a user; False where it didn't."""
        return self._once("unfollow", user_id, at_ms, self.people.remove_follow)

    def mute(self, user_id: int, at_ms: int) -> bool:
        """The account mutes a user; False where it did already."""
        return self._once("mute", user_id, at_ms, self.people.add_mute)

    def unmute(self, user_id: int, at_ms: int) -> bool:
        """The account hears a user again; False where it did."""
        return self._once("unmute", user_id, at_ms, self.people.remove_mute)

    def _once(self, action: str, target: int, at_ms: int, act: Any) -> bool:
        """Does the act and records it, unless it changes nothing."""
        with self._database.transaction(durable=True):
            changed = bool(act(self.account.id, target, at_ms))
            if changed:
                self._record(at_ms, action, target=target, id_=target)
        return changed

    def _add_own_post(self, text: str, *, lang: str, at_ms: int, **values: Any) -> Post:
        post_id = snowflakes.following(self._database.number("get_last_id", author_id=self.account.id), at_ms)
        while self._database.number("has_post", id=post_id):  # a world may hold any id
            post_id += 1
        post = Post(id=post_id, author_id=self.account.id, text=text, created_ms=at_ms, lang=lang, **values)
        self._database.run_many("add_post", [_post_row(post)])
        names = {self.account.id: self.account.username}
        self._database.run_many("add_words", _word_rows([post], names))
        self._count(post, 1)
        return post

    def _remove(self, post: Post, at_ms: int) -> None:
        self._database.run("set_deleted", id=post.id, at_ms=at_ms)
        self._database.run_many("delete_words", _word_rows([post], {post.author_id: self.account.username}))
        self._count(post, -1)

    def _record(
        self, at_ms: int, action: str, *, target: int | None, id_: int, text: str | None = None
    ) -> None:
        self._database.run(
            "add_write",
            at_ms=at_ms,
            account=self.account.username,
            action=action,
            target=None if target is None else str(target),
            id=str(id_),
            text=text,
        )


# A post's columns in the order of `add_post`. A world has many posts: this costs a fifth of asdict.
_post_row: Callable[[Post], tuple[Any, ...]] = attrgetter(
    "id",
    "author_id",
    "text",
    "created_ms",
    "lang",
    "metrics.retweets",
    "metrics.replies",
    "metrics.likes",
    "metrics.quotes",
    "metrics.bookmarks",
    "metrics.impressions",
    "reply_to",
    "quote_of",
    "repost_of",
    "conversation_id",
    "reply_settings",
    "made_with_ai",
    "paid_partnership",
)


def _word_rows(posts: Iterable[Post], names: dict[int, str]) -> Iterator[tuple[int, str, str]]:
    for post in posts:
        yield post.id, post.text, search.marks(post, names.get(post.author_id, ""))
