"""Wakes: the eventfds of this host's workers, by which the database's calls reach them."""

import os
from contextlib import suppress
from threading import Lock

from workers.wake import Kind, Whom, wake


class Wakes:
    """Every worker process's eventfd; safe from any thread, for calls come on the control thread's."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._fds: dict[int, tuple[str, int]] = {}
        self._ahead: dict[tuple[str, Kind], int] = {}  # whom the last wake-up of one reached

    def add(self, pid: int, worker: str, fd: int) -> None:
        """Take over the eventfd of a process that began."""
        with self._lock:
            self._fds[pid] = (worker, fd)

    def remove(self, pid: int) -> None:
        """Close the eventfd of a process that ended; safe when there is none."""
        with self._lock:
            _, fd = self._fds.pop(pid, ("", None))
            if fd is not None:
                os.close(fd)

    def wake(self, worker: str, kind: Kind, whom: Whom = "all") -> bool:
        """Wake a worker's processes here; one that can't be woken finds out by its poll.

        `one` takes the processes by turns; `others` are all but that one. Gives whether there are others.
        """
        with self._lock:
            fds = {pid: fd for pid, (name, fd) in self._fds.items() if name == worker}
            ahead = self._ahead.get((worker, kind), 0)
            if whom == "one" and fds:
                ahead = self._ahead[worker, kind] = min([pid for pid in fds if pid > ahead] or fds)
            for pid, fd in fds.items():
                if whom == "all" or (pid == ahead) == (whom == "one"):
                    with suppress(OSError):
                        wake(fd, kind)
            return len(fds) > 1
