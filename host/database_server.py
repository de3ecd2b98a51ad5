"""The embedded PostgreSQL under watch: started, and started again with backoff when it dies.

It has a thread of its own, because a start may take minutes (recovery) in which workers must be watched,
and because a server's life hangs on the thread that started it.
"""

import threading
from collections.abc import Callable
from contextlib import suppress

import psutil

from host.backoff import Backoff
from host.postgres import EmbeddedPostgres

GLANCE_S = 0.2
STABLE_S = 60.0
FAST_SHARE = 0.6  # of a stop's patience is for the fast shutdown, the rest for an immediate one
KILL_S = 1.0  # how long the kernel may take when neither helped


class DatabaseServer:
    """Keeps one embedded server running until `stop`.

    Attributes:
        error: why the first start failed; None otherwise.
    """

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        *,
        started: Callable[[], None],
        say: Callable[[str, str], None],
        wake: Callable[[], None],
        insists: bool = False,
    ) -> None:
        """Name the parts.

        Args:
            postgres: the server.
            started: called after each start, before anyone is told: its address may have changed.
            say: takes a line and its severity.
            wake: called when the first start has ended, well or not.
            insists: whether a first start that fails is tried again, as every later one is.
        """
        self._postgres = postgres
        self._started = started
        self._say = say
        self._wake = wake
        self._insists = insists
        self._backoff = Backoff()
        self._leaving = threading.Event()
        self._patience_s = 10.0
        self._pid: int | None = None
        self._first = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="database-server", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    @property
    def has_begun(self) -> bool:
        """Whether the first start has ended; look at `error` then."""
        return self._first.is_set()

    def stop(self, patience_s: float) -> None:
        """Stop the server; returns when it ended. Safe before `start` and twice.

        Args:
            patience_s: how long it may take in all; one that hangs is killed then, and the next start
                recovers what was committed.
        """
        self._patience_s = max(1.0, patience_s - KILL_S)
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(self._patience_s)
        if self._thread.is_alive() and self._pid is not None:
            _kill(self._pid)
            self._thread.join(KILL_S)

    def _run(self) -> None:
        while not self._leaving.is_set():
            try:
                self._postgres.start()
                self._pid = self._postgres.pid
                self._started()
            except Exception as error:  # noqa: BLE001  a thread's error would be lost
                if not self._first.is_set() and not self._insists:
                    self.error = error
                    break
                self._wait(str(error))
            else:
                self._first.set()
                self._wake()
                self._watch()
        self._postgres.stop(self._patience_s * FAST_SHARE)
        self._first.set()
        self._wake()

    def _watch(self) -> None:
        stable_after = int(STABLE_S / GLANCE_S)
        while not self._leaving.wait(GLANCE_S):
            stable_after -= 1
            if stable_after == 0:
                self._backoff.clear()
            if (code := self._postgres.poll()) is not None:
                self._wait(f"PostgreSQL ended (exit code {code})")
                return

    def _wait(self, reason: str) -> None:
        wait_s = self._backoff.next_s()
        self._say(f"{reason}; starts again in {wait_s:.1f} s", "error")
        self._leaving.wait(wait_s)


def _kill(postmaster: int) -> None:
    """End a server that doesn't answer, with its backends: those that hang would outlive it."""
    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(postmaster)
        for process in [server, *server.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
