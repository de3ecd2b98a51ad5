"""Routes: who gets what names no recipient, which of a role's workers, and what if nobody takes it."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from coordination import Fleet, connect
from coordination.alerts import list_alerts
from coordination.database import Database, Json
from coordination.errors import InvalidValueError, PermissionRefusedError
from coordination.routes import Policy, Route, list_routes, remove_route, set_route
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, rows, value

TASK = "TASK_DELEGATION"
DO: dict[str, Any] = {"kind": "do"}
Know = Callable[..., None]


def route(console: Database, kind: str = "do", role: str = "colour", **changes: Any) -> Route:
    return set_route(console, TASK, kind, role, actor="me", reason="so it is", **changes)


# Persons set them


def test_what_names_nobody_goes_to_the_role_of_its_kind_at_its_routes_priority(
    fleet: Fleet, console: Database, workers: Know, owner: Owner
) -> None:
    workers(painter=("colour",), writer=("prose",))
    route(console, priority="high")
    route(console, "*", "prose")
    for kind in ("do", "whatever"):
        fleet.messages.send(TASK, None, {"kind": kind}, to="role")
    fleet.messages.send(TASK, None, DO, to="role", priority="low")
    assert {(one.role, one.worker) for one in fleet.messages.route()} == {
        ("colour", "painter"),
        ("prose", "writer"),
    }
    found = rows(owner, "SELECT recipient, priority FROM fleet.messages ORDER BY id")
    assert found == [("colour", "high"), ("prose", "medium"), ("colour", "low")]


def test_without_a_route_what_names_nobody_is_refused(fleet: Fleet) -> None:
    with pytest.raises(
        InvalidValueError, match="no route says who gets TASK_DELEGATION of kind do"
    ) as refusal:
        fleet.messages.send(TASK, None, DO, to="role")
    assert_refused(refusal, "recipient", None)


def test_a_route_is_audited_and_changed_and_taken_away(fleet: Fleet, console: Database, owner: Owner) -> None:
    assert route(console).policy == "least_loaded"
    changed = route(console, role="form", policy="first", priority="low")
    assert (changed.role, changed.policy, changed.priority, changed.changed_by) == (
        "form",
        "first",
        "low",
        "me",
    )
    assert changed in list_routes(console)
    assert remove_route(console, TASK, "do", actor="me", reason="no more") == changed
    assert changed not in list_routes(console)
    audits = rows(owner, "SELECT action, target, details->'before'->>'role' FROM fleet.audits ORDER BY id")
    assert audits == [
        ("set_route", "TASK_DELEGATION do", None),
        ("set_route", "TASK_DELEGATION do", "colour"),
        ("remove_route", "TASK_DELEGATION do", "form"),
    ]
    with pytest.raises(InvalidValueError, match="a kind of TASK_DELEGATION that has a route"):
        remove_route(console, TASK, "do", actor="me", reason="no more")
    with pytest.raises(PermissionRefusedError):
        fleet.database.call("remove_route", type=TASK, kind="do", actor="me", reason="a worker may not")


@pytest.mark.parametrize(
    ("changes", "field", "given"),
    [
        ({"type": "GOSSIP"}, "type", "GOSSIP"),
        ({"kind": "Do it"}, "kind", "Do it"),
        ({"kind": None}, "kind", None),
        ({"role": ""}, "role", ""),
        ({"role": None}, "role", None),
        ({"priority": "urgent"}, "priority", "urgent"),
        ({"policy": "random"}, "policy", "random"),
        ({"policy": None}, "policy", None),
        ({"actor": " "}, "actor", " "),
        ({"reason": ""}, "reason", ""),
    ],
)
def test_a_bad_route_is_refused_by_name(
    console: Database, changes: dict[str, Any], field: str, given: str | None
) -> None:
    good: dict[str, Any] = {"type": TASK, "kind": "do", "role": "colour", "actor": "me", "reason": "so it is"}
    before = list_routes(console)
    with pytest.raises(InvalidValueError) as refusal:
        cast("Callable[..., Route]", set_route)(console, **good | changes)
    assert_refused(refusal, field, given)
    assert list_routes(console) == before


@pytest.mark.parametrize(
    ("urgency", "complexity", "priority"),
    [
        ("low", "simple", "low"),
        ("low", "complex", "medium"),
        ("medium", "moderate", "medium"),
        ("high", "complex", "high"),  # only what is urgent itself is critical
        ("high", "simple", "medium"),
        ("critical", "simple", "critical"),
    ],
)
def test_a_delegated_tasks_priority_follows_from_urgency_and_complexity(
    fleet: Fleet, console: Database, owner: Owner, urgency: Any, complexity: Any, priority: str
) -> None:
    route(console, priority="low")
    fleet.messages.delegate(DO, urgency=urgency, complexity=complexity)
    assert rows(owner, "SELECT type, recipient, priority, sender FROM fleet.messages") == [
        (TASK, "colour", priority, "tester")
    ]


@pytest.mark.parametrize(("field", "given"), [("urgency", "asap"), ("complexity", "hard")])
def test_another_word_for_urgency_or_complexity_is_refused(fleet: Fleet, field: str, given: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        cast("Callable[..., str]", fleet.messages.delegate)(DO, **{field: given})
    assert_refused(refusal, field, given)


# Which worker


def _route_all(start: Callable[[], int], dsn: str) -> None:
    with connect(dsn, "coordination") as fleet:
        start()
        while fleet.messages.route(3):
            pass


def _claim_and_hold(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "crew")
    keep(fleet)
    return fleet.messages.claim(lease_s=3600)[0].id


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("least_loaded", ["c", "b", "c", "b", "c"]),
        ("round_robin", ["a", "b", "c", "a", "b"]),
        ("first", ["a", "a", "a", "a", "a"]),
    ],
)
def test_the_routes_policy_chooses_among_those_that_have_the_role(
    fleet: Fleet, console: Database, workers: Know, policy: Policy, chosen: list[str]
) -> None:
    workers(a=("colour",), b=("colour",), c=("colour",), d=("prose",))
    route(console, policy=policy)
    for name, number in (("a", 5), ("b", 1)):
        for _ in range(number):
            fleet.messages.send(TASK, name, DO)
    got: list[str] = []
    for _ in range(5):  # one a call: it is remembered between them
        fleet.messages.send(TASK, None, DO, to="role")
        got += [one.worker for one in fleet.messages.route()]
    assert got == chosen


def test_4_coordinators_that_go_round_share_evenly(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, workers: Know, owner: Owner
) -> None:
    workers(a=("colour",), b=("colour",), c=("colour",))
    route(console, policy="round_robin")
    for _ in range(60):
        fleet.messages.send(TASK, None, DO, to="role")
    together(_route_all, 4, fleet_database.dsn("worker"))
    shares = rows(owner, "SELECT routed_to, count(*) FROM fleet.messages GROUP BY 1 ORDER BY 1")
    assert shares == [("a", 20), ("b", 20), ("c", 20)]


def test_a_worker_that_runs_goes_before_one_that_does_not_and_takes_over_from_it(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Know
) -> None:
    workers(a=("colour",), b=("colour",), c=("colour",))
    first = fleet.messages.send(TASK, "colour", DO, to="role")
    assert [one.worker for one in fleet.messages.route()] == [
        "a"
    ]  # none runs: it will be there for one that starts
    with fleet_database.connect("b") as b, fleet_database.connect("c") as c:
        c.heartbeats.beat(state="PAUSED", progress=1)
        assert fleet.messages.route() == []
        b.heartbeats.beat(state="READY", progress=1)
        second = fleet.messages.send(TASK, "colour", DO, to="role")
        assert {(one.id, one.worker) for one in fleet.messages.route()} == {(first, "b"), (second, "b")}


def test_what_a_worker_died_with_goes_to_another_that_has_the_role(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Know
) -> None:
    workers(crew=("colour",))
    sent = fleet.messages.send(TASK, "colour", DO, to="role")
    fleet.messages.route()
    with (
        victim(_claim_and_hold, fleet_database.dsn("worker")) as doomed,
        fleet_database.connect("heir") as heir,
    ):
        workers(heir=("colour",))
        heir.heartbeats.beat(state="READY", progress=1)
        assert fleet.messages.route() == []  # its holder lives
        doomed.kill()
        routed: list[tuple[str, str]] = []
        until(
            lambda: bool(routed.extend((one.id, one.worker) for one in fleet.messages.route()) or routed), 5
        )
        assert routed == [(sent, "heir")]
        assert heir.messages.claim()[0].attempt == 2


# What nobody takes


def test_what_nobody_took_in_half_of_its_time_rises_and_a_person_and_the_monitor_hear_of_it_once(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Know, owner: Owner
) -> None:
    workers(monitoring=("system_issue",))
    late = fleet.messages.send(TASK, "music", DO, to="role", ttl_s=600)
    fleet.messages.send(TASK, "music", DO, to="role", ttl_s=3600)
    assert fleet.messages.escalate_waiting() == []
    fleet_database.advance(301)
    assert fleet.messages.escalate_waiting() == [late]
    assert fleet.messages.escalate_waiting() == []
    found = rows(owner, "SELECT id::text, priority FROM fleet.messages WHERE escalated_at IS NOT NULL")
    assert found == [(late, "high")]
    open_alerts = "SELECT key, severity, kind FROM fleet.alerts WHERE cleared_at IS NULL"
    assert rows(owner, open_alerts) == [("messages_wait:role music", "warning", "messages_wait")]
    assert [(one.role, one.worker) for one in fleet.messages.route()] == [("system_issue", "monitoring")]
    with fleet_database.connect("monitoring") as monitoring:
        (told,) = monitoring.messages.claim()
    assert (told.type, told.priority, told.reply_to) == ("PRIORITY_ESCALATION", "critical", late)
    assert (told.payload["kind"], told.payload["id"], told.payload["priority"]) == ("message", late, "high")
    workers(composer=("music",))
    with fleet_database.connect("composer") as composer:
        fleet.messages.route()
        assert composer.messages.claim()[0].id == late
        fleet.messages.escalate_waiting()
        assert rows(owner, open_alerts) == []


def test_an_addressed_message_that_its_worker_does_not_take_is_escalated_and_a_broadcast_is_not(
    fleet_database: FleetDatabase, fleet: Fleet, workers: Know, owner: Owner
) -> None:
    workers(painter=())
    sent = fleet.messages.send(TASK, "painter", DO, ttl_s=60, priority="critical")
    fleet.messages.broadcast("SYSTEM_EVENT", {"kind": "news"}, ttl_s=60)
    fleet_database.advance(31)
    assert fleet.messages.escalate_waiting() == [sent]
    assert value(owner, "SELECT priority FROM fleet.messages WHERE id::text = %s", sent) == "critical"
    fleet_database.advance(60)
    fleet.messages.expire()
    assert fleet.messages.escalate_waiting() == []
    assert value(owner, "SELECT count(*) FROM fleet.alerts WHERE cleared_at IS NULL") == 0


def test_what_is_said_to_be_urgent_rises_and_at_critical_a_person_is_alerted_until_it_is_over(
    fleet: Fleet, owner: Owner
) -> None:
    sent = fleet.messages.send(TASK, "tester", DO)
    job = fleet.jobs.enqueue("tidy", {}).id
    first = fleet.messages.escalate("message", sent, "the author waits")
    assert (first.raised, first.priority, first.alerted) == (True, "high", False)
    assert (
        fleet.messages.escalate("message", sent, "the author waits", "low").priority == "high"
    )  # never lower
    assert fleet.messages.escalate("message", sent, "the author waits", "critical").alerted
    assert fleet.messages.escalate("job", str(job), "the disk fills").priority == "high"
    assert value(owner, "SELECT priority FROM fleet.jobs") == "high"
    other = fleet.messages.escalate("engagement_lock", "1999", "a waiter waits", "critical")
    assert (other.priority, other.alerted) == ("critical", True)
    keys = "SELECT key FROM fleet.alerts WHERE cleared_at IS NULL ORDER BY key"
    assert rows(owner, keys) == [("escalation:engagement_lock:1999",), (f"escalation:message:{sent}",)]
    (message,) = fleet.messages.claim()
    assert message.priority == "critical"
    fleet.messages.acknowledge(message)
    assert fleet.messages.escalate("message", sent, "too late").priority is None
    fleet.messages.escalate_waiting()
    assert rows(owner, keys) == [("escalation:engagement_lock:1999",)]
    owner.execute("UPDATE fleet.alerts SET last_at = last_at - interval '61 minutes'")
    fleet.messages.escalate_waiting()
    assert rows(owner, keys) == []


def test_what_the_fleet_has_no_row_for_is_told_alone_unless_it_is_said_to_be_critical(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    told = fleet.messages.escalate("disk", "db-1", "it fills")
    assert (told.priority, told.alerted) == ("high", False)
    assert list_alerts(console) == []
    assert rows(owner, "SELECT message FROM fleet.events WHERE kind = 'escalated'") == [
        ("disk db-1 is high now: it fills",)
    ]


def test_an_alert_of_a_workers_own_is_none_of_an_escalation_whatever_it_says(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    strange: Any = {"kind": "job", "id": "disk"}
    mine: Any = {"severity": "error", "kind": "escalation", "message": "full", "data": strange}
    assert fleet.alerts.raise_alert("mine", **mine)
    assert fleet.messages.escalate_waiting() == []
    with pytest.raises(InvalidValueError) as refusal:
        fleet.alerts.raise_alert("escalation:job:disk", **mine)
    assert_refused(refusal, "key", "escalation:job:disk")
    # Nor does one of another's stop the coordinator.
    fleet.messages.escalate("job", str(fleet.jobs.enqueue("tidy", {}).id), "urgent", "critical")
    owner.execute("UPDATE fleet.alerts SET data = %s WHERE key <> 'mine'", (Json(strange),))
    assert fleet.messages.escalate_waiting() == []
    assert [alert["key"] for alert in list_alerts(console)] == ["mine"]


@pytest.mark.parametrize(
    ("kind", "id_", "priority", "field"),
    [("Big", "1", None, "kind"), ("message", "seven", None, "id"), ("job", "", None, "id"),
     ("x", "1", "now", "priority")],
)  # fmt: skip
def test_an_escalation_of_nothing_is_refused_by_name(
    fleet: Fleet, kind: str, id_: str, priority: Any, field: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.messages.escalate(kind, id_, "why", priority)
    assert refusal.value.field == field
