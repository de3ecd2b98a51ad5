"""Deliveries: answers with the acknowledgement, renewed leases, ageing, late reports, counts, deaths."""

import os
import signal
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.errors import InvalidValueError, LockLostError
from coordination.messages import Message, Reply, get_message_status, replay
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import PROCESSES, until
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

TASK = "TASK_DELEGATION"
DO: dict[str, Any] = {"kind": "do"}


def one(fleet: Fleet, **changes: Any) -> Message:
    """A claimed message from the fleet's own worker to itself."""
    fleet.messages.send(TASK, "tester", DO, **changes)
    return fleet.messages.claim()[0]


# Answers


def test_an_answer_goes_to_the_sender_with_the_acknowledgement(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    with fleet_database.connect("asker") as asker:
        asked = asker.messages.send(TASK, "tester", DO, priority="high")
        (message,) = fleet.messages.claim()
        answered = fleet.messages.acknowledge(message, Reply(payload={"kind": "done"}))
        (answer,) = asker.messages.claim()
    assert (answer.id, answer.reply_to, answer.sender) == (answered, asked, "tester")
    assert (answer.type, answer.priority, answer.payload) == (TASK, "high", {"kind": "done"})


def test_an_answer_that_is_refused_leaves_the_message_unacknowledged(fleet: Fleet, owner: Owner) -> None:
    message = one(fleet)
    with pytest.raises(InvalidValueError) as refusal:
        fleet.messages.acknowledge(message, Reply(payload={"kind": "post_analysed"}))
    assert refusal.value.field.startswith("payload.")
    assert rows(owner, "SELECT state FROM fleet.messages") == [("claimed",)]
    fleet.messages.acknowledge(message)


def test_who_lost_the_lease_gives_no_answer(fleet: Fleet, owner: Owner) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (lost,) = fleet.messages.claim(lease_s=0.01)
    until(lambda: bool(fleet.messages.claim()), 5)
    with pytest.raises(LockLostError):
        fleet.messages.acknowledge(lost, Reply(payload=DO))
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 1


def _work(dsn: str) -> None:
    with connect(dsn, "crew", slot=os.getpid()) as fleet:
        while True:
            for message in fleet.messages.claim(3):
                fleet.messages.acknowledge(message, Reply(payload=DO | {"n": message.payload["n"]}))


def test_8_processes_under_kill_9_lose_nothing_and_answer_each_once_i15(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    number, kills = 400, 12
    fleet_database.connect("crew").close()
    for n in range(number):
        fleet.messages.send(TASK, "crew", DO | {"n": n}, max_attempts=100)
    crew = [
        PROCESSES.Process(target=_work, args=(fleet_database.dsn("worker"),), daemon=True) for _ in range(8)
    ]
    for process in crew:
        process.start()

    def acknowledged() -> int:
        done = "SELECT count(*) FROM fleet.messages WHERE recipient = 'crew' AND state = 'acknowledged'"
        return int(value(owner, done))

    try:
        for kill in range(kills):
            until(lambda k=kill: acknowledged() >= k * number // (kills + 2), 60)
            doomed = crew.pop(0)
            os.kill(doomed.pid or 0, signal.SIGKILL)
            doomed.join()
            crew.append(PROCESSES.Process(target=_work, args=(fleet_database.dsn("worker"),), daemon=True))
            crew[-1].start()
        until(lambda: acknowledged() == number, 60)
    finally:
        for process in crew:
            process.kill()
            process.join()
    answers = rows(
        owner, "SELECT reply_to, (payload->>'n')::integer FROM fleet.messages WHERE recipient = 'tester'"
    )
    assert len(answers) == number
    assert {n for _, n in answers} == set(range(number))
    assert len({asked for asked, _ in answers}) == number
    assert value(owner, "SELECT count(*) FROM fleet.messages WHERE state = 'dead'") == 0


# Leases


def test_a_renewed_lease_goes_on_from_now(fleet: Fleet, owner: Owner) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (message,) = fleet.messages.claim(lease_s=5)
    until_at = fleet.messages.renew(message, 600)
    assert value(owner, "SELECT lease_expires_at FROM fleet.messages") == until_at
    assert value(owner, "SELECT lease_expires_at > clock_timestamp() + interval '590 s' FROM fleet.messages")
    fleet.messages.acknowledge(message)


def test_a_lease_that_ran_out_or_is_anothers_is_not_renewed_and_counted(fleet: Fleet, owner: Owner) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (lost,) = fleet.messages.claim()
    owner.execute("UPDATE fleet.messages SET lease_expires_at = clock_timestamp()")
    with pytest.raises(LockLostError, match="ran out"):
        fleet.messages.renew(lost)
    until(lambda: bool(fleet.messages.claim()), 5)
    with pytest.raises(LockLostError, match="is lost"):
        fleet.messages.renew(lost)
    assert value(owner, "SELECT late_reports FROM fleet.messages") == 2
    told = rows(owner, "SELECT source, message FROM fleet.events WHERE kind = 'lease_lost'")
    assert [source for source, _ in told] == ["tester/1", "tester/1"]


@pytest.mark.parametrize(("lease_s", "given"), [(0, "0"), (float("nan"), "NaN"), (86_401, "86401")])
def test_a_renewal_for_an_impossible_time_is_refused_by_name(
    fleet: Fleet, lease_s: float, given: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.messages.renew(one(fleet), lease_s)
    assert_refused(refusal, "lease_s", given)


def test_a_strangers_report_is_not_counted_as_the_workers(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    message = one(fleet)
    with fleet_database.connect("stranger") as stranger, pytest.raises(LockLostError):
        stranger.messages.acknowledge(message)
    assert value(owner, "SELECT late_reports FROM fleet.messages") == 0
    fleet.messages.acknowledge(message)


# Sent once more


def test_a_dead_letter_that_is_sent_once_more_has_its_whole_time_again_however_often(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    sent = fleet.messages.send(TASK, "tester", DO, ttl_s=600)
    for _ in range(3):
        fleet_database.advance(400)
        assert fleet.messages.escalate_waiting() == [sent]
        fleet_database.advance(3600)
        assert fleet.messages.expire()[0] >= 1
        replay(console, sent, actor="me", reason="mended")
        assert fleet.messages.escalate_waiting() == []
        (message,) = fleet.messages.claim()
        assert message.attempt == 1
        assert (message.expires_at - message.sent_at).total_seconds() == 600
        fleet.messages.reject(message, "not now", 0, counts=False)


# Order


@pytest.mark.parametrize(("minutes", "first"), [(29, "critical"), (31, "low")])
def test_a_step_of_priority_is_worth_ten_minutes_of_waiting_i12(
    fleet_database: FleetDatabase, fleet: Fleet, minutes: float, first: str
) -> None:
    fleet.messages.send(TASK, "tester", DO, priority="low", ttl_s=86_400)
    fleet_database.advance(minutes * 60)
    fleet.messages.send(TASK, "tester", DO, priority="critical")
    assert fleet.messages.claim()[0].priority == first


def _rounds(database: FleetDatabase, fleet: Fleet) -> int:
    """Every five minutes two urgent ones come and one is taken; how many until the low one, 30 at most."""
    low = fleet.messages.send(TASK, "tester", DO, priority="low", ttl_s=86_400)
    for number in range(1, 30):
        for _ in range(2):
            fleet.messages.send(TASK, "tester", DO, priority="critical", ttl_s=86_400)
        (taken,) = fleet.messages.claim()
        fleet.messages.acknowledge(taken)
        if taken.id == low:
            return number
        database.advance(300)
    return 30


def test_a_low_message_is_not_starved_by_a_stream_of_urgent_ones_i12(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    assert 12 <= _rounds(fleet_database, fleet) <= 15  # those of half an hour go first: twelve, and the tie


def test_without_ageing_a_low_message_is_starved(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fault = ("ORDER BY m.turn, m.id LIMIT n", "ORDER BY m.rank DESC, m.due_at, m.id LIMIT n")
    with planted(owner, "take_messages", fault):
        assert _rounds(fleet_database, fleet) == 30


# Counts


def test_the_status_says_what_waits_how_fast_it_is_taken_and_what_failed(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    reader = fleet_database.database("reader")
    empty = get_message_status(reader)
    assert (empty["waiting"], empty["claimed"], empty["oldest_waiting_s"], empty["delivered"]) == (0, 0, 0, 0)
    assert empty["delivery_s_p95"] is None
    fleet.messages.send(TASK, "tester", DO)
    fleet_database.advance(30)
    fleet.messages.acknowledge(fleet.messages.claim()[0])
    dead = one(fleet, max_attempts=2)
    fleet.messages.reject(dead, "x", 0)
    fleet.messages.reject(fleet.messages.claim()[0], "x", 0)
    fleet.messages.send(TASK, "painter", DO, to="role")
    fleet.messages.send(TASK, "tester", DO)
    fleet_database.advance(60)
    status = get_message_status(console)
    reader.close()
    assert (status["waiting"], status["unrouted"], status["claimed"]) == (2, 1, 0)
    assert status["recipients"] == {"tester": 1, "role painter": 1}
    assert 60 <= status["oldest_waiting_s"] < 70
    assert (status["acknowledged"], status["dead"], status["redeliveries"], status["late_reports"]) == (
        1,
        1,
        1,
        0,
    )
    assert status["delivered"] == 2
    assert 30 <= status["delivery_s_max"] <= status["delivery_s_sum"] < 40


@pytest.mark.parametrize(("hours", "given"), [(0, "0"), (float("nan"), "NaN"), (8785, "8785")])
def test_a_status_of_an_impossible_time_is_refused_by_name(
    console: Database, hours: float, given: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        get_message_status(console, hours)
    assert_refused(refusal, "hours", given)
