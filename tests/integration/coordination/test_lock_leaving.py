"""Who leaves a line while its lock is being granted: nothing is left held that nobody knows of."""

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from coordination import Fleet
from coordination.engagement import Engagement
from coordination.errors import DatabaseUnavailableError
from coordination.session import Session
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until
from tests.integration.coordination.lock_lines import line_up, poll, unhurried
from tests.integration.coordination.tables import Owner, rows, value
from tests.integration.coordination.test_rate_lost_answers import Unlucky


@pytest.fixture(autouse=True)
def nobody_hurries(owner: Owner) -> Iterator[None]:
    with unhurried(owner):
        yield


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def waiter(fleet_database: FleetDatabase) -> Iterator[Fleet]:
    with fleet_database.connect("waiter") as life:
        yield life


def turn(fleet: Fleet, waiter: Fleet) -> int:
    """The waiter's place in the line of a content that has just been given back."""
    lease = fleet.engagement.request_lock("1", "tester", "analysis")
    assert lease is not None
    place = line_up(waiter)
    fleet.engagement.release_lock(lease)
    return place


@contextmanager
def being_granted(database: FleetDatabase, waiter: Fleet, place: int) -> Generator[psycopg.Connection[Any]]:
    """A poll in time whose grant is not committed yet; its asker hears nothing of it."""
    with psycopg.connect(database.superuser_dsn) as connection:
        connection.execute(
            "UPDATE fleet.lock_waiters SET deadline_at = clock_timestamp() + interval '1 hour' WHERE id = %s",
            (place,),
        )
        row = connection.execute("SELECT fleet.poll_lock(%s, %s)", (waiter.incarnation.id, place)).fetchone()
        assert row is not None
        assert row[0]["granted"]
        yield connection


def meanwhile(
    owner: Owner, pool: ThreadPoolExecutor, granting: psycopg.Connection[Any], call: Any, *arguments: object
) -> dict[str, Any]:
    """Make a call that waits for the grant's commit, commit, and give what it answered."""
    answer: Future[dict[str, Any]] = pool.submit(call, *arguments)
    until(lambda: value(owner, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, 5)
    granting.commit()
    return answer.result(10)


def leave(waiter: Fleet, place: int) -> dict[str, Any]:
    return dict(waiter.session.call("leave_line", waiter=place))


def test_who_leaves_while_it_is_granted_leaves_nothing_held(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, waiter: Fleet, pool: ThreadPoolExecutor
) -> None:
    place = turn(fleet, waiter)
    with fleet_database.connect("next") as following:
        behind = line_up(following)
        with being_granted(fleet_database, waiter, place) as granting:
            answer = meanwhile(owner, pool, granting, leave, waiter, place)
        assert answer == {"left": True, "wake": str(following.incarnation.id)}
        assert value(owner, "SELECT count(*) FROM fleet.engagement_locks") == 0
        assert poll(following, behind)["granted"]
    assert leave(waiter, place) == {"left": False, "wake": None}


def test_of_two_polls_at_once_both_hear_of_the_one_grant(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, waiter: Fleet, pool: ThreadPoolExecutor
) -> None:
    place = turn(fleet, waiter)
    with being_granted(fleet_database, waiter, place) as granting:
        answer = meanwhile(owner, pool, granting, poll, waiter, place)
    assert (answer["granted"], answer["over"]) == (True, True)
    assert rows(owner, "SELECT fencing_token FROM fleet.engagement_locks") == [(answer["fencing_token"],)]


def test_whose_time_ends_while_it_is_granted_has_the_lock(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, waiter: Fleet, pool: ThreadPoolExecutor
) -> None:
    place = turn(fleet, waiter)
    owner.execute("UPDATE fleet.lock_waiters SET deadline_at = clock_timestamp() WHERE id = %s", (place,))
    with being_granted(fleet_database, waiter, place) as granting:
        assert meanwhile(owner, pool, granting, poll, waiter, place)["granted"]


@pytest.mark.parametrize("reachable", [True, False])
def test_what_was_granted_or_lined_up_without_an_answer_goes_back(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, waiter: Fleet, reachable: bool
) -> None:
    unlucky = Unlucky(fleet_database.dsn("worker"), name="unlucky")
    engagement = Engagement(Session(unlucky, fleet.incarnation.id))
    assert waiter.engagement.request_lock("2", "waiter", "analysis") is not None
    unlucky.deaf_to = frozenset({"request_lock"})
    unlucky.cut_off = frozenset() if reachable else frozenset({"return_lost_lock"})
    for content in ("1", "2"):
        with pytest.raises(DatabaseUnavailableError, match="the answer was lost"):
            engagement.request_lock(content, "tester/1", "analysis", wait_s=60)
    left = 0 if reachable else 1
    assert value(owner, "SELECT count(*) FROM fleet.engagement_locks WHERE content = '1'") == left
    assert value(owner, "SELECT count(*) FROM fleet.lock_waiters") == left
    unlucky.deaf_to = unlucky.cut_off = frozenset()
    assert engagement.request_lock("1", "tester/1", "analysis") is not None
    assert value(owner, "SELECT count(*) FROM fleet.lock_waiters") == 0
    unlucky.close()


def test_what_a_poll_was_granted_without_hearing_of_it_goes_back_with_the_next_request(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, waiter: Fleet
) -> None:
    unlucky = Unlucky(fleet_database.dsn("worker"), name="unlucky")
    engagement = Engagement(Session(unlucky, fleet.incarnation.id))
    lease = waiter.engagement.request_lock("1", "waiter", "analysis")
    assert lease is not None

    def free_it() -> bool:
        waiter.engagement.release_lock(lease)
        return True

    unlucky.deaf_to, unlucky.cut_off = frozenset({"poll_lock"}), frozenset({"leave_line"})
    with pytest.raises(DatabaseUnavailableError, match="the answer was lost"):
        engagement.request_lock("1", "tester/1", "analysis", wait_s=60, keep_waiting=free_it)
    held = "SELECT count(*) FROM fleet.engagement_locks WHERE content = '1'"
    assert value(owner, held) == 1
    unlucky.deaf_to = unlucky.cut_off = frozenset()
    assert engagement.request_lock("2", "tester/1", "analysis") is not None
    assert value(owner, held) == 0
    unlucky.close()
