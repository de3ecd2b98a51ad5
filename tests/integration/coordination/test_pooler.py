"""A real pooler in between: the incarnation goes around it, the work may go through it."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from coordination import connect
from coordination.database import at_place_of
from coordination.errors import PoolerInBetweenError
from tests.fault import pooler
from tests.fault.pooler import Pooler
from tests.integration.conftest import PASSWORDS, FleetDatabase
from tests.integration.coordination.tables import Owner, kill_session, value

pytestmark = pytest.mark.skipif(pooler.PROGRAM is None, reason="needs pgbouncer, which is not installed")
PREPARED_AFTER = 5


@pytest.fixture(params=["", "options"], ids=["as-installed", "ignores-options"])
def between(fleet_database: FleetDatabase, request: pytest.FixtureRequest) -> Iterator[Pooler]:
    logins = {"fleet_worker": PASSWORDS["fleet_worker"]}
    with Pooler(fleet_database.migrator_dsn, logins, pool_size=2, ignores=request.param) as started:
        yield started


def test_a_worker_that_would_hold_its_session_lock_behind_a_pooler_does_not_start(
    fleet_database: FleetDatabase, between: Pooler, owner: Owner
) -> None:
    with pytest.raises(PoolerInBetweenError, match="SOCIALFLEET_DIRECT_DATABASE_URL"):
        connect(between.dsn(fleet_database.dsn("worker")), "tester")
    assert value(owner, "SELECT count(*) FROM fleet.incarnations") == 0
    assert value(owner, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_work_goes_through_a_pooler_that_lends_sessions_for_a_transaction(
    fleet_database: FleetDatabase, between: Pooler, owner: Owner
) -> None:
    direct = fleet_database.dsn("worker")
    with connect(between.dsn(direct), "tester", direct_dsn=direct) as fleet:
        # More often than it takes until statements are prepared, while others have its session in between.
        with psycopg.connect(between.dsn(direct), autocommit=True, prepare_threshold=None) as other:
            for number in range(3 * PREPARED_AFTER):
                lease = fleet.engagement.request_lock(str(number), "tester/1", "quote")
                assert lease is not None
                other.execute("SELECT fleet.real_now()")
                fleet.engagement.release_lock(lease)
        held = fleet.engagement.request_lock("held", "tester/1", "quote")
        assert held is not None
        assert value(owner, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1
        # The end of the pooler's sessions is nobody's end; that of its own is.
        with fleet_database.connect("heir") as heir:
            owner.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = "
                "'socialfleet tester/1' AND datname = current_database()"
            )
            assert heir.engagement.request_lock("held", "heir/1", "quote") is None
            kill_session(owner, "tester/1 incarnation")
            assert heir.engagement.request_lock("held", "heir/1", "quote") is not None


def test_who_waits_for_units_through_a_pooler_gets_them_and_leaves_no_session_listening(
    fleet_database: FleetDatabase, between: Pooler
) -> None:
    direct = fleet_database.dsn("worker")
    with (
        connect(between.dsn(direct), "tester", direct_dsn=direct) as fleet,
        fleet_database.connect("holder") as holder,
    ):
        assert holder.reservations.reserve_resource("memory", "one", "holder/1", duration_minutes=0.01)
        found = fleet.reservations.reserve_resource("memory", "one", "tester/1", wait_s=10)
        assert found is not None
        with psycopg.connect(between.dsn(direct), autocommit=True, prepare_threshold=None) as other:
            for _ in range(4):
                assert other.execute("SELECT pg_listening_channels()").fetchall() == []


def test_the_login_of_one_address_is_taken_to_another() -> None:
    found = at_place_of(
        "postgresql://me:p%40ss@pooler:6432/fleet?connect_timeout=3", "postgresql://db:5432/x"
    )
    assert conninfo_to_dict(found) == {
        "user": "me",
        "password": "p@ss",
        "host": "db",
        "port": "5432",
        "dbname": "x",
    }
