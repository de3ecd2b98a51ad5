"""The database away for a while: nobody crashes, nobody acts, everybody knows, and all goes on by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import monotonic

from tests.fault.manager_chapter import Outcome, host_on
from tests.host_process import READY_STATES, HostProcess, eventually, living
from tests.light_workers import ACTS, now_s

SLOTS = {"light": 4, "busy": 2, "holder": 2}
WANTED = {(worker, slot) for worker, slots in SLOTS.items() for slot in range(1, slots + 1)}
SETTLE_S = 60.0
FENCED_S = 10.0
"""After so long without the database nobody may act: the manager's patience, and a moment."""
STALE_S = 15.0
BACK_S = 45.0
STATUS_UNREACHABLE = 4
PROMISE = "database away"


def run(away_s: float, told: Callable[[str], None]) -> Outcome:
    """Take the database away for so long; what was not as promised is in the outcome."""
    outcome = Outcome()
    with host_on(embedded=False, slots=SLOTS) as (host, postgres, _):
        assert postgres
        eventually(lambda: _ready(host).keys() == WANTED, within_s=SETTLE_S, what="all ready")
        before = _ready(host)
        eventually(lambda: _last_act_s(host) > now_s() - 1, within_s=SETTLE_S, what="the holders act")
        postgres.stop(immediate=True)
        gone_s, began = now_s(), monotonic()
        outcome.operations["database away"] += 1
        told(f"the database is away for {away_s:g} s")
        outcome.broken(PROMISE, _while_away(host, before, began + away_s))
        acted_s = _last_act_s(host) - gone_s
        if acted_s > FENCED_S:
            outcome.broken(PROMISE, [f"a worker still acted {acted_s:.1f} s after the database went away"])
        told(f"the last act was {acted_s:.1f} s after the database went away")
        postgres.start()
        back_s, began = now_s(), monotonic()

        def all_back() -> dict[tuple[str, int], int] | None:
            found = _ready(host)
            return found if found.keys() == WANTED and _last_act_s(host) > back_s else None

        try:
            after = eventually(
                all_back, within_s=BACK_S, what=lambda: f"all ready and acting again: {_ready(host)}"
            )
            outcome.settled_s.append(round(monotonic() - began, 1))
            told(f"all went on {outcome.settled_s[-1]} s after the database came back")
            if changed := _changed(before, after):
                ends = [f"{one['name']}/{one['slot']}: {one['reason']}" for one in host.snapshot()["slots"]]
                outcome.broken(PROMISE, [f"{', '.join(changed)} ({'; '.join(ends)})"])
        except AssertionError as error:
            outcome.broken(PROMISE, [str(error)])
        host.stop()
    return outcome


def _while_away(host: HostProcess, before: dict[tuple[str, int], int], until: float) -> list[str]:
    """Look on while it is away: the processes are those of before, and status says since when it is stale."""
    faults: list[str] = []
    told_stale = False
    pause = Event()
    quiet = {key: pid for key, pid in before.items() if key[0] != "holder"}
    while monotonic() < until:
        tree = {process.pid for process in host.tree()}
        faults = [f"{key} (pid {pid}) ended" for key, pid in quiet.items() if pid not in tree]
        if faults:
            return faults
        done = host.command("status", "--json", expect=None)
        told_stale |= done.returncode == STATUS_UNREACHABLE and "stale" in done.stdout + done.stderr
        pause.wait(0.5)
    return [] if told_stale else ["status did not exit 4 with the last known state under its time"]


def _changed(before: dict[tuple[str, int], int], after: dict[tuple[str, int], int]) -> list[str]:
    """A worker that did not act is the process that it was."""
    return [
        f"{worker}/{slot} was pid {pid} and is {after[worker, slot]}"
        for (worker, slot), pid in before.items()
        if worker != "holder" and after[worker, slot] != pid
    ]


def _ready(host: HostProcess) -> dict[tuple[str, int], int]:
    tree = {process.pid for process in host.tree()}
    with host.owner() as owner:
        return {
            (worker, slot): pid
            for worker, slot, _, pid, _, state in living(owner)
            if state in READY_STATES and pid in tree
        }


def _last_act_s(host: HostProcess) -> float:
    return max((_last_of(path) for path in (host.state / ACTS).glob("*.jsonl")), default=0.0)


def _last_of(path: Path) -> float:
    # A killed writer's last line may be half a line.
    whole = (line for line in path.read_text().splitlines() if line.endswith("}"))
    return max((float(json.loads(line)["at_s"]) for line in whole), default=0.0)
