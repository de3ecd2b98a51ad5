"""Bad values of messages, routes and conflicts: each is refused by its field's name and changes nothing."""

from typing import Any

import pytest

from coordination import Fleet
from coordination.conflicts import Contender, decide_conflict
from coordination.database import Database, Json
from coordination.errors import InvalidValueError
from coordination.messages import Reply, get_message, replay
from tests.integration.coordination.tables import Owner, assert_refused, rows, value

DO = {"kind": "do"}
NAN = float("nan")
TWO = [{"worker": "a"}, {"worker": "b"}]
GOOD: dict[str, dict[str, Any]] = {
    "send_message": {"type": "TASK_DELEGATION", "recipient": "tester", "payload": Json(DO)},
    "delegate_task": {"payload": Json(DO)},
    "broadcast_message": {"type": "SYSTEM_EVENT", "payload": Json(DO)},
    "claim_messages": {},
    "expire_messages": {},
    "route_messages": {},
    "resolve_conflict": {"key": "k", "kind": "resource", "thing": "x", "contenders": Json(TWO)},
}
ROUTE: dict[str, Any] = {
    "type": "TASK_DELEGATION",
    "kind": "paint",
    "role": "painter",
    "priority": None,
    "policy": "first",
    "actor": "me",
    "reason": "so",
}


def contenders(**first: Any) -> Json:
    return Json([{"worker": "a"} | first, {"worker": "b"}])


