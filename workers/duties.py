"""Duties: which of a worker's methods run on schedules, and when each must be asked for its slot again.

A schedule is asked only when its slot is due by what it said last, so that an idle worker asks nothing.
"""

from dataclasses import dataclass
from math import inf
from time import monotonic

from coordination.schedules import Schedules
from workers.base import Worker
from workers.intervals import further_duties
from workers.logs import Log

log = Log("duties")


@dataclass(frozen=True, kw_only=True)
class Duty:
    """One scheduled method of a worker.

    Attributes:
        method: its name; `step` is the main one.
        schedule: the schedule's name in the database.
        interval_s: the present interval, in fleet time.
    """

    method: str
    schedule: str
    interval_s: float


class Duties:
    """The scheduled methods of one worker in one life."""

    def __init__(self, worker: Worker, schedules: Schedules) -> None:
        self._worker = worker
        self._schedules = schedules
        self._further = further_duties(type(worker))
        self._due: dict[Duty, float] = {}

    @property
    def due_at(self) -> float:
        """When the next one is due, in monotonic seconds; one that was never asked is due now."""
        return min((self._due.get(duty, -inf) for duty in self.all()), default=inf)

    def all(self) -> list[Duty]:
        """The main step, then the others, with their present intervals."""
        worker, settings = self._worker, self._worker.settings
        duties = [
            Duty(method="step", schedule=worker.name, interval_s=settings.interval_s or worker.every.seconds)
        ]
        for method, interval in self._further.items():
            live = getattr(settings, f"{method}_interval_s", None)
            duties.append(
                Duty(method=method, schedule=f"{worker.name}.{method}", interval_s=live or interval.seconds)
            )
        return duties

    def fire(self, duty: Duty) -> bool:
        """Say whether the duty's present slot is this caller's to run. No round trip before it is due."""
        if monotonic() < self._due.get(duty, -inf):
            return False
        slot = self._schedules.fire(duty.schedule, duty.interval_s)
        self._due[duty] = monotonic() + slot.wait_s
        if slot.skipped:
            log.warning("slots were missed", schedule=duty.schedule, skipped=slot.skipped)
        return slot.fired

    def forget(self) -> None:
        """Ask all anew: fleet time took another course."""
        self._due.clear()
