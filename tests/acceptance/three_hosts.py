"""Three hosts on one PostgreSQL, and the moments of what happened to them, on one clock."""

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from coordination.commands import request_command
from coordination.database import Database
from host.postgres import EmbeddedPostgres, find_binaries
from host.postgres_cluster import DATABASE
from tests.host_process import READY_STATES, HostProcess, eventually, living
from tests.light_workers import ACTS
from tests.networks import Network, between
from tests.postgres_servers import UNSAFE_BUT_FAST

NAMES = ("a", "b", "c")
WORKERS = ("holder", "renewer", "light")
SETTLED_S = 60.0
HBA = (
    "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all {net} scram-sha-256\n"
)


@dataclass(frozen=True, kw_only=True)
class Span:
    """How long one process acted on one slot's content, in seconds of the machine's clock since boot."""

    slot: str
    host: str
    pid: int
    token: int
    first_s: float
    last_s: float


class ThreeHosts:
    """The hosts by name, each with one slot of each worker when all is well."""

    def __init__(self, place: Path, network: Network, postgres: EmbeddedPostgres) -> None:
        self.network = network
        self.paused: set[int] = set()
        self.hosts = {
            name: HostProcess(
                place / name,
                name=name,
                database_url=network.dsn(name, postgres.migrator_dsn, postgres.port),
                before=network.before(name),
            )
            for name in NAMES
        }
        self.superuser_dsn = postgres.superuser_dsn.replace("/postgres?", f"/{DATABASE}?")

    def start(self) -> None:
        """Start the first, which makes the schema, then the others; let each have its share."""
        for name in NAMES:
            self.hosts[name].start()
            self.hosts[name].wait_ready(90)
        with psycopg.connect(self.superuser_dsn, autocommit=True) as admin:
            others = [str(row[0]) for row in admin.execute("SELECT name FROM fleet.workers")]
        for worker in others:
            if worker not in WORKERS:
                self.order("scale", worker, replicas=0)
        for worker in WORKERS:
            self.order("scale", worker, replicas=len(NAMES))
            self.order("start", worker)
        self.wait_balanced()

    def order(self, action: Any, selector: str, **args: object) -> None:
        """Ask as a person on the server's own machine does."""
        parts = self.hosts["a"].dsn("console").partition("@")[0]
        where = self.superuser_dsn.partition("@")[2]
        person = Database(f"{parts}@{where}", name="three hosts")
        request_command(person, action, selector=selector, args=args, actor="test", reason="three hosts")
        person.close()

    def rows(self) -> list[tuple[str, int, str, int, str, str]]:
        """Who lives, as the database has it."""
        with psycopg.connect(self.superuser_dsn, autocommit=True) as admin:
            return living(admin)

    def ready(self) -> set[tuple[tuple[str, int], str]]:
        """Each slot that is ready, with its host; a process that is gone counts nowhere."""
        return {
            ((worker, slot), host)
            for worker, slot, host, pid, _, state in self.rows()
            if state in READY_STATES and psutil.pid_exists(pid)
        }

    def slots_of(self, host: str) -> set[tuple[str, int]]:
        """What that host runs."""
        return {key for key, at in self.ready() if at == host}

    def wait_balanced(self, within_s: float = SETTLED_S) -> None:
        """Wait until each host runs a third of all slots, each once, and all content is acted on."""

        def balanced() -> bool:
            rows = [row for row in self.rows() if psutil.pid_exists(row[3])]
            ready = [row for row in rows if row[5] in READY_STATES]
            hosts = Counter(row[2] for row in ready)
            once = len({row[:2] for row in rows}) == len(rows) == len(WORKERS) * len(NAMES)
            return once and hosts == Counter(dict.fromkeys(NAMES, len(WORKERS))) and self.is_acting()

        eventually(balanced, within_s=within_s, what=lambda: f"balanced: {self.rows()}", every_s=0.2)

    def is_acting(self) -> bool:
        """Whether every content has one who holds it."""
        with psycopg.connect(self.superuser_dsn, autocommit=True) as admin:
            held = admin.execute("SELECT content FROM fleet.engagement_locks").fetchall()
        return len(held) == 2 * len(NAMES)

    def moved(self, slots: set[tuple[str, int]], away_from: str) -> bool:
        """Whether all these slots are ready on other hosts."""
        return slots <= {key for key, host in self.ready() if host != away_from}

    def spans(self) -> Mapping[str, list[Span]]:
        """Each slot's spans of acting, by token; the files of all hosts together."""
        seen: dict[tuple[str, str, int, int], list[float]] = defaultdict(list)
        for name, host in self.hosts.items():
            for path in (host.state / ACTS).glob("*.jsonl"):
                for line in path.read_text().splitlines():
                    with suppress(ValueError):  # a killed writer's last line
                        act = json.loads(line)
                        seen[act["slot"], name, act["pid"], act["token"]].append(act["at_s"])
        spans: dict[str, list[Span]] = defaultdict(list)
        for (slot, host, pid, token), moments in sorted(seen.items(), key=lambda one: one[0][3]):
            spans[slot].append(
                Span(slot=slot, host=host, pid=pid, token=token, first_s=min(moments), last_s=max(moments))
            )
        return spans

    def is_proven_dead(self, pid: int) -> bool:
        """Whether its host has told of a process's end."""
        with psycopg.connect(self.superuser_dsn, autocommit=True) as admin:
            rows = admin.execute("SELECT FROM fleet.process_ends WHERE pid = %s", (pid,)).fetchall()
        return bool(rows)

    def ends(self) -> list[tuple[Any, ...]]:
        """The newest process ends: host, worker, slot, pid, exit code, how, when it was recorded."""
        with psycopg.connect(self.superuser_dsn, autocommit=True) as admin:
            return admin.execute(
                "SELECT host, worker, slot, pid, exit_code, how, clock_timestamp() - ended_at "
                "FROM fleet.process_ends ORDER BY ended_at DESC LIMIT 20"
            ).fetchall()

    def stop(self) -> None:
        """End all."""
        for host in self.hosts.values():
            host.kill()


@contextmanager
def three_hosts() -> Generator[ThreeHosts]:
    """Run them, and end them."""
    place = Path(tempfile.mkdtemp(prefix="fleet-three-", dir="/tmp"))
    place.chmod(0o755)
    (place / "server").mkdir()
    network = between(NAMES)
    (place / "hba.conf").write_text(HBA.format(net=f"{network.listen or '127.0.0.1'}/24"))
    postgres = EmbeddedPostgres(
        place / "server",
        find_binaries(None),
        lambda _line: None,
        options={
            **UNSAFE_BUT_FAST,
            "hba_file": str(place / "hba.conf"),
            "listen_addresses": ",".join(filter(None, ("127.0.0.1", network.listen))),
        },
    )
    hosts: ThreeHosts | None = None
    try:
        postgres.start()
        hosts = ThreeHosts(place, network, postgres)
        hosts.start()
        yield hosts
    finally:
        if hosts:
            hosts.stop()
        network.close()
        postgres.stop()
        shutil.rmtree(place, ignore_errors=True)
