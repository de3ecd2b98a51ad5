"""WorkerManager: orders become processes, with stub workers that are real ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from coordination.desired import Command, DesiredWorker
from host.child import Program
from host.control import Orders, SlotState
from host.supervisor import Supervisor
from manager import WorkerManager

REPOSITORY = Path(__file__).parents[3]
WITHIN_S = 10.0
SLEEPER = "exec sleep 1000"

# A manager of two workers, that names their pids once they run, and waits to be killed.
MANAGER = """
import sys
from pathlib import Path
from coordination.desired import DesiredWorker
from host.control import Orders
from host.supervisor import Supervisor
from manager import WorkerManager

class Line:
    def take(self):
        return Orders(workers=[DesiredWorker(name="a", enabled=True, replicas=2)], commands=[])
    def report(self, slots): pass
    def finish(self, command, *, succeeded, text): pass

with Supervisor() as supervisor:
    manager = WorkerManager(supervisor, Line(), workers=["a"], logs=Path(sys.argv[1]),
                            argv=lambda name, slot: ["/bin/sh", "-c", "trap '' TERM; sleep 1000"])
    manager.run(lambda: len(manager.slots) == 2)
    print(*[child.pid for child in manager.slots.values()], flush=True)
    manager.run(lambda: False)
"""


@dataclass
class Line:
    """Orders as a test gives them, and what the manager said."""

    orders: list[Orders] = field(default_factory=list[Orders])
    slots: Mapping[tuple[str, int], SlotState] = field(default_factory=dict[tuple[str, int], SlotState])
    finished: dict[str, tuple[bool, str]] = field(default_factory=dict[str, tuple[bool, str]])

    def take(self) -> Orders | None:
        return self.orders.pop(0) if self.orders else None

    def report(self, slots: Sequence[SlotState]) -> None:
        self.slots = {(slot.worker, slot.slot): slot for slot in slots}

    def finish(self, command: str, *, succeeded: bool, text: str) -> None:
        self.finished[command] = (succeeded, text)


@dataclass
class House:
    """A manager whose workers are shell scripts."""

    supervisor: Supervisor
    line: Line
    manager: WorkerManager
    scripts: dict[str, str]

    def want(self, *commands: Command, **replicas: int) -> None:
        """Order so many replicas of each worker; none means disabled."""
        workers = [
            DesiredWorker(name=name, enabled=number > 0, replicas=max(number, 1))
            for name, number in replicas.items()
        ]
        self.line.orders.append(Orders(workers=workers, commands=commands))
        self.supervisor.wake()

    def until(self, reached: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        self.manager.run(lambda: reached() or time.monotonic() > deadline)
        assert reached(), f"not within {within_s} s"

    def state(self, worker: str, slot: int = 1) -> str:
        return self.line.slots[worker, slot].state if (worker, slot) in self.line.slots else "unknown"

    def pid(self, worker: str, slot: int = 1) -> int:
        pid = self.line.slots[worker, slot].pid
        assert pid is not None
        return pid


def command(action: str, worker: str, slot: int | None = None, *, number: str = "1") -> Command:
    return Command(id=number, action=action, worker=worker, slot=slot)  # pyright: ignore[reportArgumentType]  tests give plain strings


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    scripts = {
        "planner": SLEEPER,
        "poster": SLEEPER,
        "stubborn": "trap '' TERM; while :; do sleep 0.05; done",
    }
    line = Line()
    with Supervisor() as supervisor:
        manager = WorkerManager(
            supervisor,
            line,
            workers=list(scripts),
            logs=tmp_path / "logs",
            environment={"SOCIALFLEET_ACCOUNT": "sandbox"},
            argv=lambda name, _slot: ["/bin/sh", "-c", scripts[name]],
            stop_timeout_s=1.0,
        )
        yield House(supervisor, line, manager, scripts)
        manager.stop()


def test_each_worker_is_a_process_of_its_own_with_its_own_log(house: House) -> None:
    house.scripts["planner"] = "echo $SOCIALFLEET_ACCOUNT; exec sleep 1000"
    house.want(planner=1, poster=2)
    house.until(lambda: [house.state(*key) for key in house.line.slots] == ["READY"] * 3)
    assert set(house.line.slots) == {("planner", 1), ("poster", 1), ("poster", 2)}
    assert len({slot.pid for slot in house.line.slots.values()}) == 3
    logs = sorted(child.program.log.name for child in house.manager.slots.values())
    assert logs == ["planner-1.jsonl", "poster-1.jsonl", "poster-2.jsonl"]
    assert house.manager.slots["planner", 1].last_words() == "sandbox"


def test_what_the_program_does_not_have_is_left_alone(house: House) -> None:
    house.want(planner=1, foreign=1)
    house.until(lambda: house.state("planner") == "READY")
    assert set(house.line.slots) == {("planner", 1)}


def test_killed_workers_come_back_without_the_database(house: House) -> None:
    house.want(planner=1)
    house.until(lambda: house.state("planner") == "READY")
    pid = house.pid("planner")
    os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.state("planner") == "READY" and house.pid("planner") != pid)
    assert house.line.slots["planner", 1].restart_count == 1


def test_disabled_is_drained_and_enabled_comes_back(house: House) -> None:
    house.want(planner=1)
    house.until(lambda: house.state("planner") == "READY")
    house.want(planner=0)
    house.until(lambda: house.state("planner") == "STOPPED")
    house.want(planner=1)
    house.until(lambda: house.state("planner") == "READY")


def test_fewer_replicas_leave_the_first_ones_untouched(house: House) -> None:
    house.want(poster=3)
    house.until(lambda: [house.state("poster", slot) for slot in (1, 2, 3)] == ["READY"] * 3)
    first = house.pid("poster", 1)
    house.want(poster=1)
    house.until(lambda: [house.state("poster", slot) for slot in (2, 3)] == ["STOPPED"] * 2)
    assert house.state("poster", 1) == "READY"
    assert house.pid("poster", 1) == first


def test_a_restart_is_done_when_the_new_process_is_ready(house: House) -> None:
    house.want(planner=1, poster=1)
    house.until(lambda: house.state("poster") == "READY" == house.state("planner"))
    planner, poster = house.pid("planner"), house.pid("poster")
    house.want(command("restart", "poster"), planner=1, poster=1)
    house.until(lambda: "1" in house.line.finished)
    succeeded, text = house.line.finished["1"]
    assert succeeded
    assert text == f"poster/1 is READY (pid {house.pid('poster')})"
    assert house.pid("poster") != poster
    assert house.pid("planner") == planner


def test_one_slot_can_be_restarted_alone(house: House) -> None:
    house.want(poster=2)
    house.until(lambda: house.state("poster", 1) == "READY" == house.state("poster", 2))
    first, second = house.pid("poster", 1), house.pid("poster", 2)
    house.want(command("restart", "poster", 2), poster=2)
    house.until(lambda: "1" in house.line.finished)
    assert house.pid("poster", 1) == first
    assert house.pid("poster", 2) != second


def test_stop_and_start_commands_are_done_when_it_is_so(house: House) -> None:
    house.want(poster=1)
    house.until(lambda: house.state("poster") == "READY")
    house.want(command("stop", "poster"), poster=0)
    house.until(lambda: "1" in house.line.finished)
    assert house.line.finished["1"] == (True, "poster/1 is STOPPED")
    house.want(command("start", "poster", number="2"), poster=1)
    house.until(lambda: "2" in house.line.finished)
    assert house.line.finished["2"][0]
    assert house.state("poster") == "READY"


def test_a_start_before_the_stop_ended_settles_both(house: House) -> None:
    house.want(stubborn=1)
    house.until(lambda: house.state("stubborn") == "READY")
    house.want(command("stop", "stubborn"), stubborn=0)
    house.until(lambda: house.state("stubborn") == "DRAINING")
    house.want(command("start", "stubborn", number="2"), stubborn=1)
    house.until(lambda: len(house.line.finished) == 2)
    assert house.line.finished["1"] == (False, "superseded by a later command")
    assert house.line.finished["2"] == (True, f"stubborn/1 is READY (pid {house.pid('stubborn')})")


def test_a_stop_before_the_start_ended_settles_both(house: House) -> None:
    house.want(command("start", "poster"), poster=1)
    house.until(lambda: house.state("poster") == "STARTING")
    house.want(command("stop", "poster", number="2"), poster=0)
    house.until(lambda: len(house.line.finished) == 2)
    assert house.line.finished["1"] == (False, "superseded by a later command")
    assert house.line.finished["2"] == (True, "poster/1 is STOPPED")


def test_a_command_that_is_under_way_is_not_begun_again(house: House) -> None:
    house.want(stubborn=1)
    house.until(lambda: house.state("stubborn") == "READY")
    restart = command("restart", "stubborn")
    house.want(restart, stubborn=1)
    house.until(lambda: house.state("stubborn") == "STARTING")
    renewed = house.pid("stubborn")
    house.want(restart, stubborn=1)
    house.until(lambda: "1" in house.line.finished)
    assert house.line.finished["1"] == (True, f"stubborn/1 is READY (pid {renewed})")


def test_commands_that_can_not_be_done_say_why(house: House) -> None:
    house.want(
        command("restart", "poster"), command("restart", "planner", 7, number="2"), poster=0, planner=1
    )
    house.until(lambda: len(house.line.finished) == 2)
    assert house.line.finished["1"] == (
        False,
        "poster is stopped: start it with: socialfleet start poster",
    )
    assert house.line.finished["2"] == (False, "planner has no such slot on this host")


def test_a_restart_that_fails_says_how(house: House) -> None:
    house.want(planner=1)
    house.until(lambda: house.state("planner") == "READY")
    house.manager.slots["planner", 1].program = _with_script(house, "planner", "echo no key; exit 78")
    house.want(command("restart", "planner"), planner=1)
    house.until(lambda: "1" in house.line.finished)
    succeeded, text = house.line.finished["1"]
    assert not succeeded
    assert text.startswith("planner/1 no key; starts again in ")


def test_stopping_all_waits_for_the_deadline_only_and_leaves_no_process(house: House) -> None:
    house.want(planner=1, poster=2, stubborn=1)
    house.until(lambda: [slot.state for slot in house.line.slots.values()] == ["READY"] * 4)
    pids = [slot.pid for slot in house.line.slots.values()]
    began = time.monotonic()
    house.manager.stop()
    assert time.monotonic() - began < 3
    assert {slot.state for slot in house.line.slots.values()} == {"STOPPED"}
    assert "did not drain" in house.line.slots["stubborn", 1].reason
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)


def test_stopped_it_takes_no_more_orders(house: House) -> None:
    house.want(planner=1)
    house.until(lambda: house.state("planner") == "READY")
    house.want(planner=1, poster=1)
    house.manager.stop()
    assert {slot.state for slot in house.line.slots.values()} == {"STOPPED"}
    assert ("poster", 1) not in house.line.slots


def test_workers_die_with_a_manager_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MANAGER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as manager:
        assert manager.stdout
        workers = [psutil.Process(int(pid)) for pid in manager.stdout.readline().split()]
        assert len(workers) == 2
        manager.kill()
    _, alive = psutil.wait_procs(workers, WITHIN_S)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


def _with_script(house: House, worker: str, script: str) -> Program:
    return replace(house.manager.slots[worker, 1].program, argv=["/bin/sh", "-c", script])
