"""A manager process that follows a killed one looks after the workers, whatever else of the host is ill."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.host_process import HostProcess, eventually

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
        within_s=10,
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
        within_s=15,
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
        eventually(lambda: page.stat().st_size > before, within_s=15, what="the page can't be served")
        a_killed_worker_is_born_again(host)
        assert host.role("fleet-manager") == manager
    eventually(lambda: answers(host.console_port), within_s=15, what="the page comes back by itself")


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
