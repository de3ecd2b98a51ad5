"""Who may set which windows, and what is refused by name."""

from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any, LiteralString

import psycopg
import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import InvalidValueError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, assert_refused, rows, value
from tests.integration.coordination.told import granted

HELD = (
    "SELECT requests || longer_requests, window_s || longer_window_s FROM fleet.rate_limits "
    "WHERE account = 'default' AND endpoint = %s"
)


@pytest.mark.parametrize(
    ("windows", "field", "given"),
    [
        ([(1.5, 900)], "limit", "1.5"),
        ([("10", 900)], "limit", "10"),
        ([("many", 900)], "limit", "many"),
        ([(float("nan"), 900)], "limit", "nan"),
        ([(10**30, 900)], "limit", "1" + "0" * 30),
        ([(True, 900)], "limit", "true"),
        ([(10, 59.5)], "window_s", "59.5"),
        ([(10, "NaN")], "window_s", "NaN"),
        ([(10, -(10**12))], "window_s", "-1000000000000"),
        ([(10,)], "windows", "[[10]]"),
        ([(10, 900, 1)], "windows", "[[10, 900, 1]]"),
    ],
)
def test_a_number_that_is_none_is_refused_by_name(fleet: Fleet, windows: Any, field: str, given: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.rate_limits.configure("search_tweets", windows)
    assert_refused(refusal, field, given)


def test_an_endpoint_has_8_windows_at_most_those_that_a_worker_adds_included(
    fleet: Fleet, console: Database
) -> None:
    configure(console, "search_tweets", *((10 * n, 60 * n) for n in range(1, 9)))
    with pytest.raises(InvalidValueError) as refusal:
        fleet.rate_limits.configure("search_tweets", [(9, 59)])
    assert_refused(refusal, "windows", "[[9, 59]]")
    assert "at most 8" in refusal.value.allowed
    with pytest.raises(InvalidValueError, match="1 to 8 pairs"):
        configure(console, "search_tweets", *((10, 60 * n) for n in range(1, 10)))


def test_what_all_accounts_begin_with_is_a_persons_to_set(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    defaults = "SELECT requests FROM fleet.rate_limits WHERE account = '*' AND endpoint = 'users_me'"
    for windows in ([(1, 900)], [(1, 604800)]):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.rate_limits.configure("users_me", windows, account="*")
        assert_refused(refusal, "account", "*")
    assert value(owner, defaults) == 30
    console.call("configure_rate_limit", account="*", endpoint="users_me", requests=29, window_s=900)
    try:
        assert value(owner, defaults) == 29
    finally:
        console.call("configure_rate_limit", account="*", endpoint="users_me", requests=30, window_s=900)
        owner.execute("UPDATE fleet.rate_limits SET most_requests = '{75}' WHERE endpoint = 'users_me'")


def test_of_two_workers_that_set_windows_at_once_both_tighten(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    with psycopg.connect(fleet_database.dsn("worker")) as first:
        first.execute("SELECT fleet.configure_rate_windows('default', 'brand_new', '[[5, 60]]')")
        second = Thread(target=fleet.rate_limits.configure, args=("brand_new", [(10, 600)]))
        second.start()
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'configure_'"
        )
        until(lambda: value(owner, waits) == 1, 5)
    second.join()
    assert rows(owner, HELD, "brand_new") == [([5, 10], [60, 600])]


def test_a_pool_that_is_set_and_an_endpoints_first_request_do_not_wait_in_a_circle(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    granted(fleet, "search_tweets")  # the pool of all is there, the row of the other endpoint is not
    waiting: LiteralString = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool, psycopg.connect(fleet_database.superuser_dsn) as busy:
        busy.execute("SELECT FROM fleet.rate_limits WHERE account = 'default' AND kind = 'pool' FOR UPDATE")
        first = pool.submit(granted, fleet, "fetch_mentions")
        until(lambda: value(owner, waiting) == 1, 10)
        configured = pool.submit(configure, console, "api_requests", (800, 900))
        until(lambda: value(owner, waiting) == 2, 10)
        busy.commit()
        first.result()
        configured.result()


@pytest.mark.parametrize("account", [None, ""])
def test_an_account_that_can_be_none_has_no_limits(fleet: Fleet, account: str | None) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("return_lost_grant", endpoint="search_tweets", account=account, ticket=None)
    assert_refused(refusal, "account", account)
