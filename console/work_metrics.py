"""Work metrics: jobs and schedules as Prometheus reads them; docs/reference/http-api.md lists the names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

JOB_STATES = ("available", "retryable", "running")
JOB_REPORTS = ("claimed", "completed", "failed", "dead", "snoozed", "rescued", "missed", "overdue")
SLOT_STATES = ("fired", "skipped")

Row = Mapping[str, Any]


def jobs(kinds: Sequence[Row]) -> Iterator[Metric]:
    """What `get_job_status` tells of each kind."""
    depth = GaugeMetricFamily("socialfleet_jobs", "Jobs that did not end yet.", labels=("kind", "state"))
    oldest = GaugeMetricFamily(
        "socialfleet_jobs_oldest_due_seconds",
        "For how long the oldest one waits, fleet time.",
        labels=("kind",),
    )
    reports = CounterMetricFamily(
        "socialfleet_job_reports", "What became of executions, and of leases.", labels=("kind", "report")
    )
    waited = CounterMetricFamily(
        "socialfleet_job_wait_seconds", "From due to claimed, fleet time, all together.", labels=("kind",)
    )
    ran = CounterMetricFamily(
        "socialfleet_job_run_seconds", "From claimed to reported, all together.", labels=("kind",)
    )
    for row in kinds:
        key = (row["kind"],)
        for state in JOB_STATES:
            depth.add_metric((*key, state), row[state])
        for report in JOB_REPORTS:
            reports.add_metric((*key, report), row[report])
        oldest.add_metric(key, row["oldest_due_s"])
        waited.add_metric(key, row["wait_s"])
        ran.add_metric(key, row["run_s"])
    yield from (depth, oldest, reports, waited, ran)


def responsiveness(told: Row) -> Iterator[Metric]:
    """What `get_responsiveness` tells of the whole fleet; no figure where nothing was due."""
    if told.get("percent") is not None:
        yield GaugeMetricFamily(
            "socialfleet_responsiveness_percent",
            "Messages, jobs and locks of the last hour that were taken up within five seconds.",
            value=float(told["percent"]),
        )


def schedules(rows: Sequence[Row]) -> Iterator[Metric]:
    """What `get_schedule_status` tells of each schedule: how well its slots are kept."""
    slots = CounterMetricFamily(
        "socialfleet_schedule_slots", "Slots that were decided.", labels=("schedule", "state")
    )
    late = CounterMetricFamily(
        "socialfleet_schedule_late_seconds",
        "By which its slots fired late, fleet time, all together.",
        labels=("schedule",),
    )
    overdue = GaugeMetricFamily(
        "socialfleet_schedule_overdue_seconds",
        "For how long its next slot is due, fleet time.",
        labels=("schedule",),
    )
    paused = GaugeMetricFamily(
        "socialfleet_schedule_paused", "1 while a person holds it back.", labels=("schedule",)
    )
    for row in rows:
        key = (row["name"],)
        for state in SLOT_STATES:
            slots.add_metric((*key, state), row[state])
        late.add_metric(key, row["late_s"])
        overdue.add_metric(key, row["overdue_s"])
        paused.add_metric(key, row["paused"])
    yield from (slots, late, overdue, paused)
