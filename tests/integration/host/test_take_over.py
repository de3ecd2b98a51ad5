"""A manager process that follows a killed one looks after the workers, whatever else of the host is ill."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest

from tests.host_process import HostProcess, eventually, of_host

WORKER = "planner/1"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostProcess]:
    made = HostProcess(tmp_path / "state", light=False, sandbox=True)
    made.start()
    try:
        made.wait_ready()
        yield made
    finally:
        made.stop()


def kill(host: HostProcess, *victims: psutil.Process) -> psutil.Process:
    """Kill these and the manager process; give the one that follows it."""
    manager = host.role("fleet-manager")
    assert manager
    for victim in (manager, *victims):
        victim.kill()
    return eventually(
        lambda: found if (found := host.role("fleet-manager")) not in (None, manager) else None,
        within_s=60,
        what="another manager process",
    )


def console_of(host: HostProcess) -> psutil.Process:
    (found,) = [each for each in host.tree() if each.cmdline()[1:3] == ["-m", "console"]]
    return found


def a_killed_worker_is_born_again(host: HostProcess) -> None:
    worker = host.role(WORKER)
    assert worker
    worker.kill()
    eventually(
        lambda: host.role(WORKER) not in (None, worker),
        within_s=60,
        what=lambda: f"{WORKER} is born again\n{host.said()}",
    )


def test_a_page_that_stands_still_keeps_no_worker_from_being_looked_after(host: HostProcess) -> None:
    console = console_of(host)
    console.suspend()
    kill(host)
    a_killed_worker_is_born_again(host)
    assert console.status() == psutil.STATUS_STOPPED
    assert host.said().count("a new manager process took over") == 1


def test_a_page_whose_port_another_program_took_ends_nobody(host: HostProcess) -> None:
    page = host.state / "logs" / "console.log"
    before = page.stat().st_size
    manager = kill(host, console_of(host))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", host.console_port))
        other.listen()
        eventually(lambda: page.stat().st_size > before, within_s=60, what="the page can't be served")
        a_killed_worker_is_born_again(host)
        assert host.role("fleet-manager") == manager
    eventually(lambda: answers(host.console_port), within_s=60, what="the page comes back by itself")


@pytest.mark.timed
def test_a_manager_process_that_is_stopped_is_followed_within_30_s_and_no_worker_is_touched(
    host: HostProcess,
) -> None:
    manager = host.role("fleet-manager")
    assert manager
    workers = {each.pid for each in host.tree() if "/" in each.name()}
    assert workers
    manager.suspend()
    eventually(
        lambda: host.role("fleet-manager") not in (None, manager), within_s=30, what="another manager process"
    )
    eventually(lambda: "(the one before: it hung and was killed)" in host.said(), within_s=60, what=host.said)
    assert {each.pid for each in host.tree() if "/" in each.name()} == workers
    a_killed_worker_is_born_again(host)


def test_a_fleet_whose_name_becomes_another_managers_drains_and_says_what_to_do(host: HostProcess) -> None:
    stranger = uuid4()
    with host.owner() as owner:
        (name,) = owner.execute("SELECT name FROM fleet.hosts").fetchone() or ("",)
        with owner.transaction():
            owner.execute("UPDATE fleet.hosts SET state = 'left'")
            owner.execute(
                "SELECT fleet.open_host(%s, %s, 'elsewhere', '1', 1, '1', '', '1', '{}', '[]')",
                (name, stranger),
            )

        def has_ended() -> bool:
            with contextlib.suppress(psycopg.OperationalError):  # the server ends with the fleet
                owner.execute("SELECT fleet.report_host(%s, %s, 0, NULL, 'ok')", (name, stranger))
            assert host.process
            return host.process.poll() is not None

        eventually(has_ended, within_s=75, what=host.said, every_s=0.5)
    assert host.process
    assert host.process.returncode == 2
    assert f"for 30 s {name} has been another manager's name" in host.said()
    assert "SOCIALFLEET_HOST" in host.said()
    assert of_host(host.state) == []


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_a_stop_at_the_moment_of_its_managers_death_drains_the_workers_all_the_same(
    host: HostProcess,
) -> None:
    logs = sorted((host.state / "logs").glob("*.jsonl"))
    manager = host.role("fleet-manager")
    assert manager
    assert len(logs) == 9
    manager.kill()
    host.stop()
    assert host.process
    assert host.process.returncode == 0
    assert [log.name for log in logs if '"drained"' not in log.read_text()] == []
    assert of_host(host.state) == []
