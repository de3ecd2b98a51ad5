"""Incarnations: who is alive, by a session lock and nothing else."""

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.errors import (
    DatabaseUnavailableError,
    IncarnationLostError,
    InvalidValueError,
    PoolerInBetweenError,
)
from coordination.incarnation import Incarnation
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until, victim
from tests.integration.coordination.tables import Owner, assert_refused, kill_session, value
from tests.integration.coordination.wire import wire


def test_a_lock_key_is_the_first_8_bytes_of_sha256(owner: Owner) -> None:
    for namespace, text in [
        ("content", "1"),
        ("incarnation", "a" * 500),
        ("kill", "global"),
        ("", "Grüße ✓"),
        ("content", r"C:\new\101 \\ \x41"),  # no escapes: they are what they look like
    ]:
        expected = int.from_bytes(
            sha256(f"{namespace}:{text}".encode()).digest()[:8], byteorder="big", signed=True
        )
        assert value(owner, "SELECT fleet.lock_key(%s, %s)", namespace, text) == expected
    assert value(owner, "SELECT fleet.lock_key('content', '1')") == -6428484512640353061


def test_the_lock_is_taken_before_the_id_is_published(fleet_database: FleetDatabase, owner: Owner) -> None:
    life = Incarnation(fleet_database.dsn("worker"), worker="tester")
    key = value(owner, "SELECT fleet.lock_key('incarnation', %s)", str(life.id))
    owner.execute("SELECT pg_advisory_lock(%s)", (key,))
    opening = threading.Thread(target=life.open)
    opening.start()
    try:
        until(
            lambda: (
                value(owner, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 1
            ),
            5,
        )
        assert value(owner, "SELECT count(*) FROM fleet.incarnations") == 0
    finally:
        owner.execute("SELECT pg_advisory_unlock(%s)", (key,))
        opening.join()
    assert value(owner, "SELECT id FROM fleet.incarnations") == life.id
    assert value(owner, "SELECT pg_try_advisory_lock_shared(%s)", key) is False
    life.close("done")


def _hold(keep: Callable[[object], None], dsn: str, content: str) -> int:
    fleet = connect(dsn, "doomed")
    keep(fleet)
    lease = fleet.engagement.request_lock(content, "doomed/1", "quote", 60)
    assert lease is not None
    return lease.fencing_token


@pytest.mark.timed
def test_the_lock_of_a_killed_process_is_taken_over_within_a_second_i8(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    for content in ("a", "b", "c"):
        with victim(_hold, fleet_database.dsn("worker"), content) as doomed:
            assert fleet.engagement.request_lock(content, "tester/1", "quote") is None
            killed_at = doomed.kill()
            taken: list[Any] = []

            def took(content: str = content, taken: list[Any] = taken) -> bool:
                taken.append(fleet.engagement.request_lock(content, "tester/1", "quote"))
                return taken[-1] is not None

            until(took, 5)
            assert time.monotonic() - killed_at < 1
            assert taken[-1].fencing_token > doomed.result


def test_a_holder_is_never_judged_from_its_own_session(fleet: Fleet) -> None:
    assert fleet.engagement.request_lock("1", "tester/1", "quote") is not None
    own_session = fleet.incarnation.database  # its try-lock would succeed: a session always gets its own lock
    answer = own_session.call(
        "request_lock",
        incarnation=fleet.incarnation.id,
        tweet_id="1",
        worker_id="tester/1",
        lock_type="quote",
    )
    assert (answer["granted"], answer["reason"]) == (False, "held")


def test_a_lost_session_ends_the_life_for_good(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    assert fleet.engagement.request_lock("1", "tester/1", "quote") is not None
    kill_session(owner, "tester/1 incarnation")
    for _ in range(2):  # it never comes back as another session
        with pytest.raises(DatabaseUnavailableError):
            fleet.heartbeats.beat(state="READY", progress=1)
    with fleet_database.connect("heir") as heir:
        assert heir.engagement.request_lock("1", "heir/1", "quote") is not None
    fleet.close()
    with pytest.raises(DatabaseUnavailableError):
        fleet.heartbeats.beat(state="READY", progress=1)


def test_closing_frees_everything_at_once_and_may_be_done_twice(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    leaver = fleet_database.connect("leaver")
    assert leaver.engagement.request_lock("1", "leaver/1", "quote") is not None
    leaver.close("tired")
    leaver.close("again")
    assert fleet.engagement.request_lock("1", "tester/1", "quote") is not None
    assert value(owner, "SELECT end_reason FROM fleet.incarnations WHERE worker = 'leaver'") == "tired"
    with pytest.raises(IncarnationLostError):
        leaver.engagement.request_lock("2", "leaver/1", "quote")
    leaver.database.close()


def test_a_pooler_in_between_is_refused(fleet_database: FleetDatabase, owner: Owner) -> None:
    with wire(fleet_database.dsn("worker"), pools=True) as pooler:
        with pytest.raises(PoolerInBetweenError, match="direct"):
            connect(pooler.dsn, "tester")
        assert value(owner, "SELECT count(*) FROM fleet.incarnations") == 0
    with wire(fleet_database.dsn("worker")) as plain, connect(plain.dsn, "tester") as fleet:
        assert fleet.engagement.request_lock("1", "tester/1", "quote") is not None


def test_a_bad_worker_name_is_refused(fleet_database: FleetDatabase) -> None:
    for name in ("", "Poster", "a b", "x" * 64):
        with pytest.raises(InvalidValueError) as refusal:
            fleet_database.connect(name)
        assert_refused(refusal, "worker", name)


def test_many_lives_leave_no_lock_and_no_session_behind_i19(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    for _ in range(10):
        fleet_database.connect().close()
    until(
        lambda: (
            value(
                owner,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND usename = 'fleet_worker'",
            )
            == 0
        ),
        5,
    )
    left = """SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
        WHERE locktype = 'advisory' AND d.datname = current_database()"""
    assert value(owner, left) == 0
