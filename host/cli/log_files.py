"""The log files of this host: which there are, their last lines, and what is added to them over rotations.

A log that was rotated is `name.1` (the newest) to `name.N`. A worker's log was renamed, and its writer goes
on in a new file of the old name; of another program's log the beginning was copied and taken out of the file.
"""

import os
import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 65_536
COPYING_S = 10.0
"""An unfinished copy that is older was left by somebody who died over it."""
SLOT_FILE = re.compile(r"(?P<name>.+)-(?P<slot>\d+)\.jsonl")


def find_logs(logs: Path) -> dict[str, Path]:
    """Each log by the name that a person gives: poster/1, console, postgresql."""
    found: dict[str, Path] = {}
    for path in logs.glob("*") if logs.is_dir() else ():
        if match := SLOT_FILE.fullmatch(path.name):
            found[f"{match['name']}/{match['slot']}"] = path
        elif path.suffix == ".log":
            found[path.stem] = path
    return found


class LogTail:
    """One log, read from its end on. `last` first, then `new` as often as one likes; `close` at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._newest_copy: int | None = None

    def close(self) -> None:
        """Let go of the file; safe at any time."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def last(self, number: int) -> list[bytes]:
        """The last `number` whole lines, from the rotated files too where the newest has fewer."""
        lines: list[bytes] = []
        if file := self._open():
            lines, self._rest = _whole(_end(file, number))
        for path in self._rotated():
            if len(lines) >= number:
                break
            with path.open("rb") as file:
                earlier = _end(file, number - len(lines)).splitlines()
            lines = earlier[len(lines) - number :] + lines
        return lines[-number:] if number else []

    @property
    def unfinished(self) -> bytes:
        """What stands behind the last whole line: a line that is being written, or never was finished."""
        return self._rest

    def new(self) -> Iterator[bytes]:
        """The lines that were finished since, in order; none is left out because the file was rotated."""
        file = self._file or self._open()
        if file is None:
            return
        yield from self._read(file)
        if self._is_current(file):
            return
        # Its writer may have looked at the name just before the rotation: once more, then the next file.
        yield from self._read(file)
        if self._rest:
            yield self._rest
            self._rest = b""
        for path in self._begun_after(file):
            with path.open("rb") as between:
                yield from self._read(between)
        self.close()
        if newest := self._open():
            yield from self._read(newest)

    def _read(self, file: BinaryIO) -> Iterator[bytes]:
        """What was added to a file; where its beginning was carried off, from the copies first."""
        while not self._is_being_copied():
            for path in self._copies_since(file):
                with path.open("rb") as copy:
                    at, end = file.tell(), os.fstat(copy.fileno()).st_size
                    copy.seek(min(at, end))
                    yield from self._lines(copy.read())
                file.seek(max(0, at - end))
            at = file.tell()
            if os.fstat(file.fileno()).st_size < at:  # emptied by somebody, and begun anew
                file.seek(at := 0)
                self._rest = b""
            block = file.read(BLOCK_BYTES)
            if self._is_being_copied() or self._newest(file) != self._newest_copy:
                file.seek(at)  # what was read may be from after the beginning was taken out
            elif not block:
                return
            else:
                yield from self._lines(block)

    def _lines(self, data: bytes) -> list[bytes]:
        lines, self._rest = _whole(self._rest + data)
        return lines

    def _is_being_copied(self) -> bool:
        try:
            begun = self._path.with_name(f"{self._path.name}.copy").stat().st_mtime
        except FileNotFoundError:
            return False
        return time.time() - begun < COPYING_S

    def _newest(self, file: BinaryIO) -> int | None:
        """The newest copy of this file's beginning, by its inode; None where it has none."""
        if self._path.suffix != ".log" or not self._is_current(file):
            return self._newest_copy
        newest = next(self._rotated(), None)
        try:
            return newest and newest.stat().st_ino
        except FileNotFoundError:  # it gets its next number just now
            return -1

    def _copies_since(self, file: BinaryIO) -> list[Path]:
        """The copies of its beginning that were made since the last look, oldest first."""
        newest = self._newest(file)
        if newest in {self._newest_copy, -1}:
            return []
        newer: list[Path] = []
        for path in self._rotated():
            if path.stat().st_ino == self._newest_copy:
                break
            newer.append(path)
        self._newest_copy = newest
        return newer[::-1]

    def _open(self) -> BinaryIO | None:
        try:
            self._file = self._path.open("rb")
            self._newest_copy = self._newest(self._file)
        except FileNotFoundError:
            self._file = None
        return self._file

    def _is_current(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:  # between two names; it will be there at the next look
            return True

    def _rotated(self) -> Iterator[Path]:
        """The rotated files, the newest first."""
        for number in count(1):
            path = self._path.with_name(f"{self._path.name}.{number}")
            if not path.exists():
                return
            yield path

    def _begun_after(self, file: BinaryIO) -> list[Path]:
        """The rotated files that were begun after this one, oldest first: we were held up for long."""
        own = os.fstat(file.fileno())
        newer: list[Path] = []
        for path in self._rotated():
            if os.path.samestat(path.stat(), own):
                break
            newer.append(path)
        return newer[::-1]


def _whole(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines, and what follows the last of them."""
    *lines, rest = data.split(b"\n")
    return lines, rest


def _end(file: BinaryIO, number: int) -> bytes:
    """The end of a file with at least its last `number` whole lines; the file is then read to its end."""
    end = start = file.seek(0, os.SEEK_END)
    blocks: list[bytes] = []
    lines = 0
    while start > 0 and lines <= number:
        start = max(0, start - BLOCK_BYTES)
        file.seek(start)
        blocks.append(file.read(min(BLOCK_BYTES, end - start - sum(map(len, blocks)))))
        lines += blocks[-1].count(b"\n")
    file.seek(end)
    data = b"".join(reversed(blocks))
    # The first line is cut where the file began earlier; more are there than anyone asked for.
    return data if start == 0 else data.partition(b"\n")[2]
