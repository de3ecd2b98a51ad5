"""`socialfleet up` on the outside: what it refuses in a sentence. That it works is an acceptance test's."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread, Timer
from time import monotonic

import psutil
import pytest

from host.state_directory import StateDirectory
from tests.integration.host.keeping import children_named, eventually

REPOSITORY = Path(__file__).parents[3]
X_CREDENTIALS = ("X_CONSUMER_KEY", "X_CONSUMER_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET")


@dataclass(frozen=True)
class Shell:
    """Runs the command in an empty directory, on a state directory and ports of the test's own."""

    directory: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "manager", *arguments],
            cwd=self.directory,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening() -> Generator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        yield int(other.getsockname()[1])


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("X_", "SOCIALFLEET_"))},
        "PYTHONPATH": str(REPOSITORY),
        "SOCIALFLEET_STATE_DIR": str(tmp_path / "state"),
        "SOCIALFLEET_CONSOLE_PORT": str(free_port()),
        "SOCIALFLEET_SANDBOX_PORT": str(free_port()),
    }
    environment.pop("DATABASE_URL", None)
    return Shell(tmp_path, environment)


def refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one sentence on stderr."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("socialfleet: ")
    return lines[0]


@pytest.mark.parametrize("variable", ["SOCIALFLEET_CONSOLE_PORT", "SOCIALFLEET_SANDBOX_PORT"])
def test_a_taken_port_is_named_with_its_variable_and_what_to_do(shell: Shell, variable: str) -> None:
    with listening() as port:
        said = refused(shell.run("up", **{variable: str(port)}))
    assert f"{variable} is {port}: another program listens on 127.0.0.1:{port}" in said
    assert f"set {variable} to a free port" in said


def test_a_state_directory_that_can_not_be_written_is_named(shell: Shell) -> None:
    (shell.directory / "file").write_text("")
    said = refused(shell.run("up", SOCIALFLEET_STATE_DIR=str(shell.directory / "file" / "state")))
    assert "SOCIALFLEET_STATE_DIR is" in said
    assert "Set SOCIALFLEET_STATE_DIR to a directory of your own" in said


def test_a_second_fleet_on_the_same_directory_is_refused(shell: Shell) -> None:
    state = StateDirectory(shell.directory / "state")
    state.make()
    with state.locked():
        said = refused(shell.run("up"))
        assert f"a fleet runs on {state.path} already (process {os.getpid()})" in said
        assert "stop it first" in refused(shell.run("clean"), code=1)


def test_faults_of_the_environment_are_told_all_at_once(shell: Shell) -> None:
    done = shell.run("up", SOCIALFLEET_CONSOLE_PORT="http", DATABASE_URL="mysql://x", X_CONSUMER_KEY="k")
    assert done.returncode == 2
    assert "SOCIALFLEET_CONSOLE_PORT is 'http'" in done.stderr
    assert "DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_x_without_credentials_is_refused_with_the_variables(shell: Shell) -> None:
    said = refused(shell.run("up", X_API_URL="https://x.example"))
    assert all(name in said for name in X_CREDENTIALS)


def test_a_world_for_another_x_is_refused(shell: Shell) -> None:
    keys = dict.fromkeys(X_CREDENTIALS, "value")
    said = refused(shell.run("up", "--tier", "free", X_API_URL="https://x.example", **keys))
    assert "X_API_URL" in said


def test_a_world_that_is_not_there_is_refused_before_anything_starts(shell: Shell) -> None:
    said = refused(shell.run("up", "--world", "none.csv"))
    assert "WORLD is 'none.csv': there is no such file" in said
    assert not (shell.directory / "state" / "postgres").exists()


def test_a_database_that_does_not_answer_is_exit_code_4_and_nothing_stays(shell: Shell) -> None:
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/fleet"
    done = shell.run("up", DATABASE_URL=url)
    assert "check DATABASE_URL" in refused(done, code=4)
    assert "secret" not in done.stdout + done.stderr
    assert not StateDirectory(shell.directory / "state").is_running


def test_debug_shows_the_traceback(shell: Shell) -> None:
    done = shell.run("up", "--world", "none.csv", DEBUG="true")
    assert "Traceback" in done.stderr


