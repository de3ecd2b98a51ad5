"""The embedded PostgreSQL under watch: started, and started again with backoff when it dies.

It has a thread of its own, because a start may take minutes (recovery) in which workers must be watched,
and because a server's life hangs on the thread that started it.
"""

import threading
from collections.abc import Callable

from host.backoff import Backoff
from host.postgres import EmbeddedPostgres

GLANCE_S = 0.2
STABLE_S = 60.0
STOP_FAST_S = 2.5  # then an immediate shutdown: a restart recovers, and the fleet promises to end in 15 s
LEAVE_S = 14.0


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
    ) -> None:
        """Name the parts.

        Args:
            postgres: the server.
            started: called after each start, before anyone is told: its address may have changed.
            say: takes a line and its severity.
            wake: called when the first start has ended, well or not.
        """
        self._postgres = postgres
        self._started = started
        self._say = say
        self._wake = wake
        self._backoff = Backoff()
        self._leaving = threading.Event()
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

    def stop(self) -> None:
        """Stop the server; returns when it ended. Safe before `start` and twice."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)

    def _run(self) -> None:
        while not self._leaving.is_set():
            try:
                self._postgres.start()
                self._started()
            except Exception as error:  # noqa: BLE001  a thread's error would be lost
                if not self._first.is_set():
                    self.error = error
                    break
                self._wait(str(error))
            else:
                self._first.set()
                self._wake()
                self._watch()
        self._postgres.stop(STOP_FAST_S)
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
