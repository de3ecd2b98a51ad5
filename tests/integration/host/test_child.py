"""A supervised child, with real processes."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from host.backoff import Backoff
from host.child import Child, Program
from host.supervisor import Supervisor
from tests.integration.host.keeping import Kept, keeping, lives

WITHIN_S = 60.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Kept]:
    with keeping(tmp_path) as made:
        yield made


@pytest.fixture
def supervisor(running: Kept) -> Iterator[Supervisor]:
    with Supervisor(running.keeper) as made:
        yield made
        for child in made.children:
            child.stop("")
            with suppress(ProcessLookupError):
                if child.pid:
                    os.killpg(child.pid, signal.SIGKILL)
        await_(made, lambda: not any(child.pid for child in made.children))


def await_(supervisor: Supervisor, reached: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        supervisor.wait(0.2)


@pytest.fixture
def make(supervisor: Supervisor, tmp_path: Path) -> Callable[..., Child]:
    def shell(script: str, *, stop_timeout_s: float = 10.0, spread: float = 0.0) -> Child:
        program = Program(
            name="stub/1",
            argv=["/bin/sh", "-c", script],
            environment=os.environ,
            log=tmp_path / "logs" / "stub-1.jsonl",
            ready_after_s=0.2,
            stop_timeout_s=stop_timeout_s,
        )
        child = Child(program, keeper=supervisor.keeper, backoff=Backoff(spread=lambda: spread))
        supervisor.children.append(child)
        return child

    return shell


def test_it_is_starting_then_ready_in_a_session_of_its_own(
    supervisor: Supervisor, make: Callable[..., Child]
) -> None:
    child = make("exec sleep 1000")
    child.start()
    assert child.state == "STARTING"
    await_(supervisor, lambda: child.state == "READY")
    assert child.pid is not None
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    assert child.restart_count == 0


@pytest.mark.timed
def test_killed_it_is_noticed_at_once_and_comes_back_as_another_process(
    supervisor: Supervisor, make: Callable[..., Child]
) -> None:
    child = make("exec sleep 1000", spread=0.5)
    child.start()
    await_(supervisor, lambda: child.state == "READY")
    pid = child.pid
    assert pid is not None
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    await_(supervisor, lambda: child.state == "BACKOFF")
    assert time.monotonic() - began < 0.5
    assert child.reason.startswith("killed by SIGKILL; starts again in 0.5 s")
    await_(supervisor, lambda: child.state == "READY")
    assert child.pid not in {None, pid}
    assert child.restart_count == 1


def test_one_that_keeps_failing_waits_longer_each_time(
    supervisor: Supervisor, make: Callable[..., Child]
) -> None:
    child = make("echo trouble; exit 3", spread=0.1)
    child.start()
    waits: list[str] = []
    while len(waits) < 3:
        await_(supervisor, lambda: child.state == "BACKOFF")
        waits.append(child.reason)
        await_(supervisor, lambda: child.state != "BACKOFF")
    assert waits == [f"ended with exit code 3: trouble; starts again in 0.{n} s" for n in (1, 2, 4)]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            'echo \'{"level": "error", "message": "X_CONSUMER_KEY is missing"}\'; exit 78',
            "X_CONSUMER_KEY is missing",
        ),
        ("exit 78", "its settings or needs are not met (exit code 78)"),
        ("exit 0", "ended by itself, though it should run"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
    ],
)
def test_every_end_is_explained(
    supervisor: Supervisor, make: Callable[..., Child], script: str, reason: str
) -> None:
    child = make(script, spread=1.0)
    child.start()
    await_(supervisor, lambda: child.state == "BACKOFF")
    assert child.reason == f"{reason}; starts again in 1.0 s"


def test_a_program_that_is_not_there_waits_as_well(supervisor: Supervisor, tmp_path: Path) -> None:
    program = Program(name="none", argv=[str(tmp_path / "none")], environment={}, log=tmp_path / "none.log")
    child = Child(program, keeper=supervisor.keeper, backoff=Backoff(spread=lambda: 1.0))
    supervisor.children.append(child)
    child.start()
    await_(supervisor, lambda: child.state == "BACKOFF")
    assert child.reason.startswith("ended with exit code 127: ")
    assert str(tmp_path / "none") in child.reason


def test_a_birth_that_is_refused_waits_as_well(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    program = Program(name="none", argv=["/bin/true"], environment={}, log=tmp_path / "log")
    child = Child(program, keeper=supervisor.keeper, backoff=Backoff(spread=lambda: 1.0))
    supervisor.children.append(child)
    child.start()
    await_(supervisor, lambda: child.state == "BACKOFF")
    assert child.reason.startswith("can't be started: ")


def test_one_that_an_earlier_manager_started_is_adopted_and_not_started_again(
    running: Kept, tmp_path: Path
) -> None:
    program = Program(
        name="console", argv=["/bin/sleep", "1000"], environment={}, log=tmp_path / "logs" / "console.log"
    )
    with Supervisor(running.keeper) as first:
        child = Child(program, keeper=running.keeper)
        first.children.append(child)
        child.start()
        await_(first, lambda: child.pid is not None)
    pid = child.pid
    os.kill(running.manager_pid, signal.SIGKILL)
    with Supervisor(running.next_manager()) as second:
        adopted = Child(program, keeper=running.keeper)
        second.children.append(adopted)
        second.wait(0)
        adopted.start()
        await_(second, lambda: adopted.state == "READY")
        assert adopted.pid == pid
        adopted.stop()
        await_(second, lambda: adopted.is_ended)
    assert pid is not None
    assert not lives(pid)


def test_stopped_it_drains_and_stays_stopped(supervisor: Supervisor, make: Callable[..., Child]) -> None:
    child = make("trap 'echo drained; exit 0' TERM; while :; do sleep 0.05; done")
    child.start()
    await_(supervisor, lambda: child.state == "READY")
    child.stop("enough")
    assert child.state == "DRAINING"
    await_(supervisor, lambda: child.state == "STOPPED")
    assert (child.exit_code, child.pid, child.reason) == (0, None, "enough")
    assert child.last_words() == "drained"
    child.stop("again")
    assert child.state == "STOPPED"


@pytest.mark.timed
def test_one_that_ignores_sigterm_is_killed_with_its_descendants_at_its_deadline(
    supervisor: Supervisor, make: Callable[..., Child]
) -> None:
    child = make("trap '' TERM; sleep 1000 & echo $!; while :; do sleep 0.05; done", stop_timeout_s=0.5)
    child.start()
    await_(supervisor, lambda: child.state == "READY")
    grandchild = psutil.Process(int(child.last_words()))
    began = time.monotonic()
    child.stop()
    await_(supervisor, lambda: child.state == "STOPPED")
    assert 0.5 <= time.monotonic() - began < 3
    assert child.exit_code == -signal.SIGKILL
    assert "did not drain within 0.5 s" in child.reason
    grandchild.wait(WITHIN_S)


def test_what_a_child_leaves_behind_in_its_group_ends_with_it(
    supervisor: Supervisor, make: Callable[..., Child]
) -> None:
    child = make("sleep 1000 & echo $!; sleep 0.4; exit 1", spread=1.0)
    child.start()
    await_(supervisor, lambda: child.state == "BACKOFF")
    left_behind = int(child.reason.removeprefix("ended with exit code 1: ").split(";")[0])
    with suppress(psutil.NoSuchProcess):
        psutil.Process(left_behind).wait(WITHIN_S)
    assert not psutil.pid_exists(left_behind)


def test_restarted_it_drains_first_and_is_another_process_then(
    supervisor: Supervisor, make: Callable[..., Child]
) -> None:
    child = make("exec sleep 1000")
    child.start()
    await_(supervisor, lambda: child.state == "READY")
    pid = child.pid
    child.restart("a person restarts it")
    assert child.state == "DRAINING"
    await_(supervisor, lambda: child.state == "READY")
    assert child.pid != pid
    assert child.restart_count == 1


def test_started_while_it_drains_it_comes_back(supervisor: Supervisor, make: Callable[..., Child]) -> None:
    child = make("exec sleep 1000")
    child.start()
    await_(supervisor, lambda: child.state == "READY")
    pid = child.pid
    child.stop()
    child.start()
    await_(supervisor, lambda: child.state == "READY")
    assert child.pid != pid


def test_output_is_appended_to_the_log(supervisor: Supervisor, make: Callable[..., Child]) -> None:
    child = make(f"{sys.executable} -c 'print(1)'; echo 2 >&2; exec sleep 1000")
    child.program.log.parent.mkdir()
    child.program.log.write_text("0\n")
    child.start()
    await_(supervisor, lambda: child.program.log.read_text() == "0\n1\n2\n")
