"""Messages: sent once, taken by one, redelivered when a holder ends, dead letters with every error kept."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from coordination import Fleet, connect
from coordination.commands import request_command
from coordination.conflicts import Contender, decide_conflict
from coordination.database import Database
from coordination.errors import InvalidValueError, LockLostError
from coordination.messages import Message, Reply, replay
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

TASK = "TASK_DELEGATION"
DO: dict[str, Any] = {"kind": "do"}
"""A task of a kind that the fleet itself doesn't know."""


def deaths(owner: Owner) -> list[tuple[str, str]]:
    return rows(owner, "SELECT severity, message FROM fleet.events WHERE kind = 'dead_letter' ORDER BY id")


def claimed(fleet: Fleet, within_s: float = 2) -> Message:
    """The next message, as soon as it can be had."""
    taken: list[Message] = []
    until(lambda: bool(taken.extend(fleet.messages.claim()) or taken), within_s)
    return taken[0]


# Sending


def test_a_message_arrives_with_everything_that_was_sent(fleet: Fleet) -> None:
    asked = fleet.messages.send(TASK, "tester", DO | {"n": [1, "ü", None]}, priority="high", ttl_s=60)
    sent = fleet.messages.send(
        "STATE_SYNC", "tester", {"key": "k", "version": 7}, reply_to=asked, priority="low"
    )
    first, second = fleet.messages.claim(5)
    assert (first.id, first.type, first.sender, first.to) == (asked, TASK, "tester", "worker")
    assert (first.payload, first.priority, first.attempt) == (DO | {"n": [1, "ü", None]}, "high", 1)
    assert (first.expires_at - first.sent_at).total_seconds() == 60
    assert (second.id, second.reply_to, second.payload) == (sent, asked, {"key": "k", "version": 7})
    assert second.lease > first.lease


