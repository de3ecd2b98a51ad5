"""The life of one incarnation: flag, settings, needs, first run, loop, drain.

A step is asked for by its schedule (each slot fires once across the fleet) or by a wake-up, a job by being
there; messages go first, at every turn of the loop that has some. Nothing here asks the database whether
there is something to do, but for jobs without a wake-up: the heartbeat's answer says what changed, a schedule
is asked when its time has come, and the loop waits on one event, which the heartbeat sets for wake-ups,
changes and the loss of this life, and a drain for good.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from math import inf
from threading import Event
from time import monotonic
from typing import Final
from uuid import uuid4

from pydantic import ValidationError

from coordination import Fleet
from coordination.errors import DatabaseBusyError, DatabaseUnavailableError, IncarnationLostError
from coordination.heartbeats import Standing
from workers.base import Health, Worker, read_settings
from workers.context import Context, Platform
from workers.duties import Duties, Duty
from workers.errors import NeedNotMetError
from workers.inbox import Inbox
from workers.intervals import JobsOf
from workers.job_line import JobLine
from workers.logs import Log, log_context
from workers.progress import Progress
from workers.pulse import UNANSWERED_S, Pulse
from workers.retrying import busy_wait_s, tell
from workers.wake import Wake, Woken

HEALTH_CHECK_S = 30.0
FIRST_RUN_RETRY_S = 15.0
TURN_S: Final = 10.0
"""The loop shows at least this often that it moves; more often for a worker that may be silent for less."""
SLOW_S: Final = 1.0
"""From then on an answer is slow enough to look whether the database still gives any."""
log = Log("lifecycle")


class Life:
    """One worker under one incarnation, from its first beat to the drain."""

    def __init__(
        self,
        kind: type[Worker],
        *,
        context: Context,
        fleet: Fleet,
        draining: Event,
        stir: Event,
        progress: Progress | None = None,
        wake: Wake | None = None,
    ) -> None:
        """Name the parts.

        Args:
            kind: the worker's class.
            context: configuration and outside services.
            fleet: coordination, as this incarnation.
            draining: set when the process is to end.
            stir: ends the loop's wait.
            progress: the process's, with the manager's pipe; None: one that nobody hears.
            wake: where the manager's calls come; None: the incarnation listens itself.
        """
        self._fleet = fleet
        self._draining = draining
        self._stir = stir
        self._progress = progress or Progress()
        self._pulse = Pulse(fleet, self._progress, stir, wake)
        self._worker = kind(context=context, fleet=fleet, progress=self._progress, draining=draining)
        self._inbox = Inbox(self._worker, fleet, self._record)
        self._duties = Duties(self._worker, fleet.schedules)
        self._job_line = JobLine(self._worker, fleet.jobs, goes_on=self._may_begin)
        self._standing: Standing | None = None
        self._mail_at = -inf  # what waited before this life
        self._checked_at = -inf
        self._health = Health(healthy=True)
        self._failing: dict[str, str] = {}
        self._busy: dict[str, int] = {}  # how often in a row the database had no time for what
        self._step_is_asked = False
        self._prepared = False
        self._prepare_at = -inf

    def live(self) -> None:
        """Work until the drain.

        Raises:
            IncarnationLostError, DatabaseUnavailableError: go on as a new incarnation.
            NeedNotMetError: a person must change something first.
        """
        self._progress.begin_life(str(self._fleet.incarnation.id))
        self._fleet.database.while_waiting = self._while_waiting
        try:
            self._pulse.begin(self._draining)
            while self._goes_on():
                self._take_standing(self._pulse.standing)
                due_at = self._turn()
                self._check_health()
                self._progress.tick()
                turn_s = min(TURN_S, self._progress.snapshot.stall_after_s / 4)
                self._stir.wait(max(0.05, min(due_at - monotonic(), turn_s)))
            self._progress.enter("DRAINING")
        finally:
            self._pulse.end()

    def _goes_on(self) -> bool:
        # Cleared before it looks: what is set from here on ends the next wait.
        self._stir.clear()
        if self._pulse.lost.is_set():
            raise IncarnationLostError("the incarnation's connection is gone")
        return not self._draining.is_set()

    def _take_standing(self, standing: Standing) -> None:
        """Take what the newest beat's answer says, once."""
        before, self._standing = self._standing, standing
        if standing is before:
            return
        if standing.mail_in_s is not None:
            self._mail_at = min(self._mail_at, standing.answered_at + standing.mail_in_s)
        if before is None or standing.version != before.version:
            self._take_settings(standing)
        if before is not None and standing.clock != before.clock:
            self._duties.forget()

    def _turn(self) -> float:
        """Do what is due, if the worker may; give when something is due again, in monotonic seconds."""
        if reason := self._hindrance():
            at = self._progress.snapshot
            if (at.state, at.reason) != ("PAUSED", reason):
                self._progress.enter("PAUSED", reason=reason)
                log.info("paused", reason=reason)
            return inf
        if not self._prepare():
            return self._prepare_at
        if self._progress.snapshot.state != "READY":
            self._progress.enter("READY")
        return self._do_what_is_due(self._pulse.take_woken())

    def _hindrance(self) -> str:
        standing = self._pulse.standing
        return standing.paused or ("" if standing.enabled else f"flag {self._worker.name}_enabled is off")

    def _prepare(self) -> bool:
        """Needs, then the first run, until that has worked once; say whether it has."""
        if not self._prepared and monotonic() >= self._prepare_at:
            wait_s = self._unless_busy("needs", self._validate_needs)
            self._prepared = not wait_s and self._run("first_run", self._worker.first_run)
            self._prepare_at = monotonic() + (wait_s or FIRST_RUN_RETRY_S)
        return self._prepared

    def _do_what_is_due(self, woken: Woken) -> float:
        """Handle messages, then run every duty whose slot is this caller's, or the step when woken for it."""
        if woken.mail or woken.step or monotonic() >= self._mail_at:
            wait_s = self._unless_busy("messages", self._inbox.work_off)
            self._mail_at = monotonic() + wait_s  # from the end of the work on, however long it took
        self._step_is_asked |= woken.step and self._worker.step_when_woken
        for duty in self._duties.all():
            if not self._may_begin():
                break
            wait_s = self._unless_busy(
                duty.schedule, lambda duty=duty: self._do(duty, woken=woken.step or woken.jobs)
            )
            if wait_s:
                self._duties.ask_again(duty, wait_s)
        return min(self._mail_at, self._duties.due_at)

    def _do(self, duty: Duty, *, woken: bool) -> float:
        """Run a duty whose time has come; 0 where nothing was in the way."""
        if isinstance(duty.every, JobsOf):
            self._duties.look(duty, self._job_line.work_off, woken=woken)
        elif self._duties.fire(duty) or (self._step_is_asked and duty.method == "step"):
            self._step_is_asked = self._step_is_asked and duty.method != "step"
            done = self._run(duty.method, getattr(self._worker, duty.method))
            self._duties.ended(duty, failed=not done)
        return 0.0

    def _unless_busy(self, what: str, do: Callable[[], float]) -> float:
        """Do it; where the database is busy, give real seconds until the next try, more each time."""
        try:
            wait_s = do()
        except DatabaseBusyError as error:
            self._busy[what] = self._busy.get(what, 0) + 1
            wait_s = busy_wait_s(self._busy[what])
            log.warning("the database is busy", what=what, wait_s=round(wait_s, 1), reason=str(error))
            return wait_s
        self._busy.pop(what, None)
        return wait_s

    def _may_begin(self) -> bool:
        return not self._draining.is_set() and not self._pulse.lost.is_set() and not self._hindrance()

    def _while_waiting(self, waited_s: float) -> None:
        """Give up waiting for the database when this life is over, or it drains and no beat is answered."""
        is_old = monotonic() - self._pulse.standing.answered_at > SLOW_S
        if is_old and (waited_s > SLOW_S or self._draining.is_set()):
            self._pulse.ask()  # a slow answer, or none at all: a beat tells
        hangs = self._draining.is_set() and self._pulse.unanswered_s > UNANSWERED_S
        if hangs or self._pulse.lost.is_set():
            raise DatabaseUnavailableError("PostgreSQL gives no answer")

    def _run(self, step: str, method: Callable[[], None]) -> bool:
        """Run one step under a record; a failure is told, doesn't end the loop, and gives False."""
        trace = uuid4().hex
        failure = self._record(step, method, trace)
        if failure is None:
            self._failing.pop(step, None)
        else:
            self._failing[step] = f"{step} failed: {failure}"
            self._tell("step_failed", self._failing[step], {"trace": trace})
        self._tell_health()
        return failure is None

    def _record(self, step: str, method: Callable[[], None], trace: str) -> Exception | None:
        """Run a method under a record, which keeps its failure; give that too."""
        with log_context(step=step, trace=trace):
            self._progress.enter("BUSY", step=step)
            run: int | None = None
            failure: Exception | None = None
            try:
                run = self._fleet.runs.start(step, trace)
                method()
            except (IncarnationLostError, DatabaseUnavailableError, NeedNotMetError) as error:
                self._finish(run, error)
                raise
            except Exception as error:  # noqa: BLE001  a step may fail in any way; the loop goes on
                failure = error
                log.error("step failed", error=error)
            self._finish(run, failure)
            self._progress.enter("READY")
            return failure

    def _finish(self, run: int | None, error: Exception | None) -> None:
        if run is None:
            return  # it never began
        at = self._progress.snapshot

        def finish() -> None:
            self._fleet.runs.finish(
                run,
                items=at.items,
                item_errors=at.item_errors,
                error_class=type(error).__name__ if error else None,
                error=str(error) if error else None,
            )

        with suppress(IncarnationLostError, DatabaseUnavailableError, DatabaseBusyError):
            tell(finish, draining=self._draining)

    def _tell(self, kind: str, message: str, data: dict[str, object] | None = None) -> None:
        with suppress(DatabaseBusyError):  # the log has it
            self._fleet.audit.event("error", kind, message, data)

    def _take_settings(self, standing: Standing) -> None:
        """Take the live settings; when one is not allowed, say so and go on with those before."""
        worker = self._worker
        try:
            worker.settings = read_settings(type(worker), dict(standing.settings or {}))
        except ValidationError as error:
            faults = "; ".join(
                f"{_setting(worker.name, fault['loc'])} is {fault['input']!r}: {fault['msg']}"
                for fault in error.errors()
            )
            log.error("settings are not allowed: those before stay", faults=faults)
            self._tell("bad_settings", f"settings are not allowed: {faults}")
        self._progress.allow(worker.settings.stall_after_s or worker.stall_after_s)

    def _validate_needs(self) -> float:
        if Platform.X not in self._worker.needs:
            return 0.0
        context = self._worker.context
        account = self._fleet.accounts.get(context.account)
        if account.api_url.rstrip("/") != context.config.x_url:
            raise NeedNotMetError(
                f"account {account.name} is at {account.api_url}, X_API_URL means {context.config.x_url}: "
                "start the worker with the fleet's own environment, or the fleet anew"
            )
        _ = context.x_credentials  # raises where there are none
        return 0.0

    def _check_health(self) -> None:
        if monotonic() - self._checked_at < HEALTH_CHECK_S:
            return
        try:
            self._health = _as_a_beat_tells_it(self._worker.health_check())
        except (IncarnationLostError, DatabaseUnavailableError, NeedNotMetError):
            raise
        except Exception as error:  # noqa: BLE001  a check may fail in any way; the loop goes on
            log.error("health check failed", error=error)
            self._health = Health(healthy=False, reason=f"health check failed: {error}")
        self._checked_at = monotonic()
        self._tell_health()
        if not self._health.healthy:
            log.warning("not healthy", reason=self._health.reason)

    def _tell_health(self) -> None:
        """A worker is healthy when its check says so and none of its steps failed the last time."""
        faults = [self._health.reason, *self._failing.values()]
        self._progress.checked(
            healthy=self._health.healthy and not self._failing,
            reason="; ".join(filter(None, faults)),
            health=self._health.details,
        )


def _as_a_beat_tells_it(found: Health) -> Health:
    """The same as JSON has it; raises for what it has no word for, and for what is no answer."""
    details = json.loads(json.dumps(dict(found.details), allow_nan=False))
    return Health(healthy=bool(found.healthy), reason=str(found.reason), details=details)


def _setting(worker: str, place: tuple[int | str, ...]) -> str:
    """What a fault is about: one setting, or, where the model has no place for it, several together."""
    return f"{worker}_{place[0]}" if place else f"what {worker} is set to"
