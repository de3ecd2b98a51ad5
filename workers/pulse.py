"""The heartbeat's thread: tells the loop's progress, hears wake-ups, notices when this life is over.

It waits on everything at once: its own bell, the manager's eventfd, and the incarnation's connection, which
becomes readable when it is lost. Nobody looks at a clock in between, and no statement holds it for long.
"""

import os
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from threading import Event, Lock, Thread
from time import CLOCK_BOOTTIME, clock_gettime, monotonic
from typing import Final

from coordination.errors import DatabaseBusyError, DatabaseUnavailableError, FleetError
from coordination.fleet import Fleet
from coordination.heartbeats import Standing
from coordination.jobs import JOBS
from coordination.messages import MAIL
from coordination.settings import SETTINGS
from workers.logs import Log
from workers.memory import resident_bytes
from workers.progress import Progress, Snapshot
from workers.retrying import busy_wait_s, tell
from workers.wake import Wake, Woken, wait

BEAT_S: Final = 5.0
"""Seconds between beats."""
NEWS_S: Final = 0.5
"""A change of state is told this soon after the beat before it, and at once when that was longer ago."""
UNANSWERED_S: Final = 2.0
"""From then on the worker says that it waits for the database."""
GIVEN_UP_S: Final = 8.0
"""A beat without an answer ends the life: before others may take what it holds."""
LAST_BEAT_S: Final = 1.0
"""How long a drain waits for a beat that is under way."""

log = Log("pulse")


