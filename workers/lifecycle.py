"""The life of one incarnation: flag, settings, needs, first run, loop, drain.

A step is asked for by its schedule (each slot fires once across the fleet) or by a wake-up; messages go
first, at every turn of the loop. Nothing here sleeps blindly: the loop waits on one event, which the
heartbeat sets for wake-ups, changed settings and the loss of this life, and the signal handler for a drain.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from time import monotonic
from uuid import uuid4

from pydantic import ValidationError

from coordination import Fleet
from coordination.errors import DatabaseUnavailableError, IncarnationLostError
from workers.base import Health, Worker, read_settings
from workers.context import Context, Platform
from workers.errors import NeedNotMetError
from workers.inbox import Inbox
from workers.intervals import further_duties
from workers.logs import Log, log_context
from workers.progress import Progress
from workers.pulse import Pulse

HEALTH_CHECK_S = 30.0
FIRST_RUN_RETRY_S = 15.0
log = Log("lifecycle")


@dataclass(frozen=True, kw_only=True)
class Duty:
    """One scheduled method of a worker.

    Attributes:
        method: its name; `step` is the main one.
        schedule: the schedule's name in the database.
        interval_s: the present interval.
    """

    method: str
    schedule: str
    interval_s: float


class Life:
    """One worker under one incarnation, from its first look at the flag to the drain."""

    def __init__(
        self, kind: type[Worker], *, context: Context, fleet: Fleet, draining: Event, stir: Event
    ) -> None:
        self._fleet = fleet
        self._draining = draining
        self._stir = stir
        self._progress = Progress()
        self._pulse = Pulse(fleet, self._progress, stir)
        self._worker = kind(context=context, fleet=fleet, progress=self._progress, draining=draining)
        self._inbox = Inbox(self._worker, fleet, self._record)
        self._configuration = -1
        self._checked_at = float("-inf")
        self._health = Health(healthy=True)
        self._failing: dict[str, str] = {}
        self._prepared = False

    def live(self) -> None:
        """Work until the drain.

        Raises:
            IncarnationLostError, DatabaseUnavailableError: go on as a new incarnation.
            NeedNotMetError: a person must change something first.
        """
        self._pulse.start()
        try:
            while self._goes_on():
                if not self._should_run():
                    wait_s = HEALTH_CHECK_S
                else:
                    if self._configuration != self._pulse.configuration:
                        self._read_settings()
                    wait_s = self._do_what_is_due() if self._prepare() else FIRST_RUN_RETRY_S
                self._check_health()
                self._stir.wait(min(max(0.05, wait_s), HEALTH_CHECK_S))
            self._progress.enter("DRAINING")
        finally:
            self._pulse.end()

    def _goes_on(self) -> bool:
        # Cleared before it looks: what is set from here on ends the next wait.
        self._stir.clear()
        if self._pulse.lost.is_set():
            raise IncarnationLostError("the incarnation's connection is gone")
        return not self._draining.is_set()

    def _prepare(self) -> bool:
        """Needs, then the first run, until that has worked once; say whether it has."""
        if not self._prepared:
            self._validate_needs()
            self._prepared = self._run("first_run", self._worker.first_run)
        return self._prepared

    def _should_run(self) -> bool:
        enabled = self._fleet.flags.enabled(f"{self._worker.name}_enabled")
        if enabled:
            if self._progress.snapshot.state != "READY":
                self._progress.enter("READY")
        elif self._progress.snapshot.state != "PAUSED":
            self._progress.enter("PAUSED", reason=f"flag {self._worker.name}_enabled is off")
            log.info("paused by its flag")
        return enabled

    def _do_what_is_due(self) -> float:
        """Handle messages, then run every duty whose slot is this caller's, or the step when woken for it.

        Gives seconds to the next.
        """
        woken = self._pulse.woken.is_set() and self._worker.step_when_woken
        self._pulse.woken.clear()
        wait_s = self._inbox.work_off()
        for duty in self._duties():
            if self._draining.is_set():
                break
            slot = self._fleet.schedules.fire(duty.schedule, duty.interval_s)
            if slot.skipped:
                log.warning("slots were missed", schedule=duty.schedule, skipped=slot.skipped)
            if slot.fired or (woken and duty.method == "step"):
                self._run(duty.method, getattr(self._worker, duty.method))
            wait_s = min(wait_s, slot.wait_s)
        return wait_s

    def _duties(self) -> list[Duty]:
        worker, settings = self._worker, self._worker.settings
        duties = [
            Duty(
                method="step",
                schedule=worker.name,
                interval_s=settings.interval_s or worker.every.seconds,
            )
        ]
        for method, interval in further_duties(type(worker)).items():
            live = getattr(settings, f"{method}_interval_s", None)
            duties.append(
                Duty(method=method, schedule=f"{worker.name}.{method}", interval_s=live or interval.seconds)
            )
        return duties

    def _run(self, step: str, method: Callable[[], None]) -> bool:
        """Run one step under a record; a failure is told, doesn't end the loop, and gives False."""
        trace = uuid4().hex
        failure = self._record(step, method, trace)
        if failure is None:
            self._failing.pop(step, None)
        else:
            self._failing[step] = f"{step} failed: {failure}"
            self._fleet.audit.event("error", "step_failed", self._failing[step], {"trace": trace})
        self._tell_health()
        return failure is None

    def _record(self, step: str, method: Callable[[], None], trace: str) -> Exception | None:
        """Run a method under a record, which keeps its failure; give that too."""
        with log_context(step=step, trace=trace):
            self._progress.enter("BUSY", step=step)
            run = self._fleet.runs.start(step, trace)
            failure: Exception | None = None
            try:
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

    def _finish(self, run: int, error: Exception | None) -> None:
        at = self._progress.snapshot
        with suppress(IncarnationLostError, DatabaseUnavailableError):
            self._fleet.runs.finish(
                run,
                items=at.items,
                item_errors=at.item_errors,
                error_class=type(error).__name__ if error else None,
                error=str(error) if error else None,
            )

    def _read_settings(self) -> None:
        """Take the live settings; when one is not allowed, say so and go on with those before."""
        version = self._pulse.configuration
        stored = self._fleet.settings.under(f"{self._worker.name}_")
        try:
            self._worker.settings = read_settings(type(self._worker), stored)
        except ValidationError as error:
            faults = "; ".join(
                f"{self._worker.name}_{fault['loc'][0]} is {fault['input']!r}: {fault['msg']}"
                for fault in error.errors()
            )
            log.error("settings are not allowed: those before stay", faults=faults)
            self._fleet.audit.event("error", "bad_settings", f"settings are not allowed: {faults}")
        self._configuration = version

    def _validate_needs(self) -> None:
        if Platform.X not in self._worker.needs:
            return
        context = self._worker.context
        account = self._fleet.accounts.get(context.account)
        if account.api_url.rstrip("/") != context.config.x_url:
            raise NeedNotMetError(
                f"account {account.name} is at {account.api_url}, X_API_URL means {context.config.x_url}: "
                "start the worker with the fleet's own environment, or the fleet anew"
            )
        _ = context.x_credentials  # raises where there are none

    def _check_health(self) -> None:
        if monotonic() - self._checked_at < HEALTH_CHECK_S:
            return
        self._health = self._worker.health_check()
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
