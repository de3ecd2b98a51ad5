"""Hosts, alerts, black boxes and commands: as the console shows them, and as it asks for them."""

import json
from typing import Any

import pytest
import requests

from console.snapshots import ALERTS
from tests.integration.conftest import FleetDatabase
from tests.integration.console.conftest import ConsoleProcess, PaperHost, slot_report, until

HOSTILE = '<script>alert(1)</script>"; DROP TABLE fleet.commands; --'


def audits(fleet_database: FleetDatabase) -> list[tuple[Any, ...]]:
    with fleet_database.owner() as owner:
        return owner.execute(
            "SELECT actor, login, action, target, reason FROM fleet.audits "
            "WHERE actor = 'console' ORDER BY id"
        ).fetchall()


def error_of(answer: requests.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return dict(answer.json()["error"])


def test_hosts_are_listed_with_their_wake_channel(console: ConsoleProcess, paper_host: PaperHost) -> None:
    paper_host.report(slot_report("poster"), wake_channel="broken")
    (host,) = console.json("/api/hosts")["items"]
    assert (host["name"], host["state"], host["draining"]) == ("alpha", "live", False)
    assert (host["wake_channel"], host["labels"], host["slots"]) == ("broken", {"zone": "a"}, 2)
    until(lambda: [one["wake_channel"] for one in console.json("/api/overview")["hosts"]] == ["broken"])
    until(lambda: 'socialfleet_wake_channel_ok{host="alpha"} 0.0' in console.get("/metrics").text)
    assert error_of(console.get("/api/hosts?state=live"))["field"] == "parameter"


def test_a_command_is_asked_for_carried_out_and_shown_with_who_and_why(
    console: ConsoleProcess, paper_host: PaperHost, fleet_database: FleetDatabase
) -> None:
    paper_host.report(slot_report("poster"), slot_report("planner"))
    answer = console.command(action="restart", selector="poster", reason=HOSTILE)
    assert answer.status_code == 202, answer.text
    asked = answer.json()
    assert [(part["worker"], part["slot"]) for part in asked["parts"]] == [("poster", 1)]
    (part,) = [part for part in paper_host.share().parts if part.command == asked["id"]]
    paper_host.finish(part.id, "ready again")
    paper_host.share()
    until(lambda: console.json(f"/api/commands/{asked['id']}")["state"] == "done")
    (shown,) = console.json("/api/commands")["items"]
    assert (shown["action"], shown["selector"], shown["requested_by"]) == ("restart", "poster", "console")
    assert (shown["reason"], shown["state"], shown["part_states"]) == (HOSTILE, "done", {"done": 1})
    assert [(one["worker"], one["host"], one["result"]) for one in shown["parts"]] == [
        ("poster", "alpha", "ready again")
    ]
    assert [one["id"] for one in console.json("/api/overview")["commands"]] == [asked["id"]]
    assert audits(fleet_database) == [("console", "fleet_console", "restart", "poster", HOSTILE)]
    assert console.json("/api/commands?state=pending,failed")["items"] == []
    assert console.json("/api/commands?state=done&limit=1")["items"] == [shown]


@pytest.mark.parametrize(
    ("orders", "then"),
    [
        ([{"action": "stop", "selector": "poster"}], [(False, False)]),
        (
            [{"action": "stop", "selector": "poster"}, {"action": "start", "selector": "poster"}],
            [(True, False)],
        ),
        ([{"action": "pause", "selector": "poster/1"}], [(True, True)]),
        (
            [{"action": "pause", "selector": "poster/1"}, {"action": "resume", "selector": "poster/1"}],
            [(True, False)],
        ),
        ([{"action": "scale", "selector": "poster", "args": {"replicas": 3}}], [(True, False)] * 3),
    ],
)
def test_the_desired_state_changes_at_once(
    console: ConsoleProcess,
    paper_host: PaperHost,
    orders: list[dict[str, Any]],
    then: list[tuple[bool, bool]],
) -> None:
    paper_host.report(slot_report("poster"))
    for order in orders:
        answer = console.command(reason="a drill", **order)
        assert answer.status_code == 202, answer.text
    slots = [slot for slot in paper_host.share().slots if slot.worker == "poster"]
    assert [(slot.runs, slot.paused) for slot in slots] == then


def test_a_host_is_taken_out_of_service(console: ConsoleProcess, paper_host: PaperHost) -> None:
    paper_host.report(slot_report("poster"))
    answer = console.command(action="drain", host="alpha", reason="a new disk")
    assert answer.status_code == 202, answer.text
    assert [host["draining"] for host in console.json("/api/hosts")["items"]] == [True]


def test_the_same_key_is_the_same_command(
    console: ConsoleProcess, paper_host: PaperHost, fleet_database: FleetDatabase
) -> None:
    paper_host.report(slot_report("poster"))
    order = {"action": "restart", "selector": "poster", "reason": "x", "idempotency_key": "once"}
    first, second = console.command(**order).json(), console.command(**order).json()
    assert (first["id"], first["repeated"]) == (second["id"], False)
    assert second["repeated"] is True
    assert len(console.json("/api/commands")["items"]) == 1
    assert len(audits(fleet_database)) == 1


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"action": "explode", "selector": "poster"}, "action"),
        ({"action": "restart", "selector": "postre"}, None),
        ({"action": "restart", "selector": "poster/9"}, None),
        ({"action": "restart", "selector": "poster/x"}, None),
        ({"action": "restart"}, None),
        ({"action": "restart", "selector": "poster", "host": "nowhere"}, "host"),
        ({"action": "scale", "selector": "poster"}, None),
        ({"action": "scale", "selector": "poster", "args": {"replicas": -1}}, None),
        ({"action": "scale", "selector": "poster", "args": {"replicas": 10**30}}, None),
        ({"action": "scale", "selector": "poster", "args": {"replicas": "2"}}, None),
        ({"action": "restart", "selector": "poster", "args": {"strategy": "never"}}, None),
        ({"action": "restart", "selector": "poster", "args": {"replicas": 2}}, None),
        ({"action": "restart", "selector": "poster", "args": {"a\x00": 1}}, None),
        ({"action": "restart", "selector": "\ud800"}, None),
        ({"action": "restart", "selector": HOSTILE}, None),
        ({"action": "restart", "selector": "poster", "timeout_s": -1}, "timeout_s"),
    ],
)
def test_a_bad_command_is_named_and_changes_nothing(
    console: ConsoleProcess,
    paper_host: PaperHost,
    fleet_database: FleetDatabase,
    order: dict[str, Any],
    field: str | None,
) -> None:
    paper_host.report(slot_report("poster"))
    error = error_of(console.command(reason="x", **order))
    assert field is None or error["field"] == field
    assert error.keys() == {"field", "value", "allowed", "message"}
    assert error["allowed"]
    assert console.json("/api/commands")["items"] == []
    assert audits(fleet_database) == []


