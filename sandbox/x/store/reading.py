"""Reading: what the store knows of users and posts; nothing here changes anything."""

import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from sandbox.x import snowflakes
from sandbox.x.posts import Metrics, Post, User
from sandbox.x.store.database import Database
from sandbox.x.store.people import People


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which posts a list may hold: ids between two bounds (both outside), times from start to before end."""

    since_id: int = 0
    until_id: int = snowflakes.MAX_ID
    start_ms: int = -snowflakes.MAX_ID
    end_ms: int = snowflakes.MAX_ID


class Reading:
    """Look-ups and lists. A deleted post is in none of them."""

    def __init__(self, database: Database, account: User) -> None:
        """On the store's database; `account` is the one user who may write."""
        self._database = database
        self.account = account
        self.people = People(database)

    def user(self, user_id: int) -> User | None:
        """The user with this id."""
        return self.people.user(user_id)

    def find_user(self, username: str) -> User | None:
        """The user with this name, in any case."""
        return self.people.find_user(username)

    def count_posts_of(self, user: User) -> int:
        """How many posts the user has."""
        return self._database.number("count_posts_of", author_id=user.id)

    def post(self, post_id: int) -> Post | None:
        """The post with this id; None also for a deleted one."""
        row = self._database.run("get_post", id=post_id).fetchone()
        return None if row is None else to_post(row)

    def is_hidden(self, post: Post) -> bool:
        """Whether the post is a reply that was hidden."""
        return bool(self._database.number("is_hidden", id=post.id))

    def has_own_reply(self, post_id: int) -> bool:
        """Whether the account answered the post, also with a reply that it deleted since."""
        return bool(self._database.number("has_reply", reply_to=post_id, author_id=self.account.id))

    def count_posts(self) -> int:
        """How many posts there are, the account's own among them."""
        return self._database.number("count_posts")

    def posts_of(self, author_id: int, span: Span, count: int) -> list[Post]:
        """An author's posts within the span, newest first."""
        return self._posts("list_posts_of", span, count, author_id=author_id)

    def chosen_posts_of(
        self, author_id: int, span: Span, count: int, *, no_replies: bool, no_reposts: bool
    ) -> list[Post]:
        """The same without replies or reposts."""
        return self._posts(
            "list_chosen_posts_of",
            span,
            count,
            author_id=author_id,
            no_replies=no_replies,
            no_reposts=no_reposts,
        )

    def latest_post_of(self, user: User) -> Post | None:
        """The user's newest post."""
        return next(iter(self.posts_of(user.id, Span(), 1)), None)

    def author_of(self, post_id: int) -> int | None:
        """Who wrote a post, deleted or not."""
        return self._database.number("get_author", id=post_id) or None

    def quotes_of(self, post_id: int, span: Span, count: int) -> list[Post]:
        """The posts within the span that quote a post, newest first."""
        return self._posts("list_quotes_of", span, count, quote_of=post_id)

    def replies_to(self, post_id: int, count: int) -> list[Post]:
        """The first answers to a post, oldest first."""
        return self._posts("list_replies_to", Span(), count, reply_to=post_id)

    def newest_posts(self, until_id: int, count: int) -> list[Post]:
        """Everybody's posts that are older than one, newest first."""
        return self._posts("list_newest_posts", Span(until_id=until_id), count)

    def home_timeline(
        self, user_id: int, span: Span, count: int, *, no_replies: bool = False, no_reposts: bool = False
    ) -> list[Post]:
        """The posts within the span of a user and of whom the user follows, newest first."""
        return self._posts(
            "list_home_timeline",
            span,
            count,
            user_id=user_id,
            no_replies=no_replies,
            no_reposts=no_reposts,
        )

    def liked_posts(self, user_id: int, until_id: int, count: int) -> list[Post]:
        """The posts that a user likes, newest post first."""
        return self._posts("list_liked_posts", Span(until_id=until_id), count, user_id=user_id)

    def bookmarked_posts(self, user_id: int, until_id: int, count: int) -> list[Post]:
        """The posts that a user bookmarked, newest post first."""
        return self._posts("list_bookmarked_posts", Span(until_id=until_id), count, user_id=user_id)

    def search(self, match: str, span: Span, count: int) -> list[Post]:
        """The posts within the span that an expression of `search.py` matches, newest first."""
        return self._posts("search_posts", span, count, match=match)

    def count_found(
        self, match: str, span: Span, *, start_ms: int, end_ms: int, step_ms: int
    ) -> dict[int, int]:
        """How many posts an expression matches in each step of time, by the step's number since 1970."""
        bounds = {
            **asdict(span),
            "start_ms": max(span.start_ms, start_ms),
            "end_ms": min(span.end_ms, end_ms),
        }
        rows = self._database.run("count_found", match=match, step_ms=step_ms, **bounds)
        return {int(row["step"]): int(row["found"]) for row in rows}

    def _posts(self, statement: str, span: Span, count: int, **values: Any) -> list[Post]:
        rows = self._database.run(statement, count=count, **asdict(span), **values)
        return [to_post(row) for row in rows]

    def repost_by_account(self, post_id: int) -> Post | None:
        """The account's repost of a post."""
        row = self._database.run("get_repost", repost_of=post_id, author_id=self.account.id).fetchone()
        return None if row is None else to_post(row)


def to_post(row: sqlite3.Row) -> Post:
    """A row of posts as the value: its columns in the order of the schema; by name it takes twice as long."""
    (
        id_,
        author_id,
        text,
        created_ms,
        lang,
        retweets,
        replies,
        likes,
        quotes,
        bookmarks,
        impressions,
        reply_to,
        quote_of,
        repost_of,
        conversation_id,
        reply_settings,
        made_with_ai,
        paid_partnership,
        _hidden,
        _deleted_ms,
    ) = row
    return Post(
        id=id_,
        author_id=author_id,
        text=text,
        created_ms=created_ms,
        lang=lang,
        metrics=Metrics(
            retweets=retweets,
            replies=replies,
            likes=likes,
            quotes=quotes,
            bookmarks=bookmarks,
            impressions=impressions,
        ),
        reply_to=reply_to,
        quote_of=quote_of,
        repost_of=repost_of,
        conversation_id=conversation_id,
        reply_settings=reply_settings,
        made_with_ai=bool(made_with_ai),
        paid_partnership=bool(paid_partnership),
    )
