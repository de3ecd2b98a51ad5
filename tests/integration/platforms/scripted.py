"""A server that does to one connection after another exactly what a test says."""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from workers.platforms.x import XCredentials

CERTIFICATE = Path(__file__).parent / "localhost.pem"
SECRETS = ("ck-3f9a", "cs-77b1", "at-d02e", "ats-9c4d", "bt-51aa")
Act = Callable[[socket.socket], None]


def credentials() -> XCredentials:
    key, secret, token, token_secret, bearer = SECRETS
    return XCredentials.model_validate(
        {
            "x_consumer_key": key,
            "x_consumer_secret": secret,
            "x_access_token": token,
            "x_access_token_secret": token_secret,
            "x_bearer_token": bearer,
        }
    )


def read_request(connection: socket.socket) -> bytes:
    """Everything up to the body's end."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reply(status: int, body: object, *headers: str) -> bytes:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(payload)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + payload


class Scripted:
    """Listens on loopback; `act` is what happens to each connection, `requests` what was read."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.act: Act = socket.socket.close
        self.requests: list[bytes] = []
        self.connections = 0
        self._handshakes = 0
        self._ended = 0
        self._change = threading.Condition()
        self.over = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def answers(self, data: bytes) -> None:
        """Read each request whole, then write `data`."""

        def act(connection: socket.socket) -> None:
            self.requests.append(read_request(connection))
            connection.sendall(data)

        self.act = act

    def drips(self, data: bytes) -> None:
        """Read each request whole, then write `data` a byte every 20 ms until it is hung up on."""

        def act(connection: socket.socket) -> None:
            self.requests.append(read_request(connection))
            for position in range(len(data)):
                connection.sendall(data[position : position + 1])
                if self.over.wait(0.02):
                    return

        self.act = act

    def accepted(self, count: int) -> int:
        """Wait until `count` connections were accepted; returns how many were."""
        with self._change:
            assert self._change.wait_for(lambda: self.connections >= count, 30)
            return self.connections

    def handshaken(self, count: int) -> int:
        """Wait until `count` TLS handshakes are done; returns how many were."""
        with self._change:
            assert self._change.wait_for(lambda: self._handshakes >= count, 30)
            return self._handshakes

    def finished(self, count: int) -> int:
        """Wait until the server is done with `count` connections; returns with how many it is."""
        with self._change:
            assert self._change.wait_for(lambda: self._ended >= count, 30)
            return self._ended

    def close(self) -> None:
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._change:
                self.connections += 1
                self._change.notify_all()
            connection.settimeout(5)
            with suppress(OSError), connection:
                if self._tls:
                    with self._tls.wrap_socket(connection, server_side=True) as secured:
                        with self._change:
                            self._handshakes += 1
                            self._change.notify_all()
                        self.act(secured)
                else:
                    self.act(connection)
            with self._change:
                self._ended += 1
                self._change.notify_all()
