"""The coordination core alone, to be measured: a PostgreSQL of its own with the schema and no fleet."""

import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from coordination import Fleet, connect
from coordination.database import Database, Json
from coordination.settings import register_settings
from host.postgres import EmbeddedPostgres, find_binaries
from host.postgres_cluster import DATABASE, MIGRATOR, SUPERUSER
from migrations import schema
from workers import registry

TMPFS = "tmpfs"
SLOW = "3 ms commit"
SHARED_MEMORY = Path("/dev/shm")
LEAST_FREE = 8 * 2**30
FLUSHES = 200
LARGEST = ((1_000_000_000, 900),)
PASSWORDS = {role: f"bench-{role}" for role in schema.ROLES}
RECOMMENDED = Path(__file__).parents[1] / "deploy" / "postgres.conf"
SETTING = re.compile(r"^(\w+) = (\S+)", re.MULTILINE)
# A commit waits as long as a disk of 3 ms would let it wait; who commits meanwhile shares the flush.
SLOW_COMMIT: Mapping[str, str] = {"commit_delay": "3000", "commit_siblings": "0"}


@dataclass(kw_only=True)
class Core:
    """A migrated database that nobody else uses.

    Attributes:
        postgres: its server.
        disk: what its commits wait for: "tmpfs" or "3 ms commit"; with a warning where it is no tmpfs.
        admin: the superuser's connection to it.
        database: its name there.
    """

    postgres: EmbeddedPostgres
    disk: str
    admin: psycopg.Connection
    database: str = DATABASE

    def dsn(self, role: str) -> str:
        """How that role connects: owner, worker, console, reader, maintainer, or superuser."""
        if role == "superuser":
            return self.postgres.dsn(SUPERUSER, self.database)
        parts = urlsplit(self.postgres.dsn(MIGRATOR, self.database))
        login = f"fleet_{role}"
        return urlunsplit(
            parts._replace(netloc=f"{login}:{PASSWORDS[login]}@{parts.netloc.rpartition('@')[2]}")
        )

    def join(self, worker: str, slot: int = 1, *, listens: bool = True) -> Fleet:
        """Join as a worker, one that hears wake-ups itself or not; the caller leaves."""
        return connect(self.dsn("worker"), worker, slot=slot, listens=listens)

    def configure(self, endpoint: str, windows: Sequence[tuple[int, int]]) -> None:
        """Set an endpoint's windows, (requests, seconds) each; the pool of all is as large as can be."""
        person = Database(self.dsn("console"), name="benchmark")
        for name, pairs in ((endpoint, windows), ("api_requests", LARGEST)):
            person.call(
                "configure_rate_windows",
                account="default",
                endpoint=name,
                windows=Json([list(pair) for pair in pairs]),
            )
        person.close()

    def empty(self, *tables: str) -> None:
        """Forget the rows of these tables, and what is dead in them."""
        for table in tables:
            self.admin.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.Identifier(*table.split("."))))


@contextmanager
def core(disk: str, options: Mapping[str, str] | None = None) -> Generator[Core]:
    """Start a server on memory, make the schema, and end it; `disk` says what a commit waits for."""
    place, warning = _place()
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir=place, ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)  # as root PostgreSQL runs as another user
        server = Path(made) / "server"
        server.mkdir()
        postgres = EmbeddedPostgres(
            server,
            find_binaries(None),
            lambda _line: None,
            options={**recommended(), **(SLOW_COMMIT if disk == SLOW else {}), **(options or {})},
        )
        postgres.start()
        try:
            with _migrated(postgres, disk + warning, DATABASE) as measured:
                yield measured
        finally:
            postgres.stop()


def recommended() -> dict[str, str]:
    """The settings that deploy/postgres.conf gives to a server of one's own."""
    return dict(SETTING.findall(RECOMMENDED.read_text("utf-8")))


def flush_ms(place: Path = Path("/var/tmp")) -> float:
    """What this machine's own disk takes to flush 8 kB: the median of 200, in ms."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(FLUSHES):
            file.write(b"\0" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


@contextmanager
def beside(measured: Core, database: str) -> Generator[Core]:
    """Another migrated database of the same server."""
    measured.admin.execute(
        sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(MIGRATOR))
    )
    with _migrated(measured.postgres, measured.disk, database) as other:
        yield other


@contextmanager
def _migrated(postgres: EmbeddedPostgres, disk: str, database: str) -> Generator[Core]:
    schema.upgrade(postgres.dsn(MIGRATOR, database), PASSWORDS)
    with psycopg.connect(postgres.dsn(SUPERUSER, database), autocommit=True) as admin:
        measured = Core(postgres=postgres, disk=disk, admin=admin, database=database)
        maintainer = Database(measured.dsn("maintainer"), name="benchmark")
        register_settings(maintainer, registry.definitions(), registry.flags())
        maintainer.close()
        yield measured


def _place() -> tuple[Path, str]:
    if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free >= LEAST_FREE:
        return SHARED_MEMORY, ""
    return Path("/tmp"), " (on the disk: /dev/shm has less than 8 GiB free)"
