"""The manager under kills and stops of everything that it is made of: the short form of its fault suite."""

import pytest

from tests.fault import manager, manager_away, manager_chapter


@pytest.mark.timed
@pytest.mark.parametrize("chapter", range(2), ids=["embedded", "given"])
def test_after_kills_and_stops_of_everything_the_host_is_as_desired_and_nothing_leaked(chapter: int) -> None:
    operations = manager.OPERATIONS["short"]
    outcome = manager_chapter.run(1, chapter, operations, lambda _line: None)
    assert outcome.faults.total() == operations
    assert not outcome.violations.total(), outcome.details


@pytest.mark.timed
def test_while_the_database_is_away_nobody_crashes_nobody_acts_and_all_goes_on_by_itself() -> None:
    outcome = manager_away.run(manager.AWAY_S["short"], lambda _line: None)
    assert not outcome.violations.total(), outcome.details
