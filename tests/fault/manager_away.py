"""The database away for a while: nobody crashes, nobody acts, everybody knows, and all goes on by itself."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

import psutil

from host.postgres import EmbeddedPostgres
from tests.fault.manager_chapter import host_on
from tests.fault.suite import Outcome
from tests.host_process import READY_STATES, HostProcess, eventually, living
from tests.light_workers import ACTS, now_s

SLOTS = {"light": 4, "busy": 2, "holder": 2}
WANTED = {(worker, slot) for worker, slots in SLOTS.items() for slot in range(1, slots + 1)}
SETTLE_S = 60.0
FENCED_S = 10.0
"""After so long without the database nobody may act: the manager's patience, and a moment."""
STALE_S = 5.0
"""From then on whoever asks is told that what is known is old."""
BACK_S = 45.0
STATUS_UNREACHABLE = 4
PROMISE = "database away"


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A way to be away, and back."""

    text: str
    begin: Callable[[], object]
    end: Callable[[], object]


def run(away_s: float, told: Callable[[str], None], *, hung_s: float = 0.0) -> Outcome:
    """Take the database away for so long; what was not as promised is in the outcome.

    Args:
        away_s: how long its server is down: connections break, and new ones are refused.
        told: hears how it goes.
        hung_s: how long it then stands still with all its sessions: connections stand, and nobody answers.
    """
    outcome = Outcome()
    with host_on(embedded=False, slots=SLOTS) as (host, postgres, _):
        assert postgres
        eventually(lambda: _ready(host).keys() == WANTED, within_s=SETTLE_S, what="all ready")
        down = Outage(text="away", begin=lambda: postgres.stop(immediate=True), end=postgres.start)
        _go_through(outcome, host, down, away_s, told)
        if hung_s:
            server = _Server(postgres)
            _go_through(outcome, host, Outage(text="hung", begin=server.stop, end=server.go_on), hung_s, told)
        host.stop()
    return outcome


class _Server:
    """The processes of a server, stopped and continued."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        assert postgres.pid
        self._first = psutil.Process(postgres.pid)
        self._stopped: list[psutil.Process] = []

    def stop(self) -> None:
        # The first one before the others: it would start new ones.
        self._first.suspend()
        self._stopped = [self._first, *self._first.children(recursive=True)]
        for process in self._stopped[1:]:
            process.suspend()

    def go_on(self) -> None:
        for process in self._stopped:
            process.resume()


def _go_through(
    outcome: Outcome, host: HostProcess, outage: Outage, away_s: float, told: Callable[[str], None]
) -> None:
    before = _ready(host)
    eventually(lambda: _last_act_s(host) > now_s() - 1, within_s=SETTLE_S, what="the holders act")
    outage.begin()
    gone_s, began = now_s(), monotonic()
    outcome.faults[f"database {outage.text}"] += 1
    told(f"the database is {outage.text} for {away_s:g} s")
    try:
        outcome.broken(PROMISE, _while_away(host, before, began + away_s))
        acted_s = _last_act_s(host) - gone_s
    finally:
        outage.end()
    if acted_s > FENCED_S:
        outcome.broken(PROMISE, [f"a worker still acted {acted_s:.1f} s after it was {outage.text}"])
    told(f"the last act was {acted_s:.1f} s after it was {outage.text}")
    back_s, began = now_s(), monotonic()

    def all_back() -> dict[tuple[str, int], int] | None:
        found = _ready(host)
        return found if found.keys() == WANTED and _last_act_s(host) > back_s else None

    try:
        after = eventually(
            all_back, within_s=BACK_S, what=lambda: f"all ready and acting again: {_ready(host)}"
        )
    except AssertionError as error:
        outcome.broken(PROMISE, [str(error)])
        return
    outcome.measures.append(round(monotonic() - began, 1))
    told(f"all went on {outcome.measures[-1]} s after the database came back")
    if changed := _changed(before, after):
        ends = [f"{one['name']}/{one['slot']}: {one['reason']}" for one in host.snapshot()["slots"]]
        outcome.broken(PROMISE, [f"{', '.join(changed)} ({'; '.join(ends)})"])


def _while_away(host: HostProcess, before: dict[tuple[str, int], int], until: float) -> list[str]:
    """Look on while it is away: the processes are those of before, and status says since when it is stale."""
    began, pause = monotonic(), Event()
    quiet = {key: pid for key, pid in before.items() if key[0] != "holder"}
    while monotonic() < until:
        since_s = monotonic() - began
        tree = {process.pid for process in host.tree()}
        if ended := [f"{key} (pid {pid}) ended" for key, pid in quiet.items() if pid not in tree]:
            return ended
        done = host.command("status", "--json", expect=None)
        if since_s > STALE_S and not (
            done.returncode == STATUS_UNREACHABLE and "stale" in done.stdout + done.stderr
        ):
            return [f"after {since_s:.0f} s status exits {done.returncode}, not as the last known state"]
        pause.wait(0.5)
    return []


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
