"""Worker: what a fleet file subclasses. The lifecycle around it is `workers.lifecycle`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from coordination import Fleet
from coordination.errors import (
    DatabaseBusyError,
    DatabaseUnavailableError,
    IncarnationLostError,
    LockLostError,
)
from coordination.jobs import Job
from workers.context import Context, Platform
from workers.errors import NeedNotMetError, PartsFailedError
from workers.intervals import Every, hours
from workers.logs import Log
from workers.memory import resident_bytes
from workers.progress import Progress

Item = TypeVar("Item")
PAUSE_TICK_S: Final = 2.0
"""A step that waits on purpose shows this often that it does."""


class WorkerSettings(BaseModel):
    """A worker's live settings; `<worker>_<field>` is the key in the database.

    Attributes:
        interval_s: seconds of fleet time between steps; None: the worker's own `every`.
        batch_size: items that one step takes at most.
        max_item_attempts: failures after which an item is a dead letter.
        stall_after_s: real seconds that a step may be silent before it is taken for hung; None: its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval_s: float | None = Field(default=None, ge=1, le=31_622_400)
    batch_size: int = Field(default=10, ge=1, le=1000)
    max_item_attempts: int = Field(default=5, ge=1, le=1000)
    stall_after_s: float | None = Field(default=None, ge=10, le=86_400)


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a health check found; `reason` says what is wrong, empty when healthy."""

    healthy: bool
    reason: str = ""
    details: dict[str, object] = field(default_factory=dict[str, object])


class Worker:
    """One kind of work. Subclass it in a file under `workers/fleet/`; being there registers it.

    The docstring's first line is the description that persons see. `step` is one unit of work: it raises to
    fail and returns to finish; it is called as `every` says, and when the worker is woken; where it fails it
    is tried again, later each time, until its next slot. Each call leaves a run record. One item's error
    doesn't end a step: see `each`; nor does that of a part that recurs: see `all_parts`. Methods marked with
    `workers.handlers.handles` take the messages that others send to it.

    Attributes:
        name: the worker's name: lower-case letters, digits, `_` and `-`.
        every: when `step` runs, an interval (live: `<name>_interval_s`) or a cron line; or whose jobs
            `handle` takes.
        roles: what it does for others: messages to one of these roles may come to it.
        step_when_woken: whether a wake-up runs `step`; one for messages alone never does.
        needs: outside services without which it can't work.
        stall_after_s: the longest time without a tick inside a step (live: `<name>_stall_after_s`): a step
            that is silent for longer is taken for hung, and its process ended.
        singleton: whether two of its processes at a time would do harm: a new one starts when the old ended.
        settings_model: the class of its live settings.
        settings: the live settings, read again before a step when they changed.
        fleet: coordination, as this incarnation.
        context: configuration and outside services.
        worker_id: `<name>/<slot>`, the label in locks and grants.
    """

    name: ClassVar[str]
    every: ClassVar[Every] = hours(1)
    roles: ClassVar[tuple[str, ...]] = ()
    step_when_woken: ClassVar[bool] = True
    needs: ClassVar[tuple[Platform, ...]] = ()
    stall_after_s: ClassVar[float] = 120.0
    singleton: ClassVar[bool] = False
    settings_model: ClassVar[type[WorkerSettings]] = WorkerSettings

    def __init__(self, *, context: Context, fleet: Fleet, progress: Progress, draining: Event) -> None:
        self.context = context
        self.fleet = fleet
        self.progress = progress
        self.draining = draining
        self.settings = self.settings_model()
        self.worker_id = f"{self.name}/{context.slot}"
        self.log = Log(self.name)

    def first_run(self) -> None:
        """Do what must be done once when the process starts, before the first step."""

    def step(self) -> None:
        """Do one unit of work."""
        raise NotImplementedError(f"worker {self.name} has no step()")

    def handle(self, job: Job) -> Mapping[str, Any] | None:
        """Do one job, where `every` names a kind of jobs; give its result, if it has one.

        Raise to fail: it is tried again with backoff, and dead after its last attempt. `JobPutOffError` puts
        it off without counting the attempt; `JobRefusedError` makes it dead at once. Work that takes long
        calls `self.progress.tick()`: that renews the claim, and raises `LockLostError` once it is lost.
        """
        raise NotImplementedError(f"worker {self.name} has no handle() for job {job.id} of kind {job.kind}")

    def each(self, items: Iterable[Item], key: Callable[[Item], str], handle: Callable[[Item], None]) -> None:
        """Handle items one by one; an item's error is kept with the item and the others go on.

        After `max_item_attempts` failures an item is a dead letter and passed over. Stops early on drain.
        Ticks before each item and after the last: that renews the job or message in hand.

        Args:
            items: at most a batch.
            key: names an item for good.
            handle: does the work; raises to fail.

        Raises:
            IncarnationLostError, DatabaseUnavailableError, NeedNotMetError: nothing can go on.
            LockLostError: the job or message in hand is somebody else's by now.
        """
        batch = list(items)
        failed = self.fleet.failed_items.among(key(item) for item in batch) if batch else {}
        for item in batch:
            self.progress.tick()  # outside the try: whose claim is lost begins no other item
            if self.draining.is_set():
                return
            name = key(item)
            if failed.get(name) == "dead":
                continue
            try:
                handle(item)
            except (IncarnationLostError, DatabaseUnavailableError, NeedNotMetError):
                raise
            except (DatabaseBusyError, LockLostError) as error:
                self.log.warning("item put off", item=name, reason=str(error))  # not the item's fault
            except Exception as error:  # noqa: BLE001  one item must not end the others
                is_dead = self.fleet.failed_items.fail(
                    name, error, max_attempts=self.settings.max_item_attempts
                )
                self.progress.item_failed()
                self.log.error("item failed", error=error, item=name, dead_letter=is_dead)
            else:
                if name in failed:
                    self.fleet.failed_items.clear(name)
                self.progress.item_done()
        self.progress.tick()

    def all_parts(self, parts: Mapping[str, Callable[[], object]]) -> None:
        """Do every part of a step, in order, also after one that failed: that fails the step, at its end.

        For what recurs: a part is never given up, as an item is, but done with each step. A part that takes
        long looks at the drain itself.

        Args:
            parts: what to do, by the name that logs and errors have for it.

        Raises:
            PartsFailedError: names those that failed.
            IncarnationLostError, DatabaseUnavailableError, NeedNotMetError: nothing can go on.
        """
        failed: dict[str, Exception] = {}
        for name, part in parts.items():
            self.progress.tick()
            try:
                part()
            except (IncarnationLostError, DatabaseUnavailableError, NeedNotMetError):
                raise
            except Exception as error:  # noqa: BLE001  one part must not end the others
                failed[name] = error
                self.log.error("part failed", error=error, part=name)
        if failed:
            raise PartsFailedError(failed)

    def pause(self, seconds: float) -> bool:
        """Wait within a step, which is no stall; give False at once when the worker drains."""
        until = monotonic() + seconds
        while (left_s := until - monotonic()) > 0:
            self.progress.tick()
            if self.draining.wait(min(left_s, PAUSE_TICK_S)):
                return False
        return not self.draining.is_set()

    def health_check(self) -> Health:
        """Check platforms; show the database's answering time, as the beats have it, and the memory.

        Costs one connection to each platform, and no statement. Asked about every half minute, between steps;
        one that raises counts as not healthy, and the worker goes on.
        """
        details: dict[str, object] = {"memory_mb": round(resident_bytes() / 1_048_576, 1)}
        if (round_trip_ms := self.fleet.heartbeats.round_trip_ms) is not None:
            details["database_ms"] = round_trip_ms
        fault = self._x_fault() if Platform.X in self.needs else ""
        if Platform.X in self.needs:
            details["x"] = fault or "reachable"
        return Health(healthy=not fault, reason=fault, details=details)

    def _x_fault(self) -> str:
        from workers.platforms.x import XError  # noqa: PLC0415  only for workers that need X

        try:
            self.context.x.reachable()
        except XError as error:
            return f"X: {error}"
        return ""


def read_settings(worker: type[Worker], stored: dict[str, Any]) -> WorkerSettings:
    """Give a worker's settings from what the database holds under its prefix.

    Keys that name no field are left alone: they may belong to a worker whose name is longer.

    Raises:
        pydantic.ValidationError: a stored value is not allowed.
    """
    prefix = f"{worker.name}_"
    known = worker.settings_model.model_fields
    fields = {key.removeprefix(prefix): value for key, value in stored.items()}
    return worker.settings_model.model_validate({k: v for k, v in fields.items() if k in known})
