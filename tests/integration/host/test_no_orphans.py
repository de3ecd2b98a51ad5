"""Nobody outlives the keeper: its children, theirs, whatever they made of themselves, and a whole fleet."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet_process import free_port
from tests.integration.host.keeping import (
    REPOSITORY,
    Kept,
    children_named,
    eventually,
    keeping,
    lives,
    living,
)

pytestmark = pytest.mark.timed

WITHIN_S = 2.0
SHUT_DOWN_WITHIN_S = 15.0
WORKERS = 9

# A worker with a family: a plain child, a browser with a session of its own, a child with neither environment
# nor ties, and a fork that made a session of its own and executes nothing.
FATHER = """
    import os, signal, subprocess, sys, time

    def run(name, slot):
        plain = subprocess.Popen(["sleep", "1000"])
        browser = subprocess.Popen(["sh", "-c", "sleep 1001 & wait"], start_new_session=True)
        bare = subprocess.Popen(["sleep", "1002"], env={})
        forked = os.fork()
        if forked == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if os.fork():
                os._exit(0)
            print(os.getpid(), flush=True)
            signal.pause()
        os.waitpid(forked, 0)
        print(plain.pid, browser.pid, bare.pid, flush=True)
        signal.pause()
"""


@pytest.fixture(params=["fork", "spawn"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    with keeping(tmp_path, source=FATHER, spawn=request.param == "spawn") as running:
        yield running


def descendants_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in listed.splitlines()}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def test_the_keeper_killed_takes_every_worker_and_all_its_descendants_along(kept: Kept) -> None:
    kept.worker()
    lines = kept.said(lines=2)
    family = [int(pid) for line in lines for pid in line.split()]
    assert len(family) == 4
    everyone = [*{*descendants_of(kept.process.pid), *family}]
    assert len(everyone) >= 7  # with the worker, the manager process and the guardian
    began = time.monotonic()
    kept.process.kill()
    eventually(lambda: not living(everyone), "nobody is left", within_s=WITHIN_S)
    print(f"gone after {time.monotonic() - began:.2f} s")  # noqa: T201


def test_a_program_with_a_signal_of_its_own_may_end_by_it_and_is_killed_if_it_does_not(kept: Kept) -> None:
    gentle = kept.shell(
        "trap 'echo ended in order; exit' TERM; echo; while :; do sleep 0.05; done",
        on_orphaned=signal.SIGTERM,
    )
    deaf = kept.shell("trap '' TERM; echo; sleep 1000", name="deaf", on_orphaned=signal.SIGTERM)
    kept.said("program", 0)
    kept.said("deaf", 0)
    kept.process.kill()
    eventually(lambda: not living([gentle.pid, deaf.pid]), "both are gone", within_s=WITHIN_S)
    assert kept.said("program", 0, lines=2)[1] == "ended in order"


def test_keepers_do_not_touch_each_others_children(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with keeping(tmp_path / "other", source=FATHER) as other:
        theirs = other.worker()
        family = next(line for line in other.said(lines=2) if " " in line)  # the orphan is their own keeper's
        left = [theirs.pid, *(int(pid) for pid in family.split())]
        ours = kept.worker()
        (guardian,) = children_named(kept.process.pid, "fleet-guardian")
        kept.process.kill()
        eventually(lambda: not living([ours.pid, guardian]), "one household is gone", within_s=5)
        assert living(left) == left


def test_the_guardian_is_small_once_the_template_is_warm(tmp_path: Path) -> None:
    ballast = "import pydantic_settings, psycopg, requests, tweepy"
    with keeping(tmp_path, modules={"ballast": ballast}) as kept:
        started = kept.worker("ballast")
        assert started.fresh is False
        (guardian,) = eventually(
            lambda: found if len(found := children_named(kept.process.pid, "fleet-guardian")) == 1 else None,
            "one guardian",
        )
        assert private_mb(guardian) < 8


def private_mb(pid: int) -> float:
    """What a process has for itself alone, in megabytes."""
    rollup = (Path("/proc") / str(pid) / "smaps_rollup").read_text()
    return int(re.findall(r"Private_Dirty: +(\d+) kB", rollup)[0]) / 1024


def workers_of(keeper: int) -> dict[str, int]:
    """A fleet's workers by the name that `ps` shows, or by the arguments of an interpreter of their own."""
    found: dict[str, int] = {}
    for pid in descendants_of(keeper):
        shown = (Path("/proc") / str(pid) / "comm").read_text().strip() if lives(pid) else ""
        own = re.search(r"host\.keeper\.worker:run (\S+) (\d+)", command(pid))
        if own:
            found[f"{own[1]}/{own[2]}"] = pid
        elif re.fullmatch(r"[a-z-]+/\d*", shown):
            found[shown] = pid
    return found


