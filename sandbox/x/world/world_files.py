"""World files: the rows of a CSV or of an X archive's tweets.js, each with the line where it begins.

WorldError            the file can't be a world: nothing of it is taken
RowError              one row can't be a post: it is reported with its line, and skipped
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

NEEDED = ("created_at", "text", "user")
MAX_SHOWN = 80  # characters of a refused value: a report is one line of a terminal

_ARCHIVE = re.compile(r"\s*window\.YTD\.(\w+)\.part\d+\s*=\s*(?=\[)")
_BETWEEN = re.compile(r"[\s,]*")
_OWNER = re.compile(r'"username"\s*:\s*"(\w{1,20})"', re.ASCII)

# Windows-1252 as browsers read it: its five undefined bytes are the control characters of Latin-1.
_CP1252 = [
    bytes([byte]).decode("latin-1" if byte in {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "cp1252")
    for byte in range(256)
]


class WorldError(Exception):
    """The file can't be a world; the text says what one looks like."""


class RowError(Exception):
    """A row's value can't be used."""

    def __init__(self, column: str, value: str, expected: str) -> None:
        flat = "".join(
            letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
            for letter in " ".join(value.split())
        )
        shown = flat if len(flat) <= MAX_SHOWN else f"{flat[:MAX_SHOWN]}..."
        super().__init__(f"column '{column}' is '{shown}': expected {expected}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One post as the file gives it: where it begins, and its values by lower-case column name."""

    line: int
    values: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that the file's own format can't give."""

    line: int
    error: RowError


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


def rows(path: Path, data: bytes) -> Iterator[Row | BadRow]:
    """The rows of a file's content; raises WorldError before the first one if the file can't be a world."""
    text = _decode(path, data)
    if path.suffix == ".js" or text.lstrip().startswith("window."):
        return _archive_rows(path, text)
    return _csv_rows(path, text)


def _decode(path: Path, data: bytes) -> str:
    """The file's text: UTF-8, or else Windows-1252, in which every byte is a character."""
    if b"\0" in data:
        raise WorldError(f"the world {path} is not text (it has a NUL byte): expected UTF-8 or Windows-1252")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "".join(_CP1252[byte] for byte in data)


def _csv_rows(path: Path, text: str) -> Iterator[Row | BadRow]:
    # Lines end with a line feed, as an editor counts them; a file without any has carriage returns.
    reader = csv.reader(io.StringIO(text, newline="\n" if "\n" in text else ""))
    try:
        names = [name.strip().lower() for name in next(reader)]
    except (csv.Error, StopIteration):
        names = []
    if missing := [name for name in NEEDED if name not in names]:
        raise WorldError(
            f"the world {path} has no column {' and no column '.join(missing)}: expected a CSV whose first "
            f"line names at least {', '.join(NEEDED)}; it is '{','.join(names)[:MAX_SHOWN]}'"
        )
    return _cells(reader, names)


def _cells(reader: Any, names: list[str]) -> Iterator[Row | BadRow]:
    while True:
        line = reader.line_num + 1
        try:
            cells: list[str] | None = next(reader, None)
        except csv.Error as error:
            yield BadRow(line=line, error=RowError(names[0], str(error), "a line of CSV (RFC 4180)"))
            continue
        if cells is None:
            return
        if len(cells) > len(names):
            extra = RowError(str(len(names) + 1), cells[len(names)], f"no more than {len(names)} columns")
            yield BadRow(line=line, error=extra)
        elif cells:
            padded = cells + [""] * (len(names) - len(cells))
            yield Row(line=line, values=dict(zip(names, padded, strict=True)))


def _archive_rows(path: Path, text: str) -> Iterator[Row | BadRow]:
    """The posts of `window.YTD.tweets.part0 = [ {"tweet": {...}}, ... ]`."""
    start = _ARCHIVE.match(text)
    if start is None or start[1] not in {"tweet", "tweets"}:
        raise WorldError(
            f"the world {path} is no archive of posts: expected it to begin with window.YTD.tweets.part0 = ["
        )
    try:
        items: list[Any] = json.loads(text[start.end() :].rstrip().rstrip(";"))
    except (ValueError, RecursionError) as error:
        raise WorldError(f"the world {path} is damaged after its first line: {error}") from error
    return _tweets(text, start.end() + 1, len(items), _archive_owner(path))


def _tweets(text: str, begin: int, count: int, owner: str) -> Iterator[Row | BadRow]:
    """Reads the list's items once more, one by one, to know their lines; all are the owner's posts."""
    decoder = json.JSONDecoder()
    line, position = 1, 0
    for _ in range(count):
        gap = _BETWEEN.match(text, begin)
        begin = gap.end() if gap else begin
        line += text.count("\n", position, begin)
        position = begin
        item, begin = decoder.raw_decode(text, begin)
        found = cast("dict[str, Any]", item).get("tweet", item) if isinstance(item, dict) else None
        if not isinstance(found, dict):
            yield BadRow(line=line, error=RowError("tweet", json.dumps(item), "an object that is a post"))
            continue
        tweet = cast("dict[str, Any]", found)
        values = {name: str(value) for name, value in tweet.items() if isinstance(value, str | int)}
        text_of_post = values.get("full_text", values.get("text", ""))
        yield Row(line=line, values={**values, "text": text_of_post, "user": owner})


def _archive_owner(path: Path) -> str:
    """The username in the archive's account.js beside the file; `archive` without one."""
    try:
        found = _OWNER.search(path.with_name("account.js").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return "archive"
    return found[1] if found else "archive"
