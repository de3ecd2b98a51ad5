"""Rate limits: never above N requests in any rolling window, by the platform's own count."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.database import Database, Json
from coordination.errors import InvalidValueError
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value
from tests.integration.coordination.told import ask, day_headers, headers, prove_dead, spend

N, WINDOW_S = 20, 60


def configure(console: Database, requests: int, window_s: int, endpoint: str = "search_tweets") -> None:
    console.call(
        "configure_rate_limit", account="default", endpoint=endpoint, requests=requests, window_s=window_s
    )


def _ask_and_settle(start: Callable[[], int], dsn: str, duration_s: float) -> int:
    granted = 0
    with connect(dsn, "asker") as fleet:
        start()
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            grant = fleet.rate_limits.can_make_request("search_tweets", f"asker/{os.getpid()}")
            if grant.grant_id is not None:
                granted += 1
                fleet.rate_limits.record_usage(grant.grant_id, True)
    return granted


def most_in_a_window(owner: Owner) -> int:
    """How many requests the platform may have counted in the fullest window that ends with a grant."""
    return value(
        owner,
        "SELECT max((SELECT count(*) FROM fleet.rate_grants o WHERE o.granted_at <= g.granted_at "
        "AND o.id <= g.id "
        "AND coalesce(o.settled_at, 'infinity') + make_interval(secs => %s) > g.granted_at)) "
        "FROM fleet.rate_grants g",
        WINDOW_S,
    )


def test_8_processes_never_get_more_than_n_in_any_rolling_window_and_hardly_less_i9(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    configure(console, N, WINDOW_S)
    fleet_database.advance(0, rate=60)
    granted = sum(together(_ask_and_settle, 8, fleet_database.dsn("worker"), 1.5))
    assert most_in_a_window(owner) == N
    span = value(owner, "SELECT extract(epoch FROM max(granted_at) - min(granted_at)) FROM fleet.rate_grants")
    assert granted > 0.6 * N * float(span) / WINDOW_S


def test_without_the_row_lock_the_test_above_would_fail(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    configure(console, N, WINDOW_S)
    fleet_database.advance(0, rate=200)
    unlocked = (
        "SELECT array_agg(r) INTO limits FROM fleet.rate_limits r "
        "WHERE r.account = take_units.account AND r.endpoint = take_units.endpoint;"
    )
    with planted(
        owner,
        "take_units",
        ("limits := fleet.lock_rate_rows(take_units.account, take_units.endpoint);", unlocked),
        (
            "prepaid := fleet.lock_prepaid(take_units.account, take_units.endpoint);\n    IF single",
            "IF single",
        ),
        ("INSERT INTO fleet.rate_grants", "PERFORM pg_sleep(0.02); INSERT INTO fleet.rate_grants"),
    ):
        together(_ask_and_settle, 8, fleet_database.dsn("worker"), 0.5)
    assert most_in_a_window(owner) > N


def _ask_for(start: Callable[[], int], dsn: str, number: int) -> int:
    with connect(dsn, "asker") as fleet:
        start()
        grants = [ask(fleet) for _ in range(number)]
    return len([grant for grant in grants if grant.allowed])


def test_nobody_is_refused_while_there_is_room_i13(fleet_database: FleetDatabase, console: Database) -> None:
    configure(console, 480, 3600)
    assert together(_ask_for, 6, fleet_database.dsn("worker"), 60) == [60] * 6


def test_a_limiter_that_refuses_whom_it_would_have_to_let_wait_would_be_seen(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    configure(console, 480, 3600)
    line = "limits := fleet.lock_rate_rows(take_units.account, take_units.endpoint);"
    busy = "RETURN jsonb_build_object('allowed', false, 'reason', 'busy', 'retry_after_seconds', 1);"
    impatient = f"IF NOT pg_try_advisory_xact_lock(1) THEN {busy} END IF; {line}"
    with planted(owner, "take_units", (line, impatient)):
        assert sum(together(_ask_for, 6, fleet_database.dsn("worker"), 60)) < 360


def test_a_unit_frees_one_window_after_its_request_was_settled(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, 1, WINDOW_S)
    grant = ask(fleet)
    assert grant.grant_id is not None
    fleet_database.advance(50)
    fleet.rate_limits.record_usage(grant.grant_id, True)
    fleet_database.advance(58)
    refused = ask(fleet)
    assert (refused.allowed, refused.grant_id) == (False, None)
    assert refused.reason == "1 of 1 requests of search_tweets used"
    assert refused.retry_after_seconds is not None
    assert 1 <= refused.retry_after_seconds <= 2
    fleet_database.advance(2)
    assert ask(fleet).allowed


def test_an_unsettled_grant_of_a_live_holder_occupies_its_unit_for_ever(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    set_setting(console, "quiet_time_s", 0, actor="me", reason="test")
    configure(console, 1, WINDOW_S)
    with fleet_database.connect("slow") as slow:
        assert ask(slow).allowed
        fleet_database.advance(3600)
        refused = ask(fleet)
        assert not refused.allowed
        assert refused.retry_after_seconds == 15


def test_a_dead_holders_grant_frees_after_the_quiet_time_and_a_window(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 1, WINDOW_S)
    victim = fleet_database.connect("dead")
    assert ask(victim).allowed
    prove_dead(owner, "dead", 100)
    fleet_database.advance(3600)
    assert ask(fleet).retry_after_seconds == 15
    assert value(owner, "SELECT settled_at FROM fleet.rate_grants") is None  # quiet time: real, 120 s
    prove_dead(owner, "dead", 121)
    refused = ask(fleet)  # counted as used at the last possible moment: now
    assert not refused.allowed
    assert refused.retry_after_seconds is not None
    assert 58 <= refused.retry_after_seconds <= WINDOW_S
    fleet_database.advance(WINDOW_S)
    assert ask(fleet).allowed
    victim.close()


def learned(owner: Owner) -> tuple[int | None, int]:
    return rows(
        owner,
        "SELECT header_limit, header_used FROM fleet.rate_limits "
        "WHERE account = 'default' AND kind = 'endpoint'",
    )[0]


def test_headers_lower_the_limit_at_once_and_count_what_others_use(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    spend(fleet, response_headers=headers(owner, 50, 40))
    capacity = fleet.rate_limits.get_remaining_capacity("search_tweets")
    assert (capacity.limit, capacity.used, capacity.remaining) == (50, 10, 40)
    assert ask(fleet).allowed  # unsettled: counts on top of what the headers say
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").used == 11


def test_within_an_epoch_the_use_only_rises_whatever_order_answers_come_in(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    now, late = headers(owner, 50, 30), headers(owner, 50, 35)
    now["x-rate-limit-reset"] = late["x-rate-limit-reset"] = str(int(late["x-rate-limit-reset"]) + 5)
    spend(fleet, response_headers=now)
    spend(fleet, response_headers=late)
    assert learned(owner) == (50, 20)
    older = headers(owner, 80, 79, reset_in_s=5)
    spend(fleet, response_headers=older)  # an answer of the epoch before
    assert learned(owner) == (50, 20)
    newer = headers(owner, 50, 49, reset_in_s=900)
    spend(fleet, response_headers=newer)
    assert learned(owner) == (50, 1)
    fleet_database.advance(1600)  # the epoch is over: its count says nothing any more, our own does
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").used == 0


def test_headers_out_of_range_teach_nothing(fleet: Fleet, owner: Owner, console: Database) -> None:
    configure(console, 100, 900)
    answer = {name.lower(): text for name, text in headers(owner, 50, 40).items()}
    for change in (
        {"x-rate-limit-limit": "many"},
        {"x-rate-limit-limit": "0"},
        {"x-rate-limit-limit": "99999999999999999999"},
        {"x-rate-limit-remaining": "-3"},
        {"x-rate-limit-remaining": "51"},
        {"x-rate-limit-remaining": "1.5"},
        {"x-rate-limit-reset": "soon"},
        {"x-rate-limit-reset": "99999999999"},
        {"date": "yesterday-ish", "x-rate-limit-reset": "12"},
        {"date": "infinity"},
        {"x-rate-limit-limit": ""},
    ):
        spend(fleet, response_headers={**answer, **change})
        assert learned(owner) == (None, 0), change


def test_a_settled_request_without_headers_counts_as_one_more(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    spend(fleet, response_headers=headers(owner, 50, 40))
    spend(fleet)
    spend(fleet, response_headers={"x-rate-limit-limit": "garbage"})
    assert learned(owner) == (50, 12)


def test_remaining_0_closes_the_endpoint_until_the_reset_relative_to_the_answers_own_date(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    spend(fleet, response_headers=headers(owner, 50, 0, reset_in_s=300))
    refused = ask(fleet)
    assert not refused.allowed
    assert refused.retry_after_seconds is not None
    assert 297 <= refused.retry_after_seconds <= 300
    fleet_database.advance(301)
    assert ask(fleet).allowed


def test_a_429_closes_the_endpoint_until_its_reset_and_an_older_one_shortens_nothing(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    first, second = ask(fleet), ask(fleet)
    assert first.grant_id is not None
    assert second.grant_id is not None
    fleet.rate_limits.record_usage(first.grant_id, False, headers(owner, 50, 0, reset_in_s=300), status=429)
    fleet.rate_limits.record_usage(second.grant_id, False, headers(owner, 50, 0, reset_in_s=10), status=429)
    refused = ask(fleet)
    assert refused.reason == "the platform refused an earlier request"
    assert refused.retry_after_seconds is not None
    assert 297 <= refused.retry_after_seconds <= 300
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'rate_limit'") == 2
    fleet_database.advance(301)
    assert ask(fleet).allowed


def test_a_429_without_headers_closes_the_endpoint_for_a_window(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, 100, 900)
    grant = ask(fleet)
    assert grant.grant_id is not None
    fleet.rate_limits.record_usage(grant.grant_id, False, status=429)
    refused = ask(fleet)
    assert refused.retry_after_seconds is not None
    assert 898 <= refused.retry_after_seconds <= 900
    fleet_database.advance(901)
    assert ask(fleet).allowed


def violate(fleet: Fleet, **answer: Any) -> float:
    """Have a request refused with 429; give how long the endpoint is closed."""
    grant = ask(fleet)
    assert grant.grant_id is not None, grant
    fleet.rate_limits.record_usage(grant.grant_id, False, status=429, **answer)
    closed_s = ask(fleet).retry_after_seconds
    assert closed_s is not None
    return closed_s


def test_repeated_refusals_close_for_longer_and_alert_and_a_success_ends_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    alerts = "SELECT count(*) FROM fleet.alerts WHERE kind = 'rate_limit' AND cleared_at IS NULL"
    for expected_s, alerted in ((900, 0), (1800, 1), (3600, 1)):
        assert expected_s - 5 <= violate(fleet) <= expected_s
        assert value(owner, alerts) == alerted
        fleet_database.advance(expected_s)
    spend(fleet)
    assert value(owner, alerts) == 0
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'rate_limit_recovered'") == 1
    fleet_database.advance(1)
    assert 895 <= violate(fleet) <= 900


def test_requests_under_way_at_a_refusal_are_one_refusal_with_it(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    grants = [ask(fleet).grant_id for _ in range(5)]
    for grant in grants:
        assert grant is not None
        fleet.rate_limits.record_usage(grant, False, status=429)
    assert rows(owner, "SELECT violations, refusals_in_row FROM fleet.rate_limits WHERE requests = 100") == [
        (5, 1)
    ]
    assert (ask(fleet).retry_after_seconds or 0) <= 900


def test_a_429_while_the_window_has_room_is_a_usage_cap_and_no_reset_lifts_it(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    assert 3595 <= violate(fleet, response_headers=headers(owner, 100, 90, reset_in_s=300)) <= 3600


def test_a_limit_is_raised_when_two_epochs_told_the_same(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    def limit() -> int:
        return fleet.rate_limits.get_remaining_capacity("search_tweets").limit

    first = headers(owner, 300, 299, reset_in_s=600)
    spend(fleet, response_headers=first)
    spend(fleet, response_headers={**first, "x-rate-limit-remaining": "298"})
    assert limit() == 180
    fleet_database.advance(601)
    spend(fleet, response_headers=headers(owner, 450, 449, reset_in_s=750))
    assert limit() == 180  # another figure: it begins anew
    fleet_database.advance(601)
    spend(fleet, response_headers=headers(owner, 450, 449, reset_in_s=900))
    assert limit() == 300  # the platform's own figure bounds it
    spend(fleet, response_headers=headers(owner, 20, 10, reset_in_s=900))
    assert limit() == 20


def test_an_answer_of_an_epoch_that_is_over_says_nothing(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    old = headers(owner, 100, 40, reset_in_s=600)
    spend(fleet, response_headers=old)
    fleet_database.advance(300)
    spend(fleet, response_headers=headers(owner, 100, 99, reset_in_s=900))  # an early reset
    spend(fleet, response_headers=old)
    assert learned(owner) == (100, 1)


def test_the_24_hour_headers_close_the_day(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    console.call(
        "configure_rate_windows",
        account="default",
        endpoint="search_tweets",
        windows=Json([[100, 900], [2000, 86400]]),
    )
    spend(fleet, response_headers=day_headers(owner, "user", 1000, 400, 7200))
    day = fleet.rate_limits.get_remaining_capacity("search_tweets").per_day
    assert day is not None
    assert day.remaining == 400
    spend(fleet, response_headers=day_headers(owner, "app", 40, 1, 7200))
    assert ask(fleet).allowed
    refused = ask(fleet)
    assert refused.retry_after_seconds is not None
    assert 7190 <= refused.retry_after_seconds <= 7200
    fleet_database.advance(7201)
    assert ask(fleet).allowed


def test_two_apps_of_one_user_agree_within_one_answer(fleet: Fleet, owner: Owner, console: Database) -> None:
    configure(console, 100, 900)
    spend(fleet, response_headers=headers(owner, 40, 1))  # another app used 38
    assert ask(fleet).allowed
    assert not ask(fleet).allowed


def test_measures_say_how_well_a_limit_is_used(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, 4, 60)
    stands_still = 1e-6  # the first three are one moment's, however long the machine takes for them
    fleet_database.advance(0, rate=stands_still)
    for _ in range(3):
        spend(fleet)
    fleet_database.advance(1, rate=stands_still)
    spend(fleet)
    refused = ask(fleet)
    assert refused.retry_after_seconds is not None
    fleet_database.advance(refused.retry_after_seconds, rate=stands_still)
    violate(fleet)
    (measures,) = fleet.rate_limits.get_measures()
    assert {name: measures[name] for name in ("endpoint", "granted", "refused", "errors", "waited")} == {
        "endpoint": "search_tweets",
        "granted": 5,
        "refused": 2,
        "errors": 1,
        "waited": 1,
    }
    assert measures["granted_at_once_percent"] == 80
    assert measures["efficiency_percent"] == 50
    assert measures["requests_per_minute"] == 2
    assert 58 <= float(str(measures["longest_wait_s"])) <= 60


def test_the_status_tells_when_a_limit_will_be_full_at_this_pace_and_who_asks(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    with fleet_database.connect("other") as other:
        for _ in range(25):
            spend(fleet)
            spend(other)
    status = next(one for one in fleet.rate_limits.get_system_status() if one["endpoint"] == "search_tweets")
    assert (status["active_workers"], status["utilization_percent"], status["health"]) == (2, 50, "healthy")
    # 50 in the last 300 s: the other 50 take as long.
    full_in_s = value(
        owner, "SELECT extract(epoch FROM %s::timestamptz - fleet.now())", str(status["predicted_full_at"])
    )
    assert 290 <= float(full_in_s) <= 300
    fleet_database.advance(400)
    status = next(one for one in fleet.rate_limits.get_system_status() if one["endpoint"] == "search_tweets")
    assert status["predicted_full_at"] is None


def test_a_worker_tightens_a_limit_and_never_loosens_it(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    fleet.rate_limits.configure("post_tweet", [(10, 900)])
    fleet.rate_limits.configure("post_tweet", [(10, 1800)])
    for window in ((11, 1800), (10, 1799), (50, 900)):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.rate_limits.configure("post_tweet", [window])
        assert_refused(refusal, "limit", f"{window[0]} in {window[1]} s")
    configure(console, 60, 900, "post_tweet")  # a person may
    assert rows(
        owner,
        "SELECT requests, window_s FROM fleet.rate_limits WHERE account = 'default' AND kind = 'endpoint'",
    ) == [(60, 900)]


def test_a_longer_window_keeps_past_requests_for_longer(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, 1, 60)
    spend(fleet)
    configure(console, 1, 600)
    fleet_database.advance(500)
    assert not ask(fleet).allowed
    fleet_database.advance(101)
    assert ask(fleet).allowed


def test_crossing_80_95_and_100_percent_is_an_event_each(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, N, WINDOW_S)
    crossed: list[int] = []
    marks: list[Any] = []
    health: list[str] = []
    for used in range(1, N + 1):
        assert ask(fleet).allowed
        marks = rows(owner, "SELECT data->>'percent' FROM fleet.events WHERE kind = 'rate_limit' ORDER BY id")
        crossed += [used] * (len(marks) - len(crossed))
        health.append(str(fleet.rate_limits.get_system_status()[0]["health"]))
    assert crossed == [16, 19, 20]
    assert [mark for (mark,) in marks] == ["80", "95", "100"]
    assert health == ["healthy"] * 15 + ["warning"] * 4 + ["critical"]  # 95% itself is still a warning


def test_a_grant_belongs_to_its_incarnation_and_is_settled_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, 100, 900)
    grant = ask(fleet)
    assert grant.grant_id is not None
    with fleet_database.connect("other") as other:
        for foreign in (grant.grant_id, "999999999"):
            with pytest.raises(InvalidValueError) as refusal:
                other.rate_limits.record_usage(foreign, True)
            assert_refused(refusal, "grant_id", foreign)
    fleet.rate_limits.record_usage(grant.grant_id, True)
    fleet.rate_limits.record_usage(grant.grant_id, False, headers(owner, 50, 0), status=429)
    assert learned(owner) == (None, 0)
    assert ask(fleet).allowed


def test_an_unknown_endpoint_is_refused_with_the_known_ones(fleet: Fleet) -> None:
    with pytest.raises(
        InvalidValueError, match=r"fetch_mentions, .*post_tweet.*configure_rate_limit"
    ) as refusal:
        ask(fleet, "retweet")
    assert_refused(refusal, "endpoint", "retweet")
    with pytest.raises(InvalidValueError) as refusal:
        fleet.rate_limits.get_remaining_capacity("retweet")
    assert_refused(refusal, "endpoint", "retweet")


def test_bad_limits_are_refused_by_name(fleet: Fleet) -> None:
    set_limit: Any = fleet.rate_limits.configure
    for windows, field, given in (
        ([(0, 900)], "limit", "0"),
        ([(1_000_000_001, 900)], "limit", "1000000001"),
        ([(10, 0)], "window_s", "0"),
        ([(10, 604801)], "window_s", "604801"),
        ([(None, 900)], "limit", None),
        ([], "windows", "[]"),
        ([(1, 1), (2, 1)], "windows", "[[1, 1], [2, 1]]"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            set_limit("search_tweets", windows)
        assert_refused(refusal, field, given)
    with pytest.raises(InvalidValueError, match="priority"):
        fleet.rate_limits.can_make_request("search_tweets", "w", "urgent")  # pyright: ignore[reportArgumentType]


def test_an_accounts_limits_are_its_own(fleet: Fleet, console: Database) -> None:
    configure(console, 1, 900)
    assert ask(fleet).allowed
    assert not ask(fleet).allowed
    assert fleet.rate_limits.can_make_request("search_tweets", "w", account="sandbox").allowed
    assert fleet.rate_limits.get_remaining_capacity("search_tweets", "sandbox").limit == 180
