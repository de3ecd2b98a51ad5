"""Duties: which of a worker's methods run when, and when each must be asked for its slot again.

A schedule is asked only when its slot is due by what it said last, so that an idle worker asks nothing. A
duty that failed is tried again before its next slot, later each time: its slot is this process's already, so
that no other one makes up for it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, Final

from coordination.schedules import Schedules
from workers.base import Worker
from workers.handlers import retry_in_s
from workers.intervals import Cron, Every, Interval, JobsOf, further_duties
from workers.logs import Log

MOST_RETRIES: Final = 3
"""Tries after the first one, for one slot: what fails longer waits for the next."""

log = Log("duties")


@dataclass(frozen=True, kw_only=True)
class Duty:
    """One method of a worker, and when it runs.

    Attributes:
        method: its name; `step` is the main one, `handle` where jobs are.
        schedule: the schedule's name in the database.
        every: the present interval, cron line or kind of jobs.
    """

    method: str
    schedule: str
    every: Every


class Duties:
    """The duties of one worker in one life."""

    def __init__(self, worker: Worker, schedules: Schedules) -> None:
        self._worker = worker
        self._schedules = schedules
        self._further = further_duties(type(worker))
        self._due: dict[Duty, float] = {}
        self._retries: dict[Duty, float] = {}
        self._failures: dict[Duty, int] = {}

    @property
    def due_at(self) -> float:
        """When the next one is due, in monotonic seconds; one that was never asked is due now."""
        return min((self._due_at(duty) for duty in self.all()), default=inf)

    def all(self) -> list[Duty]:
        """The main step, then the others, with their present intervals."""
        worker, settings = self._worker, self._worker.settings
        takes_jobs = isinstance(worker.every, JobsOf)
        main = (
            Interval(seconds=settings.interval_s) if settings.interval_s and not takes_jobs else worker.every
        )
        duties = [Duty(method="handle" if takes_jobs else "step", schedule=worker.name, every=main)]
        for method, every in self._further.items():
            live = getattr(settings, f"{method}_interval_s", None)
            present = Interval(seconds=live) if live and not isinstance(every, JobsOf) else every
            duties.append(Duty(method=method, schedule=f"{worker.name}.{method}", every=present))
        return duties

    def fire(self, duty: Duty) -> bool:
        """Say whether the duty's present slot is this caller's to run. No round trip before it is due."""
        if monotonic() < self._due_at(duty):
            return False
        if monotonic() < self._due.get(duty, -inf):
            del self._retries[duty]
            return True
        if isinstance(duty.every, Cron):
            every = duty.every
            slot = self._schedules.fire(
                duty.schedule, every.line, policy=every.missed, catch_up=every.catch_up
            )
        elif isinstance(duty.every, Interval):
            slot = self._schedules.fire(duty.schedule, duty.every.seconds)
        else:
            raise TypeError(f"{duty.schedule} is no schedule")
        self._due[duty] = monotonic() + slot.wait_s
        self._retries.pop(duty, None)  # a later slot is somebody's: it makes up for the one that failed
        self._failures.pop(duty, None)
        if slot.skipped:
            log.warning("slots were missed", schedule=duty.schedule, skipped=slot.skipped)
        return slot.fired

    def ended(self, duty: Duty, *, failed: bool) -> None:
        """Keep how a run ended: after a failure it is due again, unless its next slot comes first."""
        self._retries.pop(duty, None)
        if not failed:
            self._failures.pop(duty, None)
            return
        failures = self._failures[duty] = self._failures.get(duty, 0) + 1
        if failures <= MOST_RETRIES:
            spread = 0.5 + random.random() / 2  # noqa: S311  it spreads load and guards nothing
            self._retries[duty] = monotonic() + retry_in_s(failures) * spread

    def look(self, duty: Duty, work_off: Callable[[JobsOf, Any], float], *, woken: bool) -> None:
        """Work off the jobs of a duty that takes some, where it was woken or the time has come to look."""
        if not isinstance(duty.every, JobsOf) or not (woken or monotonic() >= self._due_at(duty)):
            return
        wait_s = work_off(duty.every, getattr(self._worker, duty.method))
        self._due[duty] = monotonic() + wait_s

    def ask_again(self, duty: Duty, wait_s: float) -> None:
        """Ask for a duty once more after `wait_s` real seconds: the database had no time for it."""
        self._due[duty] = monotonic() + wait_s

    def forget(self) -> None:
        """Ask all anew: fleet time took another course."""
        self._due.clear()

    def _due_at(self, duty: Duty) -> float:
        return min(self._due.get(duty, -inf), self._retries.get(duty, inf))
