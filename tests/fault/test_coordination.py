"""The coordination core under kills, stops, cuts, restarts and exhaustion: the short form."""

from pathlib import Path

from tests.fault import coordination
from tests.fault.coordination_chapter import Outcome, Plan


def test_no_promise_is_broken_whatever_is_done_to_processes_sessions_and_server_i1_i2_i3_i9_i10_i15(
    tmp_path: Path,
) -> None:
    seconds = coordination.CHAPTERS["short"][1]
    outcome = coordination.chapter(
        Plan(seed=1, number=0, seconds=seconds, least=coordination.LEAST), tmp_path / "histories"
    )
    assert not outcome.violations, outcome.details
    assert outcome.operations >= coordination.LEAST / 2
    assert outcome.faults.total() > 10


def test_an_unfinished_run_goes_on_after_its_last_chapter(tmp_path: Path) -> None:
    progress = tmp_path / "coordination-long-1.json"
    outcome = Outcome(operations=7)
    outcome.faults["kill a process"] = 3
    outcome.broken("I1", ["two had it"])
    assert coordination.resume(progress) == (0, Outcome())
    coordination.keep(progress, 2, outcome)
    assert coordination.resume(progress) == (2, outcome)


def test_a_broken_promise_is_counted_and_named() -> None:
    outcome = Outcome(operations=30)
    outcome.faults["kill a process"] = 3
    outcome.broken("I3", ["a", "b"])
    told = coordination.report(outcome, finished=True)
    assert told["violations"]["I3"] == 2
    assert told["details"] == ["I3: a", "I3: b"]
    assert told["kills"] == 3
    assert told["bound_95"] == 0.1
