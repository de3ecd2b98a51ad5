"""Log rotation: a thread that looks at all logs of the host, the sooner the faster one of them grows.

Workers' logs (`*.jsonl`) are renamed, the other programs' (`*.log`: console, sandbox, PostgreSQL) are copied
and emptied; see `LogFile`. On a disk that hangs this thread waits, and nothing else.
"""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from host.slots.log_file import LogFile, Rotation

LOOK_S = 0.25
SOONEST_S = 0.01
AGE_LOOK_S = 60.0
"""How often a log's age is looked at: for that its first line is read."""
WORKERS = ".jsonl"
OTHERS = ".log"


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
        self._known: dict[Path, _Growing] = {}
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
        with suppress(OSError):
            for path in self._logs.iterdir():
                if path not in self._known and path.suffix in {WORKERS, OTHERS}:
                    log = LogFile(path, self._rotation, writer_follows=path.suffix == WORKERS)
                    self._known[path] = _Growing(log)
        soonest_s = min((growing.look() for growing in self._known.values()), default=self._look_s)
        return min(self._look_s, max(SOONEST_S, soonest_s))

    def _run(self) -> None:
        pause_s = 0.0
        while not self._leaving.wait(pause_s):
            pause_s = self.look()


class _Growing:
    """One log and how fast it grows."""

    def __init__(self, log: LogFile) -> None:
        self._log = log
        self._looked_at = time.monotonic()
        self._sizes: Mapping[int, int] = log.sizes()
        self._bytes_per_s = 0.0
        self._age_at = self._looked_at

    def look(self) -> float:
        """Rotate it if it is due; give half of the seconds in which it can be full again."""
        found, now = self._log.sizes(), time.monotonic()
        elapsed_s = max(now - self._looked_at, 1e-6)
        # What a process writes comes in bursts: one quiet look says little.
        self._bytes_per_s = max(self._grown(found) / elapsed_s, self._bytes_per_s / 2)
        self._looked_at = now
        room = self._log.room()
        if not room or now >= self._age_at:
            self._age_at = now + AGE_LOOK_S
            if self._log.rotate_if_due():
                found, room = self._log.sizes(), self._log.room()
        self._sizes = found
        return room / self._bytes_per_s / 2 if self._bytes_per_s else math.inf

    def _grown(self, found: Mapping[int, int]) -> int:
        """Bytes since the last look; a file that shrank was emptied, and has grown to what it is."""
        grown = 0
        for inode, size in found.items():
            before = self._sizes.get(inode, 0)
            grown += size - before if size >= before else size
        return grown
