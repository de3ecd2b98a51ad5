"""Slots: failures, crash loops, limits, with stub workers that are real processes on a real keeper."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from coordination.desired import Limits
from host.slots import usage
from tests.integration.host.keeping import eventually
from tests.integration.host.managing import LIVE, House, managing, part

MEMORY = """
ready()
while not Path("grow").exists(): time.sleep(0.01)
held = bytearray(os.urandom(1 << 20)) * 150
live()
"""
CHILD_MEMORY = """
ready()
while not Path("grow").exists(): time.sleep(0.01)
child = subprocess.Popen([sys.executable, "-c", "held = b'x' * (150 << 20); import time; time.sleep(1000)"])
live()
"""


@pytest.fixture(params=["fork", "spawn"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    with managing(tmp_path, spawn=request.param == "spawn") as made:
        yield made


@pytest.fixture
def often_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured every 5 s, over a minute, is every 0.2 s, over a second."""
    monkeypatch.setattr(usage, "SAMPLE_S", 0.2)
    monkeypatch.setattr(usage, "CPU_WINDOW_S", 1.0)


def fail_often(house: House, times: int) -> None:
    """Let the planner fail so often, its backoffs passing by the clock."""
    for number in range(times):
        house.until(
            lambda number=number: (
                house.state("planner") in {"BACKOFF", "CRASH_LOOP"} and len(house.line.ends) > number
            )
        )
        if number < times - 1:
            house.clock.ahead_s += (house.slot("planner").due_at or house.clock()) - house.clock()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            'print(\'{"level": "error", "message": "X_CONSUMER_KEY is missing"}\', flush=True); code = 78',
            "X_CONSUMER_KEY is missing",
        ),
        ("code = 78", "its settings or needs are not met (exit code 78)"),
        ("pass", "ended by itself, though it should run"),
        ("ready(); print('done', flush=True)", "ended by itself, though it should run: done"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "killed by SIGABRT"),
        ("print('trouble', flush=True); code = 3", "ended with exit code 3: trouble"),
    ],
)
def test_every_end_of_one_that_should_run_is_a_failure_that_is_explained(
    house: House, script: str, reason: str
) -> None:
    house.script("planner", script)
    house.want(planner=1)
    house.until(lambda: house.are("BACKOFF", "planner"))
    told = house.reason("planner")
    assert told.removesuffix("; starts again in 0.1 s").splitlines()[-1] == reason
    assert house.line.slots["planner", 1].failures == 1


def test_one_that_keeps_failing_waits_longer_each_time(house: House) -> None:
    house.script("planner", "code = 3")
    house.want(planner=1)
    waits: list[str] = []

    def failed(number: int) -> bool:
        slot = house.line.slots.get(("planner", 1))
        return slot is not None and slot.failures == number

    for number in (1, 2, 3):
        house.until(partial(failed, number))
        waits.append(house.reason("planner").rpartition(" in ")[2])
    assert waits == ["0.1 s", "0.2 s", "0.4 s"]


def test_five_failures_within_two_minutes_are_a_crash_loop_with_an_alert_and_slow_probes(
    house: House,
) -> None:
    house.script("planner", "print('no such file', flush=True); code = 1")
    house.want(planner=1, poster=1)
    fail_often(house, 4)
    assert house.are("BACKOFF", "planner")
    assert not house.line.alerts
    house.clock.ahead_s += 1
    house.until(lambda: house.are("CRASH_LOOP", "planner") and len(house.line.ends) == 5)
    assert house.reason("planner") == "ended with exit code 1: no such file; one try every 60 s"
    alert = house.line.alerts["crash_loop:planner/1"]
    assert alert.text == "planner/1 failed 5 times within 120 s: ended with exit code 1: no such file"
    assert house.are("READY", "poster")

    house.clock.ahead_s += 58
    house.turns(3)
    assert len(house.line.ends) == 5  # no probe yet
    house.clock.ahead_s += 3
    house.until(lambda: len(house.line.ends) == 6)
    house.until(lambda: house.are("CRASH_LOOP", "planner"))

    house.script("planner", LIVE)
    house.clock.ahead_s += 61
    house.until(lambda: house.are("READY", "planner"))
    assert house.line.alerts  # ready is not stable yet
    house.clock.ahead_s += 61
    house.until(lambda: not house.line.alerts)
    assert house.line.cleared.count("crash_loop:planner/1") == 1
    assert house.line.slots["planner", 1].failures == 0


def test_an_alert_that_another_manager_raised_is_over_once_it_has_been_at_work_for_long(house: House) -> None:
    house.line.raise_alert("crash_loop:planner/1", "error", "planner/1 failed before this fleet began", {})
    house.ready(planner=1)
    house.turns(3)
    assert house.line.alerts  # ready is not stable yet
    house.clock.ahead_s += 61
    house.until(lambda: not house.line.alerts)
    house.clock.ahead_s += 61
    house.turns(3)
    assert house.line.cleared == ["crash_loop:planner/1"]


