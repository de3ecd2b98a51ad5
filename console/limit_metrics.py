"""Metrics of rate limits: how well they are used, how long requests wait, how often the platform refused."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

LABELS = ("account", "endpoint")
USE = {
    "used": ("used", "Requests used in the window."),
    "limit": ("limit", "Requests allowed in the window."),
    "utilization_percent": ("utilization_percent", "Requests used in the fullest window, of those allowed."),
    "requests_queued": ("requests_queued", "Requests that wait for a unit, bookings too."),
}
VIOLATIONS = {"violations": ("violations", "Requests that the platform answered with 429.")}
GAUGES = {
    "efficiency_percent": ("efficiency_percent", "Requests of the shortest window, of those that it allows."),
    "requests_per_minute": ("requests_per_minute", "Throughput over the shortest window, fleet time."),
    "granted_at_once_percent": ("granted_at_once_percent", "Grants that nobody had to wait for."),
    "longest_wait_seconds": ("longest_wait_s", "The longest wait that ended with a grant, fleet time."),
    "average_wait_seconds": ("average_wait_s", "Mean of the waits that ended with a grant, fleet time."),
}
COUNTERS = {
    "grants": ("granted", "Requests that were granted."),
    "refusals": ("refused", "Requests that were told to come later."),
    "waits": ("waited", "Grants that somebody waited for."),
}


def limit_metrics(
    status: Sequence[Mapping[str, Any]], measures: Sequence[Mapping[str, Any]]
) -> Iterator[Metric]:
    """Give every series of these limits; a figure without a case, such as a mean, is left out."""
    yield from _series(GaugeMetricFamily, USE, status)
    yield from _series(CounterMetricFamily, VIOLATIONS, status)
    yield from _series(GaugeMetricFamily, GAUGES, measures)
    yield from _series(CounterMetricFamily, COUNTERS, measures)


def _series(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    fields: Mapping[str, tuple[str, str]],
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[Metric]:
    for name, (field, text) in fields.items():
        metric = family(f"socialfleet_rate_limit_{name}", text, labels=LABELS)
        for row in rows:
            if row.get(field) is not None:
                metric.add_metric((row["account"], row["endpoint"]), float(row[field]))
        yield metric
