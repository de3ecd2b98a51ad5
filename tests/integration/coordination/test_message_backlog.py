"""A backlog of messages: a claim reads no more the more there are, and none hides one whose holder died."""

from collections.abc import Callable
from typing import LiteralString
from uuid import UUID

import psycopg

from coordination import Fleet, connect
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until, victim
from tests.integration.coordination.tables import Owner, value

SEND: LiteralString = """
    INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload,
        sent_at, expires_at, state, max_attempts, due_at, incarnation, lease, lease_expires_at)
    SELECT 'TASK_DELEGATION', 'tester', 'worker', %(worker)s, %(worker)s, 'medium', 2, '{"kind": "do"}',
        fleet.now(), fleet.now() + interval '1 hour',
        CASE WHEN %(holder)s::uuid IS NULL THEN 'waiting' ELSE 'claimed' END, 5, fleet.now(), %(holder)s, n,
        clock_timestamp() + interval '1 hour'
    FROM generate_series(1, %(number)s) n
"""


def send(owner: Owner, number: int, worker: str = "tester", *, held_by: str | None = None) -> None:
    """So many messages to a worker, as its senders and holder would have left them."""
    owner.execute(SEND, {"worker": worker, "holder": held_by, "number": number})


def touched(owner: Owner, statement: str, *parameters: object) -> int:
    """The rows of messages that a statement reads; what it did is undone."""
    counted: LiteralString = (
        "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables "
        "WHERE schemaname = 'fleet' AND relname = 'messages'"
    )
    with owner.transaction(force_rollback=True):
        before = value(owner, counted)
        owner.execute(statement.encode(), parameters)
        return int(value(owner, counted) - before)


def _claim_and_hold(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "tester", slot=9)
    keep(fleet)
    return fleet.messages.claim(lease_s=3600)[0].id


def test_150_messages_of_the_living_do_not_hide_that_of_one_who_died_i15(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with fleet_database.connect("tester", slot=2) as alive, fleet_database.connect("tester", slot=3) as heir:
        send(owner, 150, held_by=str(alive.incarnation.id))
        send(owner, 1)
        with victim(_claim_and_hold, fleet_database.dsn("worker")) as doomed:
            doomed.kill()
            until(lambda: [one.id for one in heir.messages.claim()] == [doomed.result], 2)


def test_a_beat_tells_of_the_dead_however_many_others_hold_messages(fleet: Fleet, owner: Owner) -> None:
    living = [str(UUID(int=n)) for n in range(1, 41)]
    with owner.transaction(force_rollback=True):
        for one in living:
            owner.execute("SELECT pg_advisory_xact_lock(fleet.lock_key('incarnation', %s))", (one,))
        with psycopg.connect(owner.info.dsn, password=owner.info.password, autocommit=True) as holders:
            for one in [*living, str(UUID(int=2**128 - 1))]:
                send(holders, 1, held_by=one)
        beat = fleet.heartbeats.beat(
            state="READY", reason=None, step=None, progress=1, healthy=True, health={}, memory_bytes=1
        )
    assert beat.mail_in_s == 0


def test_a_claim_reads_no_more_rows_the_more_there_are(fleet: Fleet, owner: Owner) -> None:
    me, claim = str(fleet.incarnation.id), "SELECT fleet.claim_messages(%s, 10)"
    send(owner, 3000)
    assert touched(owner, claim, me) < 30  # each to choose it and to write it, a few to plan
    owner.execute("ANALYZE fleet.messages")
    assert touched(owner, claim, me) < 30


def test_a_claim_does_not_read_what_is_due_much_later(fleet: Fleet, owner: Owner) -> None:
    send(owner, 3000)
    owner.execute("UPDATE fleet.messages SET due_at = due_at + interval '1 hour'")
    owner.execute("ANALYZE fleet.messages")
    assert touched(owner, "SELECT fleet.claim_messages(%s, 10)", str(fleet.incarnation.id)) < 10


def test_routing_does_not_read_what_is_addressed_by_name(
    fleet: Fleet, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",), writer=("prose",))
    send(owner, 3000, "painter")
    owner.execute("ANALYZE fleet.messages")
    assert touched(owner, "SELECT fleet.route_messages(%s)", str(fleet.incarnation.id)) < 10


def test_the_most_urgent_of_many_roles_messages_are_found_without_reading_the_others(
    fleet: Fleet, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",))
    send(owner, 3000, "colour")
    owner.execute("UPDATE fleet.messages SET recipient_kind = 'role', routed_to = NULL")
    owner.execute("ANALYZE fleet.messages")
    assert touched(owner, "SELECT fleet.route_messages(%s, 10)", str(fleet.incarnation.id)) < 50
