"""/metrics as text that Prometheus' own parser reads."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from console.metrics import exposition
from console.snapshots import Sight, Snapshot
from coordination.breakers import BreakerStatus
from coordination.budgets import BudgetStatus
from coordination.cache import CacheStatus
from coordination.status import SlotStatus

NOW = datetime(2026, 8, 1, 9, 30, tzinfo=UTC)
SLOT = SlotStatus(
    name="poster",
    slot=1,
    host="here",
    description="",
    enabled=True,
    healthy=True,
    state="READY",
    reason="",
    since=NOW,
    pid=4,
    restart_count=2,
    step=None,
    memory_bytes=57_000_000,
    cpu_percent=3.5,
    failures=1,
    assigned=True,
    beat_age_s=1.5,
    last_run_at=NOW,
    last_outcome="done",
    error_rate=0.25,
    items_per_minute=12.0,
    last_error=None,
    health={},
)


JOBS = {
    "kind": "analyse",
    "available": 3,
    "retryable": 1,
    "running": 2,
    "oldest_due_s": 12.5,
    "wait_s": 90.0,
    "run_s": 40.0,
    "claimed": 9,
    "completed": 5,
    "failed": 2,
    "dead": 1,
    "snoozed": 0,
    "rescued": 1,
    "missed": 4,
    "overdue": 0,
}
SCHEDULE = {
    "name": "planner",
    "fired": 20,
    "skipped": 3,
    "late_s": 7.5,
    "overdue_s": 0.0,
    "paused": True,
}


def snapshot(**changed: Any) -> Snapshot:
    known = Snapshot(
        real_now=NOW,
        fleet_now=NOW,
        server_version="18",
        manager_age_s=1.0,
        kill_switch={"on": True, "scope": "global"},
        slots=[SLOT],
        hosts=[
            {"name": "here", "state": "live", "draining": True, "wake_channel": "ok"},
            {"name": "there", "state": "live", "draining": False, "wake_channel": "broken"},
            {"name": "away", "state": "lost", "draining": False, "wake_channel": "ok"},
        ],
        alerts=[],
        alert_counts={"error": 2},
        commands=[],
        black_boxes=[],
        accounts=[{"name": "default"}],
        intent_counts=[{"account": "default", "state": "posted", "number": 3}],
        intents=[],
        post_counts=[{"account": "default", "posts": 3, "readings": 7}],
        posts=[],
        limits=[
            {
                "account": "default",
                "endpoint": "post_tweet",
                "used": 3,
                "limit": 50,
                "utilization_percent": 6.0,
                "requests_queued": 4,
                "violations": 1,
            }
        ],
        events=[],
        event_counts={"error": 2},
        errors=[],
        mentions=[],
        pools=[
            {
                "resource_type": "content",
                "resource_id": "content_pipeline",
                "total_capacity": 100,
                "reserved_capacity": 7,
                "waiting_queue": 2,
                "availability": 0.9,
                "recent_utilization_percent": 12.5,
                "mean_utilization_percent": 8.5,
                "granted": 9,
                "wait_s": 1.5,
                "hold_s": None,
            },
            {
                "resource_type": "api_quota",
                "resource_id": "api_tweets",
                "account": "default",
                "total_capacity": 50,
            },
        ],
        candidate_counts=[{"account": "default", "state": "waiting", "number": 12}],
        candidates=[],
        jobs=[JOBS],
        schedules=[SCHEDULE],
    )
    return replace(known, **changed)


def samples(sight: Sight) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(exposition(sight).decode()):
        assert family.name.startswith(("fleet_", "socialfleet_"))
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands twice"
            found[key] = sample.value
    return found


def labelled(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_what_a_snapshot_holds_is_told() -> None:
    found = samples(Sight(snapshot=snapshot(), fault=None, age_s=0.5))
    expected = {
        labelled("socialfleet_database_up"): 1,
        labelled("socialfleet_worker_healthy", worker="poster", slot="1"): 1,
        labelled("socialfleet_worker_state", worker="poster", slot="1", state="READY"): 1,
        labelled("socialfleet_worker_restarts_total", worker="poster", slot="1"): 2,
        labelled("socialfleet_worker_error_ratio", worker="poster", slot="1"): 0.25,
        labelled("socialfleet_worker_beat_age_seconds", worker="poster", slot="1"): 1.5,
        labelled("socialfleet_worker_memory_bytes", worker="poster", slot="1"): 57_000_000,
        labelled("socialfleet_worker_last_run_timestamp_seconds", worker="poster", slot="1"): NOW.timestamp(),
        labelled("socialfleet_intents", account="default", state="posted"): 3,
        labelled("socialfleet_intents", account="default", state="parked"): 0,
        labelled("socialfleet_posts_total", account="default"): 3,
        labelled("socialfleet_candidates", account="default", state="waiting"): 12,
        labelled("socialfleet_candidates", account="default", state="proposed"): 0,
        labelled("socialfleet_readings_total", account="default"): 7,
        labelled("socialfleet_rate_limit_used", account="default", endpoint="post_tweet"): 3,
        labelled("socialfleet_rate_limit_limit", account="default", endpoint="post_tweet"): 50,
        labelled("socialfleet_rate_limit_utilization_percent", account="default", endpoint="post_tweet"): 6,
        labelled("socialfleet_rate_limit_requests_queued", account="default", endpoint="post_tweet"): 4,
        labelled("socialfleet_rate_limit_violations_total", account="default", endpoint="post_tweet"): 1,
        labelled("socialfleet_kill_switch", scope="global"): 1,
        labelled("socialfleet_events_total", severity="error"): 2,
        labelled("socialfleet_events_total", severity="info"): 0,
    }
    assert expected.items() <= found.items()


def test_slots_hosts_and_alerts_are_told() -> None:
    found = samples(Sight(snapshot=snapshot(), fault=None, age_s=0.5))
    slot = {"worker": "poster", "slot": "1", "host": "here"}
    expected = {
        labelled("socialfleet_slot_state", **slot, state="READY"): 1,
        labelled("socialfleet_slot_state", **slot, state="CRASH_LOOP"): 0,
        labelled("socialfleet_slot_restarts_total", **slot): 2,
        labelled("socialfleet_slot_failures", **slot): 1,
        labelled("socialfleet_slot_cpu_percent", **slot): 3.5,
        labelled("socialfleet_slot_memory_bytes", **slot): 57_000_000,
        labelled("socialfleet_hosts", state="live"): 2,
        labelled("socialfleet_hosts", state="lost"): 1,
        labelled("socialfleet_hosts", state="gone"): 0,
        labelled("socialfleet_hosts_draining"): 1,
        labelled("socialfleet_wake_channel_ok", host="here"): 1,
        labelled("socialfleet_wake_channel_ok", host="there"): 0,
        labelled("socialfleet_alerts_open", severity="error"): 2,
        labelled("socialfleet_alerts_open", severity="critical"): 0,
        labelled("socialfleet_database_stale_seconds"): 0,
    }
    assert expected.items() <= found.items()
    assert labelled("socialfleet_wake_channel_ok", host="away") not in found


def test_jobs_and_schedules_are_told() -> None:
    found = samples(Sight(snapshot=snapshot(), fault=None, age_s=0.5))
    expected = {
        labelled("socialfleet_jobs", kind="analyse", state="available"): 3,
        labelled("socialfleet_jobs", kind="analyse", state="running"): 2,
        labelled("socialfleet_jobs_oldest_due_seconds", kind="analyse"): 12.5,
        labelled("socialfleet_job_reports_total", kind="analyse", report="completed"): 5,
        labelled("socialfleet_job_reports_total", kind="analyse", report="missed"): 4,
        labelled("socialfleet_job_wait_seconds_total", kind="analyse"): 90,
        labelled("socialfleet_job_run_seconds_total", kind="analyse"): 40,
        labelled("socialfleet_schedule_slots_total", schedule="planner", state="fired"): 20,
        labelled("socialfleet_schedule_slots_total", schedule="planner", state="skipped"): 3,
        labelled("socialfleet_schedule_late_seconds_total", schedule="planner"): 7.5,
        labelled("socialfleet_schedule_overdue_seconds", schedule="planner"): 0,
        labelled("socialfleet_schedule_paused", schedule="planner"): 1,
    }
    assert expected.items() <= found.items()


def test_breakers_budgets_and_the_cache_are_told() -> None:
    breaker = BreakerStatus(
        account="default",
        service="posting",
        state="half_open",
        failures=16,
        opens_after=15,
        opens=1,
        opened_at=NOW,
        next_probe_at=NOW,
        probes=2,
        last_failed_at=NOW,
        last_error=None,
        last_status=503,
        is_stuck=True,
        failures_total=20,
        opens_total=3,
        reset_attempts=1,
    )
    budget = BudgetStatus(
        account="default",
        kind="model",
        name="large",
        period="day",
        limit_usd=Decimal(5),
        spent_usd=Decimal("1.25"),
        held_usd=Decimal("0.5"),
        left_usd=Decimal("3.25"),
        used_percent=35.0,
        resets_at=NOW,
        open_holds=2,
        oldest_hold_at=NOW,
    )
    cache = CacheStatus(
        namespace="prices",
        entries=4,
        bytes=100,
        computing=0,
        hits=9,
        stale_hits=1,
        misses=2,
        stores=4,
        evictions=3,
        hit_rate=0.83,
    )
    known = replace(snapshot(), breakers=[breaker], budgets=[budget], cache=[cache])
    found = samples(Sight(snapshot=known, fault=None, age_s=0.5))
    posting = {"account": "default", "service": "posting"}
    large = {"account": "default", "kind": "model", "name": "large", "period": "day"}
    expected = {
        labelled("socialfleet_breaker_state", **posting, state="half_open"): 1,
        labelled("socialfleet_breaker_state", **posting, state="open"): 0,
        labelled("socialfleet_breaker_stuck", **posting): 1,
        labelled("socialfleet_breaker_failures_in_a_row", **posting): 16,
        labelled("socialfleet_breaker_failures_total", **posting): 20,
        labelled("socialfleet_breaker_opens_total", **posting): 3,
        labelled("socialfleet_breaker_probes_total", **posting): 2,
        labelled("socialfleet_breaker_reset_attempts_total", **posting): 1,
        labelled("socialfleet_budget_limit_usd", **large): 5,
        labelled("socialfleet_budget_spent_usd", **large): 1.25,
        labelled("socialfleet_budget_held_usd", **large): 0.5,
        labelled("socialfleet_budget_open_holds", **large): 2,
        labelled("socialfleet_cache_entries", namespace="prices"): 4,
        labelled("socialfleet_cache_requests_total", namespace="prices", result="hit"): 9,
        labelled("socialfleet_cache_requests_total", namespace="prices", result="miss"): 2,
        labelled("socialfleet_cache_evictions_total", namespace="prices"): 3,
    }
    assert expected.items() <= found.items()


def test_messages_and_conflicts_are_told() -> None:
    status = {
        "waiting": 3,
        "oldest_waiting_s": 1.5,
        "late_reports": 2,
        "conflicts_open": 1,
        "recipients": {"poster": 3},
    }
    found = samples(Sight(snapshot=snapshot(messages=status), fault=None, age_s=0.5))
    expected = {
        labelled("socialfleet_messages_waiting"): 3,
        labelled("socialfleet_messages_oldest_wait_seconds"): 1.5,
        labelled("socialfleet_messages_late_reports_1d"): 2,
        labelled("socialfleet_conflicts_open_1d"): 1,
        labelled("socialfleet_messages_open", recipient="poster"): 3,
    }
    assert expected.items() <= found.items()


def test_while_the_database_is_away_no_old_value_is_repeated() -> None:
    found = samples(Sight(snapshot=snapshot(), fault="away", age_s=61.0))
    assert found == {
        labelled("socialfleet_database_up"): 0,
        labelled("socialfleet_snapshot_age_seconds"): 61,
        labelled("socialfleet_database_stale_seconds"): 61,
    }


def test_before_the_first_snapshot_it_answers() -> None:
    assert samples(Sight(snapshot=None, fault="not yet", age_s=1.0)) == {
        labelled("socialfleet_database_up"): 0
    }


def test_a_slot_that_moved_to_another_host_counts_once() -> None:
    left = replace(SLOT, host="there", healthy=False, state="LOST")
    found = samples(Sight(snapshot=snapshot(slots=[SLOT, left]), fault=None, age_s=0.0))
    assert found[labelled("socialfleet_worker_healthy", worker="poster", slot="1")] == 1


def test_hostile_names_stay_inside_their_label() -> None:
    hostile = 'a"} 1\nfleet_database_up 0\\'
    row = {"account": hostile, "endpoint": "e", "used": 1, "limit": 2, "violations": 0}
    found = samples(Sight(snapshot=snapshot(limits=[row]), fault=None, age_s=0.0))
    assert found[labelled("socialfleet_rate_limit_used", account=hostile, endpoint="e")] == 1
    assert found[labelled("socialfleet_database_up")] == 1


def test_pools_are_told_with_what_is_known_of_them() -> None:
    found = samples(Sight(snapshot=snapshot(), fault=None, age_s=0.5))
    pipeline = {"resource_type": "content", "resource_id": "content_pipeline", "account": ""}
    tweets = {"resource_type": "api_quota", "resource_id": "api_tweets", "account": "default"}
    expected = {
        labelled("socialfleet_pool_capacity", **pipeline): 100,
        labelled("socialfleet_pool_reserved", **pipeline): 7,
        labelled("socialfleet_pool_waiting", **pipeline): 2,
        labelled("socialfleet_pool_availability_ratio", **pipeline): 0.9,
        labelled("socialfleet_pool_recent_utilization_percent", **pipeline): 12.5,
        labelled("socialfleet_pool_mean_utilization_percent", **pipeline): 8.5,
        labelled("socialfleet_pool_granted_total", **pipeline): 9,
        labelled("socialfleet_pool_wait_seconds_total", **pipeline): 1.5,
        labelled("socialfleet_pool_capacity", **tweets): 50,
    }
    assert expected.items() <= found.items()
    assert labelled("socialfleet_pool_hold_seconds", **pipeline) not in found


def test_the_use_of_limits_and_the_waits_for_them_are_told() -> None:
    posts = {"account": "default", "endpoint": "post_tweet"}
    measures = {
        **posts,
        "granted": 40,
        "refused": 3,
        "waited": 2,
        "efficiency_percent": 80.0,
        "requests_per_minute": 2.67,
        "granted_at_once_percent": 95.0,
        "longest_wait_s": 61.0,
        "average_wait_s": None,
    }
    known = replace(snapshot(), limit_measures=[measures])
    found = samples(Sight(snapshot=known, fault=None, age_s=0.5))
    expected = {
        labelled("socialfleet_rate_limit_grants_total", **posts): 40,
        labelled("socialfleet_rate_limit_refusals_total", **posts): 3,
        labelled("socialfleet_rate_limit_waits_total", **posts): 2,
        labelled("socialfleet_rate_limit_efficiency_percent", **posts): 80,
        labelled("socialfleet_rate_limit_requests_per_minute", **posts): 2.67,
        labelled("socialfleet_rate_limit_granted_at_once_percent", **posts): 95,
        labelled("socialfleet_rate_limit_longest_wait_seconds", **posts): 61,
    }
    assert expected.items() <= found.items()
    assert labelled("socialfleet_rate_limit_average_wait_seconds", **posts) not in found


def test_how_soon_the_whole_fleet_takes_up_what_is_due_is_told() -> None:
    told = {"percent": 98.5, "promptly": 197, "all": 200, "within_s": 5}
    known = samples(Sight(snapshot=snapshot(responsiveness=told), fault=None, age_s=0.5))
    assert known[labelled("socialfleet_responsiveness_percent")] == 98.5
    idle = samples(Sight(snapshot=snapshot(responsiveness=told | {"percent": None}), fault=None, age_s=0.5))
    assert labelled("socialfleet_responsiveness_percent") not in idle
