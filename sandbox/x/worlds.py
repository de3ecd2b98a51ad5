"""Worlds: the posts that others have made, from a CSV, an X archive's tweets.js, or built in.

WorldError            the file can't be a world: nothing of it is taken
RowError              one row can't be a post: it is reported with its line, and skipped
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.x import snowflakes
from sandbox.x import text as texts
from sandbox.x.posts import Metrics, Post, User

MAX_TEXT = 25_000
NEEDED = ("created_at", "text", "user")

# The names that exports use for one thing, first the CSV's of this project, then X's own.
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

_STATUS = re.compile(r"/status(?:es)?/(\d{1,19})(?:\D|$)")
_USERNAME = re.compile(r"\w{1,20}", re.ASCII)
_LANG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z]{2,4})?")
_ARCHIVE = re.compile(r"\s*window\.YTD\.(\w+)\.part\d+\s*=\s*")


class WorldError(Exception):
    """The file can't be a world; the text says what one looks like."""


class RowError(Exception):
    """A row's value can't be used."""

    def __init__(self, column: str, value: str, expected: str) -> None:
        shown = value if len(value) <= 80 else value[:77] + "..."  # noqa: PLR2004 - one line of a terminal
        super().__init__(f"column '{column}' is '{shown}': expected {expected}".replace("\n", " "))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One post as the file gives it: where it begins, and its values by lower-case column name."""

    line: int
    values: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class World:
    """Users and their posts; `digest` changes with the content, `reports` has a line a skipped row."""

    name: str
    digest: str
    users: list[User]
    posts: list[Post]
    reports: list[str] = field(default_factory=list[str])

    @property
    def rejected_rows(self) -> int:
        """How many rows were skipped."""
        return len(self.reports)


def digest(data: bytes) -> str:
    """What tells one world's content from another's."""
    return hashlib.sha256(data).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The file's content; raises WorldError where there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorldError(
            f"the world {path} can't be read ({error.strerror}): name a CSV file or an archive's tweets.js"
        ) from error
    if not data.strip():
        raise WorldError(f"the world {path} is empty: expected a CSV with the columns {', '.join(NEEDED)}")
    return data


def load(path: Path, data: bytes, *, taken: str) -> World:
    """The world in a file's content; raises WorldError.

    Args:
        path: Where the content comes from, for messages and a neighbouring account.js.
        data: The content.
        taken: The username of the sandbox's own account, which no row may have.
    """
    text = _decode(path, data)
    if text.lstrip().startswith("window.") or path.suffix == ".js":
        rows = _archive_rows(path, text)
    else:
        rows = _csv_rows(path, text)
    return _gather(path, rows, digest(data), taken)


def _gather(path: Path, rows: Iterator[Row | str], content: str, taken: str) -> World:
    reports: list[str] = []
    users: dict[str, User] = {}
    posts: dict[int, Post] = {}
    for row in rows:
        if isinstance(row, str):
            reports.append(row)
            continue
        try:
            user, post = _to_post(row, posts, taken)
        except RowError as error:
            reports.append(f"{path}:{row.line}: {error}")
            continue
        known = users.get(user.username.lower())
        if known is None or user.created_ms < known.created_ms:
            users[user.username.lower()] = user
        posts[post.id] = post
    if not posts:
        first = f"; the first: {reports[0]}" if reports else ""
        raise WorldError(f"the world {path} has no row that is a post ({len(reports)} refused{first})")
    return World(
        name=path.name, digest=content, users=[*users.values()], posts=[*posts.values()], reports=reports
    )


def _decode(path: Path, data: bytes) -> str:
    """The file's text: UTF-8, or else Windows-1252, where each byte is a character (also the undefined)."""
    if b"\0" in data:
        raise WorldError(f"the world {path} is not text (it has a NUL byte): expected UTF-8 or Windows-1252")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "".join(_CP1252[byte] for byte in data)


_CP1252 = [
    bytes([byte]).decode("latin-1" if byte in {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "cp1252")
    for byte in range(256)
]


def _csv_rows(path: Path, text: str) -> Iterator[Row | str]:
    """The CSV's rows; a row that isn't one becomes its report. Lines end with a line feed, as in editors."""
    has_feeds = "\n" in text
    lines = text.splitlines(keepends=True) if not has_feeds else io.StringIO(text, newline="\n")
    reader = csv.reader(lines)
    names = [name.strip().lower() for name in next(reader, [])]
    if missing := [name for name in NEEDED if name not in names]:
        raise WorldError(
            f"the world {path} has no column {' and no column '.join(missing)} (its first line: "
            f"{','.join(names)[:200]}): expected a CSV whose first line names {', '.join(NEEDED)}"
        )
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield f"{path}:{line}: column '{names[0]}' is not readable ({error}): expected CSV as RFC 4180 has it"
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) > len(names):
            extra = RowError(str(len(names) + 1), cells[len(names)], f"{len(names)} columns")
            yield f"{path}:{line}: {extra}"
            continue
        cells += [""] * (len(names) - len(cells))
        yield Row(line=line, values=dict(zip(names, cells, strict=True)))


