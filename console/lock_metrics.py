"""Metrics of the engagement locks: requests of the last hour of fleet time, who holds and who waits now."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

WINDOW_H = 1.0
OUTCOMES = (
    "granted",
    "granted_after_waiting",
    "refused_held",
    "refused_engaged",
    "refused_interval",
    "timed_out",
    "given_up",
    "escalated",
    "taken_over",
)


def lock_metrics(measures: Mapping[str, Any]) -> Iterator[Metric]:
    """Give the series; none where the measures were not read. A mean without a case is left out."""
    if not measures:
        return
    requests = GaugeMetricFamily(
        "socialfleet_lock_requests", "Requests for engagement locks in the last hour.", labels=("outcome",)
    )
    for outcome in OUTCOMES:
        requests.add_metric((outcome,), measures[outcome])
    acquisition = GaugeMetricFamily(
        "socialfleet_lock_acquisition_seconds", "Time to a lock in the last hour.", labels=("stat",)
    )
    resolution = GaugeMetricFamily(
        "socialfleet_conflict_resolution_seconds",
        "Time that a wait for a lock took in the last hour, however it ended.",
        labels=("stat",),
    )
    for family, name in ((acquisition, "acquisition"), (resolution, "conflict_resolution")):
        for stat, key in (("mean", f"{name}_s"), ("max", f"{name}_max_s")):
            if measures[key] is not None:
                family.add_metric((stat,), measures[key])
    conflicts = GaugeMetricFamily(
        "socialfleet_lock_conflict_ratio", "Refusals a request in the last hour, 0 to 1."
    )
    if measures["conflict_frequency"] is not None:
        conflicts.add_metric((), measures["conflict_frequency"])
    held = GaugeMetricFamily("socialfleet_locks_held", "Engagement locks held now.", value=measures["held"])
    waiters = GaugeMetricFamily(
        "socialfleet_lock_waiters", "Requests that stand in line now.", value=measures["queue_depth"]
    )
    misses = CounterMetricFamily(
        "socialfleet_lock_misses", "Renewals and releases of locks that were lost.", value=measures["misses"]
    )
    late = CounterMetricFamily(
        "socialfleet_late_words", "Calls of lives that had ended, all refused.", value=measures["late_words"]
    )
    yield from (requests, acquisition, resolution, conflicts, held, waiters, misses, late)