def test_asked_to_stop_in_the_middle_of_the_start_it_stops_in_order(
    shell: Shell, processes_of: Callable[[Path], list[str]]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "manager", "up"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stdout
        for line in up.stdout:
            if line.startswith("[2/6]"):
                up.send_signal(signal.SIGINT)
                break
        rest = up.stdout.read()
        assert up.wait(30) == 0
    assert rest.endswith("stopped\n")
    assert processes_of(shell.directory) == []


def test_its_manager_process_killed_in_the_middle_of_the_start_is_followed_by_one_that_does_every_step(
    shell: Shell, processes_of: Callable[[Path], list[str]]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "manager", "up"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        patience = Timer(90, up.kill)
        patience.start()
        assert up.stdout
        said: list[str] = []
        for line in up.stdout:
            said.append(line)
            if line.startswith("[2/6]") and len(said) == 2:
                (manager,) = children_named(up.pid, "fleet-manager")
                os.kill(manager, signal.SIGKILL)
            if line.startswith("ready:"):
                up.send_signal(signal.SIGINT)
        patience.cancel()
        assert up.wait(30) == 0
    assert sum(line.startswith("[1/6]") for line in said) == 2
    assert said[-1] == "stopped\n"
    assert processes_of(shell.directory) == []


@pytest.mark.parametrize(
    ("command", "module"),
    [("status", "psycopg"), ("up", "psycopg"), ("up", "psutil")],
    ids=["a command", "up", "up's manager process"],
)
@pytest.mark.parametrize("entry", ["module", "script"])
def test_ctrl_c_while_it_is_still_imported_ends_it_quietly(
    shell: Shell, command: str, module: str, entry: str
) -> None:
    slow, begun = shell.directory / "slow", shell.directory / "begun"
    slow.mkdir()
    (slow / f"{module}.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n"
    )
    (slow / "socialfleet").write_text("import sys\nfrom manager import main\nsys.exit(main())\n")
    program = ["-m", "manager"] if entry == "module" else [str(slow / "socialfleet")]
    with subprocess.Popen(
        [sys.executable, *program, command],
        cwd=shell.directory,
        env={**shell.environment, "PYTHONPATH": f"{slow}{os.pathsep}{REPOSITORY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as ran:
        eventually(begun.exists, "it is imported", within_s=60)
        ran.send_signal(signal.SIGINT)
        said, _ = ran.communicate(timeout=30)
        assert (ran.returncode, said) == (130, "")


@pytest.mark.timed
def test_a_second_ctrl_c_kills_what_does_not_drain_and_nobody_is_left(
    shell: Shell, processes_of: Callable[[Path], list[str]]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "manager", "up"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as up:
        patience = Timer(90, up.kill)
        patience.start()
        assert up.stdout
        for line in up.stdout:
            if line.startswith("ready:"):
                break
        (stubborn,) = children_named(up.pid, "planner/1")
        os.kill(stubborn, signal.SIGSTOP)
        up.send_signal(signal.SIGINT)
        began = monotonic()
        ended = Event()
        asking = Thread(target=ask_again_and_again, args=(up, ended))
        asking.start()
        rest = up.stdout.read()
        code = up.wait(30)
        ended.set()
        asking.join()
        patience.cancel()
        assert code == 130
        assert monotonic() - began < 5  # a drain's own deadline is 10 s
    assert "draining" in rest
    assert rest.endswith("killed\n")
    assert not psutil.pid_exists(stubborn)
    eventually(lambda: processes_of(shell.directory) == [], "PostgreSQL ends by itself", within_s=15)


def ask_again_and_again(up: subprocess.Popen[str], ended: Event) -> None:
    """A person who is in a hurry: what comes too soon after the first counts as that one."""
    while not ended.wait(0.1):
        with contextlib.suppress(ProcessLookupError):
            up.send_signal(signal.SIGINT)


@pytest.fixture
def processes_of() -> Callable[[Path], list[str]]:
    """The command lines that name a directory."""

    def find(directory: Path) -> list[str]:
        lines: list[list[str] | None] = [
            process.info["cmdline"] for process in psutil.process_iter(["cmdline"])
        ]
        return [" ".join(line) for line in lines if line and any(str(directory) in word for word in line)]

    return find
