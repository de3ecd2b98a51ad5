"""Traps that others fell into, each tried on ours."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.errors import DatabaseError, FleetError, IncarnationLostError, LockLostError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until
from tests.integration.coordination.tables import Owner, kill_session, planted, rows, value

MANY = 500
EVENT = {"kind": "tried"}


def free_rows(owner: Owner, table: str) -> int:
    """How many rows of a table nobody has locked."""
    query = f"SELECT count(*) FROM (SELECT 1 FROM fleet.{table} FOR UPDATE SKIP LOCKED) free"
    row = owner.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_a_try_lock_in_a_condition_locks_what_the_plan_looks_at_and_our_claims_lock_what_they_give(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    for number in range(MANY):
        fleet.jobs.enqueue("many", {"number": number})
        fleet.messages.send("SYSTEM_EVENT", "tester", EVENT)
    # The trap: one row is wanted, and the condition is evaluated for as many as the plan sorts.
    owner.execute("SELECT id FROM fleet.jobs WHERE pg_try_advisory_lock(id) ORDER BY payload LIMIT 1")
    assert value(owner, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") >= MANY
    owner.execute("SELECT pg_advisory_unlock_all()")
    life = fleet.incarnation.id
    for call, table in (
        (f"fleet.claim_jobs('{life}', 'many', 3)", "jobs"),
        (f"fleet.claim_messages('{life}', 3)", "messages"),
    ):
        with psycopg.connect(fleet_database.dsn("worker")) as session:
            row = session.execute(f"SELECT {call}".encode()).fetchone()
            assert row is not None
            assert len(row[0]) == 3
            assert free_rows(owner, table) == MANY - 3, "a claim locked more rows than it gave"
            own = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> %s"
            assert value(owner, own, fleet.incarnation.database.told_pid()) == 0
            session.rollback()


def test_no_call_leaves_a_lock_on_its_connection(fleet: Fleet, owner: Owner) -> None:
    work = fleet.database.told_pid()
    lease = fleet.engagement.request_lock("1", "tester/1", "quote")
    assert lease is not None
    grant = fleet.rate_limits.can_make_request("search_tweets", "tester/1")
    fleet.jobs.enqueue("a")
    job = fleet.jobs.claim("a")[0]
    calls: list[Callable[[], object]] = [
        lambda: fleet.engagement.request_lock("1", "tester/1", "quote"),
        lambda: fleet.engagement.renew_lock(lease),
        lambda: fleet.engagement.release_lock(lease),
        lambda: fleet.engagement.release_lock(lease),
        lambda: fleet.rate_limits.record_usage(str(grant.grant_id), True),
        lambda: fleet.jobs.complete(job),
        lambda: fleet.jobs.complete(job),
        lambda: fleet.schedules.fire("tick", 60),
        lambda: fleet.ledger.propose("sandbox", "post", "1", "text"),
        lambda: fleet.messages.claim(1),
    ]
    for call in calls:
        with suppress(LockLostError):  # a refusal leaves nothing either
            call()
        assert rows(owner, "SELECT locktype, mode FROM pg_locks WHERE pid = %s", work) == []


def test_a_life_that_is_opened_twice_is_refused_and_its_lock_is_given_back_whole(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """A session lock counts: taken twice, it must be given back twice."""
    with pytest.raises(FleetError):
        fleet.incarnation.open()
    heir = fleet_database.connect("heir")
    lease = fleet.engagement.request_lock("1", "tester/1", "quote")
    assert lease is not None
    assert heir.engagement.request_lock("1", "heir/1", "quote") is None
    fleet.close()
    assert heir.engagement.request_lock("1", "heir/1", "quote") is not None
    heir.close()
    until(lambda: value(owner, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0, 5)


def test_whose_life_a_session_lock_is_can_be_seen(fleet: Fleet, owner: Owner) -> None:
    found = rows(
        owner,
        "SELECT a.application_name, i.worker FROM fleet.incarnations i "
        "CROSS JOIN LATERAL fleet.lock_key('incarnation', i.id::text) key "
        "JOIN pg_locks l ON l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock' "
        "AND l.classid::bigint = (key >> 32) & 4294967295 AND l.objid::bigint = key & 4294967295 "
        "JOIN pg_stat_activity a ON a.pid = l.pid WHERE i.id = %s",
        fleet.incarnation.id,
    )
    assert found == [("socialfleet tester/1 incarnation", "tester")]


def test_a_zombie_finishes_nothing_after_it_was_pruned(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    zombie = fleet_database.connect("zombie")
    fleet.jobs.enqueue("limited")
    fleet.messages.send("SYSTEM_EVENT", "zombie", EVENT)
    job, message = zombie.jobs.claim("limited")[0], zombie.messages.claim(1)[0]
    lease = zombie.engagement.request_lock("1", "zombie/1", "analysis")
    grant = zombie.rate_limits.can_make_request("search_tweets", "zombie/1")
    assert lease is not None
    kill_session(owner, "zombie/1 incarnation")
    late: list[Callable[[], object]] = [
        lambda: zombie.jobs.complete(job),
        lambda: zombie.jobs.fail(job, "late"),
        lambda: zombie.messages.acknowledge(message),
        lambda: zombie.engagement.renew_lock(lease),
        lambda: zombie.engagement.release_lock(lease, success=True),
    ]
    # Suspected: others have what it had, under newer numbers.
    heir_job = fleet.jobs.claim("limited")[0]
    assert heir_job.lease > job.lease
    heir_lease = fleet.engagement.request_lock("1", "tester/1", "analysis")
    assert heir_lease is not None
    with fleet_database.connect("zombie", slot=2) as sibling:
        heir_message = sibling.messages.claim(1)[0]
        for report in late:
            with pytest.raises(LockLostError):
                report()
        # Pruned: it is nobody any more.
        assert fleet.retention.close_silent(keep_s=0) == 1
        late += [
            lambda: zombie.rate_limits.record_usage(str(grant.grant_id), True),
            lambda: zombie.jobs.claim("limited"),
            lambda: zombie.engagement.request_lock("2", "zombie/1", "quote"),
        ]
        before = fleet.engagement.get_lock_measures()["late_words"]
        for report in late:
            with pytest.raises(IncarnationLostError if report in late[5:] else FleetError):
                report()
        assert fleet.engagement.get_lock_measures()["late_words"] - before >= 3
        fleet.jobs.complete(heir_job)
        sibling.messages.acknowledge(heir_message)
        fleet.engagement.release_lock(heir_lease, success=True)
    assert fleet.jobs.claim("limited") == []
    assert value(owner, "SELECT count(*) FROM fleet.engagements") == 1
    zombie.close()


def test_a_successor_of_the_same_name_hides_no_orphan(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    first = fleet_database.connect("poster")
    fleet.jobs.enqueue("work")
    assert first.jobs.claim("work", lease_s=3600)
    lease = first.engagement.request_lock("1", "poster/1", "quote", 60)
    assert lease is not None
    kill_session(owner, "poster/1 incarnation")
    with fleet_database.connect("poster") as successor:  # the same worker, slot, host and even process
        assert successor.incarnation.id != first.incarnation.id
        assert successor.jobs.claim("work"), "the orphan of the same name is not seen"
        assert successor.engagement.request_lock("1", "poster/1", "quote") is not None
        with pytest.raises(LockLostError):
            first.engagement.release_lock(lease)
    first.close()


def test_maintenance_waits_for_nobodys_rows(
    fleet: Fleet, owner: Owner, fleet_database: FleetDatabase
) -> None:
    for _ in range(3):
        fleet.messages.send("SYSTEM_EVENT", "tester", EVENT)
    for message in fleet.messages.claim(3):
        fleet.messages.acknowledge(message)
    silent = fleet_database.connect("silent")
    kill_session(owner, "silent/1 incarnation")
    with owner.transaction():
        owner.execute("SELECT 1 FROM fleet.messages FOR UPDATE")
        owner.execute("SELECT 1 FROM fleet.incarnations FOR UPDATE")
        began = time.monotonic()
        assert fleet.retention.sweep("messages", keep_s=0) == 0
        assert fleet.retention.close_silent(keep_s=0) == 0
        assert time.monotonic() - began < 4, "it waited until its lock_timeout"
    assert fleet.retention.sweep("messages", keep_s=0, n=2) == 2  # a batch a call, however much there is
    assert fleet.retention.sweep("messages", keep_s=0) == 1
    assert fleet.retention.close_silent(keep_s=0) == 1
    silent.close()


def test_a_sweep_that_waits_for_a_table_gives_up(fleet: Fleet, owner: Owner) -> None:
    with (
        planted(owner, "sweep", ("SET lock_timeout TO '5s'", "SET lock_timeout TO '50ms'")),
        owner.transaction(),
    ):
        owner.execute("LOCK TABLE fleet.events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseError, match="lock timeout"):
            fleet.retention.sweep("events", keep_s=0)


def _in_crowds(start: Callable[[], int], dsn: str, rounds: int) -> int:
    """Claim and report many rows at once; give how often it was told to try again."""
    busy = 0
    with connect(dsn, "crowd") as fleet:
        start()
        for number in range(rounds):
            try:
                jobs = fleet.jobs.claim("crowd", 20)
                for job in jobs if number % 2 else jobs[::-1]:
                    fleet.jobs.fail(job, "again")
                fleet.messages.broadcast("SYSTEM_EVENT", EVENT, dedupe_key=f"round {number}")
                fleet.retention.sweep("engagement_locks", keep_s=0)
                for message in fleet.messages.claim(20):
                    fleet.messages.acknowledge(message)
            except FleetError:
                busy += 1
    return busy


def test_many_rows_at_once_are_locked_in_one_order(fleet_database: FleetDatabase, owner: Owner) -> None:
    with fleet_database.connect() as fleet:
        for number in range(60):
            fleet.jobs.enqueue("crowd", {"number": number}, max_attempts=1000)
    owner.execute(
        "INSERT INTO fleet.workers (name, enabled, replicas, description, changed_by, reason, changed_at) "
        "SELECT n, true, 1, '', 't', 't', now() FROM unnest(ARRAY['crowd', 'a', 'b', 'c']) n"
    )
    before = value(owner, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert together(_in_crowds, 6, fleet_database.dsn("worker"), 8) == [0] * 6
    owner.execute("SELECT pg_stat_force_next_flush()") if _flushes(owner) else None
    after = value(owner, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert after == before


def _flushes(owner: Owner) -> bool:
    return bool(value(owner, "SELECT to_regproc('pg_stat_force_next_flush') IS NOT NULL"))


def test_deleting_what_others_refer_to_scans_no_table(owner: Owner) -> None:
    """A foreign key without an index on its own side reads the whole table for each row that goes."""
    assert (
        rows(
            owner,
            "SELECT c.conrelid::regclass::text, c.conname FROM pg_constraint c "
            "WHERE c.contype = 'f' AND c.connamespace = 'fleet'::regnamespace AND c.conparentid = 0 "
            "AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL "
            "AND (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] @> c.conkey)",
        )
        == []
    )


def test_no_row_of_a_worker_holds_its_deletion_up(fleet: Fleet, owner: Owner) -> None:
    """What a life left names it by value: a worker's row, or an incarnation's, goes without a look at it."""
    fleet.jobs.enqueue("a")
    fleet.jobs.claim("a")
    fleet.heartbeats.beat(state="READY", progress=1)
    referring = value(
        owner,
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' "
        "AND confrelid IN ('fleet.workers'::regclass, 'fleet.incarnations'::regclass)",
    )
    assert referring == 0


def test_a_beat_says_what_the_loop_did_and_not_that_it_lives(fleet: Fleet, owner: Owner) -> None:
    """A thread that beats over a loop that hangs: the time of the last progress stays where it was."""
    progressed: list[Any] = []
    for _ in range(3):
        fleet.heartbeats.beat(state="BUSY", progress=7)
        progressed.append(value(owner, "SELECT progressed_at FROM fleet.heartbeats"))
    assert len(set(progressed)) == 1
    assert value(owner, "SELECT beat_at > progressed_at FROM fleet.heartbeats")
    fleet.heartbeats.beat(state="BUSY", progress=8)
    assert value(owner, "SELECT progressed_at FROM fleet.heartbeats") > progressed[0]


def test_a_mutex_in_a_block_that_is_rolled_back_is_gone_and_our_functions_would_let_two_in(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    """Why the ground rule is one: the same functions, with the mutex in such a block."""
    mutex = "PERFORM pg_advisory_xact_lock(fleet.lock_key('content', tweet_id));"
    lost = f"BEGIN {mutex} RAISE EXCEPTION 'undone'; EXCEPTION WHEN raise_exception THEN NULL; END;"
    with planted(owner, "request_lock", (mutex, lost)), psycopg.connect(fleet_database.dsn("worker")) as one:
        with fleet_database.connect() as fleet:
            one.execute(f"SELECT fleet.request_lock('{fleet.incarnation.id}', 'c', 'w', 'analysis')".encode())
            held = value(owner, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s",
                         one.info.backend_pid)  # fmt: skip
            assert held == 0
        one.rollback()
    with psycopg.connect(fleet_database.dsn("worker")) as one, fleet_database.connect() as fleet:
        one.execute(f"SELECT fleet.request_lock('{fleet.incarnation.id}', 'c', 'w', 'analysis')".encode())
        held = value(owner, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s",
                     one.info.backend_pid)  # fmt: skip
        assert held == 1
        one.rollback()


def test_what_was_committed_during_the_wait_is_seen_after_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """A STABLE function would still see the lease as it was before, and grant the content twice."""
    granted: list[Any] = []

    def ask() -> None:
        with fleet_database.connect("second") as second:
            granted.append(second.engagement.request_lock("1", "second/1", "analysis"))

    waiting = threading.Thread(target=ask)
    with psycopg.connect(fleet_database.dsn("worker")) as first:
        first.execute(f"SELECT fleet.request_lock('{fleet.incarnation.id}', '1', 'w', 'analysis')".encode())
        waiting.start()
        until(lambda: value(owner, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, 10)
        first.commit()
    waiting.join()
    assert granted == [None]
