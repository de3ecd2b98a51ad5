"""What is shown of slots when hosts come and go, on a real fleet's database."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from coordination import commands, hosts, status
from coordination.database import Database
from coordination.desired import SlotReport
from coordination.hosts import ProgramWorker
from coordination.incarnation import ProcessIdentity
from coordination.status import SlotStatus
from tests.integration.host.shell import Shell

ME = ProcessIdentity.of_this_process()


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host whose manager speaks when the test says so; it has tester/1."""

    shell: Shell
    maintainer: Database
    console: Database
    session: UUID

    def report(self, *, state: str = "READY", reason: str = "", pid: int | None = ME.pid) -> None:
        """Take the share and tell how the slot is."""
        share = hosts.get_share(self.maintainer, ME.host, session=self.session)
        told = SlotReport(
            worker="tester",
            slot=1,
            state=state,
            reason=reason,
            age_s=5,
            pid=pid,
            pid_started=ME.pid_started if pid else None,
            incarnation=None,
            restart_count=0,
            failures=0,
            memory_bytes=None,
            cpu_percent=None,
            step=None,
        )
        hosts.report_host(
            self.maintainer,
            ME.host,
            session=self.session,
            as_of=share.number,
            slots=[told],
            wake_channel="ok",
        )

    def fall_silent(self) -> None:
        """Its last word was a minute ago."""
        with self.shell.database.owner() as owner:
            owner.execute("UPDATE fleet.hosts SET seen_at = seen_at - interval '1 minute'")

    def slot(self) -> SlotStatus:
        """The one slot of tester as it is shown."""
        (found,) = [slot for slot in status.list_slots(self.console) if slot.name == "tester"]
        return found


@pytest.fixture
def host(shell: Shell) -> Iterator[Host]:
    maintainer, console = shell.database.database("maintainer"), shell.database.database("console")
    session = uuid4()
    hosts.open_host(
        maintainer,
        ME.host,
        session=session,
        manager=ME,
        machine="",
        version="test",
        labels={},
        workers=[ProgramWorker(name="tester", description="Tests.")],
    )
    yield Host(shell=shell, maintainer=maintainer, console=console, session=session)
    console.close()
    maintainer.close()


def test_the_slots_of_a_silent_host_are_lost_and_say_whose_they_were(host: Host) -> None:
    host.report()
    assert (host.slot().state, host.slot().host) == ("READY", ME.host)
    host.fall_silent()
    lost = host.slot()
    assert (lost.state, lost.healthy) == ("LOST", False)
    assert f"its manager is silent: host {ME.host}" in lost.reason
    host.report()
    assert host.slot().state == "READY"


def test_a_beat_is_its_own_processs(host: Host) -> None:
    with host.shell.database.connect() as fleet:
        fleet.heartbeats.beat(state="PAUSED", progress=1)
        host.report()
        assert host.slot().state == "PAUSED"
        host.report(pid=1)
        assert host.slot().state == "READY"
        assert not host.slot().healthy


def test_the_status_command_prints_why_a_slot_is_not_healthy(host: Host) -> None:
    with host.shell.database.connect() as fleet:
        fleet.heartbeats.beat(
            state="READY", progress=1, healthy=False, health={"reason": "platform: X answers 503"}
        )
        host.report()
        assert host.shell.run("status", "--check") == 3
    (line,) = [line for line in host.shell.lines() if line.startswith("tester/1")]
    assert line.split()[:5] == ["tester/1", "READY", "no", ME.host, str(ME.pid)]
    assert line.endswith("platform: X answers 503")


def test_a_fleet_whose_slots_beat_or_are_stopped_is_healthy(host: Host) -> None:
    for name in ("planner", "poster"):
        assert host.shell.run("stop", name, "--no-wait", "--reason", "not here") == 0
    with host.shell.database.connect() as fleet:
        fleet.heartbeats.beat(state="READY", progress=1)
        host.report()
        assert host.shell.run("status", "--check") == 0


def test_a_host_whose_manager_is_silent_is_named_even_while_its_workers_still_beat(host: Host) -> None:
    for name in ("planner", "poster"):
        assert host.shell.run("stop", name, "--no-wait", "--reason", "not here") == 0
    with host.shell.database.connect() as fleet:
        fleet.heartbeats.beat(state="READY", progress=1)
        host.report()
        host.fall_silent()
        host.shell.lines()
        assert host.shell.run("status", "--check") == 3
        first = host.shell.lines()[0]
        assert first.startswith(f"host {ME.host} is silent for 6")
        assert first.endswith(" s: how its slots are is not known")


def test_a_stopped_worker_that_no_program_has_any_more_is_healthy(host: Host) -> None:
    host.report()
    host.fall_silent()
    assert not host.slot().healthy
    commands.request_command(host.console, "stop", selector="tester", actor="me", reason="its file is gone")
    stopped = host.slot()
    assert (stopped.state, stopped.healthy) == ("STOPPED", True)
    assert "its file is gone" in stopped.reason


def test_a_worker_that_no_host_runs_says_why(shell: Shell) -> None:
    assert shell.run("status") == 0
    (line,) = [line for line in shell.lines() if line.startswith("poster/1")]
    assert line.split()[1:3] == ["LOST", "no"]
    assert line.endswith("no manager runs it: no host is live")
