"""A PgBouncer in front of a server, as operators have it: it lends a session for a transaction at a time."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

PROGRAM = shutil.which("pgbouncer") or next(
    (str(path) for path in (Path("/usr/sbin/pgbouncer"),) if path.exists()), None
)
"""None where it is not installed."""
NOBODY = "nobody"
STARTED_S = 10.0


class Pooler:
    """One pgbouncer with transaction pooling for the logins that it is given."""

    def __init__(
        self, server_dsn: str, logins: Mapping[str, str], *, pool_size: int = 4, ignores: str = ""
    ) -> None:
        """Name the parts.

        Args:
            server_dsn: any login of the database behind it.
            logins: the password of each role that may use it.
            pool_size: how many sessions it shares among all that use it.
            ignores: parameters of a login that it passes over instead of refusing them.
        """
        self._server = conninfo_to_dict(server_dsn)
        self._logins = logins
        self._pool_size = pool_size
        self._ignores = ignores
        self._directory = Path(tempfile.mkdtemp(prefix="fleet-pooler-", dir="/tmp"))
        self._directory.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def dsn(self, dsn: str) -> str:
        """The same login by way of the pooler."""
        parts = urlsplit(dsn)
        login = parts.netloc.rpartition("@")[0]
        query = urlencode({"sslmode": "disable", "gssencmode": "disable"})
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=query))

    def start(self) -> None:
        """Start it and return when it listens."""
        assert PROGRAM
        users = self._write("users", "".join(f'"{name}" "{word}"\n' for name, word in self._logins.items()))
        database = self._server["dbname"]
        where = f"host={self._server['host']} port={self._server['port']} dbname={database}"
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "pool_mode": "transaction",
            "default_pool_size": self._pool_size,
            "max_client_conn": 200,
            "ignore_startup_parameters": self._ignores,
            "server_login_retry": 1,
            "query_wait_timeout": 5,
        }
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        place = self._write("pgbouncer.ini", f"[databases]\n{database} = {where}\n[pgbouncer]\n{lines}\n")
        self._process = subprocess.Popen(
            [PROGRAM, str(place)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_become_nobody() if os.geteuid() == 0 else None,  # noqa: PLW1509  one thread; it refuses root
        )
        _wait_listens(self.port, self._process)

    def kill(self) -> None:
        """Kill -9: every session through it is lost."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it and remove what it wrote."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.write_text(text)
        path.chmod(0o644)
        return path


def _become_nobody() -> Callable[[], None]:
    account = pwd.getpwnam(NOBODY)

    def become() -> None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)

    return become


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    from tests.integration.coordination.crowd import until  # noqa: PLC0415  not needed by who only asks whether it is there

    def listens() -> bool:
        assert process.poll() is None, "pgbouncer ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, STARTED_S)
