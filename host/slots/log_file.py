"""A slot's log file: renamed to .1, .2, ... when it is large or old; its writer opens it anew by itself.

Nothing is copied and nobody waits: a writer looks before each line whether its file still has its name
(`workers.logs`), and a line that it wrote before it looked is in the file that was renamed. So a rotation
may be done at any time, by anyone, and loses no line.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

MAX_BYTES = 20 << 20
MAX_AGE_S = 24 * 3600.0
KEPT = 7
FIRST_LINE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """When a log is rotated and how much is kept.

    Attributes:
        max_bytes: one that is larger is rotated.
        max_age_s: one that was begun so long ago and isn't empty too.
        kept: how many rotated files stay.
    """

    max_bytes: int = MAX_BYTES
    max_age_s: float = MAX_AGE_S
    kept: int = KEPT


class LogFile:
    """The log of one slot, with its rotated files `name.1` (the newest) to `name.N`."""

    def __init__(
        self, path: Path, rotation: Rotation | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._rotation = rotation or Rotation()
        self._wall = wall

    def make(self) -> None:
        """Make it if it isn't there, for this user only."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def rotate_if_due(self) -> bool:
        """Rotate it when it is too large or too old; say whether it was. A disk's fault is no rotation."""
        with suppress(OSError):
            found = self.path.stat()
            if found.st_size >= self._rotation.max_bytes or (found.st_size and self._is_old(found)):
                self.rotate()
                return True
        return False

    def rotate(self) -> None:
        """Rename every file to the next number and begin a new one."""
        self._numbered(self._rotation.kept).unlink(missing_ok=True)
        for number in reversed(range(1, self._rotation.kept)):
            with suppress(FileNotFoundError):
                self._numbered(number).rename(self._numbered(number + 1))
        self.path.rename(self._numbered(1))
        self.make()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _is_old(self, found: os.stat_result) -> bool:
        """By the time of its first line: no file system of ours tells when a file was made."""
        with self.path.open("rb") as file:
            first = file.readline(FIRST_LINE_BYTES)
        begun = _time_of(first)
        return self._wall() - (found.st_mtime if begun is None else begun) >= self._rotation.max_age_s


def _time_of(line: bytes) -> float | None:
    """When a JSON line was written, in seconds since 1970; None where it doesn't say."""
    with suppress(ValueError, KeyError, TypeError):
        return datetime.fromisoformat(json.loads(line)["at"]).timestamp()
    return None
