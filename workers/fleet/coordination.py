"""Coordination: takes messages to who can do what they ask, settles conflicts, clears up what nobody took."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Final, Literal, cast

from pydantic import Field

from coordination.conflicts import Contender, Contention
from coordination.errors import InvalidValueError
from coordination.kill_switch import get_kill_switch
from coordination.messages import Message, Reply
from coordination.resources import ResourceType, Tidied
from coordination.state import ABSENT
from workers.base import Worker, WorkerSettings
from workers.errors import PartsFailedError
from workers.handlers import MessageRefusedError, handles
from workers.intervals import minutes
from workers.tasks import (
    Availability,
    Conflict,
    Escalation,
    KillSwitchChanged,
    RateLimitCrossed,
    ResourceRequest,
    StateChanged,
)

Level = Literal["healthy", "warning", "critical"]

LIMITS: Final = "told_rate_limits"
"""The shared state's key of what workers were told last of each limit."""

EVENT_TTL_S: Final = 900.0
"""A system event older than that tells a worker nothing that it couldn't read itself."""


class CoordinationSettings(WorkerSettings):
    """The coordinator's live settings.

    Attributes:
        batch_size: messages of roles that one statement routes.
        lock_grace_s: real seconds after an engagement lock's lease at which its row goes.
    """

    batch_size: int = Field(default=100, ge=1, le=1000)
    lock_grace_s: float = Field(default=300, ge=1, le=86_400)


