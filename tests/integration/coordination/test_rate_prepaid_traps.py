"""Prepaid units and token leases among all else that counts, locks and is lost: what may break them."""

import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, LiteralString

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.database import Database, Json
from coordination.errors import (
    DatabaseBusyError,
    DatabaseUnavailableError,
    InvalidValueError,
)
from coordination.rate_limits import RateLimits
from coordination.session import Session
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, planted, rows, value
from tests.integration.coordination.test_rate_lost_answers import SOON, Unlucky
from tests.integration.coordination.told import ask, day_headers, granted, headers, spend

LIMIT, WINDOW_S = 10_000, 60
ROUNDS = 3000
"""Of each thread: about 8 s, in which a circle would be met, and broken by a lock's time-out."""
LEFT = "SELECT coalesce(sum(units), 0) FROM fleet.rate_prepaid"
LIKES = "SELECT {} FROM fleet.rate_limits WHERE account = 'default' AND endpoint = 'like_tweet'"
POOL = "SELECT occupied[1] FROM fleet.rate_limits WHERE account = 'default' AND endpoint = 'api_requests'"
ENDED = "UPDATE fleet.rate_prepaid SET paid_real_at = clock_timestamp() - interval '1 hour'"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@pytest.fixture(autouse=True)
def much_room(console: Database) -> None:
    configure(console, "like_tweet", (LIMIT, WINDOW_S))
    configure(console, "api_requests", (1_000_000, 900))


@pytest.fixture
def unlucky(fleet_database: FleetDatabase) -> Iterator[Unlucky]:
    database = Unlucky(fleet_database.dsn("worker"), name="unlucky")
    yield database
    database.close()


def many(fleet: Fleet, number: int = 40, endpoint: str = "like_tweet") -> list[str]:
    return [granted(fleet, endpoint) for _ in range(number)]


def test_a_lease_that_is_renewed_is_in_no_circle_with_who_decides(
    fleet: Fleet, fleet_database: FleetDatabase, owner: Owner
) -> None:
    many(fleet)
    lease = fleet.session.call("lease_requests", endpoint="like_tweet", worker_id="w/1", most=20)
    owner.execute(ENDED)
    troubles: list[BaseException] = []

    def call(name: LiteralString, **arguments: Any) -> None:
        database = fleet_database.database("worker")
        try:
            Session(database, fleet.incarnation.id).call(name, **arguments)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits for it
            troubles.append(error)
        finally:
            database.close()

    decides = threading.Thread(
        target=call, args=("can_make_request",), kwargs={"endpoint": "like_tweet", "worker_id": "w/2"}
    )
    renews = threading.Thread(
        target=call,
        args=("lease_requests",),
        kwargs={
            "endpoint": "like_tweet",
            "worker_id": "w/1",
            "most": 20,
            "former": int(lease["grant_id"]),
            "used": lease["units"],
        },
    )
    with psycopg.connect(fleet_database.superuser_dsn) as pool:
        pool.execute(
            "SELECT 1 FROM fleet.rate_limits WHERE account = 'default' AND endpoint = 'api_requests' "
            "FOR UPDATE"
        )
        decides.start()
        until(lambda: value(owner, WAITING) == 1, 20)
        renews.start()
        until(lambda: value(owner, WAITING) == 2, 20)
    decides.join()
    renews.join()
    assert troubles == []


