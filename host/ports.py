"""Loopback ports: whether a server of ours could listen there.

PortError     it could not; the text names the variable and what to do
"""

import errno
import socket
import time

LOOPBACK = "127.0.0.1"
POLL_S = 0.1


class PortError(Exception):
    """The port can't be used."""


def require_free(port: int, variable: str, *, patience_s: float = 0.0) -> None:
    """Return when the port is free, waiting `patience_s` at most for a dying server to leave it.

    Raises:
        PortError: it is taken, or not for this user.
    """
    deadline = time.monotonic() + patience_s
    while True:
        fault = _fault(port)
        if fault is None:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    if fault == errno.EADDRINUSE:
        raise PortError(
            f"{variable} is {port}: another program listens on {LOOPBACK}:{port}. Stop it, or set {variable} "
            f"to a free port, such as {_free_port()}."
        )
    raise PortError(
        f"{variable} is {port}: this user may not listen there. Set {variable} to a free port above 1023, "
        f"such as {_free_port()}."
    )


def _fault(port: int) -> int | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            return error.errno
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
