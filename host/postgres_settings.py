"""The embedded PostgreSQL's configuration, and a port for it to listen on."""

import socket
from collections.abc import Mapping

from host.postgres_places import Places, write_whole

LOOPBACK = "127.0.0.1"

# A small host's: a fleet's connections are many and idle, its tables fit into memory.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",  # nothing replicates from here; recovery needs no more
    "max_wal_senders": "0",
    "jit": "off",  # every statement is short
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "lc_messages": "C",
}

HBA = """\
local all all scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
"""


def write(places: Places, port: int, options: Mapping[str, str]) -> None:
    """Write the configuration: initdb's findings about this machine, the fleet's settings, then `options`."""
    home = places.home
    settings = {
        **SETTINGS,
        "port": str(port),
        "unix_socket_directories": f'"{places.run}"',
        "hba_file": str(home / "pg_hba.conf"),
        **options,
    }
    lines = [f"include {_quoted(str(places.data / 'postgresql.conf'))}"]
    lines += [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    # Not in the data directory: this process may be root and writes only where nobody else can.
    write_whole(home / "postgresql.conf", "\n".join(lines) + "\n", mode=0o644)
    write_whole(home / "pg_hba.conf", HBA, mode=0o644)


def is_free(port: int) -> bool:
    """Whether PostgreSQL could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _quoted(value: str) -> str:
    """A value as postgresql.conf wants it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