def test_five_failures_over_a_longer_time_are_no_crash_loop(house: House) -> None:
    house.script("planner", "code = 1")
    house.want(planner=1)
    for number in range(1, 7):
        house.until(lambda number=number: len(house.line.ends) == number)
        house.clock.ahead_s += 40
    assert house.line.slots["planner", 1].failures >= 5
    assert not house.line.alerts


def test_a_person_who_stops_one_in_a_crash_loop_takes_the_alert_back(house: House) -> None:
    house.script("planner", "code = 1")
    house.want(planner=1)
    fail_often(house, 5)
    house.until(lambda: house.are("CRASH_LOOP", "planner"))
    house.want(planner=0)
    house.until(lambda: house.are("STOPPED", "planner"))
    assert not house.line.alerts


def start_while_the_database_goes_away(house: House) -> None:
    """The planner is on its way, and fails once the file `go` is there, as each after it."""
    house.script("planner", "while not Path('go').exists(): time.sleep(0.01)\ncode = 1")
    house.want(planner=1)
    house.until(lambda: house.are("STARTING", "planner"))
    house.line.is_away = True


def test_failures_while_the_database_is_away_or_just_back_do_not_count(house: House) -> None:
    start_while_the_database_goes_away(house)
    (house.directory / "go").touch()
    house.spread = 0.02
    fail_often(house, 6)
    assert house.line.slots["planner", 1].failures == 0
    house.line.is_away = False
    house.turns(2)
    before = len(house.line.ends)
    house.until(lambda: len(house.line.ends) > before)
    house.turns(2)
    assert house.line.slots["planner", 1].failures == 0
    house.clock.ahead_s += 6
    house.until(lambda: house.line.slots["planner", 1].failures == 1)
    assert not house.line.alerts


@pytest.mark.parametrize("script", [MEMORY, CHILD_MEMORY])
def test_one_above_its_memory_limit_drains_and_restarts_and_says_so(
    house: House, script: str, often_measured: None
) -> None:
    del often_measured
    house.script("planner", script)
    house.want(planner=1, limits=Limits(memory_mb=120))
    house.until(lambda: house.are("READY", "planner"))
    pid = house.pid("planner")
    house.clock.ahead_s += 60  # it has lived for a while
    house.until(lambda: house.line.slots["planner", 1].memory_bytes)
    (house.directory / "grow").touch()
    house.until(lambda: [kind for kind, _ in house.line.events] == ["over_limit"])
    (house.directory / "grow").unlink()
    house.until(lambda: house.are("READY", "planner") and house.pid("planner") != pid)
    _, told = house.line.events[0]
    assert told.text.startswith("planner/1 uses ")
    assert told.text.endswith(" MB of memory, above its limit of 120 MB: it drains and restarts")
    assert house.line.ends[0].exit_code == 0
    assert "above its limit of 120 MB" in house.line.ends[0].how
    assert house.line.slots["planner", 1].failures == 0


def test_one_above_its_limit_as_soon_as_it_lives_is_not_started_in_a_hurry(
    house: House, often_measured: None
) -> None:
    del often_measured
    house.script("planner", "held = bytearray(os.urandom(1 << 20)) * 150; ready(); live()")
    house.spread = 1.0
    house.want(planner=1, limits=Limits(memory_mb=120))
    house.until(lambda: house.are("BACKOFF", "planner"))
    assert house.reason("planner").endswith("above its limit of 120 MB; starts again in 1.0 s")
    assert house.line.slots["planner", 1].failures == 0


def test_one_above_its_processor_limit_restarts_and_says_so_and_an_idle_one_does_not(
    house: House, often_measured: None
) -> None:
    del often_measured
    house.script("planner", "ready()\nwhile not draining.is_set(): pass")
    house.want(planner=1, poster=1, limits=Limits(cpu_percent=20))
    house.until(lambda: house.line.events)
    kind, told = house.line.events[0]
    assert kind == "over_limit"
    assert told.text.startswith("planner/1 used ")
    assert "of a CPU over a minute, above its limit of 20%" in told.text
    house.until(lambda: house.line.ends)
    assert {end.worker for end in house.line.ends} == {"planner"}


def test_niceness_is_changed_live_for_every_thread(house: House) -> None:
    house.ready(planner=1)
    pid = house.pid("planner")
    tasks = Path(f"/proc/{pid}/task")
    house.until(
        lambda: len(list(tasks.iterdir())) > 1
    )  # it says that it is ready before its other thread begins
    house.want(planner=1, limits=Limits(memory_mb=200, nice=7))
    house.until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 7)
    assert house.pid("planner") == pid
    threads = [int(path.name) for path in tasks.iterdir()]
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {7}


