"""Job line: claims a worker's jobs, hands them to its method one by one, and reports on each.

A claim is renewed while the handler ticks, and between two jobs: one that hangs loses its jobs, whatever else
of its process beats, and what was lost is not begun.
The report writes the run record of the execution, in the database's own transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from coordination.errors import (
    DatabaseBusyError,
    DatabaseUnavailableError,
    IncarnationLostError,
    InvalidValueError,
    LockLostError,
)
from coordination.jobs import Job, Jobs
from workers.base import Worker
from workers.errors import JobPutOffError, JobRefusedError, NeedNotMetError, NoGrantError
from workers.handlers import put_off_s
from workers.intervals import JobsOf
from workers.logs import Log, log_context
from workers.retrying import tell

NEED_RETRY_S: Final = 60.0
"""For so long a job waits that this worker can't do as long as a person changes nothing; others may."""
MOST_PUT_OFFS: Final = 10
"""A job that was put off so often in a row, and loses a lock once more, has failed: that attempt counts."""

Handle = Callable[[Job], Mapping[str, Any] | None]

log = Log("jobs")


class JobLine:
    """The jobs of one worker in one life."""

    def __init__(self, worker: Worker, jobs: Jobs, *, goes_on: Callable[[], bool]) -> None:
        """Name the parts.

        Args:
            worker: whose handlers are called.
            jobs: the fleet's jobs.
            goes_on: whether the worker may begin another job.
        """
        self._worker = worker
        self._jobs = jobs
        self._goes_on = goes_on
        self._held: list[Job] = []
        self._renew_at = 0.0
        self._lease_s = 0.0

    def work_off(self, source: JobsOf, handle: Handle) -> float:
        """Do what is due, a batch at most, until the drain; give real seconds until the next look."""
        self._lease_s = max(source.lease_s, 2 * self._worker.progress.snapshot.stall_after_s)
        self._worker.progress.ticked = self._renew
        try:
            left = self._worker.settings.batch_size
            while left > 0 and self._goes_on():
                began = monotonic()
                self._held = self._jobs.claim(source.kind, min(source.at_once, left), self._lease_s)
                self._renew_at = began + self._lease_s / 2
                if not self._held:
                    next_in_s = self._jobs.next_in_s(source.kind)
                    return source.poll_s if next_in_s is None else min(source.poll_s, next_in_s)
                left -= len(self._held)
                while self._goes_on() and self._still_holds():
                    self._do(self._held[0], handle)
        finally:
            self._worker.progress.ticked = None
            self._give_back()
        return 0.0 if self._goes_on() else source.poll_s

    def _do(self, job: Job, handle: Handle) -> None:
        progress = self._worker.progress
        with log_context(job=job.id, trace=job.trace_id):
            progress.enter("BUSY", step=job.kind)
            try:
                self._complete(job, handle(job))
            except (IncarnationLostError, DatabaseUnavailableError):
                self._held.clear()  # whoever comes next finds them
                raise
            except NeedNotMetError:
                self._put_off(job, NEED_RETRY_S)
                raise
            except (DatabaseBusyError, LockLostError) as error:
                if job.put_offs < MOST_PUT_OFFS:
                    log.warning("job put off", reason=str(error))  # not the job's fault
                    self._put_off(job, None)
                else:
                    self._fail(job, error)
            except NoGrantError as error:
                self._put_off(job, error.retry_after_s or None)
            except JobPutOffError as error:
                self._put_off(job, error.delay_s)
            except Exception as error:  # noqa: BLE001  one job must not end the others
                self._fail(job, error)
            else:
                progress.item_done()
                self._drop(job)
            progress.enter("READY")

    def _complete(self, job: Job, result: Mapping[str, Any] | None) -> None:
        """Report success.

        Raises:
            JobRefusedError: the result can't be kept. What the handler did is done: it isn't done again.
        """
        try:
            tell(lambda: self._jobs.complete(job, result), draining=self._worker.draining)
        except (InvalidValueError, TypeError, ValueError) as error:
            raise JobRefusedError(f"its result can't be kept: {error}") from error

    def _fail(self, job: Job, error: Exception) -> None:
        self._worker.progress.item_failed()
        final, name = isinstance(error, JobRefusedError), type(error).__name__
        try:
            state = tell(
                lambda: self._jobs.fail(job, f"{name}: {error}", final=final, error_class=name),
                draining=self._worker.draining,
            )
            log.error("job failed", error=error, attempt=job.attempt, state=state)
        except LockLostError as lost:
            log.warning("somebody else has the job by now", reason=str(lost))
        self._drop(job)

    def _put_off(self, job: Job, delay_s: float | None) -> None:
        with suppress(LockLostError):
            tell(lambda: self._jobs.snooze(job, put_off_s(delay_s)), draining=self._worker.draining)
        self._drop(job)

    def _drop(self, job: Job) -> None:
        self._held = [one for one in self._held if one.id != job.id]

    def _give_back(self) -> None:
        """Give back what was claimed and is not begun; its attempt doesn't count."""
        rest, self._held = self._held, []
        if rest:
            with suppress(IncarnationLostError, DatabaseUnavailableError, DatabaseBusyError):
                self._jobs.snooze_many(rest, 0.0)
                log.info("gave back", jobs=len(rest))

    def _still_holds(self) -> bool:
        """Whether a job is left to begin: what is lost by now is dropped, for somebody else may be at it.

        Raises:
            DatabaseBusyError: nobody knows; nothing is begun.
        """
        if self._held and monotonic() >= self._renew_at:
            lost = tell(self._renewed, draining=self._worker.draining)
            self._held = [job for job in self._held if job.id not in lost]
        return bool(self._held)

    def _renew(self) -> None:
        """Renew the leases when half of their time is over.

        Raises:
            LockLostError: the job in hand is somebody else's by now.
        """
        if not self._held or monotonic() < self._renew_at:
            return
        in_hand = self._held[0]
        try:
            lost = self._renewed()
        except DatabaseBusyError:
            return  # the next tick tries again
        self._held = [job for job in self._held if job.id not in lost or job is in_hand]
        if in_hand.id in lost:
            self._renew_at = monotonic()  # every further tick says so again
            raise LockLostError(f"job {in_hand.id} is somebody else's by now: stop work on it")

    def _renewed(self) -> Sequence[str]:
        """Renew what is held; give the ids of what is lost."""
        began = monotonic()
        lost = self._jobs.renew(self._held, self._lease_s).lost
        self._renew_at = began + self._lease_s / 2
        return lost
