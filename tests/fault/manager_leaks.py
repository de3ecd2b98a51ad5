"""What a host holds, counted before the faults and after: nothing may be left of them (I19)."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from tests.host_process import HostProcess, of_host

CONNECTIONS = """
    SELECT application_name, count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND application_name LIKE 'socialfleet %' GROUP BY 1
"""
SESSION_LOCKS = """
    SELECT a.application_name, count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE 'socialfleet %' GROUP BY 1
"""
FILES_MORE = 2
"""A process that looks may hold a file or two for a moment; a leak grows with every fault."""
POSIX = re.compile(r"/dev/shm/(PostgreSQL\.\d+)")
SYSTEM_V = re.compile(r" (\d+) +/SYSV")
"""A mapped segment's line ends with its id as the inode, and its key as the name."""


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What a settled host holds.

    Attributes:
        connections: by the session's name.
        locks: session advisory locks, by the session's name.
        files: open files of keeper, manager and guardian.
        processes: how many of each name, grandchildren apart.
        strays: processes of the host that nobody living answers for.
    """

    connections: Counter[str]
    locks: Counter[str]
    files: Mapping[str, int]
    processes: Counter[str]
    strays: list[str] = field(default_factory=list[str])

    def leaks(self, before: "Holdings") -> list[str]:
        """What is here and was not before, in sentences."""
        found = [
            f"connection {name}: {count}, before {before.connections[name]}"
            for name, count in (self.connections - before.connections).items()
        ]
        found += [
            f"advisory locks of {name}: {count} more" for name, count in (self.locks - before.locks).items()
        ]
        found += [
            f"open files of {name}: {count}, before {before.files.get(name, 0)}"
            for name, count in self.files.items()
            if count > before.files.get(name, 0) + FILES_MORE
        ]
        found += [f"process {name}: {n} more" for name, n in (self.processes - before.processes).items()]
        return found + self.strays


def holdings(host: HostProcess, superuser_dsn: str) -> Holdings:
    """Count them."""
    with psycopg.connect(superuser_dsn, autocommit=True, connect_timeout=5) as admin:
        connections = Counter({str(name): int(n) for name, n in admin.execute(CONNECTIONS)})
        locks = Counter({str(name): int(n) for name, n in admin.execute(SESSION_LOCKS)})
    files: dict[str, int] = {}
    names: Counter[str] = Counter()
    for process in host.tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            name = process.name()
            if name.startswith("fleet-"):
                files[name] = process.num_fds()
            if process.ppid() == host.pid:
                names[name] += 1
    return Holdings(connections=connections, locks=locks, files=files, processes=names, strays=strays(host))


def strays(host: HostProcess) -> list[str]:
    """Processes of the host outside its tree, and children of dead workers that the keeper still has."""
    tree = {process.pid for process in host.tree()}
    found = [f"outside the tree: {described(one)}" for one in of_host(host.state) if one.pid not in tree]
    for process in host.tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() == host.pid and process.name() == "sleep":
                found.append(f"a dead worker's child: {described(process)}")
    return found


def described(process: psutil.Process) -> str:
    """A process in a few words."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.pid} {process.name()} of {process.ppid()}: {' '.join(process.cmdline())[:80]}"
    return f"{process.pid}, ended by now"


class SharedMemory:
    """The segments that a host's PostgreSQL servers were seen to have; other servers' are not its affair."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def look(self, processes: Iterable[psutil.Process]) -> None:
        """Take down what these processes have mapped."""
        for process in processes:
            with contextlib.suppress(OSError):
                maps = Path(f"/proc/{process.pid}/maps").read_text()
                self._seen |= {f"POSIX {name}" for name in POSIX.findall(maps)}
                self._seen |= {f"System V {number}" for number in SYSTEM_V.findall(maps)}

    def left(self) -> set[str]:
        """Those of them that are still there."""
        there = {f"POSIX {path.name}" for path in Path("/dev/shm").iterdir()}
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return self._seen & (there | {f"System V {line.split()[1]}" for line in segments})


def temporary_files(places: Iterable[Path]) -> set[str]:
    """Files in these folders that are written before they get their name, and those for a moment."""
    return {
        str(path)
        for place in places
        for path in place.rglob("*")
        if path.is_file() and (path.suffix in {".tmp", ".new", ".part"} or place.name == "tmp")
    }
