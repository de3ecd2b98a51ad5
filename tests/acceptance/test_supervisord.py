"""A host without systemd or Docker: supervisord with deploy/supervisord.conf."""

import configparser
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest

from host import up
from tests.acceptance.fleet_process import ROOT, FleetProcess, alive, eventually, free_port

pytestmark = pytest.mark.acceptance
PROGRAMS = Path(sys.prefix) / "bin"
CONFIGURATION = ROOT / "deploy" / "supervisord.conf"
BACK_S = 5.0
START_S = 90.0
STOP_S = 20.0
WORKING = {"READY", "BUSY"}


class Supervised(FleetProcess):
    """supervisord in the foreground, and the fleet that it keeps."""

    def __init__(self, state: Path) -> None:
        state.mkdir(mode=0o711)
        # The program is found as an activated environment would have it.
        virtual_env = f"VIRTUAL_ENV={sys.prefix}"
        super().__init__(
            state,
            console_port=free_port(),
            sandbox_port=free_port(),
            command=["env", virtual_env, str(PROGRAMS / "supervisord"), "-n", "-c", str(CONFIGURATION)],
        )

    def control(self, *words: str) -> str:
        """Run `supervisorctl WORDS`."""
        return subprocess.run(
            [str(PROGRAMS / "supervisorctl"), "-c", str(CONFIGURATION), *words],
            env={**self.environment, "VIRTUAL_ENV": sys.prefix},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout.strip()

    def top(self) -> int | None:
        """The pid of `socialfleet up` while supervisord has one."""
        told = self.control("pid", "socialfleet")
        return int(told) or None if told.isdigit() else None

    def is_running(self) -> bool:
        """Whether supervisord counts it as started: one that is killed sooner is waited with."""
        return " RUNNING " in self.control("status", "socialfleet")

    def workers_at_work(self) -> dict[str, psutil.Process] | None:
        """Each slot's process, once all of them work under the present top process."""
        top = self.top()
        self.get("/health/ready")
        slots: list[dict[str, Any]] = self.get("/api/workers/status")
        found: dict[str, psutil.Process] = {}
        for slot in slots:
            # Right after a kill the rows are still those of the processes that are gone.
            if slot["state"] not in WORKING or not slot["healthy"] or not psutil.pid_exists(slot["pid"]):
                return None
            process = psutil.Process(slot["pid"])
            if process.ppid() != top:
                return None
            found[slot["name"]] = process
        return found or None

    def child(self, word: str) -> psutil.Process | None:
        """The child of the process at the top that has this word as its name or on its command line."""
        for child in psutil.Process(self.top()).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if word in {child.name(), *child.cmdline()}:
                    return child
        return None

    def replaced(self, word: str, killed: psutil.Process) -> bool:
        """Whether there is another such child by now."""
        new = self.child(word)
        return new is not None and new.pid != killed.pid

    def record(self) -> dict[str, tuple[str, str, str]] | None:
        """The platform's own record, once the ledger knows each act of it and no more."""
        writes = self.writes()
        known = {item["platform_id"] for item in self.get("/api/intents?state=posted&limit=500")["items"]}
        acts = {write["id"]: (write["action"], write["target"], write["text"]) for write in writes}
        assert len(acts) == len(writes), "an id stands twice"
        if len(set(acts.values())) != len(acts):
            raise RuntimeError(f"an act was done twice: {sorted(acts.values())}")
        # What a like is known by on the platform is the post that it is of.
        named = {write["target"] if write["action"] == "like" else write["id"] for write in writes}
        return acts if acts and named == known else None


@pytest.fixture
def fleet() -> Iterator[Supervised]:
    # Not pytest's own directory: supervisor's socket has a path of at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="fleet-"))
    directory.chmod(0o711)
    supervised = Supervised(directory / "state")
    try:
        eventually(supervised.workers_at_work, within_s=START_S, what="the fleet under supervisord")
        yield supervised
    finally:
        supervised.kill()
        supervised.command("clean")
        shutil.rmtree(directory, ignore_errors=True)


def test_a_killed_fleet_is_back_in_seconds_with_new_workers_and_nothing_doubled(
    fleet: Supervised, capsys: pytest.CaptureFixture[str]
) -> None:
    before = eventually(fleet.record, within_s=60, what="an act")
    eventually(fleet.is_running, within_s=30, what="supervisord counts it as started")
    old_workers = eventually(fleet.workers_at_work, within_s=30, what="every worker")
    old = fleet.top()
    assert old
    os.kill(old, signal.SIGKILL)
    killed_at = monotonic()

    def is_back() -> int | None:
        top = fleet.top()
        return top if top not in {None, old} else None

    new = eventually(is_back, within_s=BACK_S, what="a new process")
    back_s = monotonic() - killed_at
    assert back_s < BACK_S
    new_workers = eventually(fleet.workers_at_work, within_s=START_S, what="ready again")
    ready_s = monotonic() - killed_at
    with capsys.disabled():
        print(  # noqa: T201  the figure of this test
            f"\nkill -9 of the fleet: back after {back_s:.1f} s, every worker ready after {ready_s:.1f} s"
        )
    assert not alive(list(old_workers.values()))
    assert new_workers.keys() == old_workers.keys()
    assert {worker.ppid() for worker in new_workers.values()} == {new}
    assert fleet.top() == new

    def has_gone_on() -> bool:
        acts = fleet.record()
        return acts is not None and acts.items() > before.items()

    eventually(has_gone_on, within_s=120, what="one more act, and none twice")


def test_what_is_killed_below_the_top_is_the_fleets_own_to_replace_and_a_shutdown_leaves_nothing(
    fleet: Supervised,
) -> None:
    top = fleet.top()
    workers = eventually(fleet.workers_at_work, within_s=30, what="every worker")
    for word in ("fleet-manager", "console"):
        killed = fleet.child(word)
        assert killed
        killed.kill()
        eventually(partial(fleet.replaced, word, killed), within_s=BACK_S, what=f"a new {word}")
    assert eventually(fleet.workers_at_work, within_s=START_S, what="it knows its workers") == workers
    assert fleet.top() == top

    everything = fleet.processes()
    assert fleet.stop() < STOP_S
    assert not alive(everything)
    shown = (fleet.state / "up.log").read_text()
    assert shown.rstrip().endswith("stopped")


def test_supervisord_waits_longer_than_the_fleet_takes_to_stop() -> None:
    read = configparser.ConfigParser(interpolation=None)
    read.read(CONFIGURATION)
    program = read["program:socialfleet"]
    assert int(program["stopwaitsecs"]) > up.STOP_S * 1.5
    assert {program[name] for name in ("stopasgroup", "killasgroup")} == {"false"}
