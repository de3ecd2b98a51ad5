"""Stalls: what shows no sign of life is looked into, killed and started anew; what is slow is left alone."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.host.managing import House, managing

LOOPING = """
def never_ending():
    while True: pass
ready()
print("line before the loop", flush=True)
say("BUSY", step="step", stall_after_s=0.4, incarnation="11111111-1111-1111-1111-111111111111", acting=True)
never_ending()
"""
DEADLOCKED = """
def waits_for_itself():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
ready()
say("BUSY", step="step", stall_after_s=0.4)
waits_for_itself()
"""
BEAT_S = 0.05
QUIET = "ready(stall_after_s=0.6); live()"


@pytest.fixture(params=["fork", "spawn"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    with managing(tmp_path, spawn=request.param == "spawn") as made:
        yield made


def told_s(reason: str, seen: str, declared: str) -> float:
    """Give the seconds that a stall's reason tells; each word of it else is as expected."""
    found = re.fullmatch(rf"{seen} for (\d+\.\d) s, {declared} s are declared", reason)
    assert found, reason
    return float(found[1])


def stalled(house: House) -> Mapping[str, Any]:
    """Wait for the planner's stall and its end; give the black box's file."""
    house.until(lambda: house.are("STALLED", "planner"))
    pid = house.pid("planner")
    house.script("planner", "ready(); live()")
    house.until(lambda: house.are("READY", "planner") and house.pid("planner") != pid)
    (file,) = (house.directory / "black-boxes").glob("planner-1-*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    box = json.loads(file.read_text())
    assert box["pid"] == pid
    assert house.line.boxes == [box]
    assert house.line.slots["planner", 1].failures == 1
    return box


def test_a_loop_in_python_is_a_stall_with_all_stacks_its_log_and_what_the_database_knows(
    house: House,
) -> None:
    house.script("planner", LOOPING)
    began = time.monotonic()
    house.want(planner=1)
    box = stalled(house)
    assert "never_ending" in box["stacks"]
    assert "in beat" in box["stacks"]  # the other thread's
    assert box["stacks"].lower().count("thread 0x") >= 2
    assert (box["state"], box["step"]) == ("BUSY", "step")
    assert box["log"][-1] == "line before the loop"
    assert box["database"] == {
        "asked_for": "planner/1",
        "incarnation": "11111111-1111-1111-1111-111111111111",
    }
    assert 0.4 <= told_s(box["reason"], "stalled in step: no tick", "0.4") <= time.monotonic() - began
    kind, told = house.line.events[0]
    assert kind == "stalled"
    assert "black-boxes/planner-1-" in told.text
    assert house.line.ends[0].how.startswith("stalled in step: ")


def test_a_deadlocked_main_thread_is_a_stall_with_its_stack_though_another_thread_still_talks(
    house: House,
) -> None:
    house.script("planner", DEADLOCKED)
    house.want(planner=1)
    box = stalled(house)
    assert "waits_for_itself" in box["stacks"]


def test_a_stopped_process_is_a_stall_let_on_for_its_stacks_only(house: House) -> None:
    house.script("planner", QUIET)
    house.ready(planner=1)
    pid = house.pid("planner")
    began = time.monotonic() - BEAT_S  # its last sign of life was before it was stopped
    os.kill(pid, signal.SIGSTOP)
    box = stalled(house)
    assert 0.6 <= told_s(box["reason"], "stalled: no sign of life", "0.6") <= time.monotonic() - began
    assert " in live" in box["stacks"]
    assert {thread["state"] for thread in box["threads"]} == {"T"}
    assert house.line.ends[0].exit_code == -signal.SIGKILL


def test_a_process_that_was_stopped_while_it_acted_is_not_let_on_at_all(house: House) -> None:
    house.script(
        "planner",
        "ready(); say('BUSY', step='step', acting=True, stall_after_s=0.4)\n"
        "while True: say(); time.sleep(0.01); Path('acted').write_text(str(time.monotonic()))",
    )
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner") and (house.directory / "acted").exists())
    os.kill(house.pid("planner"), signal.SIGSTOP)
    acted = (house.directory / "acted").read_text()
    box = stalled(house)
    assert "is not let on for its stacks" in box["stacks"]
    assert (house.directory / "acted").read_text() == acted


def test_one_that_ticks_slowly_is_no_stall(house: House) -> None:
    house.script(
        "planner",
        "ready(); say('BUSY', step='step', stall_after_s=0.4)\n"
        "for _ in range(8): time.sleep(0.2); say()\nsay('READY', step=None); live()",
    )
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner"))
    pid = house.pid("planner")
    house.until(lambda: house.are("READY", "planner"))
    assert house.pid("planner") == pid
    assert not house.line.boxes


def test_progress_that_the_database_saw_is_a_sign_of_life_too(house: House) -> None:
    house.script("planner", DEADLOCKED)
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner"))
    began = time.monotonic()
    house.order(ages={("planner", 1): -1.5})  # seen by the heartbeat: older than 0.4 s only in 1.9 s
    house.until(lambda: house.are("STALLED", "planner"))
    assert time.monotonic() - began > 1.5


def test_without_the_database_the_pipe_alone_decides(house: House) -> None:
    house.script("planner", DEADLOCKED)
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner"))
    house.order(ages={("planner", 1): -1000.0})
    house.turns(3)
    house.line.is_away = True
    house.until(lambda: house.line.boxes)
    assert house.line.boxes[0]["database"] is None


def test_waiting_for_the_database_is_no_stall(house: House) -> None:
    house.script(
        "planner", "ready(); say('BUSY', step='step', stall_after_s=0.2, waits_for_database=True); live()"
    )
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner"))
    began = time.monotonic()
    house.manager.run(lambda: time.monotonic() - began > 0.8)
    assert house.are("BUSY", "planner")


def test_what_the_manager_missed_while_it_stood_still_is_not_held_against_a_worker(house: House) -> None:
    house.script("planner", "ready(stall_after_s=30); say('BUSY', step='step'); live()")
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner"))
    pid = house.pid("planner")
    house.clock.ahead_s += 3600  # as after the machine's sleep
    house.turns(3)
    assert house.are("BUSY", "planner")
    assert house.pid("planner") == pid


def test_a_worker_that_never_says_a_word_is_a_stall(house: House) -> None:
    house.script("planner", "time.sleep(1000)")
    house.want(planner=1)
    house.until(lambda: house.are("STARTING", "planner") and house.line.slots["planner", 1].pid)
    for _ in range(40):
        if house.are("STALLED", "planner"):
            break
        house.clock.ahead_s += 2
        house.turns(1)
    assert house.reason("planner") == "not a word within 60 s"


def test_of_each_slot_the_newest_twenty_black_boxes_are_kept(house: House) -> None:
    boxes = house.directory / "black-boxes"
    boxes.mkdir()
    for day in range(10, 32):
        (boxes / f"planner-1-202501{day}T000000.000000Z.json").touch()
    (boxes / "planner-2-20250101T000000.000000Z.json").touch()
    house.script("planner", DEADLOCKED)
    house.want(planner=1)
    house.until(lambda: house.line.boxes)
    kept = sorted(file.name for file in boxes.glob("planner-1-*.json"))
    assert len(kept) == 20
    assert kept[0] == "planner-1-20250113T000000.000000Z.json"
    assert (boxes / "planner-2-20250101T000000.000000Z.json").exists()


@pytest.mark.timed
def test_one_that_ignores_sigterm_after_its_stall_is_killed_two_seconds_later(house: House) -> None:
    house.script("planner", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + DEADLOCKED)
    house.want(planner=1)
    house.until(lambda: house.line.boxes)
    began = time.monotonic()
    house.until(lambda: house.line.ends)
    assert 1.5 < time.monotonic() - began < 4
    assert house.line.ends[0].exit_code == -signal.SIGKILL