@pytest.mark.parametrize("options", [[], ["--spawn"]], ids=["fork", "spawn"])
def test_a_fleet_outlives_its_manager_process_and_ends_with_its_keeper(
    tmp_path: Path, options: list[str]
) -> None:
    state, log = tmp_path / "state", tmp_path / "up.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("X_", "SOCIALFLEET_"))},
        "PYTHONPATH": str(REPOSITORY),
        "SOCIALFLEET_STATE_DIR": str(state),
        "SOCIALFLEET_CONSOLE_PORT": str(free_port()),
        "SOCIALFLEET_SANDBOX_PORT": str(free_port()),
    }
    environment.pop("DATABASE_URL", None)
    postgres_log = state / "logs" / "postgresql.log"

    def said(text: str, times: int = 1) -> bool:
        return log.read_text().count(text) >= times

    def shut_down(times: int) -> bool:
        return postgres_log.read_text().count("database system is shut down") >= times

    with log.open("w") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "manager", "up", *options],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: said("ready: "), "the fleet is ready", within_s=60)
        before = eventually(
            lambda: found if len(found := workers_of(up.pid)) == WORKERS else None, "all workers", within_s=30
        )
        shuts = postgres_log.read_text().count("database system is shut down")
        (manager,) = children_named(up.pid, "fleet-manager")
        programs = {pid for pid in descendants_of(up.pid) if " -m console " in command(pid)}

        # The manager process killed: no process of another changes, PostgreSQL ends in order and comes back.
        os.kill(manager, signal.SIGKILL)
        eventually(lambda: said("a new manager process took over"), "another takes over", within_s=30)
        eventually(lambda: shut_down(shuts + 1), "PostgreSQL ends in order", within_s=SHUT_DOWN_WITHIN_S)
        assert workers_of(up.pid) == before
        assert {pid for pid in descendants_of(up.pid) if " -m console " in command(pid)} == programs
        eventually(lambda: adopted(state, before), "the snapshot knows them", within_s=30)
        # It isn't waited for by the one that took over.
        accepts = "ready to accept connections"
        eventually(
            lambda: postgres_log.read_text().count(accepts) > shuts + 1, "PostgreSQL is back", within_s=30
        )

        # The keeper killed: everybody is gone, and PostgreSQL ends in order.
        everyone = descendants_of(up.pid)
        postgres = {pid for pid in everyone if "postgres" in command(pid)}
        assert len(set(everyone) - postgres) >= WORKERS + 4  # manager process, guardian, console, sandbox
        began = time.monotonic()
        up.kill()
        eventually(lambda: not living([*set(everyone) - postgres]), "nobody is left", within_s=WITHIN_S)
        print(f"gone after {time.monotonic() - began:.2f} s", end=", ")  # noqa: T201
        eventually(lambda: not living([*postgres]), "PostgreSQL is down", within_s=SHUT_DOWN_WITHIN_S)
        print(f"PostgreSQL shut down after {time.monotonic() - began:.2f} s")  # noqa: T201
        assert shut_down(shuts + 2)
    finally:
        up.kill()
        up.wait()
        subprocess.run(
            [sys.executable, "-m", "manager", "clean"], cwd=tmp_path, env=environment, check=False, timeout=60
        )


def command(pid: int) -> str:
    """A process's command line; empty when it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def adopted(state: Path, workers: dict[str, int]) -> bool:
    """Whether the manager's snapshot names these processes."""
    try:
        slots = json.loads((state / "status.json").read_text())["slots"]
    except (OSError, ValueError):
        return False
    return {slot["pid"] for slot in slots} == set(workers.values())
