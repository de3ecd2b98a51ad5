"""The rehearsal's pace: begun in the fleet's own sandbox, taken back for a real account."""

import io
from pathlib import Path

import pytest

from config import Config
from coordination import settings
from host.state_directory import StateDirectory
from host.terminal import Terminal
from host.up import REHEARSAL_SETTINGS, Up, World
from host.x_account import XAccount
from tests.integration.conftest import FleetDatabase

OWN_SANDBOX = XAccount(name="sandbox", api_url="http://127.0.0.1:1", sandbox=True, tier="enterprise")
REAL = XAccount(name="default", api_url="https://api.x.com", sandbox=False, tier="pay_per_use")


def unused(*_: object, **__: object) -> None:
    """No workers are managed here."""


@pytest.fixture
def state(fleet_database: FleetDatabase, tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path)
    made.make()
    made.put("dsn/maintainer", fleet_database.dsn("maintainer"))
    return made


def step_4(state: StateDirectory, x: XAccount, *, api_url: str | None = None) -> str:
    """Do it for that account, and give what it told."""
    told = io.StringIO()
    config = Config.model_construct(
        socialfleet_state_dir=state.path,
        x_api_url=api_url,  # pyright: ignore[reportArgumentType]  only its being there counts
    )
    up = Up(config, world=World(), manage=unused, terminal=Terminal(told))  # pyright: ignore[reportArgumentType]
    up._x = x  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  the step alone
    with up._supervisor:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        up._account()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return told.getvalue()


def test_a_rehearsals_pace_ends_with_a_real_account_and_what_a_person_set_stays(
    state: StateDirectory, fleet_database: FleetDatabase
) -> None:
    console = fleet_database.database("console")

    def values() -> dict[str, object]:
        return {row["key"]: row["value"] for row in console.rows("list_settings")}

    step_4(state, OWN_SANDBOX)
    assert values() == REHEARSAL_SETTINGS
    assert "taken back" not in step_4(state, OWN_SANDBOX, api_url="http://127.0.0.1:1")
    assert values() == REHEARSAL_SETTINGS
    settings.set_setting(console, "poster_interval_s", 40, actor="me", reason="calmer")
    assert "short intervals are taken back" in step_4(state, REAL, api_url="https://api.x.com")
    assert values() == {"poster_interval_s": 40}
    console.close()
