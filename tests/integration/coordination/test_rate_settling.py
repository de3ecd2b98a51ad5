"""Whose grants end without a word, and what it costs to give one back or to ask a pool that is full."""

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, value
from tests.integration.coordination.told import ask, granted, lose_session, prove_dead, spend


@pytest.mark.parametrize("swept", [False, True])
def test_a_holder_that_only_lost_its_session_keeps_its_unit(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database, swept: bool
) -> None:
    configure(console, "search_tweets", (1, 60))
    stopped = fleet_database.connect("stopped")
    granted(stopped)
    lose_session(owner, "stopped")
    if swept:
        owner.execute("SELECT fleet.close_silent_incarnations(%s, 0)", (fleet.incarnation.id,))
        assert value(owner, "SELECT ended_at IS NOT NULL FROM fleet.incarnations WHERE worker = 'stopped'")
    for _ in range(2):
        assert not ask(fleet).allowed
        fleet_database.advance(3600)
    prove_dead(owner, "stopped")
    assert not ask(fleet).allowed
    fleet_database.advance(61)
    assert ask(fleet).allowed
    stopped.close()


def test_the_quiet_time_is_that_since_the_death_not_that_since_the_grant(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (1, 60))
    dying = fleet_database.connect("dying")
    granted(dying)
    lose_session(owner, "dying", 500)
    prove_dead(owner, "dying", 10)
    for _ in range(2):
        assert not ask(fleet).allowed
        fleet_database.advance(61)
    dying.close()


@pytest.mark.parametrize(
    "how", ["it closed its life", "it closed it and said nothing", "its process goes on as another life"]
)
def test_a_process_that_reports_its_life_over_frees_what_that_held(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database, how: str
) -> None:
    set_setting(console, "quiet_time_s", 0, actor="me", reason="test")
    configure(console, "search_tweets", (1, 60))
    first = fleet_database.connect("goes-on")
    granted(first)
    if how == "it closed its life":
        first.close()
    elif how == "it closed it and said nothing":
        first.session.call("close_incarnation", reason=None)
        first.close()
    else:
        lose_session(owner, "goes-on", 0)
        assert not ask(fleet).allowed
        fleet_database.advance(61)
        assert not ask(fleet).allowed
        fleet_database.connect("goes-on").close()
        first.close()
    assert not ask(fleet).allowed  # counted as used now
    fleet_database.advance(61)
    assert ask(fleet).allowed


def log(owner: Owner, endpoint: str, requests: int, over_s: float) -> None:
    """So many requests, settled evenly in the time before now."""
    owner.execute(
        "INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, "
        "granted_real_at, settled_at, success, frees_at) SELECT 'default', %s, gen_random_uuid(), 'old', "
        "'medium', t, clock_timestamp(), t, true, t + interval '1 day' "
        "FROM generate_series(1, %s::integer) n, "
        "LATERAL (SELECT fleet.now() - make_interval(secs => %s::float8 * n / %s) AS t) l",
        (endpoint, requests, over_s, requests),
    )
    owner.execute("ANALYZE fleet.rate_grants")


READ = (
    "SELECT pg_stat_get_xact_tuples_returned('fleet.rate_grants'::regclass) "
    "+ pg_stat_get_xact_tuples_fetched('fleet.rate_grants'::regclass)"
)


def test_a_unit_given_back_costs_no_look_at_the_whole_window(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (20_000, 86_400))
    log(owner, "search_tweets", 5000, 80_000)
    grant = granted(fleet)
    with owner.transaction():
        assert value(owner, "SELECT fleet.drop_grant(%s)", int(grant))
        assert value(owner, READ) < 100


def test_a_unit_given_back_under_gcra_gives_no_more_than_what_is_free(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (1000, 3600))
    first = granted(fleet)
    for _ in range(4):
        fleet_database.advance(1.5)  # less than the spacing: it is busy all the time
        spend(fleet)
    assert fleet.rate_limits.release(first)
    # As if it had never been: not before what the others' own grants make of it.
    least = (
        "SELECT r.tat[1] >= max(g.at + g.later * (r.spacing_us[1] * interval '1 microsecond')) "
        "FROM fleet.rate_limits r, (SELECT granted_at AS at, "
        "count(*) OVER (ORDER BY granted_at DESC) AS later FROM fleet.rate_grants) g "
        "WHERE r.requests = 1000 GROUP BY r.tat, r.spacing_us"
    )
    assert value(owner, least)


def test_a_full_pool_is_counted_once_a_second_not_at_every_ask(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "api_requests", (900, 900))
    configure(console, "search_tweets", (5000, 900))
    ask(fleet)
    log(owner, "search_tweets", 900, 800)
    owner.execute("UPDATE fleet.rate_limits SET occupied = '{}', refreshed_at = '-infinity'")
    read: list[int] = []
    with owner.transaction():
        for _ in range(6):
            before = int(value(owner, READ))
            answer = value(
                owner, "SELECT fleet.can_make_request(%s, 'search_tweets', 'w')", fleet.incarnation.id
            )
            assert not answer["allowed"]
            read.append(int(value(owner, READ)) - before)
    assert min(read[1:]) < 100
