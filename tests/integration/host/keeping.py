"""A real keeper for a test: its manager process hands its line over, so that the test is the manager."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from host.keeper.client import Event, Keeper
from host.keeper.wire import Birth, Ended, Started
from host.process_table import read

REPOSITORY = Path(__file__).parents[3]
WITHIN_S = 60.0
AGO = 1_000_000_000.0
STUBS = "stub_workers"
SLEEPER = """
    import time

    def run(name, slot):
        time.sleep(1000)
        return 0
"""
"""A worker that does nothing."""

KEEPER = """
import os, signal, socket, sys
from host.keeper.keep import keep
from host.keeper.template import Template

address, entry, mode, *modules = sys.argv[1:]

def manage(channel):
    def stop(number, frame):
        os._exit(int(os.environ.get("STOPPED_WITH", "0")))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as test:
        test.connect("\\0" + address)
        socket.send_fds(test, [str(os.getpid()).encode()], [channel.fileno()])
    while True:
        signal.pause()

template = Template(entry=entry, modules={name: name for name in modules},
                    packages=frozenset({entry.partition(":")[0], *modules}))
sys.exit(keep(manage, template=None if mode == "spawn" else template, entry=entry))
"""
Found = TypeVar("Found")


@dataclass(kw_only=True)
class Kept:
    """A running keeper, and the test in the place of its manager process."""

    process: subprocess.Popen[str]
    directory: Path
    door: socket.socket
    keeper: Keeper
    manager_pid: int
    events: list[Event] = field(default_factory=list[Event])

    def next_manager(self) -> Keeper:
        """Wait for the manager process that follows a killed one, and be that."""
        self.keeper.close()
        self.manager_pid, self.keeper = _received(self.door)
        return self.keeper

    def await_(self, found: Callable[[Event], Found | None], what: str) -> Found:
        """Take events until one is what is looked for; all are kept in `events`."""

        def look() -> Found | None:
            taken = self.keeper.take()
            self.events += taken
            return next((hit for event in taken if (hit := found(event))), None)

        return eventually(look, what)

    def born(self, birth: Birth) -> Started:
        """Ask for a child and wait for it."""
        request = self.keeper.start(birth)
        return self.await_(
            lambda event: event if isinstance(event, Started) and event.request == request else None,
            f"{birth.name} is born",
        )

    def worker(self, name: str = "stub", slot: int = 1, **fields: object) -> Started:
        """A worker's birth."""
        given = {"log": self.log(name, slot), **fields}
        return self.born(Birth(name=f"{name}/{slot}", worker=name, slot=slot, **given))  # pyright: ignore[reportArgumentType]

    def shell(self, script: str, name: str = "program", **fields: object) -> Started:
        """A program's birth."""
        given = {"log": self.log(name, 0), "environment": dict(os.environ), **fields}
        return self.born(Birth(name=name, argv=("/bin/sh", "-c", script), **given))  # pyright: ignore[reportArgumentType]

    def ended(self, started: Started) -> Ended:
        """Wait for a child's end."""
        for event in self.events:
            if isinstance(event, Ended) and event.pid == started.pid:
                return event
        return self.await_(
            lambda event: event if isinstance(event, Ended) and event.pid == started.pid else None,
            f"{started.name} ends",
        )

    def log(self, name: str, slot: int) -> Path:
        """Where a child's output goes."""
        return self.directory / "logs" / f"{name}-{slot}.jsonl"

    def said(self, name: str = "stub", slot: int = 1, *, lines: int = 1) -> list[str]:
        """Wait for what a child prints."""

        def look() -> list[str] | None:
            with suppress(FileNotFoundError):
                text = self.log(name, slot).read_text()
                found = text.splitlines()
                if text.endswith("\n") and len(found) >= lines:
                    return found
            return None

        return eventually(look, f"{name}/{slot} says {lines} lines")


@contextmanager
def keeping(
    directory: Path,
    *,
    source: str = SLEEPER,
    entry: str = f"{STUBS}:run",
    modules: Mapping[str, str] | None = None,
    spawn: bool = False,
) -> Generator[Kept]:
    """Run a keeper until the block ends.

    Args:
        directory: where the stub's module, the logs and the socket are.
        source: the text of the module `stub_workers`.
        entry: what a worker runs: `module:function`, called with name and slot, giving the exit code.
        modules: more modules by name, with their text; they are imported warm.
        spawn: whether each worker gets an interpreter of its own.
    """
    for name, text in {STUBS: source, **(modules or {})}.items():
        module = directory / f"{name}.py"
        module.write_text(textwrap.dedent(text))
        os.utime(module, times=(AGO, AGO))  # a source that was written just now is not trusted
    address = directory / "k"
    with _listening(address) as door:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                KEEPER,
                _short(address),
                entry,
                "spawn" if spawn else "fork",
                *(modules or {}),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), str(REPOSITORY)])},
            cwd=directory,
            text=True,
        )
        try:
            manager_pid, keeper = _received(door)
            kept = Kept(
                process=process, directory=directory, door=door, keeper=keeper, manager_pid=manager_pid
            )
            try:
                yield kept
            finally:  # what a test that failed leaves open would fail another one
                for event in [*kept.events, *kept.keeper.take()]:
                    if isinstance(event, Started):
                        event.close()
                kept.keeper.close()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@contextmanager
def kept(
    directory: Path,
    *,
    source: str = SLEEPER,
    entry: str = f"{STUBS}:run",
    spawn: bool = False,
) -> Generator[Keeper]:
    """Run a keeper until the block ends, and give its client; see `keeping`."""
    with keeping(directory, source=source, entry=entry, spawn=spawn) as running:
        yield running.keeper


def eventually(look: Callable[[], Found | None], what: str, *, within_s: float = WITHIN_S) -> Found:
    """Look until something is there."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.005)
    return found


def lives(pid: int) -> bool:
    """Whether the process runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_named(parent: int, name: str) -> list[int]:
    """The children of a process that `ps` calls so."""
    found = [read(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [
        entry.pid
        for entry in found
        if entry
        and entry.parent == parent
        and entry.state != "Z"
        and Path(f"/proc/{entry.pid}/comm").read_text().strip() == name
    ]


def living(pids: Sequence[int]) -> list[int]:
    """Those that run."""
    return [pid for pid in pids if lives(pid)]


@contextmanager
def _listening(address: Path) -> Generator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(f"\0{_short(address)}")
        door.listen(8)
        door.settimeout(WITHIN_S)
        yield door


def _short(address: Path) -> str:
    """An abstract address, without its leading NUL: a directory may be longer than a socket's path may be."""
    return f"{hashlib.sha256(str(address).encode()).hexdigest()[:32]}"


def _received(door: socket.socket) -> tuple[int, Keeper]:
    connection, _ = door.accept()
    with connection:
        said, files, _, _ = socket.recv_fds(connection, 64, 1)
    return int(said), Keeper(socket.socket(fileno=files[0]))
