"""The locks' measures as Prometheus reads them."""

from typing import Any

from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from console.lock_metrics import OUTCOMES, lock_metrics

MEASURES: dict[str, Any] = {
    **dict.fromkeys(OUTCOMES, 0),
    "granted": 7,
    "refused_held": 3,
    "acquisition_s": 0.25,
    "acquisition_max_s": 1.5,
    "conflict_resolution_s": None,
    "conflict_resolution_max_s": None,
    "conflict_frequency": 0.3,
    "held": 2,
    "queue_depth": 1,
    "misses": 4,
    "late_words": 2,
}


class _Measures(Collector):
    def __init__(self, measures: dict[str, Any]) -> None:
        self._measures = measures

    def collect(self) -> list[Metric]:
        return list(lock_metrics(self._measures))


def told(measures: dict[str, Any]) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Measures(measures))
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_every_measure_is_told() -> None:
    found = told(MEASURES)
    assert found["socialfleet_lock_requests", "granted"] == 7
    assert found["socialfleet_lock_requests", "refused_held"] == 3
    assert found["socialfleet_lock_requests", "timed_out"] == 0
    assert found["socialfleet_lock_acquisition_seconds", "mean"] == 0.25
    assert found["socialfleet_lock_acquisition_seconds", "max"] == 1.5
    assert found["socialfleet_lock_conflict_ratio", ""] == 0.3
    assert found["socialfleet_locks_held", ""] == 2
    assert found["socialfleet_lock_waiters", ""] == 1
    assert found["socialfleet_lock_misses_total", ""] == 4
    assert found["socialfleet_late_words_total", ""] == 2


def test_a_mean_without_a_case_is_left_out_and_so_is_all_that_was_not_read() -> None:
    assert not [name for name, _ in told(MEASURES) if name == "socialfleet_conflict_resolution_seconds"]
    assert told({}) == {}
