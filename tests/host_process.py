"""A whole host: `socialfleet up` as a process, with a state directory of its own, and what is seen of it.

Without a sandbox it is given dummy credentials of an X that nobody runs: its workers are those of
`tests.light_workers`, which need none.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psutil
import psycopg

from tests import light_workers

ROOT = Path(__file__).parents[1]
READY = re.compile(r"^ready: ", re.MULTILINE)
NOBODYS_X = "http://127.0.0.1:9"
X_VALUES = ("X_CONSUMER_KEY", "X_CONSUMER_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET")
READY_STATES = ("READY", "BUSY", "PAUSED")
LIVING = """
    SELECT DISTINCT ON (i.pid, i.pid_started) i.worker, i.slot, i.host, i.pid, i.pid_started, h.state
    FROM fleet.incarnations i JOIN fleet.heartbeats h ON h.incarnation = i.id
    WHERE i.ended_at IS NULL AND h.beat_at >= pg_postmaster_start_time()
    ORDER BY i.pid, i.pid_started, i.started_at DESC
"""
"""The newest life of each process: one that lost its session lives on in another. What was told to a server
that has been started anew since is no sign of life."""
Found = TypeVar("Found")


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def eventually(
    look: Callable[[], Found | None], *, within_s: float, what: str | Callable[[], str], every_s: float = 0.05
) -> Found:
    """Look until something is there."""
    deadline = monotonic() + within_s
    pause = threading.Event()
    while True:
        if found := look():
            return found
        if monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what if isinstance(what, str) else what()}")
        pause.wait(every_s)


class HostProcess:
    """One host's `up`."""

    def __init__(
        self,
        state: Path,
        *,
        name: str = "",
        database_url: str = "",
        sandbox: bool = False,
        light: bool = True,
        before: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        """Name the parts; `start` starts it.

        Args:
            state: its state directory.
            name: its SOCIALFLEET_HOST.
            database_url: the fleet's PostgreSQL; empty: one of its own, embedded.
            sandbox: whether it runs an X sandbox.
            light: whether it has the workers of `tests.light_workers` beside the fleet's own.
            before: what stands before the command, such as `ip netns exec NAME`.
            environment: more variables.
        """
        self.state = state
        self.name = name
        self.before = tuple(before)
        self.console_port = free_port()
        packages = light_workers.install(state.parent / f"{state.name}-packages") if light else str(ROOT)
        self.environment = {
            **{key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ},
            "PYTHONPATH": packages,
            "SOCIALFLEET_STATE_DIR": str(state),
            "SOCIALFLEET_CONSOLE_PORT": str(self.console_port),
            "SOCIALFLEET_SANDBOX_PORT": str(free_port()),
            **({"SOCIALFLEET_HOST": name} if name else {}),
            **({"DATABASE_URL": database_url} if database_url else {}),
            **({} if sandbox else {"X_API_URL": NOBODYS_X, **dict.fromkeys(X_VALUES, "nobody's")}),
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.output = state.parent / f"{state.name}.out"

    def start(self) -> None:
        """Start it; `wait_ready` waits."""
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", "manager", "up"],
                cwd=self.state.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, within_s: float = 60) -> None:
        """Wait for the line that says so."""

        def is_ready() -> bool:
            assert self.process
            assert self.process.poll() is None, self.said()
            return READY.search(self.said()) is not None

        eventually(is_ready, within_s=within_s, what=lambda: f"{self.name} ready\n{self.said()}")

    def said(self) -> str:
        """What it printed."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def pid(self) -> int:
        """The first process, the keeper."""
        assert self.process
        return self.process.pid

    def stop(self, within_s: float = 30) -> None:
        """Stop it in order."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{self.name} did not end\n{self.said()}") from None

    def killed(self) -> None:
        """Kill its first process as a crash would, and wait for that one's end."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def kill(self) -> None:
        """End whatever is left of it."""
        for process in [*self.tree(), *of_host(self.state)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
                process.kill()
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)

    def tree(self) -> list[psutil.Process]:
        """The keeper and all its descendants."""
        if self.process is None:
            return []
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def role(self, comm: str) -> psutil.Process | None:
        """The child of the keeper that the kernel knows by that name."""
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == comm:
                    return process
        return None

    def dsn(self, role: str) -> str:
        """The login of a role."""
        return (self.state / "dsn" / role).read_text().strip()

    @contextlib.contextmanager
    def owner(self) -> Generator[psycopg.Connection]:
        """An owner's connection in autocommit."""
        with psycopg.connect(self.dsn("owner"), autocommit=True, connect_timeout=5) as connection:
            yield connection

    def snapshot(self) -> dict[str, Any]:
        """The manager's own snapshot; empty before there is one."""
        try:
            return dict(json.loads((self.state / "status.json").read_text()))
        except (OSError, ValueError):
            return {}

    def ask(self, **order: Any) -> dict[str, Any]:
        """Ask the manager by its local line."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            place = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
            try:
                line.connect(f"/proc/self/fd/{place}/manager.sock")
            finally:
                os.close(place)
            line.sendall(json.dumps(order).encode() + b"\n")
            with line.makefile("r") as answer:
                return dict(json.loads(answer.readline()))

    def command(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `socialfleet ARGUMENTS` on this host."""
        done = subprocess.run(
            [*self.before, sys.executable, "-m", "manager", *arguments],
            cwd=self.state.parent,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        told = f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert expect is None or done.returncode == expect, told
        return done


def living(connection: psycopg.Connection) -> list[tuple[str, int, str, int, str, str]]:
    """Each incarnation that was not ended: worker, slot, host, pid, start time, state."""
    return connection.execute(LIVING).fetchall()  # pyright: ignore[reportReturnType]


def of_host(state: Path) -> list[psutil.Process]:
    """Every living process that a host on this state directory began, by what it inherited."""
    needle = f"SOCIALFLEET_STATE_DIR={state}".encode()
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            inherited = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if needle in inherited and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
