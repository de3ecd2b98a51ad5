"""Store: everything the sandbox remembers, in one SQLite file that survives kill -9.

One process and one thread use it; `server.py` locks the state directory. Accepted writes are committed
with `synchronous = FULL` before anybody hears of them; the request log and the limits' windows are
committed without waiting for the disk, which a killed process doesn't lose either.
"""

import importlib.resources
import re
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox.x import search, snowflakes
from sandbox.x.posts import Metrics, Post, User
from sandbox.x.worlds import World

DAY_MS = 86_400_000


def _read_statements() -> dict[str, str]:
    script = importlib.resources.files("sandbox.x").joinpath("store.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", script, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


_STATEMENTS = _read_statements()


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which posts a list may hold: ids between two bounds (both outside), times from start to before end."""

    since_id: int = 0
    until_id: int = snowflakes.MAX_ID
    start_ms: int = -snowflakes.MAX_ID
    end_ms: int = snowflakes.MAX_ID


class Store:
    """The posts, the account's accepted writes, the requests and the limits' windows."""

    def __init__(self, path: Path, account: User) -> None:
        """Opens or makes the file at `path`; `account` is the one user who may write."""
        self.account = account
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_STATEMENTS["create_tables"])
        self._run("add_user", **asdict(account))

    def close(self) -> None:
        """Closes the file; nothing is lost without it."""
        self._connection.close()

    def _run(self, statement: str, **values: Any) -> sqlite3.Cursor:
        return self._connection.execute(_STATEMENTS[statement], values)

    def _number(self, statement: str, **values: Any) -> int:
        return int(self._run(statement, **values).fetchone()[0] or 0)

    @contextmanager
    def _transaction(self, *, durable: bool) -> Generator[None]:
        """One transaction; a durable one is on the disk when the block ends."""
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # The world

    def meta(self, key: str) -> str | None:
        """A remembered fact about the store, such as the digest of its world."""
        row = self._run("get_meta", key=key).fetchone()
        return None if row is None else str(row[0])

    def replace_world(self, world: World) -> None:
        """Puts the world's users and posts in place of the last world's; the account's own stay."""
        with self._transaction(durable=True):
            for statement in ("delete_world_words", "delete_world_posts", "delete_world_users"):
                self._run(statement, account_id=self.account.id)
            names = {user.id: user.username for user in world.users}
            for user in world.users:
                self._run("add_user", **asdict(user))
            for post in world.posts:
                self._add_post(post, names[post.author_id])
            self._run("set_meta", key="world", value=world.digest)
            self._run("set_meta", key="rejected_rows", value=str(len(world.reports)))

    def _add_post(self, post: Post, username: str) -> None:
        # vars, not asdict: a world has many posts, and nothing here needs a deep copy.
        self._run("add_post", **{**vars(post), **vars(post.metrics)})
        marks = search.marks(text=post.text, username=username, lang=post.lang)
        self._run("add_words", id=post.id, body=post.text, marks=marks)

    # The account's writes

    def has_recent_text(self, text: str, at_ms: int) -> bool:
        """Whether the account posted exactly this text within the day before `at_ms`."""
        since_id = snowflakes.from_time(at_ms - DAY_MS)
        found = self._number("has_recent_text", author_id=self.account.id, since_id=since_id, text=text)
        return bool(found)

    def accept_post(self, text: str, *, lang: str, at_ms: int) -> Post:
        """Keeps a post of the account and its line in the record; both are on the disk on return."""
        with self._transaction(durable=True):
            last_id = self._number("get_last_id", author_id=self.account.id)
            post_id = snowflakes.following(last_id, at_ms)
            while self.post(post_id):  # a world may hold any id
                post_id += 1
            post = Post(
                id=post_id,
                author_id=self.account.id,
                text=text,
                created_ms=at_ms,
                lang=lang,
            )
            self._add_post(post, self.account.username)
            self._run(
                "add_write",
                at_ms=at_ms,
                account=self.account.username,
                action="post",
                target=None,
                id=str(post.id),
                text=text,
            )
        return post

    def writes(self) -> list[dict[str, Any]]:
        """Every accepted write in order: the platform's own record."""
        return [dict(row) for row in self._run("list_writes")]

    # Reads

    def user(self, user_id: int) -> User | None:
        """The user with this id."""
        row = self._run("get_user", id=user_id).fetchone()
        return None if row is None else User(**row)

    def find_user(self, username: str) -> User | None:
        """The user with this name, in any case."""
        row = self._run("find_user", username=username).fetchone()
        return None if row is None else User(**row)

    def count_posts_of(self, user: User) -> int:
        """How many posts the user has."""
        return self._number("count_posts_of", author_id=user.id)

    def post(self, post_id: int) -> Post | None:
        """The post with this id."""
        row = self._run("get_post", id=post_id).fetchone()
        return None if row is None else _to_post(row)

    def count_posts(self) -> int:
        """How many posts there are, the account's own among them."""
        return self._number("count_posts")

    def posts_of(self, author_id: int, span: Span, count: int) -> list[Post]:
        """An author's posts within the span, newest first."""
        rows = self._run("list_posts_of", author_id=author_id, count=count, **asdict(span))
        return [_to_post(row) for row in rows]

    def search(self, match: str, span: Span, count: int) -> list[Post]:
        """The posts within the span that an expression of `search.py` matches, newest first."""
        rows = self._run("search_posts", match=match, count=count, **asdict(span))
        return [_to_post(row) for row in rows]

    # Requests and limits

    def add_request(
        self, *, at_ms: int, method: str, path: str, account: str | None, endpoint: str | None, status: int
    ) -> None:
        """Logs one answered request."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._run(
            "add_request",
            at_ms=at_ms,
            method=method,
            path=path,
            account=account,
            endpoint=endpoint,
            status=status,
        )

    def requests(self) -> list[dict[str, Any]]:
        """Every answered request in order."""
        return [dict(row) for row in self._run("list_requests")]

    def window(self, caller: str, endpoint: str, window_s: int) -> tuple[int, int] | None:
        """When the caller's window on an endpoint began (seconds since 1970) and how much of it is used."""
        row = self._run("get_window", caller=caller, endpoint=endpoint, window_s=window_s).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

    def set_window(self, caller: str, endpoint: str, window_s: int, *, started_s: int, used: int) -> None:
        """Keeps what `window` gives."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._run(
            "set_window",
            caller=caller,
            endpoint=endpoint,
            window_s=window_s,
            started_s=started_s,
            used=used,
        )


def _to_post(row: sqlite3.Row) -> Post:
    values: dict[str, Any] = dict(row)
    metrics = Metrics(
        retweets=values.pop("retweets"),
        replies=values.pop("replies"),
        likes=values.pop("likes"),
        quotes=values.pop("quotes"),
        bookmarks=values.pop("bookmarks"),
        impressions=values.pop("impressions"),
    )
    return Post(metrics=metrics, **values)
