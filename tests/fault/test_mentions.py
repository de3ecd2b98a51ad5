"""Mentions under kill -9: by X's own record every summons is answered exactly once, and nothing else is."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.mentions_rehearsal import POINTS, Rehearsal
from tests.integration.conftest import FleetDatabase


@pytest.fixture
def rehearsal(fleet_database: FleetDatabase, tmp_path: Path) -> Iterator[Rehearsal]:
    running = Rehearsal(tmp_path / "state", fleet_database, seed=1)
    yield running
    running.close()


def test_killed_at_every_crash_point_each_summons_is_answered_once(rehearsal: Rehearsal) -> None:
    result = rehearsal.run(POINTS * 2)
    assert result.kills == Counter(POINTS * 2)
    assert result.clean, str(result)


def test_of_a_thousand_mentions_between_two_steps_none_is_lost_and_none_stored_twice(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.begin()
    rehearsal.crowd(1000)
    for passing in (2, 3, 4):
        assert rehearsal.kill_at("mentions.after_note", passing)
    assert rehearsal.kill_at("mentions.after_walk")
    assert rehearsal.stored() == rehearsal.result.summoned
