"""Metrics of pools: capacity, use, queues and what went wrong, of those that a person or the program made."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

LABELS = ("resource_type", "resource_id", "account")
GAUGES = {
    "capacity": ("total_capacity", "Units that the pool has now."),
    "reserved": ("reserved_capacity", "Units that are held; of a rate limit, used within its window."),
    "waiting": ("waiting_queue", "Requests that wait for room."),
    "oldest_wait_seconds": ("oldest_wait_s", "How long the first of them has waited."),
    "hold_seconds": ("hold_s", "How long a reservation is held, lately."),
    "availability_ratio": ("availability", "Requests that found room at once, of all, 0 to 1."),
    "recent_utilization_percent": (
        "recent_utilization_percent",
        "Units held of those that there are, lately.",
    ),
    "mean_utilization_percent": ("mean_utilization_percent", "The same since the pool is kept."),
    "estimate_error_ratio": ("estimate_error_p90", "How far off nine of ten told waits are at most."),
}
COUNTERS = {
    "granted": ("granted", "Reservations."),
    "conflicts": ("conflicts", "Requests that found no room, or others before them."),
    "overflows": ("overflows", "Requests that found the queue full."),
    "time_outs": ("time_outs", "Waits that ended without a reservation."),
    "expired": ("expired", "Reservations that outstayed their time."),
    "recovered": ("recovered", "Reservations whose holder died."),
    "late": ("late", "Renewals and releases of what was lost."),
    "escalated": ("escalated", "Waits that were raised."),
    "waits": ("waits", "Waits that ended with a reservation."),
    "wait_seconds": ("wait_s", "How long these were, together."),
}


def pool_metrics(pools: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """Give every series of these pools."""
    for families, family in ((GAUGES, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
        for name, (field, text) in families.items():
            metric = family(f"socialfleet_pool_{name}", text, labels=LABELS)
            for pool in pools:
                if pool.get(field) is not None:
                    metric.add_metric(
                        (pool["resource_type"], pool["resource_id"], pool.get("account") or ""),
                        float(pool[field]),
                    )
            yield metric
