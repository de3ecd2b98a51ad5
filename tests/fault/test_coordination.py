"""The coordination core under kills, stops, cuts, restarts and exhaustion: the short form."""

from pathlib import Path

from tests.fault import coordination
from tests.fault.suite import Chapter


def test_no_promise_is_broken_whatever_is_done_to_processes_sessions_and_server_i1_i2_i3_i9_i10_i15(
    tmp_path: Path,
) -> None:
    outcome = coordination.chapter(
        Chapter(form="short", seed=1, number=0, mutant=None, directory=tmp_path / "histories")
    )
    assert not outcome.violations, outcome.details
    assert outcome.operations.total() >= coordination.LEAST["short"] / 2
    assert outcome.faults.total() > 10
