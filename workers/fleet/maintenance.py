"""Maintenance: the database stays small."""

from functools import partial

from pydantic import Field

from coordination.retention import KINDS
from workers.base import Worker, WorkerSettings
from workers.intervals import hours

DAY_S = 86_400.0
BATCH = 1000
"""Rows a statement deletes: short enough to be in nobody's way."""


class MaintenanceSettings(WorkerSettings):
    """How long what is over is kept, in days of fleet time (real time for processes).

    Attributes:
        alerts_days: alerts that were taken back.
        black_boxes_days: what was seen of processes before they were killed.
        budget_holds_days: money that was spent or given back; a new budget counts what is kept of its period.
        budget_periods_days: days and months of budgets that are over.
        cache_days: what the cache kept past its time.
        candidates_days: posts that were engaged, passed over or given up.
        command_parts_days: what orders asked of single slots.
        commands_days: orders that managers carried out.
        conflicts_days: conflicts that were decided; one that is asked for again later is settled anew.
        engagements_days: the history of engagements; a week and `engagement_window_hours` stay in any case.
        events_days: what happened, as the terminal and the page showed it.
        failed_items_days: dead letters of single items.
        health_snapshots_days: the monitor's reports.
        heartbeats_days: last beats of processes that are gone.
        hosts_days: hosts that went away and have no slot.
        incarnations_days: lives that ended.
        interactions_days: mentions that were answered or ignored.
        jobs_days: jobs that ended.
        lock_measures_days: how requests for locks ended, in steps of five minutes.
        messages_days: messages that were acknowledged or are dead.
        process_ends_days: how processes ended.
        rate_grants_days: requests that no window counts any more.
        reservations_days: reservations that ended.
        runs_days: records of steps.
    """

    alerts_days: float = Field(default=90, ge=0.01, le=3660)
    black_boxes_days: float = Field(default=30, ge=0.01, le=3660)
    budget_holds_days: float = Field(default=400, ge=62, le=3660)
    budget_periods_days: float = Field(default=400, ge=62, le=3660)
    cache_days: float = Field(default=0.01, ge=0.001, le=31)
    candidates_days: float = Field(default=7, ge=2, le=3660)
    command_parts_days: float = Field(default=30, ge=1, le=3660)
    commands_days: float = Field(default=30, ge=1, le=3660)
    conflicts_days: float = Field(default=90, ge=1, le=3660)
    engagements_days: float = Field(default=366, ge=2, le=3660)
    events_days: float = Field(default=30, ge=0.01, le=3660)
    failed_items_days: float = Field(default=180, ge=1, le=3660)
    health_snapshots_days: float = Field(default=90, ge=0.01, le=3660)
    heartbeats_days: float = Field(default=1, ge=0.05, le=3660)
    hosts_days: float = Field(default=7, ge=0.05, le=3660)
    incarnations_days: float = Field(default=30, ge=1, le=3660)
    interactions_days: float = Field(default=90, ge=1, le=3660)
    jobs_days: float = Field(default=7, ge=0.01, le=3660)
    lock_measures_days: float = Field(default=30, ge=0.01, le=3660)
    messages_days: float = Field(default=7, ge=0.01, le=3660)
    process_ends_days: float = Field(default=30, ge=1, le=3660)
    rate_grants_days: float = Field(default=7, ge=7, le=3660)
    reservations_days: float = Field(default=7, ge=0.01, le=3660)
    runs_days: float = Field(default=30, ge=0.05, le=3660)

    def keep_s(self, kind: str) -> float:
        """Seconds for which a kind of row is kept after it is over."""
        return float(getattr(self, f"{kind}_days")) * DAY_S


class Maintenance(Worker):
    """Delete what is over and past its time."""

    name = "maintenance"
    every = hours(1)
    singleton = True
    settings_model = MaintenanceSettings
    settings: MaintenanceSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    def step(self) -> None:
        """Close lives that fell silent, sweep every kind, batch by batch, until nothing of it is left.

        A kind that fails keeps no other from being swept, and fails the step.
        """
        done: dict[str, int] = dict.fromkeys(("closed", *KINDS), 0)
        sweeps = {kind: partial(self._sweep, kind, done) for kind in KINDS}
        self.all_parts({"close": partial(self._close, done), **sweeps, "tell": partial(self._tell, done)})

    def _close(self, done: dict[str, int]) -> None:
        done["closed"] = self.fleet.retention.close_silent(keep_s=self.settings.keep_s("heartbeats"))

    def _sweep(self, kind: str, done: dict[str, int]) -> None:
        while not self.draining.is_set():
            gone = self.fleet.retention.sweep(kind, keep_s=self.settings.keep_s(kind), n=BATCH)
            done[kind] += gone
            self.progress.tick()
            if gone < BATCH:
                self.progress.item_done()
                return

    def _tell(self, done: dict[str, int]) -> None:
        told = ", ".join(f"{done[kind]} {kind.replace('_', ' ')}" for kind in KINDS if done[kind])
        self.log.info("swept", **done)
        self.fleet.audit.event("info", "swept", f"swept {told or 'nothing'}", done)
