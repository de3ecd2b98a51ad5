"""Broadcasts: whoever is registered gets them, and whoever registers within their time, each once."""

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import pytest

from coordination import Fleet, connect
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, planted, rows, value

NEWS = {"kind": "news"}
Know = Callable[..., None]


def got(database: FleetDatabase, name: str) -> list[str]:
    """What a worker has when it starts; it takes all of it."""
    with database.connect(name) as newcomer:
        messages = newcomer.messages.claim(100)
        for message in messages:
            newcomer.messages.acknowledge(message)
        return [str(message.payload["kind"]) for message in messages]


def test_a_worker_that_starts_within_the_time_is_given_what_it_missed_once(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.messages.broadcast("SYSTEM_EVENT", NEWS, ttl_s=60, dedupe_key="n")
    assert got(fleet_database, "newcomer") == ["news"]
    assert got(fleet_database, "newcomer") == []  # it starts again
    fleet_database.advance(61)
    assert got(fleet_database, "late") == []


def test_a_newcomers_message_is_the_broadcast_as_it_was_told(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.messages.broadcast("SYSTEM_EVENT", NEWS, priority="critical", ttl_s=60, max_attempts=2)
    fleet_database.advance(10)
    (own,) = fleet.messages.claim()
    with fleet_database.connect("newcomer") as newcomer:
        (theirs,) = newcomer.messages.claim()
    assert (theirs.to, theirs.sender, theirs.type, theirs.priority) == (
        "all",
        "tester",
        "SYSTEM_EVENT",
        "critical",
    )
    assert (theirs.sent_at, theirs.expires_at) == (own.sent_at, own.expires_at)


def test_who_was_there_is_not_given_it_again_when_it_starts_anew(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Know, owner: Owner
) -> None:
    workers(painter=())
    fleet.messages.broadcast("SYSTEM_EVENT", NEWS)
    assert got(fleet_database, "painter") == ["news"]
    with fleet_database.connect("painter", slot=2), fleet_database.connect("painter", slot=3) as third:
        assert third.messages.claim() == []
    assert value(owner, "SELECT count(*) FROM fleet.messages WHERE recipient = 'painter'") == 1


def test_what_was_acknowledged_stays_until_the_broadcast_is_over_or_it_would_be_given_again(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.messages.broadcast("SYSTEM_EVENT", NEWS, ttl_s=3600)
    assert got(fleet_database, "newcomer") == ["news"]
    fleet_database.advance(1800)
    assert fleet.retention.sweep("messages", keep_s=0) == 0
    assert got(fleet_database, "newcomer") == []
    fleet_database.advance(1801)
    assert fleet.retention.sweep("messages", keep_s=0) == 1


def test_a_worker_that_runs_without_a_managers_row_is_reached_and_a_stopped_one_when_it_starts(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Know, owner: Owner
) -> None:
    workers(resting=())
    owner.execute("UPDATE fleet.workers SET enabled = false")
    with fleet_database.connect("alone"):
        fleet.messages.broadcast("SYSTEM_EVENT", NEWS)
    sent = rows(owner, "SELECT recipient FROM fleet.messages ORDER BY 1")
    assert sent == [("alone",), ("tester",)]
    assert got(fleet_database, "resting") == ["news"]


def test_a_repeated_key_beyond_the_broadcasts_time_tells_nobody(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    assert len(fleet.messages.broadcast("SYSTEM_EVENT", NEWS, dedupe_key="n", ttl_s=60)) == 1
    fleet_database.advance(61)
    assert fleet.messages.broadcast("SYSTEM_EVENT", NEWS, dedupe_key="n", ttl_s=60) == ()
    fleet_database.advance(8 * 86_400)
    fleet.messages.expire()
    fleet.retention.sweep("messages", keep_s=0)
    assert len(fleet.messages.broadcast("SYSTEM_EVENT", NEWS, dedupe_key="n", ttl_s=60)) == 1


def _register_or_broadcast(start: Callable[[], int], dsn: str) -> None:
    """Half of them register workers while the others broadcast; all stay until the last is done."""
    with ExitStack() as stack:
        if start() % 2:
            for number in range(6):
                stack.enter_context(connect(dsn, f"new{os.getpid()}-{number}"))
        else:
            fleet = stack.enter_context(connect(dsn, "sender"))
            for _ in range(6):
                fleet.messages.broadcast("SYSTEM_EVENT", NEWS)
        start()


def _each_has_all(owner: Owner) -> None:
    missed = rows(
        owner,
        "SELECT w.worker, b.id, count(m.id) FROM (SELECT DISTINCT worker FROM fleet.incarnations) w "
        "CROSS JOIN fleet.broadcasts b "
        "LEFT JOIN fleet.messages m ON m.broadcast = b.id AND m.recipient = w.worker "
        "GROUP BY 1, 2 HAVING count(m.id) <> 1",
    )
    assert missed == []


@contextmanager
def slow_registration(owner: Owner) -> Generator[None]:
    """A wider gap between what a newcomer is given and its row."""
    slower = (
        "    INSERT INTO fleet.incarnations",
        "    PERFORM pg_sleep(0.05);\n    INSERT INTO fleet.incarnations",
    )
    with planted(owner, "open_incarnation", slower):
        yield


def test_of_8_processes_that_register_and_broadcast_at_once_each_worker_gets_every_broadcast_once(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with slow_registration(owner):
        together(_register_or_broadcast, 8, fleet_database.dsn("worker"))
    assert value(owner, "SELECT count(*) FROM fleet.broadcasts") == 24
    assert value(owner, "SELECT count(DISTINCT worker) FROM fleet.incarnations") == 25
    _each_has_all(owner)


def test_without_the_lock_of_who_registers_a_newcomer_misses_a_broadcast(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    fault = ("    PERFORM pg_advisory_xact_lock_shared(fleet.broadcast_key());\n", "")
    with slow_registration(owner), planted(owner, "welcome", fault):
        together(_register_or_broadcast, 8, fleet_database.dsn("worker"))
    with pytest.raises(AssertionError):
        _each_has_all(owner)
