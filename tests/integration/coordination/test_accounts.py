"""An account's platform is where the hosts that work for it say it is."""

import pytest

from coordination import accounts
from coordination.errors import InvalidValueError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.managers import Manager

BEFORE = "http://127.0.0.1:1"
ELSEWHERE = "http://127.0.0.1:2"


def address(fleet_database: FleetDatabase, api_url: str | None = None) -> str:
    """Make the sandbox's account anew, at that address; give where it is then."""
    database = fleet_database.database("maintainer")
    try:
        if api_url is not None:
            accounts.ensure_account(
                database, "sandbox", platform="x", api_url=api_url, sandbox=True, topics=["gardens"]
            )
    finally:
        database.close()
    with fleet_database.owner() as owner:
        row = owner.execute("SELECT api_url FROM fleet.accounts WHERE name = 'sandbox'").fetchone()
    assert row
    return str(row[0])


def test_an_account_is_not_moved_away_under_a_host_that_works_for_it(fleet_database: FleetDatabase) -> None:
    host = Manager(fleet_database, "vienna").open()
    try:
        with pytest.raises(InvalidValueError, match=f"{BEFORE}, at which host vienna works with it now"):
            address(fleet_database, ELSEWHERE)
        assert address(fleet_database) == BEFORE
        assert address(fleet_database, BEFORE) == BEFORE  # a second host of the same platform is welcome
    finally:
        host.close()


@pytest.mark.parametrize("way", ["close", "leave"])
def test_an_account_moves_once_nobody_works_for_it(fleet_database: FleetDatabase, way: str) -> None:
    host = Manager(fleet_database, "vienna").open()
    getattr(host, way)()
    # The server lets go of a lost session's lock a moment later.
    with fleet_database.owner() as owner:
        owner.execute("SELECT pg_advisory_lock(fleet.lock_key('host', session::text)) FROM fleet.hosts")
    assert address(fleet_database, ELSEWHERE) == ELSEWHERE
    assert address(fleet_database, BEFORE) == BEFORE  # as the others that share this database know it
