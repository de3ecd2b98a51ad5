"""A request has a ticket: who never heard what became of it can ask again, or give it up."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import DatabaseUnavailableError
from coordination.pools import configure_pool
from coordination.reservations import Reservations
from coordination.session import Session
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until
from tests.integration.coordination.lines import Line, let_pass
from tests.integration.coordination.tables import Owner, value

GRANTING = {"reserve_resource", "reserve_api_quota", "poll_reservation"}
RESOURCES = [("content", "pool"), ("api_quota", "search")]
OPEN: LiteralString = "SELECT count(*) FROM fleet.reservations WHERE ended_at IS NULL"


@pytest.fixture
def line(fleet: Fleet, owner: Owner) -> Line:
    return Line(fleet, owner)


class Deaf(Database):
    """Loses its connection between a commit that granted something and the answer, once."""

    def call(self, function: LiteralString, *, acknowledged: bool = False, **arguments: object) -> Any:
        answer = super().call(function, acknowledged=acknowledged, **arguments)
        if function in GRANTING and answer["granted"]:
            self.close()
            raise DatabaseUnavailableError("the answer was lost")
        return answer


def test_who_leaves_the_line_gives_back_what_it_was_granted_meanwhile(line: Line) -> None:
    held = line.hold("holder")
    asked, next_one = line.ask("w"), line.ask("next")
    line.release(held)
    assert line.poll(asked)["granted"]
    # It never heard so, and gives up.
    answer = line.call("leave_queue", ticket=asked["ticket"])
    assert (answer["left"], answer["released"]) == (False, True)
    assert [one["ticket"] for one in answer["wake"]] == [next_one["ticket"]]
    assert line.served(next_one) == [0]
    answer = line.call("leave_queue", ticket=asked["ticket"])
    assert (answer["left"], answer["released"]) == (False, False)
    line.assert_sound()


def test_a_poll_that_is_asked_again_gives_the_same_reservation(line: Line) -> None:
    held = line.hold("holder")
    asked = line.ask("w")
    line.release(held)
    first, again = line.poll(asked), line.poll(asked)
    assert again["granted"]
    assert again["reservation_id"] == first["reservation_id"]
    line.release(first["reservation_id"])
    assert line.poll(asked)["reason"] == "not_waiting"


def test_a_request_that_is_made_again_is_the_same_request(line: Line, owner: Owner) -> None:
    mine, other = str(uuid4()), str(uuid4())
    first = line.ask("w", ticket=mine)
    again = line.ask("w", ticket=mine)
    assert first["granted"]
    assert again["reservation_id"] == first["reservation_id"]
    waiting = line.ask("other", ticket=other)
    assert (waiting["waits"], waiting["ticket"]) == (True, other)
    assert line.ask("other", ticket=other)["ticket"] == other
    assert value(owner, "SELECT count(*) FROM fleet.reservation_queue") == 1
    line.release(first["reservation_id"])
    assert line.ask("other", ticket=other)["granted"]
    assert line.ask("w", ticket=mine)["waits"]  # what it stood for is over: it is a new request


@pytest.mark.parametrize("held_minutes", [1, 600])
def test_a_request_that_is_made_again_after_its_time_leaves_the_pool_as_it_is_counted(
    line: Line, owner: Owner, held_minutes: float
) -> None:
    mine = str(uuid4())
    line.hold("holder", duration_minutes=held_minutes)
    assert line.ask("w", ticket=mine, wait_s=30)["waits"]
    let_pass(owner, 90)
    # Its time is over, and where it was short the holder's too: a new request.
    assert line.ask("w", ticket=mine)["granted"] == (held_minutes == 1)
    assert (line.pool("time_outs"), line.pool("expired")) == (1, held_minutes == 1)
    line.assert_sound()


@pytest.fixture
def asking(fleet_database: FleetDatabase, fleet: Fleet) -> Callable[..., dict[str, Any]]:
    """Ask in the name of the process on a connection of its own."""

    def ask(resource_type: str, resource_id: str, ticket: UUID) -> dict[str, Any]:
        database = fleet_database.database("worker")
        answer = Session(database, fleet.incarnation.id).call(
            "reserve_resource",
            resource_type=resource_type,
            resource_id=resource_id,
            worker_id="w",
            ticket=ticket,
        )
        database.close()
        return dict(answer)

    return ask


@pytest.mark.parametrize(("resource_type", "resource_id"), RESOURCES)
def test_a_ticket_that_is_used_by_several_connections_at_once_is_one_request(
    asking: Callable[..., dict[str, Any]],
    console: Database,
    owner: Owner,
    resource_type: str,
    resource_id: str,
) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", capacity=8)
    ticket = uuid4()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(asking, resource_type, resource_id, ticket) for _ in range(8)]
        assert len({one.result()["reservation_id"] for one in asked}) == 1
    assert value(owner, OPEN) == 1


@pytest.mark.parametrize(("resource_type", "resource_id"), RESOURCES)
def test_who_gives_up_a_request_that_is_still_under_way_gives_back_what_it_is_granted(
    fleet_database: FleetDatabase,
    fleet: Fleet,
    asking: Callable[..., dict[str, Any]],
    owner: Owner,
    resource_type: str,
    resource_id: str,
) -> None:
    ticket = uuid4()
    held = asking(resource_type, resource_id, uuid4())  # the rows are there
    fleet.reservations.release_resource(held["reservation_id"])
    waiting: LiteralString = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool, psycopg.connect(fleet_database.superuser_dsn) as busy:
        busy.execute("SELECT FROM fleet.pools WHERE resource_id = 'pool' FOR UPDATE")
        busy.execute("SELECT FROM fleet.rate_limits WHERE endpoint = 'search_tweets' FOR UPDATE")
        asked = pool.submit(asking, resource_type, resource_id, ticket)
        until(lambda: value(owner, waiting) == 1, 10)
        left = pool.submit(fleet.session.call, "leave_queue", ticket=ticket)
        until(lambda: left.done() or value(owner, waiting) == 2, 10)
        busy.commit()
        assert asked.result()["granted"]
        assert left.result()["released"]
    assert value(owner, OPEN) == 0


def test_nobody_elses_ticket_is_told_or_given_up(fleet_database: FleetDatabase, line: Line) -> None:
    ticket = str(uuid4())
    line.ask("w", ticket=ticket)
    with fleet_database.connect("other") as other:
        assert not other.session.call("leave_queue", ticket=ticket)["released"]
        assert other.session.call("poll_reservation", ticket=ticket)["reason"] == "not_waiting"
    assert line.pool("reserved") == 1


@pytest.mark.parametrize("wait_s", [0, 60])
def test_a_grant_whose_answer_was_lost_comes_back(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, wait_s: float
) -> None:
    deaf = Deaf(fleet_database.dsn("worker"), name="deaf")
    reservations = Reservations(Session(deaf, fleet.incarnation.id, fleet.session.sleep))
    with pytest.raises(DatabaseUnavailableError):
        reservations.reserve_resource("content", "pool", "w", wait_s=wait_s)
    assert value(owner, OPEN) == 0
    assert value(owner, "SELECT end_reason FROM fleet.reservations") == "released"
    deaf.close()


def test_a_waiters_grant_whose_answer_was_lost_comes_back(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held = fleet.reservations.reserve_resource("content", "pool", "holder")
    assert held is not None
    deaf = Deaf(fleet_database.dsn("worker"), name="deaf")
    reservations = Reservations(Session(deaf, fleet.incarnation.id))

    def released_meanwhile() -> bool:
        if value(owner, OPEN):
            fleet.reservations.release_resource(held)
        return True

    with pytest.raises(DatabaseUnavailableError):
        reservations.reserve_resource("content", "pool", "w", wait_s=60, keep_waiting=released_meanwhile)
    assert value(owner, OPEN) == 0
    deaf.close()


@pytest.mark.parametrize("by", ["its type", "its name"])
def test_a_quota_whose_answer_was_lost_comes_back(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, by: str
) -> None:
    deaf = Deaf(fleet_database.dsn("worker"), name="deaf")
    reservations = Reservations(Session(deaf, fleet.incarnation.id))
    asks: dict[str, Callable[[], object]] = {
        "its type": lambda: reservations.reserve_resource("api_quota", "search", "w", units=3),
        "its name": lambda: reservations.reserve_api_quota("w", "search", 3),
    }
    with pytest.raises(DatabaseUnavailableError):
        asks[by]()
    assert value(owner, OPEN) == 0
    deaf.close()
