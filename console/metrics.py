"""Metrics: a sight of the fleet as Prometheus reads it; docs/reference/http-api.md lists the names."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from console import work_metrics
from console.limit_metrics import limit_metrics
from console.lock_metrics import lock_metrics
from console.message_metrics import message_metrics
from console.pool_metrics import pool_metrics
from console.snapshots import Sight, Snapshot
from coordination.breakers import STATES as BREAKER_STATES
from coordination.candidates import CANDIDATE_STATES
from coordination.intents import INTENT_STATES
from coordination.status import SlotStatus

CONTENT_TYPE = CONTENT_TYPE_LATEST
SEVERITIES = ("debug", "info", "warning", "error")
ALERT_SEVERITIES = ("info", "warning", "error", "critical")
HOST_STATES = ("live", "lost", "left", "gone")
SLOT_STATES = (
    "STARTING",
    "READY",
    "BUSY",
    "PAUSED",
    "DRAINING",
    "BACKOFF",
    "STALLED",
    "LOST",
    "CRASH_LOOP",
    "STOPPED",
)


def exposition(sight: Sight) -> bytes:
    """Give the text of `/metrics`. While the database is away it says that, and repeats no old value."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SightCollector(sight))
    return generate_latest(registry)


class _SightCollector(Collector):
    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def describe(self) -> Iterator[Metric]:
        """Name nothing: one registry holds one collector once."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        sight = self._sight
        yield _gauge(
            "socialfleet_database_up", "1 while the database answers the console.", sight.fault is None
        )
        if sight.snapshot is None:
            return
        yield _gauge(
            "socialfleet_database_stale_seconds",
            "Seconds since which nothing newer is known; 0 while the database answers.",
            0 if sight.fault is None else sight.age_s,
        )
        yield _gauge(
            "socialfleet_snapshot_age_seconds",
            "Seconds since the database last answered the console.",
            sight.age_s,
        )
        if sight.fault is None:
            yield from _workers(_one_a_slot(sight.snapshot.slots))
            yield from _slots(_one_a_slot(sight.snapshot.slots))
            yield from _hosts(sight.snapshot)
            yield _alerts(sight.snapshot)
            yield from _ledger(sight.snapshot)
            yield from _pool(sight.snapshot)
            yield from pool_metrics(sight.snapshot.pools)
            yield from message_metrics(sight.snapshot.messages)
            yield from _guards(sight.snapshot)
            yield from limit_metrics(sight.snapshot.limits, sight.snapshot.limit_measures)
            yield from lock_metrics(sight.snapshot.locks)
            yield from _breakers(sight.snapshot)
            yield from _budgets(sight.snapshot)
            yield from _cache(sight.snapshot)
            yield from work_metrics.jobs(sight.snapshot.jobs)
            yield from work_metrics.schedules(sight.snapshot.schedules)
            yield from work_metrics.responsiveness(sight.snapshot.responsiveness)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _one_a_slot(slots: list[SlotStatus]) -> list[SlotStatus]:
    """A slot that moved to another host leaves its row behind: the healthy and the younger one counts."""
    chosen: dict[tuple[str, int], SlotStatus] = {}
    for slot in sorted(slots, key=lambda slot: (slot.healthy, slot.since.timestamp() if slot.since else 0.0)):
        chosen[slot.name, slot.slot] = slot
    return [chosen[key] for key in sorted(chosen)]


def _workers(slots: list[SlotStatus]) -> Iterator[Metric]:
    labels = ("worker", "slot")
    healthy = GaugeMetricFamily(
        "socialfleet_worker_healthy", "1 while the slot is as it should be.", labels=labels
    )
    enabled = GaugeMetricFamily("socialfleet_worker_enabled", "1 while the slot should run.", labels=labels)
    state = GaugeMetricFamily(
        "socialfleet_worker_state", "1 for the slot's state.", labels=(*labels, "state")
    )
    restarts = CounterMetricFamily("socialfleet_worker_restarts", "Restarts by the manager.", labels=labels)
    errors = GaugeMetricFamily(
        "socialfleet_worker_error_ratio", "Share of failed steps among the last 100, 0 to 1.", labels=labels
    )
    rate = GaugeMetricFamily(
        "socialfleet_worker_items_per_minute", "Items a minute, last step.", labels=labels
    )
    beat = GaugeMetricFamily(
        "socialfleet_worker_beat_age_seconds", "Seconds since the last heartbeat.", labels=labels
    )
    memory = GaugeMetricFamily(
        "socialfleet_worker_memory_bytes", "Memory, as the worker tells.", labels=labels
    )
    run = GaugeMetricFamily(
        "socialfleet_worker_last_run_timestamp_seconds",
        "Real time at which the last step ended.",
        labels=labels,
    )
    for slot in slots:
        key = (slot.name, str(slot.slot))
        healthy.add_metric(key, slot.healthy)
        enabled.add_metric(key, slot.enabled)
        state.add_metric((*key, slot.state), 1)
        restarts.add_metric(key, slot.restart_count)
        errors.add_metric(key, slot.error_rate)
        measured = (
            (rate, slot.items_per_minute),
            (beat, slot.beat_age_s),
            (memory, slot.memory_bytes),
            (run, slot.last_run_at.timestamp() if slot.last_run_at else None),
        )
        for family, value in measured:
            if value is not None:
                family.add_metric(key, value)
    yield from (healthy, enabled, state, restarts, errors, rate, beat, memory, run)


def _slots(slots: list[SlotStatus]) -> Iterator[Metric]:
    labels = ("worker", "slot", "host")
    state = GaugeMetricFamily(
        "socialfleet_slot_state",
        "1 for the state that the slot is in, 0 for the others.",
        labels=(*labels, "state"),
    )
    restarts = CounterMetricFamily(
        "socialfleet_slot_restarts", "Times that a process of the slot was started again.", labels=labels
    )
    failures = GaugeMetricFamily(
        "socialfleet_slot_failures", "Failures in a row since the slot last ran well.", labels=labels
    )
    cpu = GaugeMetricFamily("socialfleet_slot_cpu_percent", "Percent of one CPU.", labels=labels)
    memory = GaugeMetricFamily(
        "socialfleet_slot_memory_bytes", "Resident memory of the process and its descendants.", labels=labels
    )
    for slot in slots:
        key = (slot.name, str(slot.slot), slot.host or "")
        for name in SLOT_STATES:
            state.add_metric((*key, name), slot.state == name)
        restarts.add_metric(key, slot.restart_count)
        failures.add_metric(key, slot.failures)
        for family, value in ((cpu, slot.cpu_percent), (memory, slot.memory_bytes)):
            if value is not None:
                family.add_metric(key, value)
    yield from (state, restarts, failures, cpu, memory)


def _hosts(snapshot: Snapshot) -> Iterator[Metric]:
    hosts = GaugeMetricFamily("socialfleet_hosts", "Hosts in each state.", labels=("state",))
    for state in HOST_STATES:
        hosts.add_metric((state,), sum(host["state"] == state for host in snapshot.hosts))
    draining = _gauge(
        "socialfleet_hosts_draining",
        "Hosts that take no more work.",
        sum(host["draining"] for host in snapshot.hosts),
    )
    channel = GaugeMetricFamily(
        "socialfleet_wake_channel_ok",
        "1 while the host's wake channel works, 0 while it is broken or untested.",
        labels=("host",),
    )
    for host in snapshot.hosts:
        if host["state"] == "live":
            channel.add_metric((host["name"],), host["wake_channel"] == "ok")
    yield from (hosts, draining, channel)


def _alerts(snapshot: Snapshot) -> Metric:
    alerts = GaugeMetricFamily(
        "socialfleet_alerts_open", "Alerts that nothing took back yet.", labels=("severity",)
    )
    for severity in ALERT_SEVERITIES:
        alerts.add_metric((severity,), snapshot.alert_counts.get(severity, 0))
    return alerts


def _ledger(snapshot: Snapshot) -> Iterator[Metric]:
    intents = GaugeMetricFamily("socialfleet_intents", "Intents in each state.", labels=("account", "state"))
    counted = {(row["account"], row["state"]): row["number"] for row in snapshot.intent_counts}
    for account in snapshot.accounts:
        for state in INTENT_STATES:
            intents.add_metric((account["name"], state), counted.get((account["name"], state), 0))
    posts = CounterMetricFamily("socialfleet_posts", "Posts on the platform.", labels=("account",))
    readings = CounterMetricFamily("socialfleet_readings", "Readings of their metrics.", labels=("account",))
    for row in snapshot.post_counts:
        posts.add_metric((row["account"],), row["posts"])
        readings.add_metric((row["account"],), row["readings"])
    yield from (intents, posts, readings)


def _pool(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("account", "state")
    candidates = GaugeMetricFamily("socialfleet_candidates", "Candidates in each state.", labels=labels)
    counted = {(row["account"], row["state"]): row["number"] for row in snapshot.candidate_counts}
    for account in snapshot.accounts:
        for state in CANDIDATE_STATES:
            candidates.add_metric((account["name"], state), counted.get((account["name"], state), 0))
    yield candidates


def _guards(snapshot: Snapshot) -> Iterator[Metric]:
    switch = snapshot.kill_switch
    thrown = GaugeMetricFamily(
        "socialfleet_kill_switch", "1 while the kill switch is on: nothing is sent.", labels=("scope",)
    )
    thrown.add_metric((switch["scope"],), switch["on"])
    events = CounterMetricFamily("socialfleet_events", "Events that happened.", labels=("severity",))
    for severity in SEVERITIES:
        events.add_metric((severity,), snapshot.event_counts.get(severity, 0))
    yield from (thrown, events)
    if snapshot.manager_age_s is not None:
        yield _gauge(
            "socialfleet_manager_report_age_seconds",
            "Seconds since a manager told its slots.",
            snapshot.manager_age_s,
        )


def _breakers(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("account", "service")
    state = GaugeMetricFamily(
        "socialfleet_breaker_state",
        "1 for the state that the breaker is in, 0 for the others.",
        labels=(*labels, "state"),
    )
    stuck = GaugeMetricFamily("socialfleet_breaker_stuck", "1 while it is open for too long.", labels=labels)
    in_a_row = GaugeMetricFamily(
        "socialfleet_breaker_failures_in_a_row", "Failures since the last success.", labels=labels
    )
    failures = CounterMetricFamily(
        "socialfleet_breaker_failures", "Calls to the service that failed.", labels=labels
    )
    opens = CounterMetricFamily("socialfleet_breaker_opens", "Times that it opened.", labels=labels)
    probes = CounterMetricFamily(
        "socialfleet_breaker_probes", "Calls that tried whether the service is well again.", labels=labels
    )
    resets = CounterMetricFamily(
        "socialfleet_breaker_reset_attempts", "Times that a person closed it.", labels=labels
    )
    for breaker in snapshot.breakers:
        key = (breaker.account, breaker.service)
        for name in BREAKER_STATES:
            state.add_metric((*key, name), breaker.state == name)
        stuck.add_metric(key, breaker.is_stuck)
        in_a_row.add_metric(key, breaker.failures)
        failures.add_metric(key, breaker.failures_total)
        opens.add_metric(key, breaker.opens_total)
        probes.add_metric(key, breaker.probes)
        resets.add_metric(key, breaker.reset_attempts)
    yield from (state, stuck, in_a_row, failures, opens, probes, resets)


def _budgets(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("account", "kind", "name", "period")
    limit = GaugeMetricFamily("socialfleet_budget_limit_usd", "What may be spent in a period.", labels=labels)
    spent = GaugeMetricFamily("socialfleet_budget_spent_usd", "What was spent in the period.", labels=labels)
    held = GaugeMetricFamily("socialfleet_budget_held_usd", "What is held and not settled.", labels=labels)
    holds = GaugeMetricFamily("socialfleet_budget_open_holds", "Holds that are not settled.", labels=labels)
    for budget in snapshot.budgets:
        key = (budget.account, budget.kind, budget.name, budget.period)
        limit.add_metric(key, float(budget.limit_usd))
        spent.add_metric(key, float(budget.spent_usd))
        held.add_metric(key, float(budget.held_usd))
        holds.add_metric(key, budget.open_holds)
    yield from (limit, spent, held, holds)


def _cache(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("namespace",)
    entries = GaugeMetricFamily("socialfleet_cache_entries", "Values that are kept.", labels=labels)
    size = GaugeMetricFamily("socialfleet_cache_bytes", "Their size as text.", labels=labels)
    asked = CounterMetricFamily(
        "socialfleet_cache_requests",
        "Times that a value was asked for and found fresh, stale or not at all.",
        labels=(*labels, "result"),
    )
    evictions = CounterMetricFamily(
        "socialfleet_cache_evictions", "Values that went before their time.", labels=labels
    )
    for one in snapshot.cache:
        entries.add_metric((one.namespace,), one.entries)
        size.add_metric((one.namespace,), one.bytes)
        evictions.add_metric((one.namespace,), one.evictions)
        for result, number in (("hit", one.hits), ("stale", one.stale_hits), ("miss", one.misses)):
            asked.add_metric((one.namespace, result), number)
    yield from (entries, size, asked, evictions)
