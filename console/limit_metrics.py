"""Metrics of rate limits: how well they are used, how long requests wait, and how often the platform refused."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

LABELS = ("account", "endpoint")
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


def limit_metrics(measures: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """Give every series of these endpoints; a mean without a case is left out."""
    for families, family in ((GAUGES, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
        for name, (field, text) in families.items():
            metric = family(f"fleet_rate_limit_{name}", text, labels=LABELS)
            for row in measures:
                if row.get(field) is not None:
                    metric.add_metric((row["account"], row["endpoint"]), float(row[field]))
            yield metric
