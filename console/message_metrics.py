"""Metrics of messages and conflicts: what waits, how fast it is taken, what failed; of the last day."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

GAUGES = {
    "waiting": ("waiting", "Messages that wait."),
    "claimed": ("claimed", "Messages that somebody works on."),
    "unrouted": ("unrouted", "Messages of a role that no worker has yet."),
    "escalated": ("escalated", "Open messages that waited too long."),
    "oldest_wait_seconds": ("oldest_waiting_s", "How long the first due one waits, in fleet time."),
    "acknowledged_1d": ("acknowledged", "Messages done within the last day."),
    "dead_1d": ("dead", "Dead letters of the last day."),
    "delivered_1d": (
        "delivered",
        "Messages that were taken at all, of those that ended within the last day.",
    ),
    "delivery_seconds_1d": ("delivery_s_sum", "How long these waited until they were taken, together."),
    "delivery_seconds_max_1d": ("delivery_s_max", "The longest of these waits."),
    "redeliveries_1d": ("redeliveries", "Deliveries beyond the first."),
    "late_reports_1d": ("late_reports", "Reports that came with a lost lease."),
}
CONFLICTS = {
    "1d": ("conflicts", "Conflicts that were brought within the last day."),
    "open_1d": ("conflicts_open", "Of these those that wait for a person."),
    "seconds_1d": ("conflict_s_sum", "How long they took to be decided, together."),
    "seconds_max_1d": ("conflict_s_max", "The longest of these."),
}


def message_metrics(status: Mapping[str, Any]) -> Iterator[Metric]:
    """Give every series; none where nothing was read."""
    for prefix, families in (("socialfleet_messages", GAUGES), ("socialfleet_conflicts", CONFLICTS)):
        for name, (field, text) in families.items():
            if status.get(field) is not None:
                yield GaugeMetricFamily(f"{prefix}_{name}", text, value=float(status[field]))
    if status:
        depth = GaugeMetricFamily(
            "socialfleet_messages_open", "Open messages of each recipient.", labels=("recipient",)
        )
        for recipient, number in sorted(status["recipients"].items()):
            depth.add_metric((recipient,), number)
        yield depth