class Coordination(Worker):
    """Route messages, settle conflicts, sweep what expired, tell all of a full limit or the kill switch."""

    name = "coordination"
    every = minutes(1)
    singleton = True
    roles: ClassVar[tuple[str, ...]] = ("coordinator",)
    settings_model = CoordinationSettings
    settings: CoordinationSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    _counted: Contention | None = None

    def first_run(self) -> None:
        """Route what was sent while no coordinator was there to be woken."""
        with suppress(PartsFailedError):  # the next step tells; the messages are not to wait for it
            self.step()

    def step(self) -> None:
        """Escalate, route, expire, sweep, tell; one event says what was done, if anything was.

        A part that fails keeps no other from being done, and fails the step.
        """
        done: list[str] = []
        parts = {
            "escalate": self._escalate_waiting,
            "route": self._route,
            "expire": self._expire,
            "rescue jobs": self._rescue_jobs,
            "check schedules": self._check_schedules,
            "sweep locks": self._sweep_locks,
            "sweep waiters": self._sweep_waiters,
            "tidy pools": self._tidy_pools,
            "tell limits": self._tell_limits,
            "count conflicts": self._count_conflicts,
            "tell the kill switch": self._tell_kill_switch,
        }
        self.all_parts(
            {name: partial(_note, done, part) for name, part in parts.items()}
            | {"tell": partial(self._tell_done, done)}
        )

    # What is asked of it

    @handles("RESOURCE_REQUEST", ResourceRequest)
    def tell_availability(self, message: Message, request: ResourceRequest) -> Reply:
        """Say whether something shared may be had now; who is told yes takes it itself."""
        answer = Availability(
            resource_type=request.resource_type,
            resource_id=request.resource_id,
            **self._availability(request, message.sender),
        )
        self.log.info(
            "asked", resource=request.resource_type, sender=message.sender, available=answer.available
        )
        return Reply(payload=answer.model_dump(mode="json"), priority=request.priority)

    @handles("CONFLICT_RESOLUTION", Conflict)
    def settle(self, message: Message, conflict: Conflict) -> None:
        """Settle a conflict once, however often it is delivered; every party is told."""
        settled = self.fleet.conflicts.resolve(
            conflict.key or f"message:{message.id}",
            conflict.kind,
            conflict.thing,
            [Contender(**one.model_dump()) for one in conflict.contenders],
            asked_by=message.sender,
            asked_at=message.sent_at,
            capacity=conflict.capacity,
            spacing_s=conflict.spacing_s,
        )
        self.log.info("settled", conflict=settled.id, strategy=settled.strategy, winner=settled.winner)

    @handles("STATE_SYNC", StateChanged)
    def tell_state(self, message: Message, changed: StateChanged) -> None:
        """Tell all workers that a key of the shared state changed, once a version; its own news stay here."""
        if message.to != "all":
            self.fleet.messages.broadcast(
                "STATE_SYNC",
                changed.model_dump(),
                dedupe_key=f"state:{changed.key}:{changed.version}",
                ttl_s=EVENT_TTL_S,
            )

    @handles("PRIORITY_ESCALATION", Escalation)
    def escalate(self, message: Message, urgent: Escalation) -> None:
        """Raise what is urgent; a person hears of what is critical."""
        done = self.fleet.messages.escalate(
            urgent.kind, urgent.which, f"{message.sender}: {urgent.reason}", urgent.priority
        )
        self.log.info("escalated", what=f"{urgent.kind} {urgent.which}", priority=done.priority)

    def _availability(self, request: ResourceRequest, worker_id: str) -> dict[str, Any]:
        try:
            found = self.fleet.reservations.check_availability(
                cast("ResourceType", request.resource_type),
                request.resource_id,
                priority=request.priority,
                worker_id=worker_id,
            )
        except InvalidValueError as error:
            raise MessageRefusedError(str(error)) from None
        return {
            "available": found.available,
            "queue_position": found.queue_position,
            "estimated_wait_minutes": found.estimated_wait_minutes,
        }

    # Its step

    def _escalate_waiting(self) -> list[str]:
        escalated = self.fleet.messages.escalate_waiting(self.settings.batch_size)
        return [f"messages that waited too long: {len(escalated)}" if escalated else ""]

    def _route(self) -> list[str]:
        """Give every message of a role that somebody has to a worker; count by role and worker."""
        routed: Counter[str] = Counter()
        while not self.draining.is_set():
            batch = self.fleet.messages.route(self.settings.batch_size)
            routed.update(f"{one.role} to {one.worker}" for one in batch)
            for _ in batch:
                self.progress.item_done()
            if len(batch) < self.settings.batch_size:
                break
        return [f"routed {_listed(routed)}" if routed else ""]

    def _expire(self) -> list[str]:
        expired, broadcasts = self.fleet.messages.expire()
        return [f"messages expired: {expired} (broadcasts: {broadcasts})" if expired else ""]

    def _rescue_jobs(self) -> list[str]:
        rescued, overdue = self.fleet.jobs.rescue()
        return [
            f"jobs of lost workers taken back: {rescued}" if rescued else "",
            f"jobs overdue: {overdue}" if overdue else "",
        ]

    def _check_schedules(self) -> list[str]:
        standing = self.fleet.schedules.check()
        return [f"schedules that stand still: {standing}" if standing else ""]

    def _sweep_locks(self) -> list[str]:
        swept = self.fleet.retention.sweep("engagement_locks", keep_s=self.settings.lock_grace_s)
        return [f"locks swept: {swept}" if swept else ""]

    def _sweep_waiters(self) -> list[str]:
        gone = self.fleet.retention.sweep("lock_waiters", keep_s=0)
        return [f"waiters swept: {gone}" if gone else ""]

    def _tidy_pools(self) -> list[str]:
        return [_reserved(self.fleet.reservations.tidy())]

    def _count_conflicts(self) -> list[str]:
        before = self._counted
        self._counted = self.fleet.conflicts.count(before.at if before else None)
        return [_conflicts(self._counted) if before else ""]  # the first says how it is, not what is new

    def _tell_done(self, done: list[str]) -> None:
        if done:
            self.fleet.audit.event("info", "coordinated", "; ".join(done))

    def _tell_limits(self) -> list[str]:
        """Broadcast each limit that crossed 80 or 95 percent since it was last told, or fell below.

        What was told is shared state, so that who coordinates after a restart, or beside this one, knows it.
        Its version is in the key: told again after a crash in between adds nothing, each new crossing does.
        Whoever is late in writing it down looks again with its next step.
        """
        known = self.fleet.state.get("coordination", LIMITS)
        version = known.version if known else ABSENT
        before: dict[str, str] = known.value if known else {}
        now = dict(before)
        told: list[str] = []
        for one in self.fleet.rate_limits.get_system_status():
            account, endpoint, level = str(one["account"]), str(one["endpoint"]), cast("Level", one["health"])
            limit = f"{account}:{endpoint}"
            if level == before.get(limit, "healthy"):
                continue
            now[limit] = level
            crossed = RateLimitCrossed(
                account=account,
                endpoint=endpoint,
                health=level,
                used_percent=float(str(one["utilization_percent"])),
            )
            sent = self.fleet.messages.broadcast(
                "SYSTEM_EVENT",
                crossed.model_dump(mode="json"),
                priority="high",
                dedupe_key=f"rate_limit:{limit}:{level}:{version}",
                ttl_s=EVENT_TTL_S,
            )
            if sent:
                told.append(f"told {len(sent)} workers: {endpoint} of {account} is {level}")
        if now != before:
            self.fleet.state.compare_and_set("coordination", LIMITS, version, now)
        return told

    def _tell_kill_switch(self) -> list[str]:
        """Broadcast a change of the kill switch, once; one older than the message would live is no news."""
        switch = get_kill_switch(self.fleet.database)
        if switch["changed_at"] is None:
            return []
        changed = KillSwitchChanged.model_validate(
            {name: switch[name] for name in ("on", "reason", "changed_at")}
        )
        # By the server's clock, as the last count has it; without one it is rather told late than not.
        if self._counted and self._counted.real_at - changed.changed_at > timedelta(seconds=EVENT_TTL_S):
            return []
        sent = self.fleet.messages.broadcast(
            "SYSTEM_EVENT",
            changed.model_dump(mode="json"),
            priority="critical",
            dedupe_key=f"kill_switch:{changed.changed_at.isoformat()}",
            ttl_s=EVENT_TTL_S,
        )
        return (
            [f"told {len(sent)} workers: the kill switch is {'on' if changed.on else 'off'}"] if sent else []
        )


def _note(done: list[str], part: Callable[[], list[str]]) -> None:
    done.extend(filter(None, part()))


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


def _reserved(tidied: Tidied) -> str:
    found = {
        "quotas ended": tidied.quotas,
        "reservations expired": tidied.expired,
        "reservations of the dead freed": tidied.recovered,
        "waits out of time": tidied.time_outs,
        "waits escalated": tidied.escalated,
    }
    return ", ".join(f"{what}: {number}" for what, number in found.items() if number)


def _conflicts(contention: Contention) -> str:
    found = {
        "acts on content that was engaged already": contention.engaged_before,
        "reports that came late": contention.late_reports,
        "messages delivered again": contention.redelivered,
    }
    conflicts = [f"{what}: {number}" for what, number in found.items() if number]
    return f"{', '.join(conflicts)}; locks held: {contention.locks_held}" if conflicts else ""
