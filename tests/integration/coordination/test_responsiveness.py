"""Responsiveness: one figure for how soon the whole fleet takes up what is due."""

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.health import get_responsiveness
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import assert_refused


def test_it_is_the_part_of_messages_jobs_and_locks_that_was_taken_up_within_five_seconds(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    def part() -> tuple[float | None, int, int]:
        found = get_responsiveness(console)
        assert found["within_s"] == 5
        return found["percent"], found["promptly"], found["all"]

    assert part() == (None, 0, 0)
    fleet.messages.send("TASK_DELEGATION", "tester", {"kind": "do"})
    (prompt,) = fleet.messages.claim()
    assert part() == (100, 1, 1)
    fleet.jobs.enqueue("analyse")
    assert len(fleet.jobs.claim("analyse", 1, 300)) == 1
    assert fleet.engagement.request_lock("7", "tester/1", "analysis") is not None
    fleet.messages.acknowledge(prompt)
    assert part() == (100, 3, 3)
    fleet.messages.send("TASK_DELEGATION", "tester", {"kind": "do"})
    fleet.jobs.enqueue("analyse")
    assert part() == (100, 3, 3)  # what has not waited long yet says nothing
    fleet_database.advance(30)
    assert part() == (60, 3, 5)
    (late,) = fleet.messages.claim()
    fleet.jobs.claim("analyse", 1, 300)
    fleet.messages.acknowledge(late)
    assert part() == (60, 3, 5)
    fleet_database.advance(7200)
    assert part() == (None, 0, 0)


def test_fleet_time_that_runs_faster_is_no_waiting(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    fleet_database.advance(0, rate=60)
    fleet.messages.send("TASK_DELEGATION", "tester", {"kind": "do"})
    fleet.jobs.enqueue("analyse")
    assert fleet.messages.claim()
    assert fleet.jobs.claim("analyse", 1, 300)
    assert get_responsiveness(console)["percent"] == 100


@pytest.mark.parametrize(("hours", "given"), [(-1, "-1"), (float("nan"), "NaN")])
def test_an_impossible_time_is_refused_by_name(console: Database, hours: float, given: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        get_responsiveness(console, hours)
    assert_refused(refusal, "hours", given)
