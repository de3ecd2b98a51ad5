"""manager.sock: stop, start, restart and status on this host, with the database away too."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host.state_directory import LOCAL_ORDERS as KEPT
from tests.integration.host.managing import House, managing


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    # A directory whose name is longer than a socket's may be.
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    with managing(directory) as made:
        yield made


def ask(house: House, do: str, name: str = "*", **fields: str) -> dict[str, Any]:
    """Ask as a command on this host does, while the manager goes round."""
    return said(house, json.dumps({"do": do, "name": name, "actor": "alice", "reason": "a test", **fields}))


def connect(caller: socket.socket, house: House) -> None:
    directory = os.open(house.directory, os.O_RDONLY)
    caller.connect(f"/proc/self/fd/{directory}/manager.sock")
    os.close(directory)


def said(house: House, line: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as caller:
        connect(caller, house)
        caller.setblocking(False)
        caller.sendall(line.encode() + b"\n")
        heard = b""

        def answered() -> bool:
            nonlocal heard
            try:
                heard += caller.recv(1 << 20)
            except BlockingIOError:
                return False
            return heard.endswith(b"\n")

        house.until(answered)
        return json.loads(heard)


def test_status_gives_the_slots_as_they_are_here(house: House) -> None:
    house.ready(planner=1, poster=2)
    answer = ask(house, "status", "poster")
    assert answer["ok"]
    assert answer["stale_since"] is None
    assert [(slot["name"], slot["slot"], slot["state"], slot["pid"]) for slot in answer["slots"]] == [
        ("poster", 1, "READY", house.pid("poster", 1)),
        ("poster", 2, "READY", house.pid("poster", 2)),
    ]
    assert (house.directory / "manager.sock").stat().st_mode & 0o777 == 0o600


def test_stop_and_start_work_with_the_database_away_and_are_audited_when_it_is_back(house: House) -> None:
    house.ready(planner=1, poster=1)
    pid = house.pid("poster")
    house.line.is_away, house.line.unanswered_s = True, 4.0
    answer = ask(house, "stop", "planner/1")
    assert answer["ok"]
    assert answer["text"] == "planner/1 is DRAINING; it is audited when the database is back"
    assert answer["stale_since"] is not None
    house.until(lambda: house.are("STOPPED", "planner"))
    assert house.reason("planner") == "a test (alice, on this host)"
    ask(house, "start", "planner")
    house.until(lambda: house.are("READY", "planner"))
    assert house.pid("poster") == pid
    assert house.line.audits == [
        ("stop", "planner/1", "alice", "a test"),
        ("start", "planner", "alice", "a test"),
    ]


def test_what_was_stopped_here_stays_so_until_the_database_has_it_and_says_otherwise(house: House) -> None:
    house.ready(planner=1)
    house.line.is_away = True
    ask(house, "stop", "planner")
    house.until(lambda: house.are("STOPPED", "planner"))
    # What it says first was read before it had the stop.
    house.line.holds_back = True
    house.line.is_away = False
    house.order()
    house.turns(3)
    assert house.are("STOPPED", "planner")
    house.line.holds_back = False
    house.want(planner=0, reason="stopped by alice: a test")
    house.until(lambda: house.reason("planner") == "stopped by alice: a test")
    assert not (house.directory / KEPT).exists()
    house.ready(planner=1)


def test_a_restart_gives_another_process(house: House) -> None:
    house.ready(planner=1)
    pid = house.pid("planner")
    house.line.is_away = True
    assert ask(house, "restart", "planner")["ok"]
    house.until(lambda: house.are("READY", "planner") and house.pid("planner") != pid)
    assert house.line.slots["planner", 1].failures == 0


def test_a_restart_of_what_is_stopped_is_refused_at_once_and_not_audited(house: House) -> None:
    house.ready(planner=1)
    house.want(poster=0)
    house.until(lambda: house.are("STOPPED", "poster"))
    told = ask(house, "restart", "poster/1")
    assert not told["ok"]
    assert told["text"] == "poster/1 is stopped: start it with: socialfleet start poster/1"
    assert house.line.audits == []


def test_an_order_that_was_not_audited_yet_survives_the_manager(house: House) -> None:
    house.ready(planner=1)
    house.line.is_away = True
    ask(house, "stop", "planner")
    house.until(lambda: house.are("STOPPED", "planner"))
    house.line.audits.clear()
    house.follow_a_killed_manager()
    house.line.holds_back = True
    house.line.is_away = False
    house.order()
    house.until(lambda: house.are("STOPPED", "planner"))
    house.turns(3)
    assert house.are("STOPPED", "planner")
    assert house.line.audits == [("stop", "planner", "alice", "a test")]
    assert len(house.line.keys) == 2
    assert len(set(house.line.keys)) == 1  # the same to the database


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("nonsense", "the request is no JSON line"),
        pytest.param("[" * 30_000, "the request is no JSON line", id="deep"),
        (
            '{"do": "stop", "name": "\\ud800\\u0000"}',
            "?\N{REPLACEMENT CHARACTER} has no slot on this host; those here: planner/1",
        ),
        ("[]", "do is None: it must be one of stop, start, restart, status"),
        ('{"do": "erase"}', "do is 'erase': it must be one of stop, start, restart, status"),
        ('{"do": "stop", "name": "plannr"}', "plannr has no slot on this host; those here: planner/1"),
    ],
)
def test_what_can_not_be_done_is_refused_with_what_could(house: House, line: str, text: str) -> None:
    house.ready(planner=1)
    assert said(house, line) == {"ok": False, "text": text, "slots": [], "stale_since": None}
    assert house.are("READY", "planner")


def test_callers_that_say_nothing_or_too_much_hold_nobody(house: House) -> None:
    house.ready(planner=1)
    callers = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    try:
        for caller in callers:
            caller.settimeout(1)
            connect(caller, house)
            house.turns(1)
        assert ask(house, "status")["ok"]
    finally:
        for caller in callers:
            caller.close()
    house.turns(2)
    assert ask(house, "status")["ok"]
