"""A shell at a state directory as a fleet leaves it."""

from pathlib import Path

import pytest

from host.state_directory import StateDirectory
from tests.integration.conftest import FleetDatabase
from tests.integration.host.shell import Shell


@pytest.fixture
def shell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fleet_database: FleetDatabase,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """Two workers in the database, on a host that is called here."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "DEBUG", "X_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SOCIALFLEET_HOST", "here")
    state = StateDirectory(tmp_path / "state")
    state.make()
    state.put("dsn/console", fleet_database.dsn("console"))
    state.put("account", "sandbox")
    maintainer = fleet_database.database("maintainer")
    for name in ("planner", "poster"):
        maintainer.call("ensure_worker", name=name, description=f"The {name}.")
    maintainer.close()
    return Shell(state=state, database=fleet_database, printed=capsys)