def test_leases_and_grants_of_many_wait_for_each_other_in_no_circle(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    troubles: list[Exception] = []
    rounds = [0, 0, 0, 0]
    stop = threading.Event()

    def go_round(me: int, one: Callable[[RateLimits], AbstractContextManager[Callable[[], None]]]) -> None:
        database = fleet_database.database("worker")
        try:
            with one(RateLimits(Session(database, fleet.incarnation.id))) as once:
                while not stop.is_set():
                    once()
                    rounds[me] += 1
        except Exception as error:  # noqa: BLE001  whatever ends it: DatabaseBusyError is a circle
            troubles.append(error)
        finally:
            database.close()

    @contextmanager
    def leases(limits: RateLimits) -> Generator[Callable[[], None]]:
        with limits.leasing("like_tweet", "w/1", most=3) as tokens:
            yield lambda: tokens.answered(tokens.take())

    @contextmanager
    def asks(limits: RateLimits) -> Generator[Callable[[], None]]:
        def once() -> None:
            grant = limits.can_make_request("like_tweet", "w/2")
            if grant.grant_id:
                limits.record_usage(grant.grant_id, True)

        yield once

    threads = [
        threading.Thread(target=go_round, args=(me, one))
        for me, one in enumerate((leases, leases, asks, asks))
    ]
    for thread in threads:
        thread.start()
    try:
        until(lambda: bool(troubles) or min(rounds) >= ROUNDS, 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert troubles == [], rounds


OTHERS = ("like_tweet", "get_tweets", "user_tweets", "search_tweets", "fetch_mentions")


def test_units_prepaid_of_an_endpoint_that_nobody_asks_any_more_go_back_to_its_pool_i13(
    fleet: Fleet, owner: Owner, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "api_requests", (LIMIT, WINDOW_S))
    for endpoint in OTHERS:
        configure(console, endpoint, (LIMIT, WINDOW_S))
        for grant in many(fleet, 130, endpoint):
            fleet.rate_limits.record_usage(grant, True)
    configure(console, "users_me", (LIMIT, WINDOW_S))
    owner.execute(ENDED)
    fleet_database.advance(86_400)  # nothing of all that is in any window
    left = value(owner, LEFT)
    console.call(
        "configure_rate_windows",
        account="default",
        endpoint="api_requests",
        windows=Json([[LIMIT, WINDOW_S]]),
        fair_share=None,
    )
    quota = fleet.session.call(
        "reserve_api_quota", worker_id="w/9", operation_type="users_me", estimated_requests=LIMIT
    )
    assert quota["granted"], (left, quota)


def test_units_that_nobody_comes_for_don_t_close_a_pool_that_is_spread(
    fleet: Fleet, owner: Owner, console: Database, fleet_database: FleetDatabase
) -> None:
    day = (100_000, 86_400)
    configure(console, "api_requests", day)
    configure(console, "users_me", day)
    paid_now = "UPDATE fleet.rate_prepaid SET paid_real_at = clock_timestamp()"
    for endpoint in (*OTHERS, "more", "still_more", "even_more"):
        configure(console, endpoint, day)
        for _ in range(3):
            spend(fleet, endpoint)
        # As the last second's demand had been: a batch of some hundred was used up.
        owner.execute("UPDATE fleet.rate_prepaid SET units = 0, batch = 400 WHERE endpoint = %s", (endpoint,))
        fleet_database.advance(1)
        owner.execute(paid_now)  # a move of time ends what is prepaid; here it passes
        spend(fleet, endpoint)
        fleet_database.advance(3600)  # what it was charged passes
        owner.execute(paid_now)
    left = value(owner, LEFT)
    owner.execute(ENDED)
    fleet_database.advance(2 * 86_400)
    granted(fleet, "users_me")  # its answer is late
    before = fleet.rate_limits.can_make_request("users_me", "w/1").allowed
    fleet_database.advance(8)
    owner.execute(ENDED)
    after = fleet.rate_limits.can_make_request("users_me", "w/1")
    assert before
    assert left > 1000
    assert after.allowed, (left, after)


def test_what_goes_back_when_a_refusal_closes_the_endpoint_goes_back_to_its_pool_too(
    fleet: Fleet, owner: Owner
) -> None:
    grants = many(fleet)
    left = value(owner, LEFT)
    fleet.rate_limits.record_usage(grants[0], False, status=429)
    assert not ask(fleet, "like_tweet").allowed
    assert value(owner, LEFT) == 0
    assert (value(owner, LIKES.format("occupied[1]")), value(owner, POOL)) == (40, 40), left


@pytest.mark.parametrize("field", ["worker_id", "priority"])
def test_a_null_is_refused_by_name_where_units_are_prepaid_too(
    fleet: Fleet, owner: Owner, field: str
) -> None:
    many(fleet)
    assert value(owner, LEFT) > 0
    asked: dict[str, object] = {"endpoint": "like_tweet", "worker_id": "w/1", "priority": "low", field: None}
    with pytest.raises(InvalidValueError, match=field):
        fleet.session.call("can_make_request", **asked)  # pyright: ignore[reportArgumentType]


def test_a_lease_of_one_where_units_are_prepaid(fleet: Fleet, owner: Owner) -> None:
    many(fleet)
    assert value(owner, LEFT) > 0
    with fleet.rate_limits.leasing("like_tweet", "w/1", most=1) as tokens:
        assert tokens.take().allowed


def test_a_lease_that_met_a_busy_row_is_ended_before_the_next(
    unlucky: Unlucky, fleet: Fleet, owner: Owner, fleet_database: FleetDatabase
) -> None:
    limits = RateLimits(Session(unlucky, fleet.incarnation.id))
    tokens = limits.leasing("like_tweet", "w/1", most=2)
    for _ in range(2):
        tokens.answered(tokens.take())
    with psycopg.connect(fleet_database.superuser_dsn) as busy:
        busy.execute("SELECT 1 FROM fleet.rate_limits WHERE endpoint = 'like_tweet' FOR UPDATE")
        with planted(owner, "lease_requests", SOON), pytest.raises(DatabaseBusyError):
            tokens.take()
    tokens.answered(tokens.take())
    tokens.close()
    assert value(owner, "SELECT count(*) FROM fleet.rate_grants WHERE settled_at IS NULL") == 0


def test_a_lost_grant_that_is_still_under_way_is_waited_for(
    fleet: Fleet, owner: Owner, fleet_database: FleetDatabase
) -> None:
    many(fleet)
    assert value(owner, LEFT) > 0
    ticket = "00000000-0000-4000-8000-000000000001"
    answers: list[object] = []

    def give_back() -> None:
        database = fleet_database.database("worker")
        answers.append(
            Session(database, fleet.incarnation.id).call(
                "return_lost_grant", endpoint="like_tweet", account="default", ticket=ticket
            )
        )
        database.close()

    gives = threading.Thread(target=give_back)
    with psycopg.connect(fleet_database.superuser_dsn) as slow:
        slow.execute(
            "SELECT fleet.can_make_request(%s, 'like_tweet', 'w/1', 'medium', 'default', %s)",
            (fleet.incarnation.id, ticket),
        )
        gives.start()
        until(lambda: bool(answers) or value(owner, WAITING) == 1, 20)
    gives.join()
    assert answers == [{"released": True}]
    assert rows(owner, "SELECT 1 FROM fleet.rate_grants WHERE ticket = %s", ticket) == []


# --- who says no, or less ---------------------------------------------------------------------------------


def test_the_platform_s_count_of_a_day_comes_before_what_was_prepaid(fleet: Fleet, owner: Owner) -> None:
    grants = many(fleet)
    assert value(owner, LEFT) > 0
    told = day_headers(owner, "user", 1000, 0, 3600)
    told = {name: text for name, text in told.items() if "x-rate-limit" not in name.lower()}
    fleet.rate_limits.record_usage(grants[0], True, told, status=200)
    assert not ask(fleet, "like_tweet").allowed


def test_what_is_kept_for_critical_requests_is_kept_though_they_were_drawn(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "like_tweet", (1200, 900))

    def life(prepaying: bool) -> int:
        owner.execute(
            "DELETE FROM fleet.rate_grants; DELETE FROM fleet.rate_demands; DELETE FROM fleet.rate_prepaid; "
            "DELETE FROM fleet.rate_limits WHERE account = 'default'"
        )
        configure(console, "like_tweet", (1200, 900))
        configure(console, "api_requests", (1_000_000, 900))
        drawn = 0
        for _ in range(300):
            # Asked for where a unit is prepaid, as most requests are where many ask.
            critical = (value(owner, LEFT) > 0) if prepaying else True
            if critical and drawn < 20:
                owner.execute("UPDATE fleet.rate_prepaid SET paid_real_at = clock_timestamp()")
                assert fleet.rate_limits.can_make_request("like_tweet", "urgent", "critical").allowed
                drawn += 1
            fleet.rate_limits.can_make_request("like_tweet", "w/1", "medium")
        assert drawn == 20
        while fleet.rate_limits.can_make_request("like_tweet", "w/1", "medium").allowed:
            pass
        return sum(
            fleet.rate_limits.can_make_request("like_tweet", "urgent", "critical").allowed for _ in range(80)
        )

    with planted(owner, "most_prepaid", ("(one).flush_every > 10", "(one).flush_every > 1000000000")):
        kept = life(prepaying=False)
    assert kept == 80
    assert life(prepaying=True) == 80


def test_a_booking_is_used_by_the_request_that_it_is_for(fleet: Fleet, owner: Owner) -> None:
    many(fleet)
    assert value(owner, LEFT) > 0
    fleet.rate_limits.schedule_request("like_tweet", "w/1")
    assert fleet.rate_limits.can_make_request("like_tweet", "w/1").allowed
    assert rows(owner, "SELECT worker_id FROM fleet.rate_demands WHERE booked") == []


def test_a_refusal_that_a_lease_s_request_met_closes_the_endpoint(fleet: Fleet, owner: Owner) -> None:
    spoiled = granted(fleet, "like_tweet")
    late = granted(fleet, "like_tweet")
    fleet.rate_limits.record_usage(spoiled, False, status=429)
    owner.execute("UPDATE fleet.rate_limits SET blocked_until = NULL")
    assert value(owner, LIKES.format("refusals_in_row")) == 1
    with fleet.rate_limits.leasing("like_tweet", "w/1", most=20) as tokens:
        tokens.answered(tokens.take(), status=429)
    assert value(owner, LIKES.format("refusals_in_row")) >= 1, "a 429 counted as: it answers again"
    assert late


def test_headers_that_say_nothing_of_limits_don_t_hide_those_that_do(fleet: Fleet, owner: Owner) -> None:
    with fleet.rate_limits.leasing("like_tweet", "w/1", most=20) as tokens:
        tokens.answered(tokens.take(), headers(owner, LIMIT, 0))
        tokens.answered(tokens.take(), {"Content-Type": "text/html"})
    assert not ask(fleet, "like_tweet").allowed


def test_an_answer_is_of_the_lease_that_its_request_was_made_with(fleet: Fleet, owner: Owner) -> None:
    tokens = fleet.rate_limits.leasing("like_tweet", "w/1", most=3)
    taken = [
        tokens.take() for _ in range(4)
    ]  # three of the first lease, one of the second; all are under way
    tokens.answered(taken[0])
    tokens.close()
    assert rows(
        owner, "SELECT units, settled_at > fleet.now() + interval '10 s' FROM fleet.rate_grants ORDER BY id"
    ) == [
        (3, True),
        (1, True),
    ]


def test_a_status_counts_what_is_in_the_window_also_of_a_large_limit(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase, owner: Owner
) -> None:
    configure(console, "like_tweet", (10_000_000, 60))
    for _ in range(20):
        spend(fleet, "like_tweet")
    fleet_database.advance(3600)
    spend(fleet, "like_tweet")
    assert fleet.rate_limits.get_remaining_capacity("like_tweet").used <= 1 + value(owner, LEFT)


def test_a_grant_that_goes_back_takes_none_of_what_others_were_charged(
    fleet: Fleet, owner: Owner, console: Database, fleet_database: FleetDatabase
) -> None:
    big = (1_000_000_000, 86_400)
    configure(console, "api_requests", big)
    configure(console, "like_tweet", big)
    configure(console, "get_tweets", big)
    drawn = many(fleet, 40)
    left = value(owner, LEFT)
    assert left > 5
    fleet_database.advance(0.5)  # what was prepaid was charged, and that has passed
    quota = fleet.session.call("lease_requests", endpoint="get_tweets", worker_id="w/1", most=9000)
    fleet.session.call("end_lease", grant_id=int(quota["grant_id"]), used=quota["units"])
    charged = value(
        owner, "SELECT tat[1] FROM fleet.rate_limits WHERE account = 'default' AND endpoint = 'api_requests'"
    )
    for grant in many(fleet, left):
        fleet.rate_limits.release(grant)
    now = value(
        owner, "SELECT tat[1] FROM fleet.rate_limits WHERE account = 'default' AND endpoint = 'api_requests'"
    )
    assert drawn
    assert now >= charged, (charged - now, quota["units"], left)


def test_a_crash_takes_no_more_of_a_pool_than_may_be_forgotten_of_it(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "like_tweet", (1_000_000, 900))
    configure(console, "api_requests", (2000, 900))
    for _ in range(3):
        spend(fleet, "like_tweet")
    owner.execute("DELETE FROM fleet.rate_epoch; DELETE FROM fleet.rate_prepaid")  # as a crash does
    assert ask(fleet, "like_tweet").allowed


def test_what_went_wrong_within_is_told_though_the_lease_can_t_be_ended(
    unlucky: Unlucky, fleet: Fleet
) -> None:
    limits = RateLimits(Session(unlucky, fleet.incarnation.id))

    def body() -> None:
        with limits.leasing("like_tweet", "w/1", most=20) as tokens:
            tokens.take()
            unlucky.cut_off = frozenset({"end_lease"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()


def test_units_that_a_lease_put_back_were_not_used_up(fleet: Fleet, owner: Owner) -> None:
    many(fleet, 3)
    for _ in range(12):  # nobody draws a prepaid unit
        ask(fleet, "like_tweet") if value(owner, LEFT) == 0 else None
        fleet.session.call("lease_requests", endpoint="like_tweet", worker_id="w/1", most=2)
    assert value(owner, "SELECT batch FROM fleet.rate_prepaid") < 16


def test_the_worker_role_touches_nothing_of_it(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    own = fleet.incarnation.id
    with psycopg.connect(fleet_database.dsn("worker"), autocommit=True) as worker:
        for query in (
            "SELECT 1 FROM fleet.rate_prepaid",
            "UPDATE fleet.rate_prepaid SET units = 9",
            f"SELECT fleet.draw_prepaid('{own}', 'like_tweet', 'w', 'low', 'default', NULL)",
            f"SELECT fleet.settle_lease('{own}', 1, 1, true, '{{}}', NULL)",
            f"SELECT fleet.take_units('{own}', 'like_tweet', 'w', 1, 'low', 'default', false, NULL, 5)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(query)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_repeatable_read_is_refused(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    many(fleet)
    with psycopg.connect(fleet_database.dsn("worker")) as worker:
        for query in (
            "SELECT fleet.can_make_request(%s, 'like_tweet', 'w')",
            "SELECT fleet.lease_requests(%s, 'like_tweet', 'w', 5)",
            "SELECT fleet.end_lease(%s, 1, 1)",
        ):
            worker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            with pytest.raises(psycopg.Error, match=r"(?i)read committed"):
                worker.execute(query, (fleet.incarnation.id,))
            worker.rollback()


def test_unavailable_is_told_to_who_takes_and_the_former_is_owed(
    unlucky: Unlucky, fleet: Fleet, owner: Owner
) -> None:
    tokens = RateLimits(Session(unlucky, fleet.incarnation.id)).leasing("like_tweet", "w/1", most=2)
    for _ in range(2):
        tokens.answered(tokens.take())
    unlucky.cut_off = frozenset({"lease_requests", "end_lease", "return_lost_grant"})
    with pytest.raises(DatabaseUnavailableError):
        tokens.take()
    unlucky.cut_off = frozenset()
    tokens.take()
    tokens.close()
    tokens.close()
    assert value(owner, "SELECT count(*) FROM fleet.rate_grants WHERE settled_at IS NULL") == 0


def test_a_lease_of_two_is_of_two(fleet: Fleet) -> None:
    assert fleet.session.call("lease_requests", endpoint="like_tweet", worker_id="w/1", most=2)["units"] == 2


def drawing(start: Callable[[], object], dsn: str, seconds: float) -> int:
    with connect(dsn, "drawing") as fleet:
        start()
        ends_s = time.monotonic() + seconds
        had = 0
        while time.monotonic() < ends_s:
            had += fleet.rate_limits.can_make_request("like_tweet", f"w-{fleet.incarnation.id}").allowed
        return had


def recounting(start: Callable[[], object], dsn: str, seconds: float) -> int:
    """A person sets a pool's limit, and an endpoint's that nobody else asks, again and again."""
    database = Database(dsn, name="recounting")
    start()
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        configure(database, "api_requests", (1_000_000, 900))
        time.sleep(0.05)
    database.close()
    return 0


def asking(start: Callable[[], object], dsn: str, seconds: float) -> int:
    with connect(dsn, "asking") as fleet:
        start()
        ends_s = time.monotonic() + seconds
        had = 0
        while time.monotonic() < ends_s:
            had += fleet.rate_limits.can_make_request("get_tweets", "w/2").allowed
            time.sleep(0.02)
        return had


@pytest.mark.usefixtures("fleet", "owner")
def test_counts_made_anew_while_units_are_drawn_hold_all_of_them_i11(
    console: Database, fleet_database: FleetDatabase
) -> None:
    """Nothing is settled or leaves: the pool's count is that of the log and of what is prepaid, always."""
    configure(console, "like_tweet", (1_000_000, 900))
    configure(console, "get_tweets", (1_000_000, 900))
    dsn = fleet_database.dsn("worker")
    worst = [0]
    stop = threading.Event()

    def watch() -> None:
        with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as eye:
            while not stop.is_set():
                missing = value(
                    eye,
                    "SELECT max((SELECT sum(units) FROM fleet.rate_grants) + "
                    "(SELECT sum(units) FROM fleet.rate_prepaid) - r.occupied[1]) "
                    "FROM fleet.rate_limits r WHERE account = 'default' AND endpoint = 'api_requests'",
                )
                worst[0] = max(worst[0], missing or 0)
                stop.wait(0.05)

    jobs = [
        threading.Thread(target=recounting, args=(lambda: None, fleet_database.dsn("console"), 12)),
        threading.Thread(target=asking, args=(lambda: None, dsn, 12)),
    ]
    eye = threading.Thread(target=watch)
    for one in (*jobs, eye):
        one.start()
    together(drawing, 3, dsn, 10.0)
    for one in jobs:
        one.join()
    stop.set()
    eye.join()
    assert worst[0] == 0, f"{worst[0]} units that the pool does not count"


def test_counts_agree_after_all_kinds_of_calls(
    fleet: Fleet, owner: Owner, console: Database, fleet_database: FleetDatabase
) -> None:
    dsn = fleet_database.dsn("worker")
    configure(console, "get_tweets", (LIMIT, 900))
    together(mixing, 4, dsn, 8.0)
    owner.execute(ENDED)
    for _ in range(3):
        granted(fleet, "like_tweet")
        granted(fleet, "get_tweets")
        owner.execute(ENDED)
    likes = value(owner, "SELECT sum(units) FROM fleet.rate_grants WHERE endpoint = 'like_tweet'") + value(
        owner, "SELECT coalesce(sum(units), 0) FROM fleet.rate_prepaid WHERE endpoint = 'like_tweet'"
    )
    gets = value(owner, "SELECT sum(units) FROM fleet.rate_grants WHERE endpoint <> 'like_tweet'") + value(
        owner, "SELECT coalesce(sum(units), 0) FROM fleet.rate_prepaid WHERE endpoint <> 'like_tweet'"
    )
    open_ones = value(
        owner, "SELECT sum(units) FROM fleet.rate_grants WHERE endpoint = 'like_tweet' AND settled_at IS NULL"
    )
    left = value(
        owner, "SELECT coalesce(sum(units), 0) FROM fleet.rate_prepaid WHERE endpoint = 'like_tweet'"
    )
    assert (
        value(owner, LIKES.format("occupied[1]")),
        value(owner, LIKES.format("unsettled")),
        value(owner, POOL),
    ) == (
        likes,
        open_ones + left,
        likes + gets,
    )


def mixing(start: Callable[[], object], dsn: str, seconds: float) -> int:
    with connect(dsn, "mixing") as fleet:
        start()
        ends_s = time.monotonic() + seconds
        dice = random.Random(str(fleet.incarnation.id))
        while time.monotonic() < ends_s:
            try:
                endpoint = dice.choice(("like_tweet", "like_tweet", "get_tweets"))
                what = dice.random()
                if what < 0.2:
                    lease = fleet.session.call(
                        "lease_requests", endpoint=endpoint, worker_id="w", most=dice.randint(2, 60)
                    )
                    if lease["allowed"]:
                        fleet.session.call(
                            "end_lease", grant_id=int(lease["grant_id"]), used=dice.randint(0, lease["units"])
                        )
                    continue
                grant = fleet.rate_limits.can_make_request(endpoint, "w")
                if grant.grant_id and what < 0.5:
                    fleet.rate_limits.release(grant.grant_id)
                elif grant.grant_id and what < 0.8:
                    fleet.rate_limits.record_usage(grant.grant_id, True)
            except DatabaseBusyError:
                pass
        return 0


def test_a_count_of_the_platform_s_that_leaves_no_room_comes_first(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "like_tweet", (LIMIT, 900))
    quota = fleet.session.call(
        "reserve_api_quota", worker_id="w/9", operation_type="like_tweet", estimated_requests=3000
    )
    assert quota["granted"]
    spend(fleet, "like_tweet", response_headers=headers(owner, LIMIT, 9999), status=200)
    grants = many(fleet)
    assert value(owner, LEFT) > 0
    fleet.rate_limits.record_usage(grants[0], True, headers(owner, LIMIT, 1500), status=200)
    assert not ask(fleet, "like_tweet").allowed


def test_a_crash_takes_no_more_of_the_platform_s_count_than_may_be_forgotten(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "like_tweet", (1_000_000, 900))
    spend(fleet, "like_tweet", response_headers=headers(owner, 900, 850), status=200)
    owner.execute("DELETE FROM fleet.rate_epoch; DELETE FROM fleet.rate_prepaid")  # as a crash does
    assert ask(fleet, "like_tweet").allowed


def test_a_spread_window_is_not_charged_for_much_more_than_is_used(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "like_tweet", (100_000, 86_400))
    for _ in range(60):
        ask(fleet, "like_tweet")
        fleet.session.call("lease_requests", endpoint="like_tweet", worker_id="w/1", most=3)
    used = value(owner, "SELECT sum(units) FROM fleet.rate_grants")
    charged = value(
        owner,
        "SELECT ceil(extract(epoch FROM tat[1] - fleet.now()) * 1e6 / spacing_us[1]) FROM fleet.rate_limits "
        "WHERE account = 'default' AND endpoint = 'like_tweet'",
    )
    assert charged <= used * 1.25 + 100, (charged, used)


@pytest.mark.parametrize("argument", ["worker_id", "priority"])
def test_a_null_is_a_refusal_with_its_state(fleet: Fleet, owner: Owner, argument: str) -> None:
    many(fleet)
    assert value(owner, LEFT) > 0
    worker, priority = (None, "low") if argument == "worker_id" else ("w/1", None)
    with pytest.raises(psycopg.Error) as refused:
        owner.execute(
            "SELECT fleet.can_make_request(%s, 'like_tweet', %s, %s)",
            (fleet.incarnation.id, worker, priority),
        )
    assert refused.value.sqlstate == "FL001"


def test_a_spread_window_gives_back_what_a_lease_did_not_use(fleet: Fleet, console: Database) -> None:
    configure(console, "like_tweet", (100_000, 86_400))
    for _ in range(300):  # 0.3% of the limit; the burst is 1483
        with fleet.rate_limits.leasing("like_tweet", "w/1", most=500) as tokens:
            token = tokens.take()
            assert token.allowed, token
            tokens.answered(token)
