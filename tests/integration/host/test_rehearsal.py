"""The rehearsal's pace: begun in the fleet's own sandbox, taken back for a real account."""

from collections.abc import Iterator

import pytest

from coordination import settings
from coordination.database import Database
from host import fleet_account
from host.rehearsal_pace import SETTINGS
from host.x_account import XAccount
from tests.integration.conftest import FleetDatabase

OWN_SANDBOX = XAccount(name="sandbox", api_url="http://127.0.0.1:1", sandbox=True, tier="enterprise")
REAL = XAccount(name="default", api_url="https://api.x.com", sandbox=False, tier="pay_per_use")


@pytest.fixture
def maintainer(fleet_database: FleetDatabase) -> Iterator[Database]:
    database = fleet_database.database("maintainer")
    yield database
    database.close()


def test_a_rehearsals_pace_ends_with_a_real_account_and_what_a_person_set_stays(
    maintainer: Database, fleet_database: FleetDatabase
) -> None:
    console = fleet_database.database("console")

    def values() -> dict[str, object]:
        return {row["key"]: row["value"] for row in console.rows("list_settings")}

    fleet_account.ensure(maintainer, OWN_SANDBOX, own_sandbox=True)
    assert values() == SETTINGS
    assert not fleet_account.ensure(maintainer, OWN_SANDBOX, own_sandbox=False)
    assert values() == SETTINGS
    settings.set_setting(console, "poster_interval_s", 40, actor="me", reason="calmer")
    assert fleet_account.ensure(maintainer, REAL, own_sandbox=False)
    assert values() == {"poster_interval_s": 40}
    console.close()
