"""A log file: renamed to .1, .2, ... when it is large or old; a worker that writes it opens it anew.

A worker looks before each line that it logs whether its file still has its name (`workers.logs`), and a line
that it wrote before it looked is in the file that was renamed. So a rotation may be done at any time, by
anyone, and loses no line. Other programs don't look, nor does what a worker prints past its logger: there
whole blocks are copied when it is large, and taken out of the file (fallocate(2): ext4, XFS). Elsewhere it is
emptied after the copy, and what is written between the two is lost.
"""

import ctypes
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path

MAX_BYTES = 20 << 20
MAX_AGE_S = 24 * 3600.0
KEPT = 7
FIRST_LINE_BYTES = 4096
CHUNK_BYTES = 1 << 20
COLLAPSE_RANGE = 0x08  # linux/falloc.h


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """When a log is rotated and how much is kept.

    Attributes:
        max_bytes: one that is larger is rotated.
        max_age_s: one that was begun so long ago and isn't empty too; other programs' logs have no age.
        kept: how many rotated files stay.
    """

    max_bytes: int = MAX_BYTES
    max_age_s: float = MAX_AGE_S
    kept: int = KEPT


class LogFile:
    """One log, with its rotated files `name.1` (the newest) to `name.N`."""

    def __init__(
        self,
        path: Path,
        rotation: Rotation | None = None,
        wall: Callable[[], float] = time.time,
        *,
        writer_follows: bool = True,
    ) -> None:
        """Name the file.

        Args:
            path: where its newest lines are.
            rotation: when it is rotated; None for the usual.
            wall: seconds since 1970.
            writer_follows: whether its writer looks at the file's name, as a worker does.
        """
        self.path = path
        self._rotation = rotation or Rotation()
        self._wall = wall
        self._writer_follows = writer_follows
        self._renamed: tuple[int, int] = (0, 0)

    def make(self) -> None:
        """Make it if it isn't there, for this user only."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def room(self, written: os.stat_result | None, renamed: os.stat_result | None) -> int:
        """The bytes that fit before it is too large.

        Args:
            written: what is known of the file; None where it isn't there.
            renamed: of the one that was renamed last, into which a worker may go on to print.
        """
        left = self._rotation.max_bytes - (0 if written is None else written.st_size)
        if renamed is not None and self._writer_follows:
            left = min(left, self._room_of_renamed(renamed))
        return max(0, left)

    def rotate_if_due(self) -> bool:
        """Rotate it when it is too large or too old; say whether it was. A disk's fault is no rotation."""
        with suppress(OSError):
            found = self.path.stat()
            is_large = found.st_size >= self._rotation.max_bytes
            if not self._writer_follows:
                return is_large and self._carry_off(0)
            if is_large or (found.st_size and self._is_old(found)):
                self.rotate()
                return True
            if self._room_of_renamed(self._numbered(1).stat()) <= 0:
                return self._carry_off(1)
        return False

    def _room_of_renamed(self, found: os.stat_result) -> int:
        inode, most = self._renamed
        if inode != found.st_ino:
            inode, most = self._renamed = found.st_ino, found.st_size + self._rotation.max_bytes
        return most - found.st_size

    def rotate(self) -> None:
        """Rename every file to the next number and begin a new one."""
        self._make_room(1)
        self.path.rename(self._numbered(1))
        self._renamed = (0, 0)
        self.make()

    def _carry_off(self, number: int) -> bool:
        """Move what a writer that doesn't look goes on filling to the next number."""
        full, kept = self._numbered(number), self.path.with_name(f"{self.path.name}.copy")
        try:
            if number < self._rotation.kept:
                self._make_room(number + 1)
                self._move(full, kept)
                kept.rename(self._numbered(number + 1))
            else:
                os.truncate(full, 0)
            self._renamed = (0, 0)
        finally:
            kept.unlink(missing_ok=True)
        return True

    def _move(self, full: Path, kept: Path) -> None:
        """Copy whole blocks and take them out of the file: nothing is lost, whoever writes meanwhile.

        Where the file system can't do that it is emptied after the copy, and loses what was written between.
        No more than twice what a log may hold is copied: a flood must not be run after for ever.
        """
        target = os.open(kept, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with full.open("rb+", buffering=0) as source, os.fdopen(target, "wb", buffering=0) as copy:
            size, block = os.fstat(source.fileno()).st_size, os.fstatvfs(source.fileno()).f_bsize
            whole = min(size - 1, 2 * self._rotation.max_bytes) // block * block
            _copy(source, copy, whole)
            if not (whole and _collapse(source.fileno(), whole)):
                _copy(source, copy, 2 * self._rotation.max_bytes - whole)
                os.ftruncate(source.fileno(), 0)

    def _make_room(self, first: int) -> None:
        """Let nothing have this number; the oldest file goes."""
        self._numbered(self._rotation.kept).unlink(missing_ok=True)
        for number in reversed(range(first, self._rotation.kept)):
            with suppress(FileNotFoundError):
                self._numbered(number).rename(self._numbered(number + 1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _is_old(self, found: os.stat_result) -> bool:
        """By the time of its first line: no file system of ours tells when a file was made."""
        with self.path.open("rb") as file:
            begun = _time_of(file.readline(FIRST_LINE_BYTES))
        return self._wall() - (found.st_mtime if begun is None else begun) >= self._rotation.max_age_s


def _copy(source: FileIO, target: FileIO, most: int) -> None:
    while most > 0 and (chunk := source.read(min(most, CHUNK_BYTES))):
        target.write(chunk)
        most -= len(chunk)


def _collapse(file: int, length: int) -> bool:
    """Take the first bytes out of a file, the rest moves to its start; False where that can't be done."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    offset = ctypes.c_int64
    return call is not None and call(file, COLLAPSE_RANGE, offset(0), offset(length)) == 0


def _time_of(line: bytes) -> float | None:
    """When a JSON line was written, in seconds since 1970; None where it doesn't say."""
    with suppress(ValueError, KeyError, TypeError):
        return datetime.fromisoformat(json.loads(line)["at"]).timestamp()
    return None
