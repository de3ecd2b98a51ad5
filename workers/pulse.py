"""The heartbeat's thread: tells the loop's progress, listens for wake-ups, notices when this life is over."""

from contextvars import copy_context
from threading import Event, Thread
from time import monotonic

import psutil

from coordination.errors import FleetError
from coordination.fleet import Fleet
from coordination.messages import MAIL
from workers.logs import Log
from workers.progress import Progress

BEAT_S = 5.0
"""Seconds between beats; a change of state beats at once."""
SLICE_S = 0.5
"""How long the thread listens before it looks at the loop again: bounds the wait for its end."""

log = Log("pulse")


class Pulse(Thread):
    """Beats every 5 s on the incarnation's connection; sets `stir` when the loop should look up.

    Attributes:
        lost: set when the incarnation's connection or row is gone; the loop must stop acting.
        woken: set when somebody asks for a step; messages alone don't.
        configuration: the settings' and flags' version; when it changes the loop reads them again.
    """

    def __init__(self, fleet: Fleet, progress: Progress, stir: Event) -> None:
        super().__init__(name="pulse", daemon=True)
        self.lost = Event()
        self.woken = Event()
        self.configuration = 0
        self._fleet = fleet
        self._progress = progress
        self._stir = stir
        self._ended = Event()
        self._context = copy_context()  # the worker's name and incarnation, for this thread's log lines

    def run(self) -> None:
        """Beat and listen until `end`."""
        self._context.run(self._live)

    def _live(self) -> None:
        try:
            while not self._ended.is_set():
                state = self._beat()
                due = monotonic() + BEAT_S
                while monotonic() < due and not self._ended.is_set():
                    self._listen()
                    if self._progress.snapshot.state != state:
                        break
        except FleetError as error:
            if not self._ended.is_set():
                log.warning("this life is over", reason=str(error))
        except Exception as error:  # noqa: BLE001  without beats nobody would know that this worker lives
            log.error("the heartbeat failed: this life is over", error=error)
        finally:
            if not self._ended.is_set():
                self.lost.set()
                self._stir.set()

    def end(self) -> None:
        """Stop, within one slice; the connection is free for its owner afterwards."""
        self._ended.set()
        if self.is_alive():
            self.join()

    def _beat(self) -> str:
        at = self._progress.snapshot
        version = self._fleet.heartbeats.beat(
            state=at.state,
            reason=at.reason or None,
            step=at.step,
            progress=at.ticks,
            healthy=at.healthy,
            health=at.health,
            memory_bytes=psutil.Process().memory_info().rss,
        )
        if version != self.configuration:
            self.configuration = version
            self._stir.set()
        return at.state

    def _listen(self) -> None:
        worker = self._fleet.incarnation.worker
        for name in self._fleet.incarnation.wake_ups(SLICE_S):
            if name == worker:
                self.woken.set()
            if name in {worker, worker + MAIL}:
                self._stir.set()
