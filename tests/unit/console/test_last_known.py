"""Whose word counts for a slot while the database is away."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from console import last_known
from console.local import SILENT_S, LocalWord
from console.snapshots import Sight
from tests.unit.console.test_metrics import NOW, SLOT, snapshot

HERE, THERE = SLOT, replace(SLOT, slot=2, host="there", pid=9)


def word(*, age_s: float, **told: Any) -> LocalWord:
    slot = {"name": "poster", "slot": 1, "state": "BACKOFF", "pid": 5, "healthy": False, "reason": "killed"}
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    return LocalWord(at=at, age_s=age_s, listens=True, stale_since=at, slots=(slot | told,))


def sight(*, age_s: float = 4.0) -> Sight:
    return Sight(snapshot=snapshot(slots=[HERE, THERE]), fault="away", age_s=age_s)


NOTHING = Sight(snapshot=None, fault="away", age_s=1e9)


def test_a_word_younger_than_the_snapshot_wins_for_the_slots_it_names_and_for_no_other() -> None:
    mine, other = last_known.slots(sight(), word(age_s=1.0))
    assert (mine["state"], mine["pid"], mine["healthy"], mine["reason"]) == ("BACKOFF", 5, False, "killed")
    assert (mine["source"], mine["host"], mine["lastRun"]) == ("manager", "here", NOW.isoformat())
    assert other == THERE.as_json() | {"source": "database"}


def test_a_word_older_than_the_snapshot_changes_nothing() -> None:
    known = [slot.as_json() | {"source": "database"} for slot in (HERE, THERE)]
    assert last_known.slots(sight(), word(age_s=4.5)) == known
    assert last_known.slots(sight(), word(age_s=4.5, name="planner")) == known
    assert last_known.slots(sight(), None) == known


def test_a_slot_that_only_its_manager_knows_is_shown_with_what_it_knows() -> None:
    (planner, *_) = last_known.slots(sight(), word(age_s=1.0, name="planner", state="READY"))
    assert planner.keys() == SLOT.as_json().keys() | {"source"}
    assert (planner["name"], planner["state"], planner["pid"]) == ("planner", "READY", 5)
    assert (planner["host"], planner["lastRun"], planner["errorRate"]) == (None, None, None)


def test_a_manager_that_fell_silent_is_believed_no_more() -> None:
    silent = word(age_s=SILENT_S, state="READY", healthy=True)
    mine, other = last_known.slots(sight(age_s=60.0), silent)
    assert (mine["state"], mine["healthy"], mine["pid"]) == ("LOST", False, 5)
    assert mine["reason"].endswith("it was READY")
    assert other["state"] == "READY"
    (mine, _) = last_known.slots(sight(age_s=60.0), word(age_s=SILENT_S, state="STOPPED"))
    assert mine["state"] == "STOPPED"


def test_before_anything_was_read_the_manager_alone_is_told_or_nothing() -> None:
    (mine,) = last_known.slots(NOTHING, word(age_s=1.0))
    assert (mine["state"], mine["source"]) == ("BACKOFF", "manager")
    assert last_known.slots(NOTHING, None) == []
    assert last_known.stale(NOTHING, None) == {"stale_since": None, "stale_for_s": None}


@pytest.mark.timed
def test_it_is_stale_since_the_database_last_answered_whom_it_answered() -> None:
    told = word(age_s=7.0)
    assert last_known.stale(sight(), told) == {"stale_since": NOW, "stale_for_s": 4.0}
    since = last_known.stale(NOTHING, told)
    assert since["stale_since"] == told.stale_since
    assert 7.0 <= since["stale_for_s"] < 10.0
