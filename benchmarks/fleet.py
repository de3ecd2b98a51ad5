"""One fleet to be measured: a PostgreSQL server as the fleet's own is made, a host on it, orders to both."""

import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.processes import seconds_until, settle
from coordination.commands import request_command
from coordination.database import Database
from coordination.settings import set_setting
from host.postgres import EmbeddedPostgres, find_binaries
from host.postgres_cluster import DATABASE
from host.rehearsal_pace import SETTINGS
from tests.host_process import READY_STATES, HostProcess, living

WHO = "benchmark"
WHY = "it is measured"
DAY_S = 86_400
PATIENCE_S = 300.0


@dataclass(kw_only=True)
class MeasuredFleet:
    """A fleet that runs.

    Attributes:
        host: its one host.
        postgres: its server, which flushes as in production.
        person: a console's connection, for orders.
        owner: a connection that looks at tables.
        admin: the superuser's connection to the same database, for the server's own counters.
        disk: the filesystem under the database.
    """

    host: HostProcess
    postgres: EmbeddedPostgres
    person: Database
    owner: psycopg.Connection
    admin: psycopg.Connection
    disk: str

    def order(self, action: Any, selector: str, **args: object) -> None:
        """Ask as a person does."""
        request_command(
            self.person, action, selector=selector, args=args, actor=WHO, reason=WHY, timeout_s=PATIENCE_S
        )

    def only(self, replicas: Mapping[str, int]) -> float:
        """Let these workers run with so many slots, and no others; give the seconds until all are ready."""
        self.stop()
        for name, number in replicas.items():
            self.order("scale", name, replicas=number)
        for name in replicas:
            self.order("start", name)
        return self.wait_ready(sum(replicas.values()))

    def stop(self) -> None:
        """Stop every worker and wait until none lives."""
        self.order("stop", "*")
        seconds_until(lambda: not self.living(), within_s=PATIENCE_S, what="every worker stopped")

    def wait_ready(self, number: int) -> float:
        """Wait until so many workers say in the database that they are ready; give the seconds."""
        return seconds_until(
            lambda: len(self.ready()) == number,
            within_s=PATIENCE_S,
            what=f"{number} workers ready",
        )

    def living(self) -> list[tuple[str, int, str, int, str, str]]:
        """Each incarnation that has not ended: worker, slot, host, pid, start time, state."""
        return living(self.owner)

    def ready(self) -> dict[tuple[str, int], int]:
        """The pid of each slot that is ready."""
        return {
            (worker, slot): pid
            for worker, slot, _, pid, _, state in self.living()
            if state in READY_STATES and psutil.pid_exists(pid)
        }

    def calm(self) -> None:
        """Let every schedule's next slot be a day off, so that a started worker has nothing to do."""
        for key in SETTINGS:
            if key.endswith("_interval_s"):
                set_setting(self.person, key, DAY_S, actor=WHO, reason=WHY)

    def manager_pids(self) -> dict[str, int]:
        """The host's processes that are neither workers nor services, by the name that the kernel knows."""
        return {
            process.name(): process.pid for process in self.host.tree() if process.name().startswith("fleet-")
        }

    def transactions(self) -> int:
        """What the server counted; it hears of a backend's within a second or so."""
        settle(1.5)
        row = self.admin.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", (DATABASE,)
        ).fetchone()
        return int(row[0]) if row else 0


@contextmanager
def fleet(
    *,
    sandbox: bool = False,
    light: bool = True,
    options: Mapping[str, str] | None = None,
    environment: dict[str, str] | None = None,
    place: Path = Path("/tmp"),
) -> Generator[MeasuredFleet]:
    """Run one and end it; everything that it writes is in `place`."""
    # Open to pass through: as root PostgreSQL runs as another user.
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir=place, ignore_cleanup_errors=True) as made:
        home = Path(made)
        home.chmod(0o755)
        postgres = EmbeddedPostgres(
            home / "server", find_binaries(None), lambda _line: None, options=dict(options or {})
        )
        (home / "server").mkdir()
        postgres.start()
        host = HostProcess(
            home / "state",
            name="bench",
            database_url=postgres.migrator_dsn,
            sandbox=sandbox,
            light=light,
            environment=environment,
        )
        try:
            host.start()
            host.wait_ready(PATIENCE_S)
            person = Database(host.dsn("console"), name=WHO)
            admin_dsn = postgres.superuser_dsn.replace("/postgres?", f"/{DATABASE}?")
            with (
                psycopg.connect(host.dsn("owner"), autocommit=True) as owner,
                psycopg.connect(admin_dsn, autocommit=True) as admin,
            ):
                yield MeasuredFleet(
                    host=host,
                    postgres=postgres,
                    person=person,
                    owner=owner,
                    admin=admin,
                    disk=_disk(postgres.data),
                )
            person.close()
            host.stop()
        finally:
            host.kill()
            postgres.stop()


def _disk(path: Path) -> str:
    at = str(path.resolve())
    best = max(
        (part for part in psutil.disk_partitions(all=True) if at.startswith(part.mountpoint)),
        key=lambda part: len(part.mountpoint),
    )
    return f"{best.fstype}, flushed"
