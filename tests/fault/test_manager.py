"""The manager under kills and stops of everything that it is made of: the short form of its fault suite."""

from pathlib import Path

import pytest

from tests.fault import manager, manager_away, manager_chapter
from tests.fault.manager_chapter import Outcome


@pytest.mark.timed
@pytest.mark.parametrize("chapter", range(2), ids=["embedded", "given"])
def test_after_kills_and_stops_of_everything_the_host_is_as_desired_and_nothing_leaked(chapter: int) -> None:
    operations = manager.CHAPTERS["short"][1]
    outcome = manager_chapter.run(1, chapter, operations, lambda _line: None)
    assert outcome.operations.total() == operations
    assert not outcome.violations.total(), outcome.details


@pytest.mark.timed
def test_while_the_database_is_away_nobody_crashes_nobody_acts_and_all_goes_on_by_itself() -> None:
    outcome = manager_away.run(manager.AWAY_S["short"], lambda _line: None)
    assert not outcome.violations.total(), outcome.details


def test_an_unfinished_run_goes_on_after_its_last_chapter(tmp_path: Path) -> None:
    progress = tmp_path / "manager-long-1.json"
    outcome = Outcome(settled_s=[1.5])
    outcome.operations["kill worker"] = 7
    outcome.broken("orphans", ["one"])
    assert manager.resume(progress) == (0, Outcome())
    manager.keep(progress, 3, outcome)
    assert manager.resume(progress) == (3, outcome)


def test_a_broken_promise_is_counted_and_named() -> None:
    outcome = Outcome()
    outcome.operations["kill worker"] = 3
    outcome.broken("I19", ["a file", "a lock"])
    told = manager.report(outcome, finished=True)
    assert told["violations"]["I19"] == 2
    assert told["details"] == ["I19: a file", "I19: a lock"]
    assert told["kills"] == 3
