"""Worlds: the users and posts that others have made, checked row by row."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sandbox.x import snowflakes
from sandbox.x import text as texts
from sandbox.x.posts import Batch, Metrics, Post, User
from sandbox.x.world import world_files
from sandbox.x.world.world_files import BadRow, Row, RowError, WorldError

MAX_TEXT = 25_000  # X's longest posts
MAX_COUNT_DIGITS = 15  # more than anybody has; fits SQLite

# The names that exports use for one thing.
COUNTS = {
    "retweets": ("retweets", "retweet_count", "repost_count", "reposts"),
    "replies": ("replies", "reply_count"),
    "likes": ("favorites", "favorite_count", "likes", "like_count"),
    "quotes": ("quotes", "quote_count"),
    "bookmarks": ("bookmarks", "bookmark_count"),
    "impressions": ("impressions", "impression_count", "views", "view_count"),
}
IDS = ("id", "id_str", "tweet_id", "post_id")
TIMES = ("%m/%d/%y %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%a %b %d %H:%M:%S %z %Y")

_STATUS = re.compile(r"/status(?:es)?/([0-9]{1,19})(?![0-9])")
_USERNAME = re.compile(r"\w{1,20}", re.ASCII)
_LANG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z]{2,4})?")
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, kw_only=True)
class World:
    """Users, their posts and who follows whom.

    `past` has more posts, some at once, and can be read once; `follows` has pairs of user ids, the follower's
    first; `digest` changes with the content; `reports` has a line a skipped row.
    """

    digest: str
    users: list[User]
    posts: list[Post]
    past: Iterable[Batch] = ()
    follows: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    reports: list[str] = field(default_factory=list[str])


def digest(data: bytes) -> str:
    """What tells one world's content from another's."""
    return hashlib.sha256(data).hexdigest()


def load(path: Path, data: bytes, *, taken: str) -> World:
    """The world in a file's content; raises WorldError.

    Args:
        path: Where the content comes from: for messages, and for the account.js beside an archive.
        data: The content.
        taken: The username of the sandbox's own account, which no row may have.
    """
    reports: list[str] = []
    users: dict[int, User] = {}
    posts: dict[int, Post] = {}
    for row in world_files.rows(path, data):
        try:
            user, post = _read(row, posts, taken)
        except RowError as error:
            reports.append(f"{path}:{row.line}: {error}")
            continue
        known = users.get(user.id)
        if known is None or user.created_ms < known.created_ms:
            users[user.id] = user
        posts[post.id] = post
    if not posts:
        first = f"; the first: {reports[0]}" if reports else ""
        raise WorldError(f"the world {path} has no row that is a post ({len(reports)} refused{first})")
    return World(digest=digest(data), users=list(users.values()), posts=list(posts.values()), reports=reports)


def _read(row: Row | BadRow, posts: dict[int, Post], taken: str) -> tuple[User, Post]:
    """A row's author and post; raises RowError at the first value that can't be used."""
    if isinstance(row, BadRow):
        raise row.error
    values = row.values
    created_ms = _time_ms(values.get("created_at", "").strip())
    username = values["user"].strip().removeprefix("@")
    if not _USERNAME.fullmatch(username):
        raise RowError("user", values["user"], "a username: 1 to 20 letters, digits or _")
    if username.lower() == taken.lower():
        raise RowError("user", values["user"], f"another name: {taken} is the sandbox's own account")
    text = texts.unescaped(values["text"])
    if not text.strip() or len(text) > MAX_TEXT:
        raise RowError("text", text, f"1 to {MAX_TEXT} characters")
    lang = values.get("lang", "").strip()
    if lang and not _LANG.fullmatch(lang):
        raise RowError("lang", lang, "a language code such as en, or nothing")
    metrics = Metrics(**{name: _count(values, columns) for name, columns in COUNTS.items()})
    user = User(id=user_id(username), username=username, name=username, created_ms=created_ms)
    post = Post(
        id=_post_id(values, posts, created_ms),
        author_id=user.id,
        text=text,
        created_ms=created_ms,
        lang=lang or texts.language(text),
        metrics=metrics,
    )
    return user, post


def _time_ms(value: str) -> int:
    """Milliseconds since 1970; a time without a zone is UTC."""
    for pattern in ("", *TIMES):
        try:
            at = datetime.strptime(value, pattern) if pattern else datetime.fromisoformat(value)  # noqa: DTZ007 - zone below
        except ValueError:
            continue
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    raise RowError("created_at", value, "a time such as 2017-10-16T22:59:00Z or 10/16/17 22:59 (UTC)")


def _count(values: dict[str, str], columns: tuple[str, ...]) -> int:
    """The first of the columns that has a value; 0 where none has."""
    for column in columns:
        value = values.get(column, "").strip()
        if value:
            if not _NUMBER.fullmatch(value) or len(value) > MAX_COUNT_DIGITS:
                raise RowError(column, values[column], "a whole number, 0 or more")
            return int(value)
    return 0


def _post_id(values: dict[str, str], posts: dict[int, Post], created_ms: int) -> int:
    """The id that the row names, or one made from its time: the same at every load of the file."""
    for column in IDS:
        if value := values.get(column, "").strip():
            return _unused(column, value, value, posts)
    url = values.get("url", "")
    if status := _STATUS.search(url):
        return _unused("url", url, status[1], posts)
    made = snowflakes.from_time(created_ms)
    while made in posts:
        made += 1
    return made


def _unused(column: str, value: str, digits: str, posts: dict[int, Post]) -> int:
    if not _NUMBER.fullmatch(digits) or len(digits) > 19 or not 0 < int(digits) <= snowflakes.MAX_ID:  # noqa: PLR2004 - 64 bits
        raise RowError(column, value, "a post's id: 1 to 19 digits")
    if int(digits) in posts:
        raise RowError(column, value, "an id that no earlier row has")
    return int(digits)


def user_id(username: str) -> int:
    """A username's id: the same in every world."""
    return int.from_bytes(hashlib.sha256(username.lower().encode()).digest()[:7])