class Pulse(Thread):
    """Beats on the incarnation's connection; sets `stir` when the loop should look up.

    Attributes:
        standing: the newest beat's answer; there is one once `begin` has returned.
        lost: set when the incarnation's connection or row is gone; the loop must stop acting.
    """

    standing: Standing

    def __init__(self, fleet: Fleet, progress: Progress, stir: Event, wake: Wake | None = None) -> None:
        super().__init__(name="pulse", daemon=True)
        self.lost = Event()
        self._fleet = fleet
        self._progress = progress
        self._stir = stir
        self._wake = wake
        self._ended = Event()
        self._lock = Lock()
        self._woken = Woken()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_asked = False
        self._asked_at: float | None = None
        self._again_at = 0.0  # where a beat found the database busy
        self._told = Snapshot()
        self._version: int | None = None
        self._context = copy_context()  # the worker's name and incarnation, for this thread's log lines

    def begin(self, draining: Event) -> None:
        """Beat for the first time, in the caller's thread, and go on in one's own.

        A busy database is asked again in a moment, twice; a drain ends the waits between.

        Raises:
            FleetError: this life is over.
        """
        self._fleet.incarnation.database.while_waiting = self._while_waiting
        tell(self._beat, draining=draining)
        self._progress.changed = self._ring
        self._fleet.incarnation.sleep.is_attended = True
        self.start()

    def run(self) -> None:
        """Beat and listen until `end`."""
        self._context.run(self._live)

    def take_woken(self) -> Woken:
        """Give what this worker was woken for since the last call."""
        with self._lock:
            woken, self._woken = self._woken, Woken()
        return woken

    @property
    def unanswered_s(self) -> float:
        """For how long a beat has been under way; 0 between two."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else monotonic() - asked_at

    def ask(self) -> None:
        """Beat at once, to see whether the database answers. Safe from any thread."""
        self._is_asked = True
        self._ring()

    def end(self) -> None:
        """Stop at once, or as soon as a beat's answer is there, for a second at most.

        The connection is its owner's afterwards.
        """
        self._ended.set()
        self._progress.changed = None
        if self.is_alive():
            self._ring()
            self.join()
        self._fleet.incarnation.sleep.is_attended = False
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _live(self) -> None:
        try:
            while not self._ended.is_set():
                self._wait()
                if monotonic() >= self._due_at():
                    self._beat_if_free()
                    self._hear(self._fleet.incarnation.wake_ups(0))
        except FleetError as error:
            if not self._ended.is_set():
                log.warning("this life is over", reason=str(error))
        except Exception as error:  # noqa: BLE001  without beats nobody would know that this worker lives
            log.error("the heartbeat failed: this life is over", error=error)
        finally:
            if not self._ended.is_set():
                self.lost.set()
                self._stir.set()

    def _due_at(self) -> float:
        at = self._progress.snapshot
        if self._told.state == "STARTING" != at.state:
            return max(self._again_at, self.standing.answered_at)  # once a life: somebody waits for it
        is_news = self._is_asked or _news(at) != _news(self._told)
        return max(self._again_at, self.standing.answered_at + (NEWS_S if is_news else BEAT_S))

    def _wait(self) -> None:
        """Wait until a beat is due or something is heard, and take that."""
        incarnation = self._fleet.incarnation
        fds = [self._bell, incarnation.fileno()] + ([self._wake.fileno()] if self._wake else [])
        ready = wait(fds, self._due_at() - monotonic())
        if self._bell in ready:
            os.eventfd_read(self._bell)
        if self._wake is not None and self._wake.fileno() in ready:
            self._be_woken(self._wake.take())
        if incarnation.fileno() in ready:
            self._hear(incarnation.wake_ups(0))

    def _hear(self, names: Iterator[str]) -> None:
        worker = self._fleet.incarnation.worker
        heard = set(names)
        self._be_woken(
            Woken(
                mail=worker + MAIL in heard,
                jobs=worker + JOBS in heard,
                step=worker in heard,
                settings=worker + SETTINGS in heard,
            )
        )

    def _be_woken(self, woken: Woken) -> None:
        if not woken:
            return
        if woken.step or woken.settings:
            self._beat_if_free()  # it may be called because it was paused, or may go on, a moment ago
        if not (woken.mail or woken.jobs or woken.step):
            return  # settings that changed are in the beat's answer, and stir the loop with it
        with self._lock:
            before = self._woken
            self._woken = Woken(
                mail=woken.mail or before.mail,
                jobs=woken.jobs or before.jobs,
                step=woken.step or before.step,
            )
        self._stir.set()

    def _beat_if_free(self) -> None:
        """Beat; where the database is busy, again in a moment, as long as the last answer is not too old."""
        try:
            self._beat()
        except DatabaseBusyError as error:
            if monotonic() - self.standing.answered_at > BEAT_S + GIVEN_UP_S:
                raise
            self._asked_at, self._again_at = None, monotonic() + busy_wait_s(1)
            log.warning("the database is busy: beats again", reason=str(error))

    def _beat(self) -> None:
        at = self._progress.snapshot
        self._is_asked = False
        self._asked_at, asked_at_s = monotonic(), clock_gettime(CLOCK_BOOTTIME)
        standing = self._fleet.heartbeats.beat(
            state=at.state,
            reason=at.reason or None,
            step=at.step,
            progress=at.ticks,
            healthy=at.healthy,
            health=at.health,
            memory_bytes=resident_bytes(),
            known_version=self._version,
        )
        self._asked_at, self._again_at = None, 0.0
        self._told = at
        self._progress.wait_for_database(waits=False)
        self._progress.answered(asked_at_s)  # it repeats what stands, too
        self._keep(standing)

    def _keep(self, standing: Standing) -> None:
        """Keep an answer; let the loop look up when it changes what the loop does."""
        before = getattr(self, "standing", None)
        if standing.settings is None and before is not None:
            standing = replace(standing, settings=before.settings)
        self._version = standing.version
        self.standing = standing
        is_due = standing.mail_in_s is not None and standing.mail_in_s <= BEAT_S
        if is_due or before is None or _course(before) != _course(standing):
            self._stir.set()

    def _while_waiting(self, waited_s: float) -> None:
        """See how long an answer takes; raise where it is not worth waiting for."""
        if waited_s > (LAST_BEAT_S if self._ended.is_set() else GIVEN_UP_S):
            raise DatabaseUnavailableError(f"PostgreSQL gave no answer for {waited_s:.0f} s")
        if waited_s > UNANSWERED_S:
            self._progress.wait_for_database(waits=True)


def _course(standing: Standing) -> tuple[object, ...]:
    return standing.version, standing.enabled, standing.paused, standing.clock


def _news(at: Snapshot) -> tuple[object, ...]:
    return at.state, at.reason, at.healthy
