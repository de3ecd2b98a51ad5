"""A sender before a server that does exactly what a test says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination import Fleet
from tests.integration.platforms.scripted import Scripted, credentials
from tests.integration.workers.sender import ACCOUNT
from workers.outside.fence import Fence
from workers.outside.sending import Sending
from workers.platforms.x import X


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


@pytest.fixture
def sending(fleet: Fleet, server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sending:
    # A busy machine may stand still for half a second; the limit itself has a test of its own.
    monkeypatch.setattr("workers.outside.sending.WRITE_WITHIN_S", 30.0)
    fleet.accounts.confirm_identity(ACCOUNT, "42", "fleet")
    return Sending(
        fleet=fleet,
        x=X(server.url, credentials(), deadline_s=1),
        worker_id="tester/1",
        fence=Fence(tmp_path / "fence"),
        pause=lambda _seconds: True,
    )
