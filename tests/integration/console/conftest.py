"""A real console process, met over HTTP."""

import select
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.conftest import FleetDatabase

START_S = 30
TOKEN = "open-sesame"


@dataclass
class ConsoleProcess:
    """A console on a free port, with a state directory that may be filled later."""

    state: Path
    process: subprocess.Popen[str]
    url: str

    def point_to(self, dsn: str) -> None:
        """Write the console's DSN, as the manager does once the database is there."""
        (self.state / "dsn").mkdir(exist_ok=True)
        (self.state / "dsn" / "console").write_text(dsn + "\n")

    def get(self, path: str, *, timeout_s: float = 10, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=timeout_s, **options)

    def json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def order(self, body: str, token: str | None = TOKEN) -> requests.Response:
        """POST /api/kill-switch."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return requests.post(f"{self.url}/api/kill-switch", data=body, headers=headers, timeout=15)


def until(reached: Callable[[], bool], within_s: float = 20) -> None:
    """Look again and again; fail when it isn't so within the time."""
    waiting = threading.Event()
    for _ in range(int(within_s / 0.1)):
        if reached():
            return
        waiting.wait(0.1)
    assert reached(), f"not within {within_s} s"


@contextmanager
def running(state: Path) -> Generator[ConsoleProcess]:
    process = subprocess.Popen(
        [sys.executable, "-m", "console", "--port", "0", "--state", str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    with process, process.stdout, process.stderr:
        try:
            assert select.select([process.stdout], [], [], START_S)[0], "the console said nothing"
            line = process.stdout.readline()
            assert line.startswith("console: http://127.0.0.1:"), line + process.stderr.read()
            yield ConsoleProcess(state=state, process=process, url=line.split()[1].rstrip("/"))
        finally:
            process.kill()


@pytest.fixture
def early(tmp_path: Path) -> Iterator[ConsoleProcess]:
    """A console whose state directory is empty: nothing else of the fleet is there yet."""
    with running(tmp_path) as console:
        yield console


@pytest.fixture
def lone(early: ConsoleProcess, fleet_database: FleetDatabase) -> ConsoleProcess:
    """A console of this test alone, with its database and its token."""
    _furnish(early, fleet_database)
    return early


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    """One process for tests that leave it as it is."""
    with running(tmp_path_factory.mktemp("state")) as console:
        yield console


@pytest.fixture
def console(shared: ConsoleProcess, fleet_database: FleetDatabase) -> ConsoleProcess:
    """The shared process with this test's own database, and the token."""
    _furnish(shared, fleet_database)
    return shared


def _furnish(console: ConsoleProcess, fleet_database: FleetDatabase) -> None:
    (console.state / "console.token").write_text(TOKEN + "\n")
    console.point_to(fleet_database.dsn("console"))
    with fleet_database.owner() as owner:
        row = owner.execute("SELECT clock_timestamp()").fetchone()
    assert row

    def reads_this_database() -> bool:
        seen = console.json("/api/overview")
        return seen["database"]["up"] and datetime.fromisoformat(seen["now"]) > row[0]

    # The database of the test before is gone: what was read from now on is this one's.
    until(reads_this_database)
