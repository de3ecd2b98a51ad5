"""TLS: who is trusted, when the hook comes, and the environment's proxy."""

import socket
import threading

import pytest

from tests.integration.platforms.scripted import CERTIFICATE, Scripted, credentials, reply
from workers.platforms.x import Outcome, X, XUnreachable

CREATED = {"data": {"id": "20", "text": "Test"}}
ME = {"data": {"id": "783214", "username": "me"}}


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("trusted")
def test_a_post_goes_over_tls_with_the_hook_after_the_handshake(tls_server: Scripted) -> None:
    tls_server.answers(reply(201, CREATED))
    x = X(tls_server.url, credentials(), deadline_s=2)
    versions: list[int] = []
    assert (
        x.create_post("Test", lambda: not versions.append(tls_server.handshaken(1))).outcome is Outcome.POSTED
    )
    assert versions == [1]
    assert x.create_post("Test", lambda: False).outcome is Outcome.NOT_SENT
    tls_server.finished(2)
    assert tls_server.requests[1] == b""


def test_a_certificate_that_nobody_vouches_for_is_not_sent(tls_server: Scripted) -> None:
    tls_server.answers(reply(201, CREATED))
    sent = X(tls_server.url, credentials(), deadline_s=2).create_post("Test")
    assert sent.outcome is Outcome.NOT_SENT
    assert "certificate" in sent.reason
    assert tls_server.requests == []


def test_a_server_that_speaks_no_tls_is_not_sent(server: Scripted) -> None:
    server.act = lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    x = X(server.url.replace("http:", "https:"), credentials(), deadline_s=2)
    assert x.create_post("Test").outcome is Outcome.NOT_SENT


def test_a_handshake_that_never_ends_is_not_sent(server: Scripted) -> None:
    def act(connection: socket.socket) -> None:
        del connection
        server.over.wait(5)

    server.act = act
    x = X(server.url.replace("http:", "https:"), credentials(), deadline_s=0.3)
    assert x.create_post("Test").outcome is Outcome.NOT_SENT
    server.over.set()


@pytest.mark.usefixtures("trusted")
def test_a_read_takes_the_environments_proxy_and_a_write_does_not(
    tls_server: Scripted, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_server.answers(reply(200, ME))
    heads: list[bytes] = []

    def tunnel(connection: socket.socket) -> None:
        heads.append(connection.recv(65_536))
        with socket.create_connection(("127.0.0.1", tls_server.port), 5) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(onward, connection))
            back.start()
            pump(connection, onward)
            back.join(5)

    server.act = tunnel
    monkeypatch.setenv("https_proxy", server.url.replace("http://", "http://user:pass%21@"))
    x = X(tls_server.url, credentials(), deadline_s=3)
    assert x.me().value.username == "me"
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{tls_server.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNzIQ==" in heads[0]
    tls_server.answers(reply(201, CREATED))
    assert x.create_post("Test").outcome is Outcome.POSTED
    assert server.connections == 1


@pytest.mark.usefixtures("trusted")
def test_a_proxy_that_says_no_makes_x_unreachable(
    tls_server: Scripted, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers(reply(407, b""))
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(XUnreachable, match=r"the proxy .* answered 407"):
        X(tls_server.url, credentials(), deadline_s=2).me()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
