"""Vital signs: what of a health report is worth a person's look, by thresholds. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from workers.base import WorkerSettings

Level = Literal["warning", "critical"]
SILENT_S = 20.0
"""Four missed beats."""
STATES_THAT_WORK = frozenset({"STARTING", "READY", "BUSY", "PAUSED", "DRAINING"})


class Thresholds(WorkerSettings):
    """From where on a figure is a warning, and from where on it is critical.

    Attributes:
        limit_warning_percent: share of a rate limit in use.
        limit_critical_percent: the same, critical.
        errors_warning_percent: share of a worker's runs that failed.
        errors_critical_percent: the same, critical.
        step_warning_s: how long a step takes, or stands still.
        step_critical_s: the same, critical.
        database_warning_mb: size of the database.
        database_critical_mb: the same, critical.
    """

    limit_warning_percent: float = Field(default=80, gt=0, le=100)
    limit_critical_percent: float = Field(default=95, gt=0, le=100)
    errors_warning_percent: float = Field(default=5, gt=0, le=100)
    errors_critical_percent: float = Field(default=15, gt=0, le=100)
    step_warning_s: float = Field(default=30, gt=0, le=86_400)
    step_critical_s: float = Field(default=60, gt=0, le=86_400)
    database_warning_mb: float = Field(default=100, gt=0, le=1e9)
    database_critical_mb: float = Field(default=500, gt=0, le=1e9)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be; `key` is the same as long as it lasts."""

    key: str
    level: Level
    message: str


def findings(report: Mapping[str, Any], limits: Thresholds) -> list[Finding]:
    """Say what is wrong in a report of `coordination.health`, worst first."""
    found = [
        *_workers(report["workers"], limits),
        *_runs(report["runs"], limits),
        *_rate_limits(report["limits"], limits),
        *_queues(report["queues"]),
        *_database(report["database"], limits),
    ]
    if report["kill_switch"]["on"]:
        found.append(
            Finding(key="kill_switch", level="warning", message="the kill switch is on: nothing is sent")
        )
    return sorted(found, key=lambda finding: (finding.level != "critical", finding.key))


def _level(value: float, warning: float, critical: float) -> Level | None:
    if value >= critical:
        return "critical"
    return "warning" if value >= warning else None


def _workers(workers: list[dict[str, Any]], limits: Thresholds) -> Iterator[Finding]:
    for one in workers:
        name = f"{one['worker']}/{one['slot']}"
        why = f": {one['reason']}" if one["reason"] else ""
        if one["state"] not in STATES_THAT_WORK:
            yield Finding(key=f"worker:{name}", level="critical", message=f"{name} is {one['state']}{why}")
        elif one["silent_s"] is not None and one["silent_s"] > SILENT_S:
            yield Finding(
                key=f"worker:{name}",
                level="critical",
                message=f"{name} has been silent for {one['silent_s']:.0f} s",
            )
        elif one["healthy"] is False:
            yield Finding(key=f"worker:{name}", level="warning", message=f"{name} is not healthy{why}")
        stands_still_s = one["stands_still_s"]
        if stands_still_s is not None and (
            level := _level(stands_still_s, limits.step_warning_s, limits.step_critical_s)
        ):
            yield Finding(
                key=f"progress:{name}",
                level=level,
                message=f"{name} is busy without progress for {stands_still_s:.0f} s",
            )


def _runs(runs: list[dict[str, Any]], limits: Thresholds) -> Iterator[Finding]:
    for one in runs:
        percent = 100 * one["failed"] / one["runs"]
        if level := _level(percent, limits.errors_warning_percent, limits.errors_critical_percent):
            yield Finding(
                key=f"errors:{one['worker']}",
                level=level,
                message=f"{one['failed']} of {one['runs']} runs of {one['worker']} failed, "
                f"the last with: {one['error']}",
            )
        if level := _level(one["longest_s"], limits.step_warning_s, limits.step_critical_s):
            yield Finding(
                key=f"slow:{one['worker']}",
                level=level,
                message=f"a step of {one['worker']} took {one['longest_s']:.0f} s",
            )


def _rate_limits(rates: list[dict[str, Any]], limits: Thresholds) -> Iterator[Finding]:
    for one in rates:
        if level := _level(
            one["utilization_percent"], limits.limit_warning_percent, limits.limit_critical_percent
        ):
            yield Finding(
                key=f"limit:{one['account']}:{one['endpoint']}",
                level=level,
                message=f"{one['used']} of {one['limit']} requests of {one['endpoint']} are used "
                f"({one['account']})",
            )
        if one["blocked_until"]:
            yield Finding(
                key=f"blocked:{one['account']}:{one['endpoint']}",
                level="critical",
                message=f"the platform refused {one['endpoint']} ({one['account']}): no request until "
                f"{one['blocked_until']}",
            )


def _queues(queues: dict[str, Any]) -> Iterator[Finding]:
    if parked := queues["intents"].get("parked", 0):
        yield Finding(
            key="parked",
            level="critical",
            message=f"{parked} acts are parked: socialfleet ledger list --state parked",
        )
    for name, words in (
        ("overdue_intents", "acts are due for more than 10 minutes and not sent"),
        ("dead_messages", "messages died undelivered"),
        ("dead_items", "items are dead letters"),
    ):
        if number := queues[name]:
            yield Finding(key=name, level="warning", message=f"{number} {words}")


def _database(database: dict[str, Any], limits: Thresholds) -> Iterator[Finding]:
    if level := _level(database["size_mb"], limits.database_warning_mb, limits.database_critical_mb):
        yield Finding(
            key="database_size", level=level, message=f"the database has {database['size_mb']:.0f} MB"
        )
    percent = 100 * database["connections"] / database["most_connections"]
    if level := _level(percent, 80, 95):
        yield Finding(
            key="connections",
            level=level,
            message=f"{database['connections']} of {database['most_connections']} connections are in use",
        )
