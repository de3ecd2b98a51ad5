"""Log rotation: a thread that looks at all logs of the host, the sooner the faster one of them grows.

Workers' logs (`*.jsonl`) are renamed, the other programs' (`*.log`: console, sandbox, PostgreSQL) are carried
off from their beginning; see `LogFile`. On a disk that hangs this thread waits, and nothing else.
"""

import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from host.slots.log_file import LogFile, Rotation

LOOK_S = 0.5
SOONEST_S = 0.01
AGE_LOOK_S = 60.0
"""How often a log's age is looked at: for that its first line is read."""
WORKERS = ".jsonl"
RENAMED = ".1"
WRITTEN = (WORKERS, WORKERS + RENAMED, ".log")
"""What may be written: workers' logs, the newest renamed ones, into which they may print, and the others'."""


class LogRotation:
    """Looks at the logs of a directory from `start` to `stop`."""

    def __init__(self, logs: Path, rotation: Rotation | None = None, *, look_s: float = LOOK_S) -> None:
        """Name the directory.

        Args:
            logs: where the logs are.
            rotation: when one is rotated; None for the usual.
            look_s: how long a look may be put off while nothing grows fast.
        """
        self._logs = logs
        self._rotation = rotation or Rotation()
        self._look_s = look_s
        self._known: dict[str, _Growing] = {}
        self._leaving = Event()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = Thread(target=self._run, name="log rotation", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, within_s: float = 1.0) -> None:
        """Look no more; safe when it never began."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def look(self) -> float:
        """Rotate what is due; give the seconds until the next look."""
        found: dict[str, os.stat_result] = {}
        with suppress(OSError), os.scandir(self._logs) as entries:
            found = {entry.name: entry.stat() for entry in entries if entry.name.endswith(WRITTEN)}
        now, soonest_s = time.monotonic(), self._look_s
        for name in found:
            if not name.endswith(RENAMED):
                growing = self._known.get(name) or self._know(name, now)
                soonest_s = min(soonest_s, growing.look(now, found[name], found.get(f"{name}{RENAMED}")))
        return max(SOONEST_S, soonest_s)

    def _know(self, name: str, now: float) -> "_Growing":
        log = LogFile(self._logs / name, self._rotation, writer_follows=name.endswith(WORKERS))
        growing = self._known[name] = _Growing(log, now)
        return growing

    def _run(self) -> None:
        pause_s = 0.0
        while not self._leaving.wait(pause_s):
            pause_s = self.look()


class _Growing:
    """One log and how fast it grows."""

    def __init__(self, log: LogFile, now: float) -> None:
        self._log = log
        self._looked_at = self._age_at = now
        self._sizes: Mapping[int, int] | None = None
        self._bytes_per_s = 0.0

    def look(self, now: float, written: os.stat_result, renamed: os.stat_result | None) -> float:
        """Rotate it if it is due; give half of the seconds in which it can be full."""
        sizes = {found.st_ino: found.st_size for found in (written, renamed) if found is not None}
        # What a process writes comes in bursts: one quiet look says little.
        elapsed_s = max(now - self._looked_at, 1e-6)
        self._bytes_per_s = max(self._grown(sizes) / elapsed_s, self._bytes_per_s / 2)
        self._looked_at, self._sizes = now, sizes
        room = self._log.room(written, renamed)
        if not room or now >= self._age_at:
            self._age_at = now + AGE_LOOK_S
            if self._log.rotate_if_due():
                return 0.0  # how much room there is now is seen at once
        return room / self._bytes_per_s / 2 if self._bytes_per_s else math.inf

    def _grown(self, sizes: Mapping[int, int]) -> int:
        """Bytes since the last look; one that shrank lost its beginning, and grew by no more than it has."""
        if self._sizes is None:
            return 0
        grown = 0
        for inode, size in sizes.items():
            before = self._sizes.get(inode, 0)
            grown += size - before if size >= before else size
        return grown
