"""A person at the shell of one fleet: commands in, exit codes, lines and JSON out."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from host import cli
from host.state_directory import StateDirectory
from tests.integration.conftest import FleetDatabase

WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Runs the command line's own entry; `database` is the fleet's where there is one."""

    state: StateDirectory
    database: FleetDatabase
    printed: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> int:
        """Give one command; its exit code."""
        return cli.main(arguments, manage=None)

    def lines(self) -> list[str]:
        """What was printed since, line by line."""
        return self.printed.readouterr().out.splitlines()

    def json(self) -> Any:
        """What was printed since, as a program reads it."""
        return json.loads(self.printed.readouterr().out)

    def complaint(self) -> str:
        """The one sentence on stderr since."""
        (line,) = self.printed.readouterr().err.strip().splitlines()
        assert line.startswith("socialfleet: ")
        return line

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Look into a table."""
        with self.database.owner() as owner:
            return owner.execute(statement.encode()).fetchall()


@contextmanager
def following(*arguments: str) -> Generator[Iterator[str]]:
    """A command that goes on, as a process; its lines as they come, each within 20 s."""
    process = subprocess.Popen(
        [sys.executable, "-m", "manager", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    found: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found.put(line.rstrip("\n"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield iter(lambda: found.get(timeout=WAIT_S), None)
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stdout is not None:
            process.stdout.close()
