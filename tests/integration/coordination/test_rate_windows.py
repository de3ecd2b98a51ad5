"""Several windows, exact logs and GCRA, pools: whatever is asked when, no window has more than its limit."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordination import Fleet, connect
from coordination.database import Database, Json
from coordination.errors import InvalidValueError
from coordination.rate_limits import Grant
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together
from tests.integration.coordination.queueing import configure, most_granted
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value
from tests.integration.coordination.told import prove_dead

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK_RATE = 100.0


def ask(fleet: Fleet, endpoint: str = "search_tweets", worker: str = "tester/1") -> Grant:
    return fleet.rate_limits.can_make_request(endpoint, worker)


def spend(fleet: Fleet, endpoint: str = "search_tweets") -> None:
    grant = ask(fleet, endpoint)
    assert grant.grant_id is not None, grant
    fleet.rate_limits.record_usage(grant.grant_id, True)


def test_the_cautious_defaults_have_three_windows_each(fleet: Fleet, owner: Owner) -> None:
    found = rows(
        owner,
        "SELECT endpoint, requests || longer_requests, window_s || longer_window_s, fair_share "
        "FROM fleet.rate_limits WHERE account = '*' AND 'search_tweets,post_tweet,fetch_mentions' ~ endpoint "
        "ORDER BY endpoint",
    )
    windows = [900, 3600, 86400]
    assert found == [
        ("fetch_mentions", [75, 300, 7200], windows, True),
        ("post_tweet", [50, 200, 2400], windows, False),
        ("search_tweets", [180, 720, 17280], windows, True),
    ]
    assert rows(
        owner,
        "SELECT endpoint, requests, window_s, longer_requests, members FROM fleet.rate_limits "
        "WHERE account = '*' AND kind = 'pool' ORDER BY endpoint",
    ) == [("api_requests", 900, 900, [], ["*"]), ("api_tweets", 50, 3600, [], ["post_tweet"])]
    capacity = fleet.rate_limits.get_remaining_capacity("search_tweets")
    named = (capacity.per_15min, capacity.per_hour, capacity.per_day)
    assert [one.remaining for one in named if one] == [180, 720, 17280]
    assert [window.limit for window in capacity.windows] == [180, 720, 17280]


def test_all_windows_are_asked_and_all_or_none_give(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "search_tweets", (3, 60), (5, 600))
    for _ in range(3):
        spend(fleet)
    assert ask(fleet).reason == "3 of 3 requests of search_tweets used"
    fleet_database.advance(61)
    for _ in range(2):
        spend(fleet)
    refused = ask(fleet)
    assert refused.reason == "5 of 5 requests of search_tweets used in 600 s"
    assert refused.retry_after_seconds is not None
    assert 535 <= refused.retry_after_seconds <= 540
    remaining = [
        window.remaining for window in fleet.rate_limits.get_remaining_capacity("search_tweets").windows
    ]
    assert remaining == [1, 0]
    fleet_database.advance(refused.retry_after_seconds)
    assert ask(fleet).allowed


def test_an_hours_and_a_days_remaining_say_when_the_next_unit_of_each_frees(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (5, 900), (10, 3600), (20, 86400))
    spend(fleet)
    fleet_database.advance(100)
    spend(fleet)
    capacity = fleet.rate_limits.get_remaining_capacity("search_tweets")
    now = value(owner, "SELECT fleet.now()")
    for named, left, opens_in_s in (
        (capacity.per_15min, 3, 800),
        (capacity.per_hour, 8, 3500),
        (capacity.per_day, 18, 86300),
    ):
        assert named is not None
        assert named.remaining == left
        assert abs((named.resets_at - now).total_seconds() - opens_in_s) < 3


def test_a_request_takes_a_unit_of_each_pool_that_its_endpoint_belongs_to(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "api_requests", (3, 900))
    spend(fleet, "search_tweets")
    spend(fleet, "get_tweets")
    grant = ask(fleet, "post_tweet")
    assert ask(fleet, "users_me").reason == "3 of 3 requests of api_requests used"
    assert grant.grant_id is not None
    assert fleet.rate_limits.release(grant.grant_id)
    assert fleet.rate_limits.get_remaining_capacity("api_tweets").used == 0
    assert ask(fleet, "users_me").allowed
    kinds = {one["endpoint"]: one["kind"] for one in fleet.rate_limits.get_system_status()}
    assert kinds["api_requests"] == "pool"
    assert kinds["users_me"] == "endpoint"
    counts = "SELECT occupied[1] FROM fleet.rate_limits WHERE endpoint = %s AND account = 'default'"
    assert [value(owner, counts, name) for name in ("api_requests", "api_tweets", "post_tweet")] == [3, 0, 0]


def grant_units(owner: Owner, fleet: Fleet, endpoint: str, n: int) -> dict[str, object]:
    return value(owner, "SELECT fleet.grant_units(%s, %s, 'holder/1', %s)", fleet.incarnation.id, endpoint, n)


def test_units_reserved_together_are_all_there_or_none_and_are_drawn_one_by_one(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (5, 900))
    spend(fleet)
    assert not grant_units(owner, fleet, "search_tweets", 5)["allowed"]
    with pytest.raises(psycopg.Error, match="estimated_requests is '6'"):
        grant_units(owner, fleet, "search_tweets", 6)
    held = grant_units(owner, fleet, "search_tweets", 4)
    assert held["allowed"]
    assert not ask(fleet, worker="other/1").allowed
    for _ in range(2):
        drawn = value(
            owner,
            "SELECT fleet.draw_unit(%s, %s, 'holder/1')",
            fleet.incarnation.id,
            int(str(held["grant_id"])),
        )
        fleet.rate_limits.record_usage(drawn["grant_id"], True)
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").remaining == 0
    assert fleet.rate_limits.release(str(held["grant_id"]))
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").remaining == 2
    assert (
        rows(owner, "SELECT units, settled_at IS NOT NULL FROM fleet.rate_grants ORDER BY id")
        == [(1, True)] * 3
    )


@given(
    requests=st.integers(1, 1_000_000),
    window_s=st.integers(1, 604_800),
    delay_s=st.one_of(st.integers(0, 2000), st.floats(0, 2000)),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_spacing_lets_never_more_than_n_pass_and_costs_under_2_percent_i9(
    owner: Owner, requests: int, window_s: int, delay_s: float
) -> None:
    burst, spacing_us = owner.execute(
        "SELECT * FROM fleet.pace(%s, %s::float8, %s::float8)", (requests, window_s, delay_s)
    ).fetchone() or (0, 0)
    if not spacing_us:
        assert 1 + requests * (1 - 0.985 * (window_s + delay_s) / window_s) < 10
        return
    span_us = int((window_s + delay_s) * 1_000_000)
    assert -(-span_us // spacing_us) + burst - 1 <= requests
    assert window_s * 1_000_000 / spacing_us / requests >= 0.985 * (1 - 1 / spacing_us) - 1e-9


def test_rounding_to_nearest_would_let_one_more_in(owner: Owner) -> None:
    broken = 0
    for requests in range(1000, 1400):
        burst = 1 + int(requests * (1 - 0.985 * 3615 / 3600))
        nearest_us = round(3615 * 1_000_000 / (requests - burst + 1))
        broken += -(-3615 * 1_000_000 // nearest_us) + burst - 1 > requests
        spacing_us = value(owner, "SELECT spacing_us FROM fleet.pace(%s, 3600, 15)", requests)
        assert -(-3615 * 1_000_000 // spacing_us) + burst - 1 <= requests
    assert broken > 50


@given(
    burst=st.integers(10, 40),
    spacing_us=st.integers(1000, 10_000_000),
    gaps=st.lists(st.integers(0, 20_000_000), min_size=1, max_size=40),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_conforms_is_what_a_bucket_of_integers_says(
    owner: Owner, burst: int, spacing_us: int, gaps: list[int]
) -> None:
    now_us, tat_us = 0, 0
    for gap in gaps:
        now_us += gap
        free = value(
            owner,
            "SELECT fleet.conforming(%s::timestamptz, %s::timestamptz, %s, %s)",
            EPOCH + timedelta(microseconds=tat_us),
            EPOCH + timedelta(microseconds=now_us),
            burst,
            spacing_us,
        )
        expected = 0
        while tat_us + (expected - burst + 1) * spacing_us <= now_us and expected < burst:
            expected += 1
        if tat_us <= now_us:
            expected = burst
        assert free == expected
        if free:
            tat_us = max(tat_us, now_us) + spacing_us


def test_gcra_never_lets_2n_minus_1_through(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    console.call("set_setting", key="request_delay_s", value=Json(0.5), actor="me", reason="test")
    configure(console, "search_tweets", (1000, 300))
    burst = [ask(fleet).grant_id for _ in range(30)]
    taken = len([grant for grant in burst if grant])
    assert 10 <= taken < 30
    # Full, drained and full again: a bucket of capacity N would let 2N - 1 pass here.
    for _ in range(20):
        fleet_database.advance(10)
        while (grant := ask(fleet)).grant_id:
            fleet.rate_limits.record_usage(grant.grant_id, True)
    assert most_granted(owner, 300) <= 1000


def test_an_unresolved_request_is_charged_again_and_again_under_gcra(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (1000, 3600))
    hung = ask(fleet)
    assert hung.grant_id is not None
    arrival = "SELECT extract(epoch FROM tat[1] - fleet.now()) FROM fleet.rate_limits WHERE requests = 1000"
    spacing_s = value(owner, "SELECT spacing_us[1] / 1e6 FROM fleet.rate_limits WHERE requests = 1000")
    for _ in range(3):
        fleet_database.advance(16)
        grant = ask(fleet)
        assert float(value(owner, arrival)) > float(spacing_s) * 1.5  # this one, and the hung one anew
        assert grant.grant_id is not None
        fleet.rate_limits.record_usage(grant.grant_id, True)
    fleet.rate_limits.record_usage(hung.grant_id, False)
    fleet_database.advance(16)
    assert ask(fleet).allowed
    assert float(value(owner, arrival)) <= float(spacing_s)


def test_a_released_unit_is_there_again_under_gcra(fleet: Fleet, console: Database) -> None:
    configure(console, "search_tweets", (1000, 3600))
    grants: list[str] = []
    while (grant := ask(fleet)).grant_id:
        grants.append(grant.grant_id)
    assert len(grants) >= 10
    assert fleet.rate_limits.release(grants.pop())
    assert ask(fleet, worker="other/1").allowed


def _ask_in_three_windows(start: Callable[[], int], dsn: str, duration_s: float) -> int:
    granted = 0
    with connect(dsn, "asker") as fleet:
        start()
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            grant = ask(fleet)
            if grant.grant_id is not None:
                granted += 1
                if granted % 40:  # some are never settled
                    fleet.rate_limits.record_usage(grant.grant_id, True)
    return granted


def test_12_processes_on_three_windows_never_exceed_any_of_them_i9(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    console.call("set_setting", key="request_delay_s", value=Json(0.05), actor="me", reason="test")
    configure(console, "search_tweets", (30, 20), (100, 100), (900, 1000))
    configure(console, "api_requests", (1_000_000, 900))
    fleet_database.advance(0, rate=CLOCK_RATE)
    granted = sum(together(_ask_in_three_windows, 12, fleet_database.dsn("worker"), 3.0))
    assert granted > 40
    assert most_granted(owner, 20) <= 30
    assert most_granted(owner, 100) <= 100
    assert most_granted(owner, 1000) <= 900


def test_the_counts_in_the_row_are_never_below_the_log(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (10, 60), (30, 600))
    open_grants: list[str] = []
    for step in range(60):
        fleet_database.advance(7)
        grant = ask(fleet)
        if grant.grant_id:
            open_grants.append(grant.grant_id)
        if step % 3 == 0 and open_grants:
            fleet.rate_limits.record_usage(open_grants.pop(0), True)
        elif step % 5 == 0 and open_grants:
            fleet.rate_limits.release(open_grants.pop())
        for window in (1, 2):
            kept, counted = rows(
                owner,
                "SELECT r.occupied[%s], (SELECT count(*) FROM fleet.rate_grants g WHERE g.settled_at IS NULL "
                "OR g.settled_at > fleet.now() - make_interval(secs => r.windows_s[%s])) "
                "FROM fleet.rate_limits r WHERE r.account = 'default' AND r.endpoint = 'search_tweets'",
                window,
                window,
            )[0]
            assert kept >= counted
    assert value(owner, "SELECT unsettled FROM fleet.rate_limits WHERE requests = 10") == len(open_grants)


def test_after_a_crash_what_may_be_forgotten_is_taken(fleet: Fleet, owner: Owner, console: Database) -> None:
    configure(console, "search_tweets", (3000, 3600))
    configure(console, "api_requests", (1_000_000, 900))
    spend(fleet)
    assert value(owner, "SELECT flush_every FROM fleet.rate_limits WHERE requests = 3000") == 30
    owner.execute("TRUNCATE fleet.rate_epoch")  # as a crash does
    spend(fleet)
    lost = "SELECT sum(units) FROM fleet.rate_grants WHERE worker_id = 'lost in a crash'"
    assert value(owner, lost) == 30
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").used == 32
    assert fleet.rate_limits.get_remaining_capacity("api_requests").used == 32
    spend(fleet)
    assert value(owner, lost) == 30
    assert value(owner, "SELECT relpersistence FROM pg_class WHERE relname = 'rate_epoch'") == "u"


def test_a_crash_of_the_server_loses_no_grant_of_a_small_limit_and_less_than_k_of_a_large_one(
    fleet_database: FleetDatabase, console: Database
) -> None:
    configure(console, "post_tweet", (5, 3600))
    configure(console, "search_tweets", (3000, 3600))
    before = fleet_database.connect("before")
    for endpoint in ("post_tweet", "search_tweets"):
        for _ in range(3):
            spend(before, endpoint)
    fleet_database.server.immediate_stop()
    try:
        before.close()
    finally:
        fleet_database.server.start()
    with fleet_database.connect("after") as after:
        spend(after, "post_tweet")
        assert after.rate_limits.get_remaining_capacity("post_tweet").used == 4
        # Its three were perhaps forgotten: nine are taken for them, a hundredth of what their pool has.
        assert after.rate_limits.get_remaining_capacity("search_tweets").used >= 9


def test_small_limits_are_flushed_each_time_and_large_ones_every_hundredth(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (301, 60))
    spend(fleet, "get_tweets")  # the first after a start is flushed
    spend(fleet)
    assert rows(owner, "SELECT flush_every, since_flush FROM fleet.rate_limits WHERE requests = 301") == [
        (3, 1)
    ]
    spend(fleet)
    spend(fleet)
    assert rows(owner, "SELECT flush_every, since_flush FROM fleet.rate_limits WHERE requests = 301") == [
        (3, 0)
    ]


def test_a_worker_adds_windows_and_a_person_replaces_them(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    fleet.rate_limits.configure("search_tweets", [(100, 1000), (10, 60)])
    held = (
        "SELECT requests || longer_requests, window_s || longer_window_s FROM fleet.rate_limits "
        "WHERE account = 'default' AND endpoint = 'search_tweets'"
    )
    assert rows(owner, held) == [([10, 100, 720, 17280], [60, 1000, 3600, 86400])]
    for windows, refused in (([(181, 900)], "181 in 900 s"), ([(10, 59)], "10 in 59 s")):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.rate_limits.configure("search_tweets", windows)
        assert_refused(refusal, "limit", refused)
    configure(console, "search_tweets", (500, 900))
    assert rows(owner, held) == [([500], [900])]


def test_without_the_window_check_the_never_above_test_would_fail(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (3, 60), (4, 600))
    with planted(
        owner,
        "weigh",
        ("ELSE one.limits[i] - one.occupied[i] END", "ELSE one.limits[1] - one.occupied[1] END"),
    ):
        for _ in range(3):
            spend(fleet)
        fleet_database.advance(61)
        for _ in range(3):
            spend(fleet)
    assert most_granted(owner, 600) == 6


def test_a_dead_workers_grant_counts_by_the_platforms_count_too(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (2, 60))
    victim = fleet_database.connect("dead")
    assert ask(victim).allowed
    spend(fleet)
    prove_dead(owner, "dead")
    assert not ask(fleet).allowed
    assert value(owner, "SELECT unsettled FROM fleet.rate_limits WHERE requests = 2") == 0
    fleet_database.advance(61)
    assert ask(fleet).allowed
    victim.close()


def test_the_sweep_frees_a_pool_of_what_a_dead_worker_took_at_an_endpoint_that_nobody_asks(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "api_requests", (1, 60))
    victim = fleet_database.connect("dead")
    assert ask(victim, "users_me").allowed
    prove_dead(owner, "dead")
    fleet_database.advance(3600)
    assert not ask(fleet).allowed
    fleet.retention.sweep("rate_grants", keep_s=0)
    assert not ask(fleet).allowed  # counted as used now
    fleet_database.advance(61)
    assert ask(fleet).allowed
    victim.close()


def test_a_swept_log_leaves_the_counts_right(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (2, 60))
    spend(fleet)
    spend(fleet)
    fleet_database.advance(3600)
    assert fleet.retention.sweep("rate_grants", keep_s=0) == 0  # a day must have passed
    fleet_database.advance(2 * 86400)
    assert fleet.retention.sweep("rate_grants", keep_s=0) == 2
    spend(fleet)
    spend(fleet)
    assert not ask(fleet).allowed
    assert value(owner, "SELECT occupied[1] FROM fleet.rate_limits WHERE requests = 2") == 2


def test_a_long_request_costs_what_one_request_costs(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    # Charged anew for as long as it is under way, never twice at a time.
    set_setting(console, "request_delay_s", 1, actor="me", reason="test")
    console.call(
        "configure_rate_windows", account="a", endpoint="search_tweets", windows=Json([[2400, 86_400]])
    )
    long = fleet.rate_limits.can_make_request("search_tweets", "w", account="a")
    granted = 0
    for _ in range(90):
        fleet_database.advance(40)
        one = fleet.rate_limits.can_make_request("search_tweets", "w", account="a")
        if one.allowed:
            granted += 1
            fleet.rate_limits.record_usage(str(one.grant_id), success=True)
    assert granted == 90
    fleet.rate_limits.record_usage(str(long.grant_id), success=True)
    assert fleet.rate_limits.can_make_request("search_tweets", "w", account="a").allowed


def test_a_pool_and_the_defaults_are_nothing_to_ask_for(fleet: Fleet) -> None:
    with pytest.raises(InvalidValueError, match="endpoint is 'api_tweets'"):
        fleet.rate_limits.can_make_request("api_tweets", "w", account="sandbox")
    for account in ("*", ""):
        with pytest.raises(InvalidValueError, match="account is"):
            fleet.rate_limits.can_make_request("post_tweet", "w", account=account)


def test_an_endpoint_that_is_configured_first_still_draws_on_its_pools(
    fleet: Fleet, console: Database
) -> None:
    console.call("configure_rate_windows", account="new", endpoint="post_tweet", windows=Json([[80, 900]]))
    assert fleet.rate_limits.can_make_request("post_tweet", "w", account="new").allowed
    assert fleet.rate_limits.get_remaining_capacity("api_tweets", "new").remaining == 49


def test_units_of_the_dead_that_are_settled_during_a_block_are_free_afterwards(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    console.call("configure_rate_windows", account="a", endpoint="search_tweets", windows=Json([[20, 900]]))
    set_setting(console, "quiet_time_s", 0, actor="me", reason="test")
    with fleet_database.connect("dying") as dying:
        for _ in range(5):
            assert dying.rate_limits.can_make_request("search_tweets", "w", "critical", "a").allowed
    blocked = fleet.rate_limits.can_make_request("search_tweets", "w", "critical", "a")
    told = {
        "x-rate-limit-limit": "20",
        "x-rate-limit-remaining": "0",
        "x-rate-limit-reset": str(int(time.time()) + 600),
    }
    fleet.rate_limits.record_usage(str(blocked.grant_id), success=False, response_headers=told, status=429)
    assert not fleet.rate_limits.can_make_request("search_tweets", "w", "critical", "a").allowed
    assert rows(
        owner,
        "SELECT unsettled, (SELECT count(*) FROM fleet.rate_grants WHERE settled_at IS NULL) "
        "FROM fleet.rate_limits WHERE account = 'a' AND endpoint = 'search_tweets'",
    ) == [(0, 0)]
