"""A server in between that understands PostgreSQL's messages: it counts round trips, or plays a pooler."""

import contextlib
import socket
import struct
import threading
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

BACKEND_KEY_DATA = b"K"
READY_FOR_QUERY = b"Z"


class Wire:
    """Passes connections on.

    Attributes:
        answers: how often the server said that it is ready for the next query: round trips.
    """

    def __init__(self, dsn: str, *, pools: bool = False) -> None:
        known = conninfo_to_dict(dsn)
        self._host, self._port = str(known["host"]), int(str(known.get("port", 5432)))
        self._pools = pools
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.answers = 0
        port = self._listener.getsockname()[1]
        self.dsn = (
            f"postgresql://{known['user']}:{quote(str(known['password']), safe='')}@127.0.0.1:{port}/"
            f"{known['dbname']}?sslmode=disable&gssencmode=disable"
        )
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                for target, source, sink in (
                    (self._requests, client, server),
                    (self._answers, server, client),
                ):
                    thread = threading.Thread(target=target, args=(source, sink))
                    self._threads.append(thread)
                    thread.start()

    def _connect(self) -> socket.socket:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
            return server
        return socket.create_connection((self._host, self._port))

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                buffer += data
                while len(buffer) >= 5 and len(buffer) > (length := struct.unpack("!I", buffer[1:5])[0]):
                    message, buffer = buffer[: length + 1], buffer[length + 1 :]
                    client.sendall(self._seen(message))
            client.shutdown(socket.SHUT_WR)

    def _seen(self, message: bytes) -> bytes:
        if message[:1] == READY_FOR_QUERY:
            self.answers += 1
        if message[:1] == BACKEND_KEY_DATA and self._pools:
            (pid,) = struct.unpack("!I", message[5:9])
            return message[:5] + struct.pack("!I", pid + 1) + message[9:]
        return message


@contextlib.contextmanager
def wire(dsn: str, **options: Any) -> Generator[Wire]:
    between = Wire(dsn, **options)
    try:
        yield between
    finally:
        between.close()
