"""How every fault suite is run: it goes on after its last chapter, and tells what it came to in one form."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fault import coordination, limits, manager, mentions, suite
from tests.fault.suite import BROKEN, CLEAN, UNFINISHED, Chapter, Outcome, Suite

SUITES = (coordination.SUITE, limits.SUITE, manager.SUITE, mentions.SUITE)


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(suite, "PROGRESS", tmp_path / "progress")


class Chapters:
    """Notes which chapters were run; each comes to the same."""

    def __init__(self, outcome: Outcome, ends_at: int | None = None) -> None:
        self.asked: list[Chapter] = []
        self._outcome = outcome
        self._ends_at = ends_at

    def run(self, one: Chapter) -> Outcome:
        if one.number == self._ends_at:
            raise KeyboardInterrupt
        self.asked.append(one)
        return self._outcome


def run(chapters: Chapters, *arguments: str) -> int:
    made = Suite(
        name="tried",
        about="nothing",
        promises=("I1", "I2"),
        chapters={"short": [1.0], "long": [10.0] * 4},
        run=chapters.run,
        kills=("kill",),
        mutants={"broken": ["I1"], "other": ["I2"]},
    )
    return suite.main(made, arguments)


def outcome(*sentences: str) -> Outcome:
    one = Outcome(operations=Counter(ask=10), faults=Counter(kill=2, stop=3), measures=[{"used": 1}])
    one.broken("I1", sentences)
    return one


def results(tmp_path: Path) -> Sequence[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (tmp_path / "results").iterdir()]


def test_a_run_that_was_ended_goes_on_with_its_next_chapter(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Chapters(outcome("one"), ends_at=2), "--form", "long", "--seed", "7")
    rest = Chapters(outcome("two"))
    assert run(rest, "--form", "long", "--seed", "7") == BROKEN
    assert [one.number for one in rest.asked] == [2, 3]
    (told,) = results(tmp_path)
    assert (told["operations"], told["kills"], told["chapters"], told["finished"]) == (40, 8, 4, True)
    assert told["violations"] == {"I1": 4, "I2": 0}
    assert told["details"] == ["I1: one", "I1: one", "I1: two", "I1: two"]
    assert told["bound_95"] == 3 / 40
    again = Chapters(outcome())
    assert run(again, "--form", "long", "--seed", "7") == CLEAN
    assert len(again.asked) == 4


def test_no_chapter_begins_that_would_end_too_late_but_one_does(tmp_path: Path) -> None:
    rest = Chapters(outcome())
    assert run(rest, "--form", "long", "--within", "5") == UNFINISHED
    assert [one.number for one in rest.asked] == [0]
    (told,) = results(tmp_path)
    assert not told["finished"]


def test_a_planted_mutant_must_be_found_and_ends_the_run() -> None:
    found, missed = Chapters(outcome("seen")), Chapters(outcome("something else"))
    assert run(found, "--form", "long", "--mutant", "broken") == CLEAN
    assert [one.mutant for one in found.asked] == ["broken"]
    assert run(missed, "--form", "long", "--mutant", "other") == BROKEN
    assert len(missed.asked) == 4


@pytest.mark.parametrize("one", SUITES, ids=lambda one: one.name)
def test_every_suite_tells_the_same(one: Suite) -> None:
    nothing = Outcome(measures=[{"states": {}, "double": 0, "lost": 0}])
    told = suite.report(one, nothing, chapters=0, finished=False)
    assert told.keys() >= {"commit", "date", "machine", "operations", "kills", "violations", "bound_95"}
    assert json.loads(json.dumps(told)) == told
    assert set(told["violations"]) == set(one.promises)
    for breaks in one.mutants.values():
        assert set(breaks) <= set(one.promises)
