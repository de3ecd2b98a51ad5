"""What may become of a proposed answer, each end brought about as the fleet does it."""

from collections.abc import Callable

from coordination import Fleet
from coordination.ledger import decide
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts

AUTHOR = "700"
DEADLINE_S = 3600

End = Callable[[Fleet, FleetDatabase, str], None]


def reject(fleet: Fleet, fleet_database: FleetDatabase, intent: str) -> None:
    """Its author asked to be left alone after it was proposed: the last gate refuses it."""
    with fleet_database.connect("poster") as poster:
        act = acts.granted(poster, acts.claimed(poster))
        assert act.claim.intent == intent
        fleet.opt_outs.record("sandbox", AUTHOR, "ann", "9", "stop")
        assert not acts.begin(poster, act).sending


def expire(fleet: Fleet, fleet_database: FleetDatabase, intent: str) -> None:
    """It could not go out in time."""
    assert fleet.ledger.get(intent) is not None
    fleet_database.advance(DEADLINE_S + 1)
    with fleet_database.connect("poster") as poster:
        assert poster.ledger.tidy("sandbox") == 1


def cancel(_fleet: Fleet, fleet_database: FleetDatabase, intent: str) -> None:
    """A person takes it back."""
    person = fleet_database.database("console")
    decide(person, intent, "cancel", actor="me", reason="not now")
    person.close()


def park(_fleet: Fleet, fleet_database: FleetDatabase, intent: str) -> None:
    """Nobody knows whether it was sent."""
    with fleet_database.connect("poster") as poster:
        act = acts.granted(poster, acts.claimed(poster))
        assert act.claim.intent == intent
        assert acts.begin(poster, act).sending
        assert poster.ledger.park_orphan("sandbox", grace_s=0) == intent


def post(_fleet: Fleet, fleet_database: FleetDatabase, intent: str) -> None:
    """It is on the platform."""
    with fleet_database.connect("poster") as poster:
        act = acts.granted(poster, acts.claimed(poster))
        assert act.claim.intent == intent
        acts.posted(poster, act, "31")


LOST: dict[str, End] = {"rejected": reject, "expired": expire, "cancelled": cancel}
KEPT: dict[str, End] = {"parked": park, "posted": post}
REASONS = {
    "rejected": "policy: its author asked to be left alone",
    "expired": "its deadline ",
    "cancelled": "not now",
}