def test_a_birth_that_can_not_be_is_a_failure_with_its_reason(house: House) -> None:
    house.log("planner").parent.mkdir(exist_ok=True)
    house.log("planner").mkdir()  # no process can write there
    house.want(planner=1)
    house.until(lambda: house.are("BACKOFF", "planner"))
    assert house.reason("planner").startswith("can't be started: ")
    house.log("planner").rmdir()
    house.until(lambda: house.are("READY", "planner"))


def test_a_birth_that_the_keeper_does_not_answer_says_so(house: House) -> None:
    house.ready(poster=1)
    keeper = house.kept.process
    keeper.send_signal(signal.SIGSTOP)
    try:
        house.want(planner=1)
        house.until(lambda: house.are("STARTING", "planner"))
        assert not house.reason("planner")
        house.clock.ahead_s += 6
        house.until(lambda: house.reason("planner"))
        assert house.reason("planner") == "the keeper has not answered for more than 5 s"
    finally:
        keeper.send_signal(signal.SIGCONT)
    house.until(lambda: house.are("READY", "planner") and not house.reason("planner"))


def test_what_a_worker_left_in_its_session_ends_with_it(house: House) -> None:
    house.script(
        "planner",
        "child = subprocess.Popen(['sleep', '1000']); print(child.pid, flush=True); ready(); live()",
    )
    house.ready(planner=1)
    child = int(house.log("planner").read_text())
    os.kill(house.pid("planner"), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{child}").exists(), "the child is gone")


def test_started_while_it_drains_it_comes_back(house: House) -> None:
    house.script("planner", "ready(); live(drain_s=0.3)")
    house.ready(planner=1)
    pid = house.pid("planner")
    house.want(planner=0)
    house.until(lambda: house.are("DRAINING", "planner"))
    house.want(planner=1)
    house.until(lambda: house.are("READY", "planner"))
    assert house.pid("planner") != pid


@pytest.mark.timed
def test_stopped_before_it_was_born_it_ends_at_once(house: House) -> None:
    house.ready(poster=1)
    house.want(planner=1)
    house.manager.attend()  # asked for, not born yet
    house.want(planner=0)
    began = time.monotonic()
    house.until(lambda: house.are("STOPPED", "planner") and not house.line.slots["planner", 1].pid)
    assert time.monotonic() - began < 5
    assert house.slot("planner").is_idle


def test_started_by_a_person_out_of_a_crash_loop_its_next_try_is_not_due_any_more(house: House) -> None:
    house.script("planner", "code = 1")
    house.want(planner=1)
    fail_often(house, 5)
    house.until(lambda: house.are("CRASH_LOOP", "planner"))
    house.script("planner", LIVE)
    house.order(part("start", "planner"))
    house.until(lambda: house.are("READY", "planner"))
    house.clock.ahead_s += 120
    house.turns(2)
    assert house.slot("planner").due_at is None  # or the main thread would never sleep again


def test_waits_that_do_not_count_are_forgotten_too_once_it_was_stable(house: House) -> None:
    start_while_the_database_goes_away(house)
    (house.directory / "go").touch()
    house.spread = 0.02
    fail_often(house, 3)
    house.script("planner", LIVE)
    house.line.is_away = False
    house.until(lambda: house.are("READY", "planner"))
    assert house.slot("planner").failures.count == 0
    assert house.slot("planner").failures.has_waited
    house.clock.ahead_s += 61
    house.until(lambda: not house.slot("planner").failures.has_waited)


def test_what_waited_for_the_database_starts_soon_after_it_is_back(house: House) -> None:
    start_while_the_database_goes_away(house)
    house.turns(2)
    (house.directory / "go").touch()
    house.spread = 1.0
    for number in range(1, 8):
        house.until(lambda number=number: len(house.line.ends) == number)
        house.until(lambda: house.are("BACKOFF", "planner"))
        house.clock.ahead_s += 61
    house.until(lambda: len(house.line.ends) == 8)
    house.until(lambda: house.are("BACKOFF", "planner"))
    house.script("planner", LIVE)
    due = house.slot("planner").due_at
    assert due is not None
    assert due - house.clock() > 50
    house.line.is_away = False
    house.turns(1)
    due = house.slot("planner").due_at
    assert due is not None
    assert due - house.clock() <= 1
    house.until(lambda: house.are("READY", "planner"))


def test_an_alert_that_another_manager_raised_is_over_when_a_person_stops_it(house: House) -> None:
    house.line.raise_alert("crash_loop:planner/1", "error", "planner/1 failed before this fleet began", {})
    house.ready(planner=1)
    house.want(planner=0)
    house.until(lambda: house.are("STOPPED", "planner"))
    assert not house.line.alerts
