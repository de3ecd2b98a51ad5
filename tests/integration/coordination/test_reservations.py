"""Reservations: units of things with a capacity."""

import pytest

from coordination import Fleet, Reservation
from coordination.database import Database
from coordination.errors import InvalidValueError, ReservationLostError
from coordination.pools import configure_pool
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, value


def reserve(fleet: Fleet, resource_id: str = "pool", **options: object) -> Reservation | None:
    return fleet.reservations.reserve_resource("content", resource_id, "tester/1", **options)  # type: ignore[arg-type]


def test_a_thing_that_nobody_configured_is_for_one_holder(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    held = reserve(fleet, "a post")
    assert held is not None
    with fleet_database.connect("other") as other:
        assert reserve(other, "a post") is None
        fleet.reservations.release_resource(held.reservation_id)
        again = reserve(other, "a post")
        assert again is not None
        assert again.fencing_token > held.fencing_token


def test_what_is_lost_says_why_and_is_counted(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held = reserve(fleet, "a post")
    assert held is not None
    with fleet_database.connect("other") as other:
        with pytest.raises(ReservationLostError) as lost:
            other.reservations.release_resource(held)
        assert lost.value.why == "not_yours"
    fleet.reservations.release_resource(held)
    for late in (fleet.reservations.release_resource, fleet.reservations.renew):
        with pytest.raises(ReservationLostError) as lost:
            late(held)
        assert lost.value.why == "released"
    assert value(owner, "SELECT late FROM fleet.pools WHERE resource_id = 'a post'") == 3
    with pytest.raises(ReservationLostError) as lost:
        fleet.reservations.release_resource("99999999999")
    assert lost.value.why == "unknown"


def test_a_waiter_gets_the_units_when_they_come_back(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    held = reserve(fleet, "a post", duration_minutes=0.5 / 60)
    assert held is not None
    with fleet_database.connect("other") as other:
        got = reserve(other, "a post", wait_s=20)
        assert got is not None
        assert got.reserved_at >= held.lease_expires_at


def test_configuring_is_audited_and_bounded(console: Database, fleet: Fleet) -> None:
    made = configure_pool(console, "memory", "host", actor="me", reason="why", capacity=5)
    assert (made["total_capacity"], made["min_capacity"], made["max_capacity"]) == (5, 5, 5)
    with pytest.raises(InvalidValueError):
        fleet.reservations.reserve_resource("memory", "host", "w", units=6)
