"""Control: orders and reports through a real database, also when it goes away and comes back."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from coordination import desired, status
from coordination.database import Database
from host.control import Control, Orders, SlotState
from tests.integration.conftest import FleetDatabase

WITHIN_S = 15.0


@dataclass
class Desk:
    """The main thread's side of a control, and a person's."""

    control: Control
    woken: threading.Event
    person: Database
    said: list[str]
    told: list[Mapping[str, Any]]
    taken: list[Orders] = field(default_factory=list[Orders])

    def until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not reached():
            assert time.monotonic() < deadline, f"not within {WITHIN_S} s"
            self.woken.wait(0.1)
            self.woken.clear()
            if orders := self.control.take():
                self.taken.append(orders)

    def commands(self) -> list[str]:
        return [command.id for orders in self.taken for command in orders.commands]


def slot(**changes: Any) -> SlotState:
    values: dict[str, Any] = {
        "worker": "poster",
        "slot": 1,
        "state": "READY",
        "reason": "",
        "pid": 4711,
        "restart_count": 0,
        "since": time.monotonic() - 5,
    }
    return SlotState(**{**values, **changes})


@pytest.fixture
def desk(fleet_database: FleetDatabase) -> Iterator[Desk]:
    woken, said, told = threading.Event(), list[str](), list[Mapping[str, Any]]()
    control = Control(
        lambda: fleet_database.dsn("maintainer"),
        {"poster": "Sends posts.", "planner": "Writes posts."},
        wake=woken.set,
        say=lambda line, _kind: said.append(line),
        tell=told.append,
    )
    person = fleet_database.database("console")
    control.start()
    yield Desk(control, woken, person, said, told)
    control.stop()
    person.close()


def test_the_programs_workers_become_desired_ones(desk: Desk) -> None:
    desk.until(lambda: bool(desk.taken))
    assert [(worker.name, worker.enabled) for worker in desk.taken[0].workers] == [
        ("planner", True),
        ("poster", True),
    ]


def test_a_stop_comes_with_the_desired_state_that_it_changed_at_once(desk: Desk) -> None:
    desk.until(lambda: bool(desk.taken))
    began = time.monotonic()
    number = desired.request_command(desk.person, "stop", "poster", None, actor="me", reason="test")
    desk.person.call("wake", worker="manager")
    desk.until(lambda: number in desk.commands())
    assert time.monotonic() - began < 0.9  # not by the next poll only
    (orders,) = [orders for orders in desk.taken if orders.commands]
    assert {worker.name: worker.enabled for worker in orders.workers} == {"planner": True, "poster": False}


def test_a_lost_wake_up_costs_one_poll(desk: Desk) -> None:
    desk.until(lambda: bool(desk.taken))
    number = desired.request_command(desk.person, "restart", "poster", None, actor="me", reason="test")
    desk.until(lambda: number in desk.commands())


def test_a_finished_command_is_told(desk: Desk) -> None:
    number = ""
    desk.until(lambda: bool(desk.taken))
    number = desired.request_command(desk.person, "restart", "poster", None, actor="me", reason="test")
    desk.until(lambda: number in desk.commands())
    desk.control.finish(number, succeeded=False, text="no such slot")
    desk.until(lambda: desired.get_command(desk.person, number)["state"] == "failed")
    assert desired.get_command(desk.person, number)["result"] == "no such slot"


def test_slots_are_reported_and_their_changes_become_events(desk: Desk) -> None:
    desk.until(lambda: bool(desk.taken))
    desk.control.follow()
    desk.control.report([slot()])
    desk.until(lambda: any(shown.pid == 4711 for shown in status.list_slots(desk.person)))
    desk.control.report([slot(state="BACKOFF", reason="killed by SIGKILL", pid=None)])
    desk.until(lambda: any("killed by SIGKILL" in event["message"] for event in desk.told))
    (shown,) = [shown for shown in status.list_slots(desk.person) if shown.name == "poster"]
    assert (shown.state, shown.reason, shown.healthy) == ("BACKOFF", "killed by SIGKILL", False)
    assert shown.since is not None


def test_the_last_report_is_made_before_it_ends(desk: Desk) -> None:
    desk.until(lambda: bool(desk.taken))
    desk.control.report([slot(state="STOPPED", reason="the fleet was stopped", pid=None)])
    desk.control.stop()
    (shown,) = [shown for shown in status.list_slots(desk.person) if shown.name == "poster"]
    assert (shown.state, shown.reason) == ("STOPPED", "the fleet was stopped")


def test_a_database_that_goes_away_and_comes_back_is_told_once_and_taken_up_again(
    desk: Desk, fleet_database: FleetDatabase
) -> None:
    desk.until(lambda: bool(desk.taken))
    fleet_database.server.immediate_stop()
    try:
        desk.until(lambda: bool(desk.said))
        desk.control.report([slot(pid=4712)])
    finally:
        fleet_database.server.start()
    desk.until(lambda: "the database is back" in desk.said)
    assert len([line for line in desk.said if "away" in line]) == 1
    person = fleet_database.database("console")
    desk.until(lambda: any(shown.pid == 4712 for shown in status.list_slots(person)))
    person.close()
