"""Bookings: a later time for a request, behind all who wait, honoured before newer ones, over in the end."""

from typing import Any

from coordination import Fleet
from coordination.database import Database
from coordination.rate_limits import Booking, Grant
from coordination.resources import Reservation
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, value


def ask(fleet: Fleet, worker: str) -> Grant:
    return fleet.rate_limits.can_make_request("post_tweet", worker)


def spend(fleet: Fleet, worker: str = "first") -> None:
    grant = ask(fleet, worker)
    assert grant.grant_id is not None, grant
    fleet.rate_limits.record_usage(grant.grant_id, True)


def book(fleet: Fleet, worker: str) -> Booking:
    return fleet.rate_limits.schedule_request("post_tweet", worker)


def queued(fleet: Fleet) -> Any:
    return next(one for one in fleet.rate_limits.get_system_status() if one["endpoint"] == "post_tweet")[
        "requests_queued"
    ]


def test_with_room_it_is_now_and_the_unit_is_kept_for_it(fleet: Fleet, console: Database) -> None:
    configure(console, "post_tweet", (1, 60))
    booking = book(fleet, "booker")
    assert booking.estimated_delay_seconds == 0
    assert not ask(fleet, "other").allowed
    assert ask(fleet, "booker").allowed


def test_it_stands_behind_all_who_wait_and_have_booked_in_every_window(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "post_tweet", (1, 60), (2, 600))
    spend(fleet)
    delays = [book(fleet, f"booker/{number}").estimated_delay_seconds for number in range(3)]
    assert [round(delay / 10) for delay in delays] == [6, 60, 66]
    assert 58 <= delays[0] <= 60
    assert 598 <= delays[1] <= 600
    assert queued(fleet) == 3
    assert value(owner, "SELECT count(*) FROM fleet.rate_demands WHERE booked") == 3
    fleet_database.advance(delays[0])
    assert not ask(fleet, "new").allowed
    spend(fleet, "booker/0")
    assert queued(fleet) == 3  # the new one waits in its stead


def test_a_booking_given_back_or_over_holds_nothing(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (1, 60))
    booking = book(fleet, "booker")
    with fleet_database.connect("other") as other:
        assert not other.rate_limits.cancel_booking(booking.booking_id)
    assert fleet.rate_limits.cancel_booking(booking.booking_id)
    assert not fleet.rate_limits.cancel_booking(booking.booking_id)
    assert ask(fleet, "other").allowed
    fleet_database.advance(1)
    late = book(fleet, "booker")
    fleet_database.advance(late.estimated_delay_seconds + 100)
    assert not fleet.rate_limits.cancel_booking(late.booking_id)


def test_a_life_that_ended_holds_nothing_unless_its_worker_lives_on(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "post_tweet", (2, 60))
    for _ in range(2):
        spend(fleet)
    gone = fleet_database.connect("gone")
    assert not ask(gone, "gone/1").allowed
    book(gone, "gone/1")
    for worker in ("a", "b"):
        assert not ask(fleet, worker).allowed
    gone.close()
    assert queued(fleet) == 4
    fleet_database.advance(60)
    assert ask(fleet, "a").allowed
    assert not ask(fleet, "b").allowed  # a booking waits for a minute: the worker may be started again
    owner.execute("UPDATE fleet.incarnations SET ended_at = ended_at - interval '1 minute'")
    fleet_database.advance(2)
    assert ask(fleet, "b").allowed


def test_who_is_started_again_has_its_place_and_its_booking(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "post_tweet", (1, 60))
    spend(fleet)
    with fleet_database.connect("twice") as first:
        assert not ask(first, "twice/1").allowed
        booking = book(first, "twice/1")
    assert not ask(fleet, "other").allowed
    with fleet_database.connect("twice") as second:
        assert not ask(second, "twice/1").allowed
        assert value(owner, "SELECT count(*) FROM fleet.rate_demands WHERE worker_id = 'twice/1'") == 2
        fleet_database.advance(60)
        assert not ask(fleet, "other").allowed
        assert ask(second, "twice/1").allowed
        assert second.rate_limits.cancel_booking(booking.booking_id)


def test_one_that_expires_leaves_its_unit_to_others(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (1, 30))
    booking = book(fleet, "booker")
    assert (booking.expires_at - booking.execute_at).total_seconds() == 60
    assert not ask(fleet, "other").allowed
    fleet_database.advance(59)
    assert not ask(fleet, "other").allowed
    fleet_database.advance(2)
    assert ask(fleet, "other").allowed


def test_it_stands_where_its_worker_stands_by_what_it_had(fleet: Fleet, console: Database) -> None:
    configure(console, "search_tweets", (7, 900))
    for worker in ("other", "other", "other", "booker"):
        grant = fleet.rate_limits.can_make_request("search_tweets", worker, "low")
        assert grant.grant_id is not None
        fleet.rate_limits.record_usage(grant.grant_id, True)
    fleet.rate_limits.schedule_request("search_tweets", "booker", "low")
    told = fleet.reservations.check_availability("api_quota", "search_tweets", worker_id="booker", units=3)
    got = fleet.reservations.request_api_quota("booker", "search_tweets", 3)
    assert (told.available, isinstance(got, Reservation)) == (True, True)