@pytest.mark.parametrize(
    ("function", "changes", "field"),
    [
        ("send_message", {"payload": None}, "payload"),
        ("send_message", {"payload": Json(None)}, "payload"),
        ("send_message", {"payload": Json({"kind": 7})}, "payload.kind"),
        ("send_message", {"recipient_kind": None}, "recipient_kind"),
        ("send_message", {"ttl_s": None}, "ttl_s"),
        ("send_message", {"max_attempts": None}, "max_attempts"),
        ("delegate_task", {"urgency": None}, "urgency"),
        ("delegate_task", {"complexity": None}, "complexity"),
        ("broadcast_message", {"type": None}, "type"),
        ("broadcast_message", {"priority": "urgent"}, "priority"),
        ("broadcast_message", {"ttl_s": NAN}, "ttl_s"),
        ("claim_messages", {"n": None}, "n"),
        ("claim_messages", {"lease_s": None}, "lease_s"),
        ("claim_messages", {"sleeps": None}, "sleeps"),
        ("expire_messages", {"n": None}, "n"),
        ("expire_messages", {"n": -1}, "n"),
        ("route_messages", {"n": None}, "n"),
        ("resolve_conflict", {"contenders": None}, "contenders"),
        ("resolve_conflict", {"contenders": Json({"a": 1})}, "contenders"),
        ("resolve_conflict", {"contenders": Json(7)}, "contenders"),
        ("resolve_conflict", {"contenders": Json([7, 8])}, "contenders.worker"),
        ("resolve_conflict", {"contenders": contenders(more="x" * 70_000)}, "contenders"),
        ("resolve_conflict", {"contenders": contenders(since="2026-13-01T00:00:00Z")}, "contenders.since"),
        (
            "resolve_conflict",
            {"contenders": contenders(since="2026-02-30T12:00:00+00:00")},
            "contenders.since",
        ),
        ("resolve_conflict", {"contenders": contenders(since="2026-01-31T25:61:00Z")}, "contenders.since"),
        ("resolve_conflict", {"contenders": contenders(since="0000-01-31T12:00:00Z")}, "contenders.since"),
        (
            "resolve_conflict",
            {"contenders": contenders(since="2026-01-31T12:00:00+99:99")},
            "contenders.since",
        ),
        ("resolve_conflict", {"contenders": contenders(priority=7)}, "contenders.priority"),
        ("resolve_conflict", {"kind": "state", "contenders": contenders(version="7")}, "contenders.version"),
        ("resolve_conflict", {"asked_at": "infinity"}, "asked_at"),
        ("resolve_conflict", {"asked_at": "-infinity"}, "asked_at"),
        ("resolve_conflict", {"asked_by": ""}, "asked_by"),
        ("resolve_conflict", {"spacing_s": None}, "spacing_s"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_changes_nothing(
    fleet: Fleet, owner: Owner, function: Any, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.database.call(function, incarnation=fleet.incarnation.id, **GOOD[function] | changes)
    assert (refusal.value.field, bool(refusal.value.allowed)) == (field, True)
    changed = "SELECT (SELECT count(*) FROM fleet.messages) + (SELECT count(*) FROM fleet.conflicts)"
    assert value(owner, changed) == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": None}, "type"),
        ({"kind": None}, "kind"),
        ({"role": "Painter"}, "role"),
        ({"priority": "urgent"}, "priority"),
        ({"policy": None}, "policy"),
        ({"actor": None}, "actor"),
        ({"reason": None}, "reason"),
        ({"reason": "a\nb"}, "reason"),
    ],
)
def test_a_bad_route_is_refused_by_name(
    console: Database, owner: Owner, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        console.call("set_route", **ROUTE | changes)
    assert (refusal.value.field, bool(refusal.value.allowed)) == (field, True)
    assert rows(owner, "SELECT 1 FROM fleet.routes WHERE kind = 'paint'") == []


@pytest.mark.parametrize(
    ("reply", "field"),
    [
        (7, "reply"),
        ({}, "payload"),
        ({"payload": DO, "type": "GOSSIP"}, "type"),
        ({"payload": DO, "priority": 7}, "priority"),
        ({"payload": DO, "ttl_s": "soon"}, "reply.ttl_s"),
        ({"payload": DO, "ttl_s": 1e300}, "reply.ttl_s"),
        ({"payload": DO, "max_attempts": "x"}, "reply.max_attempts"),
        ({"payload": DO, "max_attempts": 1.5}, "reply.max_attempts"),
        ({"payload": DO, "max_attempts": 10**12}, "reply.max_attempts"),
    ],
)
def test_a_bad_answer_is_refused_by_name_and_the_message_stays_in_hand(
    fleet: Fleet, owner: Owner, reply: Any, field: str
) -> None:
    fleet.messages.send("TASK_DELEGATION", "tester", DO)
    (held,) = fleet.messages.claim()
    with pytest.raises(InvalidValueError) as refusal:
        fleet.database.call(
            "acknowledge_message",
            incarnation=fleet.incarnation.id,
            message=int(held.id),
            lease=held.lease,
            reply=Json(reply),
        )
    assert (refusal.value.field, bool(refusal.value.allowed)) == (field, True)
    assert rows(owner, "SELECT state FROM fleet.messages") == [("claimed",)]


def test_a_number_that_json_does_not_know_is_refused_by_name(fleet: Fleet) -> None:
    fleet.messages.send("TASK_DELEGATION", "tester", DO)
    (held,) = fleet.messages.claim()
    with pytest.raises(InvalidValueError) as refusal:
        fleet.messages.acknowledge(held, Reply(payload=DO, ttl_s=NAN))
    assert_refused(refusal, "reply.ttl_s", "nan")
    fleet.messages.acknowledge(held, Reply(payload=DO))


@pytest.mark.parametrize("id", ["x", "", "1.5", "-1", "9" * 30])
def test_what_is_no_id_is_refused_by_name(console: Database, id: str) -> None:  # noqa: A002
    for field, ask in (
        ("message", lambda: replay(console, id, actor="me", reason="so")),
        ("message", lambda: get_message(console, id)),
        ("conflict", lambda: decide_conflict(console, id, "a", actor="me", reason="so")),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            ask()
        assert_refused(refusal, field, id)


def test_a_nul_in_what_a_contender_says_of_itself_is_refused(fleet: Fleet) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.conflicts.resolve("k", "resource", "x", [Contender(worker="a\0"), Contender(worker="b")])
    assert refusal.value.field == "contenders.worker"
