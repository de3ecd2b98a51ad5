"""A real console process, met over HTTP."""

import json
import select
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from coordination import alerts, black_boxes, hosts
from coordination.commands import finish_part
from coordination.desired import SlotReport
from coordination.hosts import ProgramWorker
from coordination.incarnation import ProcessIdentity
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

    def order(
        self, body: str, token: str | None = TOKEN, *, path: str = "/api/kill-switch"
    ) -> requests.Response:
        """POST."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return requests.post(self.url + path, data=body, headers=headers, timeout=15)

    def command(self, **order: Any) -> requests.Response:
        """POST /api/commands."""
        return self.order(json.dumps(order), path="/api/commands")


class PaperHost:
    """A host as its manager tells it to the database; nothing of it runs."""

    def __init__(self, fleet_database: FleetDatabase, name: str, workers: Mapping[str, str]) -> None:
        self.name = name
        self.session = uuid.uuid4()
        self._database = fleet_database.database("maintainer")
        hosts.open_host(
            self._database,
            name,
            session=self.session,
            manager=ProcessIdentity.of_this_process(name),
            machine="",
            version="1",
            labels={"zone": "a"},
            workers=[ProgramWorker(name=worker, description=text) for worker, text in workers.items()],
        )

    def share(self) -> hosts.Share:
        """Ask what it should run, as a manager does every second."""
        return hosts.get_share(self._database, self.name, session=self.session)

    def report(self, *slots: SlotReport, wake_channel: str = "ok") -> None:
        """Tell how it is."""
        share = self.share()
        hosts.report_host(
            self._database,
            self.name,
            session=self.session,
            as_of=share.number,
            slots=slots,
            wake_channel=wake_channel,
        )

    def finish(self, part: str, text: str, *, succeeded: bool = True) -> None:
        """Say what came of a part."""
        finish_part(self._database, self.name, part, succeeded=succeeded, result=text)

    def raise_alert(self, key: str, message: str) -> None:
        """Raise one."""
        alerts.raise_alert(
            self._database, key, severity="error", kind="test", source=self.name, message=message
        )

    def keep_black_box(self, worker: str, report: Mapping[str, object]) -> str:
        """Keep one of a worker's first slot."""
        return black_boxes.keep_black_box(
            self._database,
            self.name,
            worker=worker,
            slot=1,
            incarnation=None,
            pid=77,
            reason="no tick",
            report=report,
        )

    def close(self) -> None:
        """Let its session go."""
        self._database.close()


def slot_report(worker: str, slot: int = 1, **changed: Any) -> SlotReport:
    """A slot that runs well, but for what is changed."""
    report = SlotReport(
        worker=worker,
        slot=slot,
        state="READY",
        reason="",
        age_s=1.0,
        pid=77,
        pid_started="1",
        incarnation=None,
        restart_count=3,
        failures=2,
        memory_bytes=50_000_000,
        cpu_percent=1.5,
        step=None,
    )
    return replace(report, **changed)


@pytest.fixture
def paper_host(fleet_database: FleetDatabase) -> Iterator[PaperHost]:
    """A host that has a poster and a planner."""
    host = PaperHost(fleet_database, "alpha", {"planner": "Plans.", "poster": "Posts."})
    yield host
    host.close()


def until(reached: Callable[[], bool], within_s: float = 60) -> None:
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
