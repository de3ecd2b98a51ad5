"""The fault proxy itself: every mode, seen from both sides of a real connection."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.fault_proxy import FaultProxy, Mode

SOON_S = 30.0
QUIET_S = 0.2


class Line:
    """A client's socket and the server's for one connection through the proxy."""

    def __init__(self, proxy: FaultProxy, listener: socket.socket) -> None:
        self.client = socket.create_connection(proxy.address, timeout=SOON_S)
        self.client.sendall(b"hello")
        self.server, _ = listener.accept()
        self.server.settimeout(SOON_S)
        assert self.server.recv(5) == b"hello"

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture(params=["tcp", "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    if request.param == "tcp":
        server = socket.create_server(("127.0.0.1", 0))
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "s"))
        server.listen()
    server.settimeout(SOON_S)
    with server:
        yield server


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[FaultProxy]:
    with FaultProxy(listener.getsockname()) as running:
        yield running


@pytest.fixture
def line(proxy: FaultProxy, listener: socket.socket) -> Iterator[Line]:
    with contextlib.closing(Line(proxy, listener)) as joined:
        yield joined


def says_nothing(end: socket.socket) -> bool:
    end.settimeout(QUIET_S)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(SOON_S)
    return False


def test_bytes_go_both_ways_and_an_end_is_told(proxy: FaultProxy, line: Line) -> None:
    big = b"x" * 4_000_000
    line.server.settimeout(SOON_S)
    line.client.sendall(b"question")
    assert line.server.recv(100) == b"question"
    line.server.sendall(big)
    line.server.close()
    heard = bytearray()
    while piece := line.client.recv(1 << 20):
        heard += piece
    assert heard == big
    line.client.close()
    assert proxy.mode == "pass"


def test_cut_resets_what_stands_and_what_comes(proxy: FaultProxy, line: Line) -> None:
    proxy.switch("cut")
    with pytest.raises(ConnectionResetError):
        line.client.recv(1)
    with contextlib.suppress(ConnectionResetError):
        assert line.server.recv(1) == b""
    with pytest.raises(ConnectionResetError), socket.create_connection(proxy.address, timeout=SOON_S) as new:
        new.recv(1)
    assert proxy.connections == 0


def test_in_a_black_hole_nobody_hears_and_nobody_ends(proxy: FaultProxy, line: Line) -> None:
    proxy.switch("black-hole")
    line.client.sendall(b"lost")
    line.server.sendall(b"lost too")
    assert says_nothing(line.client)
    assert says_nothing(line.server)
    proxy.switch("pass")
    with pytest.raises(ConnectionResetError):
        line.client.recv(1)


def test_a_connection_that_said_nothing_in_the_black_hole_goes_on(proxy: FaultProxy, line: Line) -> None:
    proxy.switch("black-hole")
    proxy.switch("pass")
    line.client.sendall(b"again")
    assert line.server.recv(5) == b"again"


def test_a_new_connection_waits_while_the_hole_is_black(
    proxy: FaultProxy, line: Line, listener: socket.socket
) -> None:
    assert line.client
    proxy.switch("black-hole")
    with socket.create_connection(proxy.address, timeout=SOON_S) as new:
        new.sendall(b"is anybody there")
        assert says_nothing(new)
        proxy.switch("pass")
        server, _ = listener.accept()
        with server:
            assert server.recv(100) == b"is anybody there"


def test_half_open_ends_the_servers_side_and_tells_the_client_nothing(proxy: FaultProxy, line: Line) -> None:
    proxy.switch("half-open")
    with contextlib.suppress(ConnectionResetError):
        assert line.server.recv(1) == b""
    line.client.sendall(b"lost")
    assert says_nothing(line.client)
    proxy.switch("pass")
    with pytest.raises(ConnectionResetError):
        line.client.recv(1)


def test_a_delay_keeps_the_order_and_takes_its_time(proxy: FaultProxy, line: Line) -> None:
    proxy.switch("delay", delay_s=0.3)
    began = monotonic()
    line.client.sendall(b"one")
    assert line.server.recv(3) == b"one"
    assert monotonic() - began >= 0.3
    line.client.sendall(b"two")
    proxy.switch("pass")
    line.client.sendall(b"three")
    heard = b""
    while len(heard) < 8:
        heard += line.server.recv(8)
    assert heard == b"twothree"


@pytest.mark.parametrize("mode", ["pass", "delay", "cut", "black-hole", "half-open"])
def test_it_ends_in_every_mode_with_connections_that_stand(listener: socket.socket, mode: Mode) -> None:
    with FaultProxy(listener.getsockname()) as proxy, contextlib.closing(Line(proxy, listener)):
        proxy.switch(mode)
    proxy.stop()


def test_a_server_that_is_not_there_is_a_reset(tmp_path: Path) -> None:
    # The reset may come while `connect` still waits for its answer: both ways are a reset.
    with (
        FaultProxy(str(tmp_path / "nobody")) as proxy,
        pytest.raises(ConnectionResetError),
        socket.create_connection(proxy.address, timeout=SOON_S) as new,
    ):
        new.recv(1)


def test_a_login_is_led_through_the_proxy() -> None:
    with FaultProxy("/nowhere") as proxy:
        host, port = proxy.address
        given = "postgresql://me:secret@/fleet?host=/run/pg&port=5433&application_name=x"
        assert proxy.dsn(given) == f"postgresql://me:secret@{host}:{port}/fleet?application_name=x"
