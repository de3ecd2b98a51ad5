"""Wakes: the eventfds of this host's workers, by which the database's calls reach them."""

import os
from contextlib import suppress
from threading import Lock

from workers.wake import Kind, wake


class Wakes:
    """Every worker process's eventfd; safe from any thread, for calls come on the control thread's."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._fds: dict[int, tuple[str, int]] = {}

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

    def wake(self, worker: str, kind: Kind) -> None:
        """Wake every process of a worker here; one that can't be woken finds out by its poll."""
        with self._lock:
            for name, fd in self._fds.values():
                if name == worker:
                    with suppress(OSError):
                        wake(fd, kind)
