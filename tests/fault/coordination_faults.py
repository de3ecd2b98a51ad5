"""What the coordination core's fault suite does to its processes and their server, chosen by a seed."""

import contextlib
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import LiteralString

import psycopg

from tests.fault.pooler import Pooler
from tests.fault_proxy import FaultProxy
from tests.postgres_servers import LocalServer

WEIGHTS: Mapping[str, int] = {
    "kill a process": 18,
    "stop a process": 16,
    "stop a process and cut its sessions": 8,
    "terminate an incarnation's session": 12,
    "terminate a work session": 10,
    "terminate both sessions": 6,
    "kill a backend": 1,
    "restart the server at once": 1,
    "take every connection": 2,
    "fill the lock table": 3,
    "half-open connections": 3,
    "a black hole": 3,
    "cut connections": 4,
    "kill the pooler": 1,
}
CALM: frozenset[str] = frozenset(
    {
        "stop a process",
        "terminate an incarnation's session",
        "terminate a work session",
        "terminate both sessions",
    }
)
"""Those that leave the server alone, and every process alive."""
KILLS = frozenset({"kill a process", "kill a backend", "restart the server at once", "kill the pooler"})
STOPPED_S = (0.3, 2.5)
"""How long a stopped process stays so: longer than most leases."""
HELD_S = (0.1, 0.6)
"""How long all connections, or all locks, are taken."""
BROKEN_S = (0.1, 3.5)
"""How long a network fails: also longer than a process waits for an answer."""
PAUSE_S = (0.1, 1.0)
OF_A_PROCESS: LiteralString = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'fleet_worker' AND application_name = ANY(%s)"
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process of the suite: its sessions' name, and how to end it."""

    label: str
    process: subprocess.Popen[bytes]


@dataclass
class Faults:
    """One chapter's faults.

    Attributes:
        server: may be stopped and started.
        admin_dsn: a superuser's, to the database.
        worker_dsn: of the login whose connections run out.
        members: gives the processes that live.
        done: how often each fault was carried out.
    """

    server: LocalServer
    admin_dsn: str
    worker_dsn: str
    members: Callable[[], list[Member]]
    proxy: FaultProxy | None
    pooler: Pooler | None
    chance: random.Random
    only: Iterable[str] | None = None
    done: Counter[str] = field(default_factory=Counter[str])
    _later: list[tuple[float, Callable[[], object]]] = field(
        default_factory=list[tuple[float, Callable[[], object]]]
    )
    _stopped: set[int] = field(default_factory=set[int])

    def operate(self) -> None:
        """Carry out one fault; first undo those that lasted long enough."""
        self.undo()
        names = [name for name in WEIGHTS if self.only is None or name in self.only]
        name = self.chance.choices(names, [WEIGHTS[name] for name in names])[0]
        with contextlib.suppress(psycopg.Error, ProcessLookupError):  # the server, or the victim, is away
            if self._carry_out(name):
                self.done[name] += 1

    def pause_s(self) -> float:
        """How long to wait before the next."""
        return self.chance.uniform(*PAUSE_S)

    def undo(self, *, all_of_them: bool = False) -> None:
        """Continue what was stopped, and let bytes and connections go again, when it is time."""
        now = monotonic()
        for due, undo in list(self._later):
            if all_of_them or now >= due:
                self._later.remove((due, undo))
                with contextlib.suppress(ProcessLookupError, psycopg.Error):
                    undo()

    def _carry_out(self, name: str) -> bool:  # noqa: C901, PLR0911  one line a fault
        match name:
            case "kill a process":
                return self._signal(signal.SIGKILL)
            case "stop a process":
                return self._signal(signal.SIGSTOP)
            case "stop a process and cut its sessions":
                return self._signal(signal.SIGSTOP, cut=True)
            case "terminate an incarnation's session":
                return self._terminate(" incarnation")
            case "terminate a work session":
                return self._terminate("")
            case "terminate both sessions":
                return self._terminate("", " incarnation")
            case "kill a backend":
                return self._kill_backend()
            case "restart the server at once":
                self.server.immediate_stop()
                self.server.start()
                return True
            case "take every connection":
                return self._take_connections()
            case "fill the lock table":
                return self._fill_lock_table()
            case "kill the pooler":
                return self._kill_pooler()
            case _:
                return self._break_network(name)

    # Processes

    def _victim(self) -> Member | None:
        living = [
            member
            for member in self.members()
            if member.process.poll() is None and member.process.pid not in self._stopped
        ]
        return self.chance.choice(living) if living else None

    def _signal(self, number: signal.Signals, *, cut: bool = False) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        victim.process.send_signal(number)
        if number == signal.SIGSTOP:
            self._stopped.add(victim.process.pid)
            self._after(STOPPED_S, lambda: self._go_on(victim.process))
        if cut:
            self._end(victim.label, "", " incarnation")
        return True

    def _go_on(self, process: subprocess.Popen[bytes]) -> None:
        self._stopped.discard(process.pid)
        process.send_signal(signal.SIGCONT)

    # Sessions

    def _terminate(self, *endings: str) -> bool:
        victim = self._victim()
        return victim is not None and self._end(victim.label, *endings)

    def _end(self, label: str, *endings: str) -> bool:
        with self._admin() as admin:
            found = admin.execute(OF_A_PROCESS, ([f"socialfleet {label}{ending}" for ending in endings],))
            return bool(found.fetchall())

    def _kill_backend(self) -> bool:
        with self._admin() as admin:
            found = admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = 'fleet_worker'"
            ).fetchall()
        if not found:
            return False
        os.kill(int(self.chance.choice(found)[0]), signal.SIGKILL)
        return True

    def _take_connections(self) -> bool:
        taken: list[psycopg.Connection] = []
        with contextlib.suppress(psycopg.OperationalError):
            while len(taken) < 200:
                taken.append(psycopg.connect(self.worker_dsn, connect_timeout=2))
        self._after(HELD_S, lambda: [one.close() for one in taken])
        return True

    def _fill_lock_table(self) -> bool:
        hog = psycopg.connect(self.admin_dsn, autocommit=True)
        with contextlib.suppress(psycopg.errors.OutOfMemory):
            hog.execute("SELECT count(pg_try_advisory_lock(n)) FROM generate_series(1, 200000) n")
        self._after(HELD_S, hog.close)
        return True

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(self.admin_dsn, autocommit=True, connect_timeout=2)

    # What lies between

    def _kill_pooler(self) -> bool:
        if self.pooler is None:
            return False
        self.pooler.kill()
        self.pooler.start()
        return True

    def _break_network(self, name: str) -> bool:
        if self.proxy is None:
            return False
        modes = {"half-open connections": "half-open", "a black hole": "black-hole", "cut connections": "cut"}
        self.proxy.switch(modes[name])  # type: ignore[arg-type]
        proxy = self.proxy
        self._after(BROKEN_S, lambda: proxy.switch("pass"))
        return True

    def _after(self, between_s: tuple[float, float], undo: Callable[[], object]) -> None:
        self._later.append((monotonic() + self.chance.uniform(*between_s), undo))
