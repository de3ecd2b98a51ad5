"""The planner on a real ledger."""

from datetime import timedelta
from threading import Event

from config import Config
from coordination import Fleet
from tests.integration.conftest import FleetDatabase
from workers.context import Context
from workers.fleet.planner import Planner
from workers.progress import Progress


def planner(fleet: Fleet) -> Planner:
    return Planner(
        context=Context(config=Config(), account="sandbox"),
        fleet=fleet,
        progress=Progress(),
        draining=Event(),
    )


def test_it_fills_the_queue_and_then_leaves_it_alone(fleet: Fleet) -> None:
    planner(fleet).step()
    first = fleet.ledger.queue("sandbox")
    planner(fleet).step()
    assert first.waiting == 4
    assert fleet.ledger.queue("sandbox").texts == first.texts
    assert len(first.texts) == 4


def test_the_check_fills_an_empty_queue_and_only_that(fleet: Fleet, fleet_database: FleetDatabase) -> None:
    planner(fleet).check()
    assert fleet.ledger.queue("sandbox").waiting == 4
    with fleet_database.owner() as owner:
        owner.execute(
            "UPDATE fleet.intents SET state = 'cancelled' WHERE id IN (SELECT min(id) FROM fleet.intents)"
        )
    planner(fleet).check()
    assert fleet.ledger.queue("sandbox").waiting == 3


def test_a_post_that_a_person_put_far_ahead_does_not_silence_it(fleet: Fleet) -> None:
    now = fleet.ledger.queue("sandbox").now
    fleet.ledger.propose("sandbox", "post", "manual:later", "Much later", now + timedelta(days=9))
    planner(fleet).step()
    plans = fleet.ledger.queue("sandbox", "plan:")
    assert plans.waiting == 4
    assert plans.planned_until is not None
    assert plans.planned_until < now + timedelta(days=1)


def test_a_plan_that_was_cut_off_is_finished_not_repeated(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    cut = planner(fleet)
    real = fleet.ledger.propose
    made: list[str] = []

    def propose_two(*arguments: object, **named: object) -> object:
        if len(made) == 2:
            cut.draining.set()
        made.append(str(arguments[2]))
        return real(*arguments, **named)  # pyright: ignore[reportArgumentType]

    fleet.ledger.propose = propose_two  # pyright: ignore[reportAttributeAccessIssue]
    cut.step()
    fleet.ledger.propose = real
    planner(fleet).step()
    with fleet_database.owner() as owner:
        targets = [row[0] for row in owner.execute("SELECT target FROM fleet.intents ORDER BY id").fetchall()]
    assert targets == sorted(set(targets))
    assert len(targets) == 4