@pytest.mark.parametrize("path", ["/api/commands", "/api/alerts/1/ack"])
def test_without_the_token_nothing_is_asked_for(
    console: ConsoleProcess, paper_host: PaperHost, path: str
) -> None:
    paper_host.report(slot_report("poster"))
    body = json.dumps({"action": "stop", "selector": "poster", "reason": "x"})
    for token in (None, "", "open-sesam", "OPEN-SESAME"):
        answer = console.order(body, token, path=path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert console.json("/api/commands")["items"] == []


def test_more_alerts_than_the_page_shows_are_counted_all(
    console: ConsoleProcess, paper_host: PaperHost
) -> None:
    for number in range(ALERTS + 1):
        paper_host.raise_alert(f"test:{number}", "one of many")
    until(lambda: f'open{{severity="error"}} {ALERTS + 1}.0' in console.get("/metrics").text)


def test_an_alert_is_shown_and_acknowledged(
    console: ConsoleProcess, paper_host: PaperHost, fleet_database: FleetDatabase
) -> None:
    paper_host.raise_alert("crash_loop:poster/1", HOSTILE)
    paper_host.raise_alert("crash_loop:poster/1", HOSTILE)
    (alert,) = console.json("/api/alerts")["items"]
    assert (alert["severity"], alert["message"], alert["times"]) == ("error", HOSTILE, 2)
    until(lambda: 'socialfleet_alerts_open{severity="error"} 1.0' in console.get("/metrics").text)
    answer = console.order('{"reason": "I look at it"}', path=f"/api/alerts/{alert['id']}/ack")
    assert answer.status_code == 200, answer.text
    (seen,) = console.json("/api/overview")["alerts"]
    assert seen["acknowledged_by"] == "console"
    assert [row[2:] for row in audits(fleet_database)] == [
        ("acknowledge_alert", "crash_loop:poster/1", "I look at it")
    ]
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.alerts SET cleared_at = clock_timestamp()")
    assert console.json("/api/alerts")["items"] == []
    assert [one["id"] for one in console.json("/api/alerts?state=all")["items"]] == [alert["id"]]
    assert console.order('{"reason": ""}', path=f"/api/alerts/{alert['id']}/ack").status_code == 400
    for missing in ("abc", "999999"):
        assert console.order('{"reason": "x"}', path=f"/api/alerts/{missing}/ack").status_code == 404


def test_black_boxes_are_listed_and_one_is_given_in_full(
    console: ConsoleProcess, paper_host: PaperHost
) -> None:
    report = {"stacks": f"Thread 1\n  {HOSTILE}", "log": ["one", "two"], "locks": []}
    kept = paper_host.keep_black_box("poster", report)
    (shown,) = console.json("/api/black-boxes?worker=poster")["items"]
    assert (shown["id"], shown["host"], shown["worker"], shown["slot"]) == (kept, "alpha", "poster", 1)
    assert "report" not in shown
    assert console.json(f"/api/black-boxes/{kept}")["report"] == report
    assert console.json("/api/black-boxes?worker=planner")["items"] == []
    until(lambda: [box["id"] for box in console.json("/api/overview")["black_boxes"]] == [kept])


@pytest.mark.parametrize("path", ["/api/commands/", "/api/black-boxes/"])
@pytest.mark.parametrize("number", ["999999", "0", "-1", "abc", "9" * 40, "1%00"])
def test_what_is_not_there_is_404(console: ConsoleProcess, path: str, number: str) -> None:
    assert console.get(path + number).status_code == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("commands?state=ended", "state"),
        ("commands?limit=0", "limit"),
        ("commands?limit=1&limit=2", "limit"),
        ("commands?worker=poster", "parameter"),
        ("alerts?state=seen", "state"),
        ("black-boxes?worker=Poster%27", "worker"),
        ("black-boxes?state=open", "parameter"),
    ],
)
def test_a_bad_parameter_is_named(console: ConsoleProcess, query: str, field: str) -> None:
    assert error_of(console.get(f"/api/{query}"))["field"] == field
