"""An answer that is lost, or a settlement that met a busy row, takes no unit for good."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import DatabaseBusyError, DatabaseUnavailableError
from coordination.rate_limits import RateLimits
from coordination.session import Session
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, planted, value
from tests.integration.coordination.told import ask, granted, lose_session

UNSETTLED: LiteralString = "SELECT count(*) FROM fleet.rate_grants WHERE settled_at IS NULL"


class Unlucky(Database):
    """Reaches no server for the functions in `cut_off`, and loses the answers of those in `deaf_to`."""

    cut_off: frozenset[str] = frozenset()
    deaf_to: frozenset[str] = frozenset()

    def call(self, function: LiteralString, *, acknowledged: bool = False, **arguments: object) -> Any:
        if function in self.cut_off:
            raise DatabaseUnavailableError("the server is gone")
        answer = super().call(function, acknowledged=acknowledged, **arguments)
        if function in self.deaf_to:
            self.close()
            raise DatabaseUnavailableError("the answer was lost")
        return answer


@pytest.fixture
def unlucky(fleet_database: FleetDatabase) -> Iterator[Unlucky]:
    database = Unlucky(fleet_database.dsn("worker"), name="unlucky")
    yield database
    database.close()


@pytest.fixture
def limits(unlucky: Unlucky, fleet: Fleet) -> RateLimits:
    return RateLimits(Session(unlucky, fleet.incarnation.id))


def outlast(owner: Owner, by_s: float) -> None:
    """Let real time pass for all grants."""
    owner.execute(
        "UPDATE fleet.rate_grants SET granted_real_at = granted_real_at - make_interval(secs => %s)", (by_s,)
    )


@pytest.mark.parametrize("reachable", [True, False])
def test_a_grant_whose_answer_is_lost_goes_back_at_once_or_with_the_next_request(
    unlucky: Unlucky, limits: RateLimits, console: Database, owner: Owner, reachable: bool
) -> None:
    configure(console, "search_tweets", (2, 60))
    unlucky.deaf_to = frozenset({"can_make_request"})
    unlucky.cut_off = frozenset() if reachable else frozenset({"return_lost_grant"})
    for lost in (1, 2):
        with pytest.raises(DatabaseUnavailableError, match="the answer was lost"):
            limits.can_make_request("search_tweets", "w/1")
        assert value(owner, UNSETTLED) == (0 if reachable else lost)
    unlucky.deaf_to = unlucky.cut_off = frozenset()
    for taken in (1, 2):
        assert limits.can_make_request("search_tweets", "w/1").allowed
        assert value(owner, UNSETTLED) == taken
    assert not limits.can_make_request("search_tweets", "w/1").allowed


def test_lost_answers_do_not_close_a_limit_that_is_spread(
    unlucky: Unlucky, limits: RateLimits, fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (1000, 3600))
    unlucky.deaf_to = frozenset({"can_make_request"})
    for _ in range(11):
        with pytest.raises(DatabaseUnavailableError):
            limits.can_make_request("like_tweet", "w/1")
        fleet_database.advance(10)
    assert ask(fleet, "like_tweet").allowed


def test_a_settlement_that_met_a_busy_row_is_made_before_the_next_request(
    limits: RateLimits, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (2, 60))
    used, unused = (limits.can_make_request("search_tweets", "w/1").grant_id for _ in range(2))
    assert used
    assert unused
    impatient = ("SET lock_timeout TO '5s'", "SET lock_timeout TO '10ms'")
    with (
        psycopg.connect(fleet_database.superuser_dsn) as busy,
        planted(owner, "record_usage", impatient),
        planted(owner, "release_grant", impatient),
    ):
        busy.execute("SELECT 1 FROM fleet.rate_limits WHERE endpoint = 'search_tweets' FOR UPDATE")
        with pytest.raises(DatabaseBusyError):
            limits.record_usage(used, True)
        with pytest.raises(DatabaseBusyError):
            limits.release(unused)
    assert limits.can_make_request("search_tweets", "w/1").allowed  # the unit that was given back
    assert value(owner, UNSETTLED) == 1
    assert not limits.can_make_request("search_tweets", "w/1").allowed
    fleet_database.advance(61)
    assert limits.can_make_request(
        "search_tweets", "w/1"
    ).allowed  # the window of the one that was used is over


@pytest.mark.parametrize("who", ["its holder", "another"])
def test_what_a_living_holder_settles_never_counts_as_used_when_no_request_lasts_so_long(
    who: str, fleet: Fleet, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (1, 60))
    grant = granted(fleet)
    asks = fleet if who == "its holder" else fleet_database.connect("other")
    outlast(owner, 140)
    assert not ask(asks).allowed
    fleet_database.advance(61)
    assert not ask(asks).allowed
    outlast(owner, 11)
    assert not ask(asks).allowed  # used at this moment
    assert not fleet.rate_limits.release(grant)
    fleet_database.advance(61)
    assert ask(asks).allowed
    if asks is not fleet:
        asks.close()


def test_a_quota_and_what_a_lost_session_holds_stay_taken_however_old(
    fleet: Fleet, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (1, 60))
    configure(console, "like_tweet", (1, 60))
    assert fleet.reservations.reserve_api_quota("w", "like_tweet", 1)
    stopped = fleet_database.connect("stopped")
    granted(stopped)
    lose_session(owner, "stopped")
    outlast(owner, 86_400)
    for _ in range(2):
        assert not ask(fleet).allowed
        assert not ask(fleet, "like_tweet").allowed
        fleet_database.advance(61)
    stopped.close()
