"""The scripted server, plain and with TLS, and X on it."""

import ssl
from collections.abc import Iterator

import pytest

from tests.integration.platforms.scripted import CERTIFICATE, Scripted, credentials
from workers.platforms.x import X


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


@pytest.fixture
def tls_server() -> Iterator[Scripted]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    scripted = Scripted(context)
    yield scripted
    scripted.close()


@pytest.fixture
def x(server: Scripted) -> X:
    return X(server.url, credentials(), deadline_s=1)
