"""What the manager's fault suite does to a host: kills, stops and continues, chosen by a seed."""

import contextlib
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

import psutil
import psycopg

from host.keeper.keep import CRASHES_WITHIN_S, MOST_CRASHES
from host.postgres import EmbeddedPostgres
from tests.host_process import HostProcess, eventually, living

WEIGHTS: Mapping[str, int] = {
    "kill worker": 26,
    "stop worker": 18,
    "kill manager": 8,
    "stop manager": 8,
    "stop keeper": 5,
    "kill keeper": 3,
    "kill guardian": 5,
    "stop guardian": 3,
    "terminate a session": 10,
    "terminate all sessions": 5,
    "kill a backend": 3,
    "kill postmaster": 3,
    "stop postgres at once": 3,
    "stop postgres": 4,
}
KILLS = frozenset(
    {"kill worker", "kill manager", "kill keeper", "kill guardian", "kill a backend", "kill postmaster"}
)
STOPPED_S = (0.2, 2.5)
"""How long a stopped process stays so: shorter than what a host that is silent loses its work by."""
PAUSE_S = (0.02, 0.6)
"""Between two operations: shorter than most recoveries, so that faults overlap."""
BACK_S = 90.0
ENDED_S = 2.0
GUARDED_S = 8.0
"""The guardian goes on looking for late children a while after its keeper's end."""


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A worker's process that was killed: what proves it from all others."""

    worker: str
    slot: int
    pid: int
    pid_started: str