def _archive_rows(path: Path, text: str) -> Iterator[Row | str]:
    """The posts of `window.YTD.tweets.part0 = [ {"tweet": {...}}, ... ]`, all by the archive's account."""
    start = _ARCHIVE.match(text)
    if start is None or start[1] not in {"tweet", "tweets"}:
        raise WorldError(
            f"the world {path} is no archive of posts: expected it to begin with window.YTD.tweets.part0 = ["
        )
    try:
        items = json.loads(text[start.end() :].rstrip().rstrip(";"))
    except ValueError as error:
        raise WorldError(f"the world {path} is damaged after window.YTD: {error}") from error
    if not isinstance(items, list):
        raise WorldError(f"the world {path} has no list after window.YTD.tweets.part0 =: expected [ ... ]")
    owner = _archive_owner(path)
    line, position = 1, 0
    decoder = json.JSONDecoder()
    position = text.index("[", start.end()) + 1
    for _ in range(len(items)):  # pyright: ignore[reportUnknownArgumentType] - JSON
        begin = re.compile(r"[\s,]*").match(text, position).end()  # pyright: ignore[reportOptionalMemberAccess]
        line = text.count("\n", 0, begin) + 1
        item, position = decoder.raw_decode(text, begin)
        tweet: Any = item.get("tweet", item) if isinstance(item, dict) else None
        if not isinstance(tweet, dict):
            yield f"{path}:{line}: {RowError('tweet', json.dumps(item), 'an object with a post')}"
            continue
        values = {str(key): str(value) for key, value in tweet.items() if isinstance(value, str | int)}
        values["text"] = values.get("full_text", values.get("text", ""))
        yield Row(line=line, values={**values, "user": owner})


def _archive_owner(path: Path) -> str:
    """The username in the archive's account.js beside the file; `archive` without one."""
    try:
        found = re.search(r'"username"\s*:\s*"(\w{1,20})"', path.with_name("account.js").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        found = None
    return found[1] if found else "archive"


def _to_post(row: Row, posts: dict[int, Post], taken: str) -> tuple[User, Post]:
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
    user = User(id=_user_id(username), username=username, name=username, created_ms=created_ms)
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
    for read in (datetime.fromisoformat, *(_reader(pattern) for pattern in TIMES)):
        try:
            at = read(value)
        except ValueError:
            continue
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return round(at.timestamp() * 1000)
    raise RowError("created_at", value, "a time such as 2017-10-16T22:59:00Z or 10/16/17 22:59 (UTC)")


def _reader(pattern: str) -> Any:
    return lambda value: datetime.strptime(value, pattern)  # noqa: DTZ007 - the caller adds the zone


def _count(values: dict[str, str], columns: tuple[str, ...]) -> int:
    for column in columns:
        value = values.get(column, "").strip()
        if not value:
            continue
        if not value.isascii() or not value.isdigit() or len(value) > 15:  # noqa: PLR2004 - fits SQLite
            raise RowError(column, values[column], "a whole number, 0 or more")
        return int(value)
    return 0


def _post_id(values: dict[str, str], posts: dict[int, Post], created_ms: int) -> int:
    """The id that the row names, or one made from its time: the same at every load of the file."""
    for column in IDS:
        if value := values.get(column, "").strip():
            if not value.isascii() or not value.isdigit() or not 0 < int(value[:20]) <= snowflakes.MAX_ID:
                raise RowError(column, value, "a post's id: 1 to 19 digits")
            return _unused(int(value), column, value, posts)
    url = values.get("url", "")
    if (status := _STATUS.search(url)) and 0 < int(status[1]) <= snowflakes.MAX_ID:
        return _unused(int(status[1]), "url", url, posts)
    made = snowflakes.from_time(created_ms)
    while made in posts:
        made += 1
    return made


def _unused(post_id: int, column: str, value: str, posts: dict[int, Post]) -> int:
    if post_id in posts:
        raise RowError(column, value, "an id that no earlier row has")
    return post_id


def _user_id(username: str) -> int:
    """A username's id: the same in every world."""
    return int.from_bytes(hashlib.sha256(username.lower().encode()).digest()[:7])