def test_a_message_goes_to_its_addressee_alone(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    with fleet_database.connect("neighbour") as neighbour:
        sent = neighbour.messages.send(TASK, "tester", DO)
        assert neighbour.messages.claim() == []
        assert [one.id for one in fleet.messages.claim()] == [sent]


def test_higher_priority_goes_first_then_the_older(fleet: Fleet) -> None:
    order: list[tuple[Any, str]] = [
        ("low", "l"), ("medium", "m1"), ("critical", "c"), ("medium", "m2"), ("high", "h"),
    ]  # fmt: skip
    for priority, name in order:
        fleet.messages.send(TASK, "tester", DO | {"name": name}, priority=priority)
    assert [one.payload["name"] for one in fleet.messages.claim(4)] == ["c", "h", "m1", "m2"]
    assert [one.payload["name"] for one in fleet.messages.claim(4)] == ["l"]
    assert fleet.messages.claim(4) == []


def test_the_same_key_to_the_same_recipient_gives_the_message_that_is_there(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    first = fleet.messages.send(TASK, "tester", DO | {"n": 1}, dedupe_key="k")
    assert fleet.messages.send(TASK, "tester", DO | {"n": 2}, dedupe_key="k") == first
    with fleet_database.connect("other"):
        assert fleet.messages.send(TASK, "other", DO | {"n": 1}, dedupe_key="k") != first
    (message,) = fleet.messages.claim()
    fleet.messages.acknowledge(message)
    assert fleet.messages.send(TASK, "tester", DO | {"n": 3}, dedupe_key="k") == first
    assert rows(owner, "SELECT state, payload FROM fleet.messages WHERE recipient = 'tester'") == [
        ("acknowledged", DO | {"n": 1})
    ]


def _send_keyed(start: Callable[[], int], dsn: str) -> list[str]:
    with connect(dsn, "sender") as fleet:
        start()
        return [fleet.messages.send(TASK, "sender", DO, dedupe_key=f"k{n}") for n in range(20)]


def test_8_processes_that_send_the_same_make_one_message(fleet_database: FleetDatabase, owner: Owner) -> None:
    sent = together(_send_keyed, 8, fleet_database.dsn("worker"))
    assert all(ids == sent[0] for ids in sent)
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 20


def test_a_send_wakes_the_addressee_a_roles_message_the_coordinator_and_a_repeat_nobody(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    def woken() -> list[str]:
        # The listener gets what was committed, in order: its own mark is the end of what came before.
        fleet.database.call("wake", worker="mark")
        heard: list[str] = []
        until(lambda: bool(heard.extend(fleet.incarnation.wake_ups(1)) or "mark" in heard), 5)
        return heard[:-1]

    with fleet_database.connect("other"):
        fleet.messages.send(TASK, "other", DO, dedupe_key="k")
        assert woken() == ["other/messages"]
        fleet.messages.send(TASK, "other", DO, dedupe_key="k")
        assert woken() == []
        fleet.messages.send(TASK, "painter", DO, to="role")
        assert woken() == ["coordination"]


def test_what_was_sent_is_sent_though_nobody_can_be_woken(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",))
    nobody = ("PERFORM fleet.require_read_committed();", "RAISE EXCEPTION 'away' USING ERRCODE = '57P01';")
    with fleet_database.connect("other") as other, planted(owner, "wake", nobody):
        sent = fleet.messages.send(TASK, "other", DO)
        (message,) = other.messages.claim()
        assert other.messages.acknowledge(message, Reply(payload=DO)) is not None
        fleet.messages.send(TASK, "colour", DO, to="role")
        assert [one.worker for one in fleet.messages.route()] == ["painter"]
        fleet.messages.reject(fleet.messages.claim()[0], "no", None)
        dead = value(owner, "SELECT id::text FROM fleet.messages WHERE state = 'dead'")
        assert replay(console, dead, actor="me", reason="mended")["state"] == "waiting"
        both = [Contender(worker="other"), Contender(worker="tester")]
        settled = fleet.conflicts.resolve("k", "resource", "post 7", both)
        assert decide_conflict(console, settled.id, "other", actor="me", reason="so").winner == "other"
    assert value(owner, "SELECT count(*) FROM fleet.messages WHERE id = %s", sent) == 1


def test_what_came_from_outside_with_a_nul_is_sent_and_arrives(fleet: Fleet) -> None:
    fleet.messages.send(TASK, "tester", DO | {"text\0": ["a\0b", "\ud800"]})
    (message,) = fleet.messages.claim()
    assert message.payload == DO | {"text\ufffd": ["a\ufffdb", "?"]}


def test_64_kb_is_the_most_that_a_message_carries(fleet: Fleet) -> None:
    room = 65536 - len('{"x": "", "kind": "do"}')
    fleet.messages.send(TASK, "tester", DO | {"x": "a" * room})
    with pytest.raises(InvalidValueError) as refusal:
        fleet.messages.send(TASK, "tester", DO | {"x": "a" * (room + 1)})
    assert_refused(refusal, "payload", ('{"x": "' + "a" * 200)[:200])


@pytest.mark.parametrize(
    ("changes", "field", "given"),
    [
        ({"type": "GOSSIP"}, "type", "GOSSIP"),
        ({"type": None}, "type", None),
        ({"recipient": "nobody"}, "recipient", "nobody"),
        ({"recipient": "No Name"}, "recipient", "No Name"),
        ({"recipient": None}, "recipient", None),
        ({"to": "all"}, "recipient_kind", "all"),
        ({"to": "role", "recipient": "Ärzte"}, "recipient", "Ärzte"),
        ({"priority": "urgent"}, "priority", "urgent"),
        ({"reply_to": "7; DROP TABLE"}, "reply_to", "7; DROP TABLE"),
        ({"reply_to": "-1"}, "reply_to", "-1"),
        ({"dedupe_key": ""}, "dedupe_key", ""),
        ({"dedupe_key": "k" * 501}, "dedupe_key", "k" * 200),
        ({"ttl_s": 0.5}, "ttl_s", "0.5"),
        ({"ttl_s": 2592001}, "ttl_s", "2592001"),
        ({"ttl_s": float("nan")}, "ttl_s", "NaN"),
        ({"max_attempts": 0}, "max_attempts", "0"),
        ({"max_attempts": 1001}, "max_attempts", "1001"),
        ({"payload": {"x": float("nan")}}, "payload", "{'x': nan}"),
        ({"payload": {"x": {1, 2}}}, "payload", "{'x': {1, 2}}"),
        ({"payload": ["x"]}, "payload", '["x"]'),
        ({"payload": None}, "payload", "null"),
    ],
)
def test_a_bad_message_is_refused_by_name(
    fleet: Fleet, owner: Owner, changes: dict[str, Any], field: str, given: str | None
) -> None:
    good: dict[str, Any] = {"type": TASK, "recipient": "tester", "payload": DO}
    send = cast("Callable[..., str]", fleet.messages.send)
    with pytest.raises(InvalidValueError) as refusal:
        send(**good | changes)
    assert_refused(refusal, field, given)
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 0


def test_an_unknown_workers_refusal_says_which_there_are(fleet: Fleet, workers: Callable[..., None]) -> None:
    workers(poster=(), planner=())
    with pytest.raises(InvalidValueError, match="one of planner, poster"):
        fleet.messages.send(TASK, "postre", DO)


@pytest.mark.parametrize(
    ("options", "field", "given"),
    [({"n": 0}, "n", "0"), ({"n": 1001}, "n", "1001"), ({"lease_s": 0}, "lease_s", "0"),
     ({"lease_s": float("nan")}, "lease_s", "NaN"), ({"lease_s": 86401}, "lease_s", "86401")],
)  # fmt: skip
def test_a_bad_claim_is_refused_by_name(
    fleet: Fleet, options: dict[str, Any], field: str, given: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.messages.claim(**options)
    assert_refused(refusal, field, given)


@pytest.mark.parametrize(("retry_in_s", "given"), [(-1, "-1"), (2592001, "2592001"), (float("nan"), "NaN")])
def test_a_retry_at_an_impossible_time_is_refused_by_name(
    fleet: Fleet, retry_in_s: float, given: str
) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (message,) = fleet.messages.claim()
    with pytest.raises(InvalidValueError) as refusal:
        fleet.messages.reject(message, "later", retry_in_s)
    assert_refused(refusal, "retry_in_s", given)
    fleet.messages.acknowledge(message)


# Delivery


def _take_all(start: Callable[[], int], dsn: str) -> list[str]:
    done: list[str] = []
    with connect(dsn, "crew") as fleet:
        start()
        while messages := fleet.messages.claim(3):
            for message in messages:
                fleet.messages.acknowledge(message)
                done.append(message.id)
    return done


def _send_to_crew(fleet_database: FleetDatabase, fleet: Fleet, number: int) -> list[str]:
    fleet_database.connect("crew").close()
    return sorted(fleet.messages.send(TASK, "crew", DO | {"n": n}) for n in range(number))


def test_8_processes_take_every_message_once_i15(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    sent = _send_to_crew(fleet_database, fleet, 120)
    taken = together(_take_all, 8, fleet_database.dsn("worker"))
    assert sorted(message for messages in taken for message in messages) == sent
    assert rows(owner, "SELECT state, max(attempts), count(*) FROM fleet.messages GROUP BY state") == [
        ("acknowledged", 1, 120)
    ]


def test_without_the_row_lock_of_the_claim_two_take_the_same_message(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    _send_to_crew(fleet_database, fleet, 40)
    fault = ("LIMIT n FOR UPDATE SKIP LOCKED\n    ), taken", "LIMIT n\n    ), taken")
    wider = ("SELECT m.id FROM", "SELECT m.id, pg_sleep(0.02) FROM")  # a wider gap to meet in
    with (
        fleet_database.owner() as owner,
        planted(owner, "take_messages", fault, wider),
        pytest.raises(AssertionError, match="LockLostError"),
    ):
        together(_take_all, 8, fleet_database.dsn("worker"))


def _claim_and_hold(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "crew")
    keep(fleet)
    return fleet.messages.claim(lease_s=3600)[0].id


@pytest.mark.timed
def test_a_killed_holders_message_is_delivered_again_within_a_second_i8(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    _send_to_crew(fleet_database, fleet, 1)
    with (
        victim(_claim_and_hold, fleet_database.dsn("worker")) as doomed,
        fleet_database.connect("crew", slot=2) as heir,
    ):
        assert heir.messages.claim() == []
        doomed.kill()
        taken: list[Message] = []
        assert until(lambda: bool(taken.extend(heir.messages.claim()) or taken), 5) < 1
        assert (taken[0].id, taken[0].attempt) == (doomed.result, 2)
        heir.messages.acknowledge(taken[0])
    assert "ended" in value(owner, "SELECT errors->0->>'error' FROM fleet.messages")


def test_a_message_that_kills_whoever_takes_it_is_dead_in_the_end(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet_database.connect("crew").close()
    fleet.messages.send(TASK, "crew", DO, max_attempts=2)
    for _ in range(2):
        with victim(_claim_and_hold, fleet_database.dsn("worker")) as doomed:
            doomed.kill()
    with fleet_database.connect("crew") as heir:
        until(
            lambda: not heir.messages.claim() and value(owner, "SELECT state FROM fleet.messages") == "dead",
            2,
        )
    ((severity, message),) = deaths(owner)
    assert severity == "error"
    assert "2 of 2 attempts: its holder ended" in message


def test_a_zombies_reports_are_refused_and_change_nothing(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (lost,) = fleet.messages.claim(lease_s=0.01)
    with fleet_database.connect("tester", slot=2) as heir:
        taken = claimed(heir)
        assert taken.lease > lost.lease
        assert taken.attempt == 2
        held = "SELECT to_jsonb(m) - 'late_reports' FROM fleet.messages m"
        before = rows(owner, held)
        for report in (
            lambda: fleet.messages.acknowledge(lost),
            lambda: fleet.messages.reject(lost, "x"),
            lambda: fleet.messages.reject(lost, "x", None),
            lambda: fleet.messages.acknowledge(taken),  # the right lease in the wrong hands
        ):
            with pytest.raises(LockLostError, match="lease"):
                report()
        assert rows(owner, held) == before
        assert value(owner, "SELECT late_reports FROM fleet.messages") == 4
        heir.messages.acknowledge(taken)
        with pytest.raises(LockLostError):
            heir.messages.acknowledge(taken)


def test_without_the_lease_in_its_condition_a_zombies_acknowledgement_would_pass(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (lost,) = fleet.messages.claim(lease_s=0.01)
    held = claimed(fleet)
    fault = ("AND m.lease = held_message.lease ", "")
    with fleet_database.owner() as owner, planted(owner, "held_message", fault):
        fleet.messages.acknowledge(lost)
        assert value(owner, "SELECT state FROM fleet.messages") == "acknowledged"
    with pytest.raises(LockLostError):  # the one who works on it finds it ended behind its back
        fleet.messages.acknowledge(held)


def test_a_lone_worker_gets_its_own_message_back_when_the_lease_is_over(fleet: Fleet) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (lost,) = fleet.messages.claim(lease_s=0.01)
    again = claimed(fleet)
    assert again.id == lost.id
    fleet.messages.acknowledge(again)


def test_a_rejected_message_waits_its_time_and_is_dead_after_the_last_attempt_with_every_error(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    sent = fleet.messages.send(TASK, "tester", DO, max_attempts=3)
    for attempt in (1, 2, 3):
        (message,) = fleet.messages.claim()
        assert message.attempt == attempt
        rejected = fleet.messages.reject(message, f"error {attempt}\0", 60)
        assert (rejected.state, rejected.wait_s) == (("dead", None) if attempt == 3 else ("waiting", 60))
        assert fleet.messages.claim() == []
        fleet_database.advance(61)
    assert fleet.messages.claim() == []
    errors = value(owner, "SELECT errors FROM fleet.messages")
    assert [(one["attempt"], one["error"]) for one in errors] == [(n, f"error {n}\ufffd") for n in (1, 2, 3)]
    ((severity, told),) = deaths(owner)
    assert severity == "error"
    assert f"message {sent} ({TASK} from tester to worker tester)" in told
    assert "3 of 3 attempts: error 3" in told


def test_the_wait_for_a_retry_is_told_in_real_seconds(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    fleet_database.advance(0, rate=60)
    fleet.messages.send(TASK, "tester", DO)
    (message,) = fleet.messages.claim()
    assert fleet.messages.reject(message, "later", 600).wait_s == 10


def test_a_retry_goes_behind_what_is_due_before_it(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    first = fleet.messages.send(TASK, "tester", DO)
    (message,) = fleet.messages.claim()
    fleet.messages.reject(message, "later", 1)
    second = fleet.messages.send(TASK, "tester", DO)
    fleet_database.advance(2)
    assert [one.id for one in fleet.messages.claim(2)] == [second, first]


def test_without_a_retry_a_message_is_dead_at_once(fleet: Fleet, owner: Owner) -> None:
    fleet.messages.send(TASK, "tester", DO)
    (message,) = fleet.messages.claim()
    assert fleet.messages.reject(message, "can't be read", None).state == "dead"
    assert rows(owner, "SELECT state, attempts FROM fleet.messages") == [("dead", 1)]
    assert "1 of 5 attempts: can't be read" in deaths(owner)[0][1]


def test_what_was_not_the_messages_fault_costs_it_no_attempt(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.messages.send(TASK, "tester", DO, max_attempts=1)
    for _ in range(3):
        (message,) = fleet.messages.claim()
        assert message.attempt == 1
        assert fleet.messages.reject(message, "the limit says wait", 60, counts=False).state == "waiting"
        assert fleet.messages.claim() == []
        fleet_database.advance(61)
    assert value(owner, "SELECT errors FROM fleet.messages") == []
    fleet.messages.acknowledge(fleet.messages.claim()[0])


# Expiry


def test_an_expired_message_is_delivered_no_more_and_becomes_a_dead_letter(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.messages.send(TASK, "tester", DO, ttl_s=60)
    fleet.messages.send(TASK, "tester", DO | {"n": 2}, ttl_s=120)
    assert fleet.messages.expire() == (0, 0)
    fleet_database.advance(61)
    assert [one.payload for one in fleet.messages.claim(5)] == [DO | {"n": 2}]
    assert fleet.messages.expire() == (1, 0)
    ((severity, message),) = deaths(owner)
    assert severity == "warning"
    assert "it expired: tester did not take it in time" in message
    assert fleet.messages.expire() == (0, 0)


def test_a_message_in_hand_is_its_holders_beyond_its_expiry_until_the_lease_is_over(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.messages.send(TASK, "tester", DO, ttl_s=60)
    fleet.messages.send(TASK, "tester", DO, ttl_s=60)
    kept, lost = fleet.messages.claim(lease_s=60)[0], fleet.messages.claim(lease_s=0.01)[0]
    fleet_database.advance(61)
    until(lambda: fleet.messages.expire() == (1, 0), 2)
    fleet.messages.acknowledge(kept)
    with pytest.raises(LockLostError):
        fleet.messages.acknowledge(lost)
    assert "its holder ended" in deaths(owner)[0][1]


def test_a_message_rejected_after_its_expiry_is_dead(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    fleet.messages.send(TASK, "tester", DO, ttl_s=60)
    (message,) = fleet.messages.claim()
    fleet_database.advance(61)
    assert fleet.messages.reject(message, "failed").state == "dead"


def test_a_role_that_nobody_has_keeps_its_message_until_it_expires_and_is_then_named(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(painter=("colour", "form"), writer=("prose",))
    fleet.messages.send(TASK, "music", DO, to="role", ttl_s=60)
    assert fleet.messages.route() == []
    assert rows(owner, "SELECT state, routed_to FROM fleet.messages") == [("waiting", None)]
    fleet_database.advance(61)
    assert fleet.messages.expire() == (1, 0)
    ((severity, message),) = deaths(owner)
    assert severity == "warning"
    assert "no running worker has the role music" in message
    assert "colour (painter), form (painter), prose (writer)" in message


# Broadcasts


def test_a_broadcast_is_one_message_for_each_enabled_worker(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(tester=(), painter=(), resting=())
    owner.execute("UPDATE fleet.workers SET enabled = false WHERE name = 'resting'")
    assert len(fleet.messages.broadcast("SYSTEM_EVENT", DO | {"n": 1})) == 2
    (own,) = fleet.messages.claim(5)
    assert (own.to, own.sender, own.payload) == ("all", "tester", DO | {"n": 1})
    with fleet_database.connect("painter") as painter:
        (theirs,) = painter.messages.claim(5)
        painter.messages.acknowledge(theirs)
    fleet.messages.acknowledge(own)
    assert rows(owner, "SELECT DISTINCT state FROM fleet.messages") == [("acknowledged",)]


def test_a_broadcast_repeated_reaches_only_who_has_not_had_it(
    fleet: Fleet, workers: Callable[..., None]
) -> None:
    workers(tester=(), painter=())
    assert len(fleet.messages.broadcast("SYSTEM_EVENT", DO, dedupe_key="k")) == 2
    assert fleet.messages.broadcast("SYSTEM_EVENT", DO, dedupe_key="k") == ()
    workers(newcomer=())
    assert len(fleet.messages.broadcast("SYSTEM_EVENT", DO, dedupe_key="k")) == 1
    assert len(fleet.messages.broadcast("SYSTEM_EVENT", DO, dedupe_key="other")) == 3


def test_an_expired_broadcast_ends_without_a_word(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(painter=())
    fleet.messages.broadcast("SYSTEM_EVENT", DO, ttl_s=60)
    fleet_database.advance(61)
    assert fleet.messages.expire() == (2, 2)
    assert deaths(owner) == []


def _broadcast(start: Callable[[], int], dsn: str) -> int:
    with connect(dsn, "sender") as fleet:
        start()
        return sum(len(fleet.messages.broadcast("SYSTEM_EVENT", DO, dedupe_key=f"k{n}")) for n in range(20))


def test_8_processes_that_broadcast_the_same_reach_each_worker_once(
    fleet_database: FleetDatabase, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(sender=(), **{f"w{n}": () for n in range(5)})
    assert sum(together(_broadcast, 8, fleet_database.dsn("worker"))) == 120
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 120


# Routing


def test_a_roles_messages_go_to_who_has_the_fewest_waiting(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",), writer=("colour", "prose"), tester=())
    fleet.messages.send(TASK, "writer", DO)
    for number in range(3):
        fleet.messages.send(TASK, "colour", DO | {"n": number}, to="role")
    routed = fleet.messages.route()
    assert [one.worker for one in routed] == ["painter", "painter", "writer"]
    assert fleet.messages.route() == []
    with fleet_database.connect("painter") as painter:
        assert [one.payload["n"] for one in painter.messages.claim(5)] == [0, 1]


def test_the_more_urgent_is_routed_first(fleet: Fleet, workers: Callable[..., None]) -> None:
    workers(painter=("colour",))
    late = fleet.messages.send(TASK, "colour", DO, to="role", priority="low")
    soon = fleet.messages.send(TASK, "colour", DO, to="role", priority="critical")
    assert [one.id for one in fleet.messages.route(1) + fleet.messages.route(1)] == [soon, late]


def test_messages_that_nobody_can_take_do_not_fill_the_batch(
    fleet: Fleet, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",))
    for _ in range(5):
        fleet.messages.send(TASK, "music", DO, to="role", priority="critical")
    fleet.messages.send(TASK, "colour", DO, to="role")
    assert [one.role for one in fleet.messages.route(2)] == ["colour"]


def test_a_stopped_workers_messages_of_a_role_go_to_another_and_wait_where_there_is_none(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",))
    fleet.messages.send(TASK, "colour", DO, to="role")
    fleet.messages.send(TASK, "painter", DO)
    assert [one.worker for one in fleet.messages.route()] == ["painter"]
    person = fleet_database.database("console")
    request_command(person, "stop", selector="painter", actor="me", reason="holidays")
    person.close()
    assert fleet.messages.route() == []
    assert rows(owner, "SELECT recipient_kind, routed_to FROM fleet.messages ORDER BY id") == [
        ("role", None),
        ("worker", "painter"),  # addressed by name: it waits for that worker
    ]
    workers(writer=("colour",))
    assert [one.worker for one in fleet.messages.route()] == ["writer"]


def test_a_message_that_a_stopped_worker_holds_is_not_taken_from_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",))
    fleet.messages.send(TASK, "colour", DO, to="role")
    fleet.messages.route()
    with fleet_database.connect("painter") as painter:
        (message,) = painter.messages.claim()
        owner.execute("UPDATE fleet.workers SET enabled = false")
        assert fleet.messages.route() == []
        assert rows(owner, "SELECT state, routed_to FROM fleet.messages") == [("claimed", "painter")]
        painter.messages.acknowledge(message)


def _route_all(start: Callable[[], int], dsn: str) -> list[str]:
    with connect(dsn, "coordination") as fleet:
        start()
        routed: list[str] = []
        while batch := fleet.messages.route(3):
            routed += [one.id for one in batch]
        return routed


def test_4_coordinators_route_every_message_once(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Callable[..., None]
) -> None:
    workers(painter=("colour",), writer=("colour",))
    sent = sorted(fleet.messages.send(TASK, "colour", DO, to="role") for _ in range(60))
    routed = together(_route_all, 4, fleet_database.dsn("worker"))
    assert sorted(message for messages in routed for message in messages) == sent