@dataclass
class Faults:
    """One chapter's operations on one host.

    Attributes:
        done: how often each was carried out.
        killed: the workers' processes that were killed, each of which must be proven dead.
        slow: what did not come back in time.
    """

    host: HostProcess
    postgres: EmbeddedPostgres | None
    superuser_dsn: Callable[[], str]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter[str])
    killed: list[Killed] = field(default_factory=list[Killed])
    slow: list[str] = field(default_factory=list[str])
    _stopped: list[tuple[float, psutil.Process]] = field(default_factory=list[tuple[float, psutil.Process]])
    _managers_killed_at: list[float] = field(default_factory=list[float])

    def operate(self) -> str:
        """Carry out the next operation; give its name. One whose victim is not there is another try's."""
        while True:
            self.go_on()
            self.start_again()
            name = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            number = self.chance.random()
            if self._carry_out(name, number):
                self.done[name] += 1
                return name

    def pause_s(self) -> float:
        """How long to wait before the next."""
        return self.chance.uniform(*PAUSE_S)

    def postmasters(self) -> list[psutil.Process]:
        """The first processes of the PostgreSQL servers that run for the host."""
        if self.postgres is None:
            return [process for process in self.host.tree() if is_postmaster(process)]
        return [psutil.Process(self.postgres.pid)] if self.postgres.pid else []

    def go_on(self, *, all_of_them: bool = False) -> None:
        """Continue what was stopped long enough."""
        now = monotonic()
        for due, process in list(self._stopped):
            if all_of_them or now >= due:
                self._stopped.remove((due, process))
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    def start_again(self) -> None:
        """Be the service manager of a fleet that ended, as it does after so many deaths of its manager."""
        assert self.host.process
        since = monotonic() - CRASHES_WITHIN_S - ENDED_S
        is_due = len([at for at in self._managers_killed_at if at > since]) >= MOST_CRASHES
        if is_due:
            self.go_on(all_of_them=True)
            with contextlib.suppress(subprocess.TimeoutExpired):  # by its own clock they may be less near
                self.host.process.wait(ENDED_S)
        if self.host.process.poll() is None:
            return
        if not is_due:
            self.slow.append(f"the fleet ended by itself: {self.host.said()[-500:]}")
        self._managers_killed_at.clear()
        self.host.start()
        self.host.wait_ready(BACK_S)

    def _carry_out(self, name: str, number: float) -> bool:
        verb, _, what = name.partition(" ")
        try:
            if what in {"worker", "manager", "keeper", "guardian"}:
                victim = self._worker(number) if what == "worker" else self._process(what)
                if victim is None:
                    return False
                if verb == "stop":
                    return self._stop(victim)
                return self._kill(victim, what)
            if what in {"postgres", "postmaster", "postgres at once"}:
                return self._strike_postgres(name)
            return self._end_sessions(what, number)
        except (psutil.NoSuchProcess, ProcessLookupError, psycopg.Error):
            return False  # it ended of another fault's effect, or the database is away

    # Processes

    def _process(self, what: str) -> psutil.Process | None:
        found = self.host.role(f"fleet-{what}")
        return None if found is None or self._is_stopped(found) else found

    def _worker(self, number: float) -> psutil.Process | None:
        with self.host.owner() as owner:
            rows = [row for row in living(owner) if psutil.pid_exists(row[3])]
        ours = {process.pid: process for process in self.host.tree()}
        rows = [row for row in rows if row[3] in ours and started(row[3]) == row[4]]
        if not rows:
            return None
        worker, slot, _, pid, pid_started, _ = rows[int(number * len(rows))]
        if self._is_stopped(ours[pid]):
            return None
        self._chosen = Killed(worker=worker, slot=slot, pid=pid, pid_started=pid_started)
        return ours[pid]

    def _is_stopped(self, process: psutil.Process) -> bool:
        return any(stopped == process for _, stopped in self._stopped)

    def _stop(self, victim: psutil.Process) -> bool:
        victim.send_signal(signal.SIGSTOP)
        self._stopped.append((monotonic() + self.chance.uniform(*STOPPED_S), victim))
        return True

    def _kill(self, victim: psutil.Process, what: str) -> bool:
        if what == "keeper":
            return self._kill_keeper()
        victim.kill()
        if what == "worker":
            self.killed.append(self._chosen)
        elif what == "manager":
            self._managers_killed_at.append(monotonic())
        return True

    def _kill_keeper(self) -> bool:
        """Kill the host; within 2 s nothing of it is left, and its service manager starts it again."""
        for _, process in self._stopped:  # a guardian that is stopped can't end what its keeper leaves
            process.send_signal(signal.SIGCONT)
        before = [process for process in self.host.tree() if not process.name().startswith("postgres")]
        guardian = [process for process in before if process.name() == "fleet-guardian"]
        self.host.killed()
        self._wait_gone([process for process in before if process not in guardian], ENDED_S)
        self._wait_gone(guardian, GUARDED_S)
        self._managers_killed_at.clear()
        self.host.start()
        self.host.wait_ready(BACK_S)
        return True

    def _wait_gone(self, processes: Sequence[psutil.Process], within_s: float) -> None:
        def left() -> list[str]:
            return [process.name() for process in processes if lives(process)]

        try:
            eventually(lambda: not left(), within_s=within_s, what="the end of all that a killed keeper had")
        except AssertionError:
            self.slow.append(f"{within_s:g} s after kill -9 of the keeper: {left()}")

    # PostgreSQL

    def _strike_postgres(self, name: str) -> bool:
        if name == "stop postgres":
            return self._freeze_postgres()
        return self._end_postgres(signal.SIGKILL if name == "kill postmaster" else signal.SIGQUIT)

    def _end_postgres(self, number: signal.Signals) -> bool:
        """End the server as a crash does; what keeps it starts it again."""
        self._thaw_postgres()
        if self.postgres is None:
            servers = self.postmasters()
            for server in servers:
                server.send_signal(number)
            return bool(servers)
        assert self.postgres.pid
        os.kill(self.postgres.pid, number)
        assert self.postgres.process
        self.postgres.process.wait(30)
        self.postgres.start()
        return True

    def _thaw_postgres(self) -> None:
        """Let a stopped server go on: what is stopped can't be waited for."""
        for due, process in list(self._stopped):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "postgres":
                    self._stopped.remove((due, process))
                    process.send_signal(signal.SIGCONT)

    def _freeze_postgres(self) -> bool:
        """Stop the server with all its sessions: connections stand, and nobody answers."""
        servers = [
            process for master in self.postmasters() for process in [master, *master.children(recursive=True)]
        ]
        if not servers or any(self._is_stopped(server) for server in servers):
            return False
        due = monotonic() + self.chance.uniform(*STOPPED_S)
        for server in servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.send_signal(signal.SIGSTOP)
                self._stopped.append((due, server))
        return True

    def _end_sessions(self, what: str, number: float) -> bool:
        with psycopg.connect(self.superuser_dsn(), autocommit=True, connect_timeout=2) as admin:
            pids = [
                int(row[0])
                for row in admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                    "AND application_name LIKE 'socialfleet %' ORDER BY backend_start"
                )
            ]
            if not pids:
                return False
            chosen = pids[int(number * len(pids))]
            if what == "a backend":
                os.kill(chosen, signal.SIGKILL)
                return True
            for pid in pids if what == "all sessions" else [chosen]:
                admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return True


def lives(process: psutil.Process) -> bool:
    """Whether it runs; a zombie is its parent's affair."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def is_postmaster(process: psutil.Process) -> bool:
    """Whether it is a PostgreSQL server's first process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = process.parent()
        return process.name() == "postgres" and (parent is None or parent.name() != "postgres")
    return False


def started(pid: int) -> str:
    """A process's start time as the fleet writes it; empty when there is none."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[19]
    return ""
