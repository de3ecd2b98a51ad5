"""What is shown of slots when hosts come and go, on a real fleet's database."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordination import desired, status
from coordination.database import Database
from coordination.desired import SlotReport
from coordination.incarnation import ProcessIdentity
from coordination.status import SlotStatus
from host import cli
from host.state_directory import StateDirectory
from tests.integration.conftest import FleetDatabase

HERE = ProcessIdentity.of_this_process()


@dataclass
class Hosts:
    """Managers of several hosts, as the database sees them."""

    database: FleetDatabase
    maintainer: Database
    console: Database

    def report(self, host: str, *, state: str = "READY", pid: int | None = 4711, silent_s: float = 0) -> None:
        """What a host told of tester/1, so many seconds ago."""
        told = SlotReport(worker="tester", slot=1, state=state, reason="", pid=pid, restart_count=0, age_s=5)
        desired.report_slots(self.maintainer, host, [told])
        with self.database.owner() as owner:
            owner.execute(
                "UPDATE fleet.slots SET seen_at = seen_at - %s * interval '1 second' WHERE host = %s",
                (float(silent_s), host),
            )

    def shown(self) -> list[SlotStatus]:
        return status.list_slots(self.console)

    def states(self) -> dict[Any, str]:
        return {slot.host: slot.state for slot in self.shown()}


@pytest.fixture
def hosts(fleet_database: FleetDatabase) -> Iterator[Hosts]:
    maintainer, console = fleet_database.database("maintainer"), fleet_database.database("console")
    desired.ensure_worker(maintainer, "tester", "Tests.")
    yield Hosts(fleet_database, maintainer, console)
    console.close()
    maintainer.close()


def test_a_host_that_went_away_shows_no_longer_once_another_runs_its_slot(hosts: Hosts) -> None:
    hosts.report("gone", silent_s=61)
    assert hosts.states() == {"gone": "LOST"}
    hosts.report("here")
    assert hosts.states() == {"here": "STARTING"}
    hosts.report("gone", silent_s=30)
    assert hosts.states() == {"gone": "LOST", "here": "STARTING"}


def test_two_hosts_that_are_gone_are_both_lost(hosts: Hosts) -> None:
    hosts.report("one", silent_s=61)
    hosts.report("other", silent_s=90)
    assert hosts.states() == {"one": "LOST", "other": "LOST"}


def test_a_beat_is_its_own_hosts_even_where_pids_are_the_same(hosts: Hosts) -> None:
    with hosts.database.connect() as fleet:
        fleet.heartbeats.beat(state="PAUSED", progress=1)
        hosts.report(HERE.host, pid=HERE.pid)
        hosts.report("elsewhere", pid=HERE.pid)
        assert hosts.states() == {HERE.host: "PAUSED", "elsewhere": "STARTING"}


def test_the_status_command_prints_why_a_slot_is_not_healthy(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(tmp_path))
    state = StateDirectory(tmp_path)
    state.make()
    state.put("dsn/console", hosts.database.dsn("console"))
    with hosts.database.connect() as fleet:
        fleet.heartbeats.beat(
            state="READY", progress=1, healthy=False, health={"reason": "platform: X answers 503"}
        )
        hosts.report(HERE.host, pid=HERE.pid)
        assert cli.main(["status", "--check"], manage=None) == 1
    heads, line = capsys.readouterr().out.splitlines()
    assert heads.split() == ["SLOT", "STATE", "HEALTHY", "PID", "RESTARTS", "LAST", "RUN", "WHY"]
    assert line.split()[:4] == ["tester/1", "READY", "no", str(HERE.pid)]
    assert line.endswith("platform: X answers 503")


def test_a_stopped_worker_that_no_program_has_any_more_is_healthy(hosts: Hosts) -> None:
    hosts.report("gone", silent_s=61)
    [lost] = hosts.shown()
    assert not lost.healthy
    desired.request_command(hosts.console, "stop", "tester", None, actor="me", reason="its file is gone")
    [stopped] = hosts.shown()
    assert (stopped.state, stopped.healthy) == ("STOPPED", True)
