"""Server: the process. It takes its port, serves, and leaves within 2 s of SIGTERM or SIGINT.

ConsoleError     the console can't start; the text says what to do
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from console.app import Console
from console.connection import Connection

HOST = "127.0.0.1"
MAX_PORT = 65_535
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Answers under way get this long; with it the process is gone within the promised 2 s.
GRACE_S = 1


class ConsoleError(Exception):
    """The console can't start."""


def serve(*, port: int, state: Path) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        port: TCP port on loopback; 0 takes a free one.
        state: the fleet's state directory; what it holds is read when it is needed, so it may come later.

    Raises:
        ConsoleError: the port can't be had.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)
    with _listener(port) as listener:
        connection = Connection(state / "dsn" / "console")
        console = Console(connection, state=state)
        config = uvicorn.Config(
            console.application(),
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        asyncio.run(_serve(_Server(config), console, listener))


async def _serve(server: uvicorn.Server, console: Console, listener: socket.socket) -> None:
    reading = asyncio.create_task(console.keep_fresh())
    await server.serve(sockets=[listener])
    reading.cancel()


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Before it serves there is nothing to finish."""
    sys.exit(0)


@contextmanager
def _listener(port: int) -> Generator[socket.socket]:
    if not 0 <= port <= MAX_PORT:
        raise ConsoleError(f"--port is {port}: allowed is a whole number from 0 to {MAX_PORT}")
    # The protocol is named so that asyncio sets TCP_NODELAY on what is accepted.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(128)
        except OSError as error:
            raise ConsoleError(
                f"port {port} on {HOST} can't be had ({error.strerror}): stop what uses it, or set "
                "SOCIALFLEET_CONSOLE_PORT to another one"
            ) from None
        yield listener


class _Server(uvicorn.Server):
    """uvicorn that says where it listens and, once told to stop, ends with status 0."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stop on a signal; uvicorn's own way raises it a second time at the end."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, then tell the address."""
        await super().startup(sockets)
        for listener in sockets or []:
            print(f"console: http://{HOST}:{listener.getsockname()[1]}/", flush=True)  # noqa: T201  its one line
