"""Traps of locks: each rule's test, and beside it the broken rule that the test finds."""

import random
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event
from typing import Any, LiteralString

import psycopg
import pytest

from coordination import Fleet, connect, engagement
from coordination.database import Database
from coordination.engagement import Lease
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import together, until
from tests.integration.coordination.lock_lines import unhurried
from tests.integration.coordination.tables import Owner, planted, rows, value
from tests.quickly import quickly
from workers.progress import Progress
from workers.pulse import Pulse

MUTEX = "PERFORM pg_advisory_xact_lock(fleet.lock_key('content', tweet_id));"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


# The mutex


def is_free(owner: Owner, content: str = "1") -> bool:
    """Whether another session could have the content's mutex."""
    return bool(value(owner, "SELECT pg_try_advisory_xact_lock(fleet.lock_key('content', %s))", content))


def asks_in_a_transaction(database: FleetDatabase, fleet: Fleet, look: Callable[[], bool]) -> bool:
    """Ask for a lock, and look before the commit."""
    with psycopg.connect(database.dsn("worker")) as connection:
        connection.execute(
            "SELECT fleet.request_lock(%s, '1', 'w', 'analysis')", (fleet.incarnation.id,)
        ).fetchone()
        return look()


def test_the_mutex_lasts_until_the_commit(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    assert not asks_in_a_transaction(fleet_database, fleet, lambda: is_free(owner))
    assert is_free(owner)


def test_a_mutex_taken_in_a_block_that_is_undone_would_not(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    in_a_block = f"BEGIN {MUTEX} PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN NULL; END;"
    with planted(owner, "request_lock", (MUTEX, in_a_block)):
        assert asks_in_a_transaction(fleet_database, fleet, lambda: is_free(owner))


@contextmanager
def mutex_held(dsn: str, content: str = "1") -> Generator[psycopg.Connection[Any]]:
    """Another transaction has the content's mutex until it commits."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(fleet.lock_key('content', %s))", (content,))
        yield connection


def lease_after_a_wait(database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor) -> bool:
    """Ask while another has the mutex; say whether the lease's minute began after the wait."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with mutex_held(database.superuser_dsn) as other:
        asked: Future[Lease | None] = pool.submit(
            fleet.engagement.request_lock, "1", "tester/1", "analysis", 1
        )
        until(lambda: value(owner, waiting) == 1, 5)
        waited_until: datetime = value(owner, "SELECT clock_timestamp()")
        other.commit()
    lease = asked.result(10)
    assert lease is not None
    return lease.lease_expires_at >= waited_until + timedelta(minutes=1)


def test_a_lease_begins_after_the_wait_for_the_mutex(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    assert lease_after_a_wait(fleet_database, fleet, owner, pool)


def test_a_time_read_before_the_wait_would_be_found(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    with planted(owner, "take_lock", ("real := clock_timestamp();", "real := statement_timestamp();")):
        assert not lease_after_a_wait(fleet_database, fleet, owner, pool)


def test_contents_whose_keys_collide_are_still_two_contents(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    sound = str(value(owner, "SELECT pg_get_functiondef('fleet.lock_key'::regproc)"))
    head, body = sound.split("RETURN ", 1)
    same = f"{head}RETURN CASE WHEN namespace = 'content' THEN 7::bigint ELSE {body.strip()} END"
    owner.execute(same.encode())
    try:
        assert value(owner, "SELECT fleet.lock_key('content', 'a') = fleet.lock_key('content', 'b')")
        with fleet_database.connect("other") as other:
            first = fleet.engagement.request_lock("a", "tester/1", "analysis")
            second = other.engagement.request_lock("b", "other/1", "analysis")
            assert first is not None
            assert second is not None
            assert other.engagement.request_lock("a", "other/1", "analysis") is None
            fleet.engagement.release_lock(first)
            assert other.engagement.request_lock("a", "other/1", "analysis") is not None
    finally:
        owner.execute(sound.encode())


# Liveness and tokens


def asks_twice_in_one_session(database: FleetDatabase) -> list[bool]:
    """A worker that plays everything over one session: its own session lock is always its own."""
    life = "0b7b7c1e-0000-4000-8000-000000000001"
    with psycopg.connect(database.dsn("worker"), autocommit=True) as connection:
        connection.execute(
            "SELECT fleet.open_incarnation(%s, 'player', 1, 'h', 1, '1', 'b', 'n')", (life,)
        ).fetchone()
        answers: list[Any] = [
            connection.execute("SELECT fleet.request_lock(%s, '1', 'w', 'analysis')", (life,)).fetchone()
            for _ in range(2)
        ]
        connection.execute("SELECT fleet.close_incarnation(%s, 'over')", (life,))
    return [answer[0]["granted"] for answer in answers]


def test_nobody_takes_its_own_lock_for_a_dead_ones(fleet_database: FleetDatabase) -> None:
    assert asks_twice_in_one_session(fleet_database) == [True, False]


def test_a_check_from_ones_own_session_would_be_found(fleet_database: FleetDatabase, owner: Owner) -> None:
    guard = "lease.incarnation = me OR NOT fleet.is_suspected(lease.incarnation)"
    with planted(owner, "lease_before", (guard, "NOT fleet.is_suspected(lease.incarnation)")):
        assert asks_twice_in_one_session(fleet_database) == [True, True]


IN_A_WHERE: LiteralString = (
    "SELECT proname FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace "
    "AND prosrc ~ 'WHERE((?!LOOP|THEN)[^;])*(is_suspected|pg_try_advisory)'"
)


def test_whether_a_session_lives_is_never_asked_in_a_where(owner: Owner) -> None:
    """A plan may evaluate it for rows that it then drops, several times, each taking a lock."""
    assert rows(owner, IN_A_WHERE) == []
    owner.execute(
        "CREATE FUNCTION fleet.careless() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN "
        "RETURN (SELECT count(*) FROM fleet.engagement_locks l WHERE fleet.is_suspected(l.incarnation)); "
        "END $$"
    )
    try:
        assert rows(owner, IN_A_WHERE) == [("careless",)]
    finally:
        owner.execute("DROP FUNCTION fleet.careless()")


def test_tokens_rise_over_sessions_contents_and_rows_that_were_swept_i2(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    assert (
        value(owner, "SELECT seqcache FROM pg_sequence WHERE seqrelid = 'fleet.fencing_token'::regclass") == 1
    )
    tokens: list[int] = []
    with fleet_database.connect("one") as one, fleet_database.connect("two") as two:
        for turn in range(6):
            life = (one, two)[turn % 2]
            lease = life.engagement.request_lock(f"content {turn % 3}", "w", "analysis")
            assert lease is not None
            tokens.append(lease.fencing_token)
            owner.execute("DELETE FROM fleet.engagement_locks")
    assert tokens == sorted(set(tokens))


def test_a_claim_of_locks_leaves_no_advisory_lock_behind_i19(fleet: Fleet, owner: Owner) -> None:
    held: LiteralString = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    before = value(owner, held)
    for number in range(50):
        assert fleet.engagement.request_lock(f"content {number}", "tester/1", "analysis") is not None
    assert value(owner, held) == before


# Many at once, over scopes


def _mixed(start: Callable[[], int], dsn: str, seed: int) -> list[tuple[str, str, int, float, float]]:
    """Take and give back two contents in every scope; give (content, scope, token, from, to)."""
    owned: list[tuple[str, str, int, float, float]] = []
    chance = random.Random(f"{seed} {start()}")
    with connect(dsn, "contender") as fleet:
        for _ in range(25):
            content, account = chance.choice("ab"), chance.choice(("sandbox", "default"))
            scope = chance.choice(("fleet", "account", "account"))
            lease = fleet.engagement.request_lock(
                content, "contender", "quote", 1, scope=scope, account=account,
                wait_s=chance.choice((0, 5)), priority=chance.choice(("low", "medium", "critical")),
            )  # fmt: skip
            if lease is not None:
                began = time.monotonic()
                fleet.engagement.has_recent_engagement(content)
                owned.append(
                    (
                        content,
                        account if scope == "account" else "",
                        lease.fencing_token,
                        began,
                        time.monotonic(),
                    )
                )
                fleet.engagement.release_lock(lease)
    return owned


@pytest.mark.parametrize("interval_s", [0, 0.001], ids=["free", "spaced"])
def test_scopes_that_meet_never_overlap_and_nobody_waits_in_a_circle_i1_i2(
    fleet_database: FleetDatabase, owner: Owner, console: Database, interval_s: float
) -> None:
    # Under an interval a grant takes the account's row too, after the content's mutex.
    set_setting(console, "engagement_spacing_s", interval_s, actor="me", reason="test")
    owned = sorted(
        (one for life in together(_mixed, 8, fleet_database.dsn("worker"), 7) for one in life),
        key=lambda one: one[3],
    )
    assert len(owned) > 50
    for number, (content, scope, token, _, ended) in enumerate(owned):
        for other_content, other_scope, other_token, other_began, _ in owned[number + 1 :]:
            if content == other_content and (scope == other_scope or "" in {scope, other_scope}):
                assert token < other_token
                assert ended < other_began
    assert value(owner, "SELECT count(*) FROM fleet.lock_waiters") == 0
    assert value(owner, "SELECT count(*) FROM fleet.engagement_locks") == 0


# Who is woken


@pytest.fixture
def drowsy(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who waits polls once a minute: only a wake-up gives it a lock sooner."""
    monkeypatch.setattr(engagement, "POLL_S", 60.0)
    with unhurried(owner):
        yield


sleeps = pytest.mark.usefixtures("drowsy")


def is_asleep(owner: Owner, waiter: Fleet) -> bool:
    """It stands in line, and hears its own channel."""
    return bool(
        value(owner, "SELECT count(*) FROM fleet.lock_waiters")
        and rows(
            owner,
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE %s",
            f"%LISTEN%{waiter.incarnation.id.hex}%",
        )
    )


def sleeper(waiter: Fleet, pool: ThreadPoolExecutor, owner: Owner, content: str) -> Future[Lease | None]:
    waiting: Future[Lease | None] = pool.submit(
        waiter.engagement.request_lock, content, "waiter/1", "analysis", wait_s=50
    )
    until(lambda: is_asleep(owner, waiter), 10)
    return waiting


@sleeps
def test_who_gives_a_lock_back_wakes_who_waits(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "analysis")
    assert lease is not None
    with fleet_database.connect("waiter") as waiter:
        waiting = sleeper(waiter, pool, owner, "1")
        fleet.engagement.release_lock(lease)
        assert waiting.result(20) is not None
        # It hears no more of it.
        last = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s"
        assert value(owner, last, f"UNLISTEN%{waiter.incarnation.id.hex}%") == 1


@sleeps
def test_a_worker_whose_heartbeat_reads_its_wake_ups_is_woken_too(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "analysis")
    assert lease is not None
    with fleet_database.connect("waiter") as waiter:
        pulse = Pulse(waiter, Progress(), Event())
        pulse.begin(Event())
        try:
            waiting: Future[Lease | None] = pool.submit(
                waiter.engagement.request_lock, "1", "waiter/1", "analysis", wait_s=50
            )
            until(lambda: value(owner, "SELECT count(*) FROM fleet.lock_waiters") == 1, 10)
            until(lambda: waiter.incarnation.sleep.is_listening, 10)
            fleet.engagement.release_lock(lease)
            assert waiting.result(20) is not None
        finally:
            pulse.end()


@sleeps
@pytest.mark.parametrize("way", ["settled", "unclaimed", "refused"])
def test_the_ledger_wakes_who_waits_for_the_lock_that_it_gives_back(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor, way: str
) -> None:
    act = acts.prepared_towards(fleet, "reply", "1999")
    with fleet_database.connect("waiter") as waiter:
        waiting = sleeper(waiter, pool, owner, "1999")
        if way == "settled":
            assert "wake" not in acts.posted(fleet, act, "2000")
        elif way == "unclaimed":
            assert "wake" not in fleet.ledger.unclaim(act.claim, "tester/1", "not now")
        else:
            owner.execute(
                "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
                "VALUES ('1999', 'quote', 'x', true, fleet.now())"
            )
            assert not acts.begin(fleet, act).sending
        assert waiting.result(20) is not None


def test_no_function_of_the_locks_notifies_in_its_own_transaction(owner: Owner) -> None:
    notifying = {
        name
        for (name,) in rows(
            owner,
            "SELECT proname FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace "
            "AND prosrc ~ '(pg_notify|\\mNOTIFY\\M)'",
        )
    }
    assert "wake_incarnation" in notifying
    assert not notifying & {
        "request_lock", "poll_lock", "leave_line", "grant_lock", "release_lock", "free_lock", "settle",
        "unclaim_intent", "refuse_send", "line_up", "end_wait", "escalate_wait",
    }  # fmt: skip


@pytest.mark.timed
def test_a_lock_changes_hands_in_milliseconds(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    def hand_over() -> float:
        lease = fleet.engagement.request_lock("1", "tester/1", "analysis")
        assert lease is not None
        with fleet_database.connect("waiter") as waiter:
            waiting = sleeper(waiter, pool, owner, "1")
            began = time.monotonic()
            fleet.engagement.release_lock(lease)
            got = waiting.result(10)
            took_s = time.monotonic() - began
            assert got is not None
            waiter.engagement.release_lock(got)
        return took_s

    quickly(hand_over, within_s=0.1)
