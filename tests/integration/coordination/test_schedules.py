"""Schedules: each slot fires exactly once across all processes."""

import time
from collections.abc import Callable

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.errors import InvalidValueError
from coordination.schedules import stagger_s
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value


def _fire(start: Callable[[], int], dsn: str, duration_s: float) -> list[tuple[float, int]]:
    fired: list[tuple[float, int]] = []
    with connect(dsn, "ticker") as fleet:
        start()
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            slot = fleet.schedules.fire("tick", 10)
            if slot.fired:
                fired.append((slot.slot_at.timestamp(), slot.skipped))
    return fired


def test_8_processes_fire_each_slot_once_while_time_moves_i21(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    fleet_database.advance(0, rate=500)
    fired = [one for each in together(_fire, 8, fleet_database.dsn("worker"), 0.8) for one in each]
    slots = sorted(slot for slot, _ in fired)
    assert len(slots) > 10
    assert len(set(slots)) == len(slots)
    # Every slot from the first to the last was fired by somebody, or counted as skipped.
    assert round((slots[-1] - slots[0]) / 10) + 1 == len(slots) + sum(skipped for _, skipped in fired)
    assert rows(owner, "SELECT fired, skipped FROM fleet.schedules") == [
        (len(slots), sum(skipped for _, skipped in fired))
    ]


def test_without_the_row_lock_the_test_above_would_fail(fleet_database: FleetDatabase, owner: Owner) -> None:
    fleet_database.advance(0, rate=500)
    with (
        planted(
            owner,
            "fire_slot",
            ("WHERE s.name = fire_slot.name FOR UPDATE;", "WHERE s.name = fire_slot.name;"),
            ("IS DISTINCT FROM slot;", "IS DISTINCT FROM slot ON CONFLICT DO NOTHING;"),
            ("slot := due[keep];", "slot := due[keep]; PERFORM pg_sleep(0.02);"),
            ("VALUES (fire_slot.name, slot, fire_slot.incarnation, at, missed);",
             "VALUES (fire_slot.name, slot, fire_slot.incarnation, at, missed) ON CONFLICT DO NOTHING;"),
        ),
    ):  # fmt: skip
        fired = [one for each in together(_fire, 8, fleet_database.dsn("worker"), 0.5) for one in each]
    slots = [slot for slot, _ in fired]
    assert len(set(slots)) < len(slots)


def test_a_new_schedule_fires_at_once_then_once_a_slot(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    first = fleet.schedules.fire("tick", 60)
    assert (first.fired, first.skipped) == (True, 0)
    assert 0 < first.wait_s <= 60
    again = fleet.schedules.fire("tick", 60)
    assert not again.fired
    assert again.slot_at == first.slot_at
    fleet_database.advance(again.wait_s + 0.01)
    second = fleet.schedules.fire("tick", 60)
    assert (second.fired, second.skipped, second.slot_at) == (True, 0, first.next_at)


def test_missed_slots_are_counted_and_not_made_up(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    fleet.schedules.fire("tick", 60)
    fleet_database.advance(600)
    late = fleet.schedules.fire("tick", 60)
    assert (late.fired, late.skipped) == (True, 9)
    assert not fleet.schedules.fire("tick", 60).fired


def test_another_interval_takes_effect_with_its_next_slot(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.schedules.fire("tick", 3600)
    for interval_s in (5, 7200, 60):
        fleet_database.advance(fleet.schedules.fire("tick", interval_s).wait_s + 0.01)
        slot = fleet.schedules.fire("tick", interval_s)
        assert slot.fired
        assert (slot.next_at - slot.slot_at).total_seconds() == interval_s
        assert not fleet.schedules.fire("tick", interval_s).fired


def test_the_wait_is_real_time_at_the_clocks_rate(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    fleet_database.advance(0, rate=60)
    slot = fleet.schedules.fire("tick", 3600)
    assert slot.wait_s <= 60


def _fire_and_hang(keep: Callable[[object], None], dsn: str) -> bool:
    fleet = connect(dsn, "doomed")
    keep(fleet)
    fired = fleet.schedules.fire("done", 60).fired
    # A second one is killed in the midst of its transaction.
    transaction = psycopg.connect(dsn)
    keep(transaction)
    transaction.execute(
        "SELECT fleet.fire_slot(%s, 'cut', 60::double precision, 0::double precision)",
        (fleet.incarnation.id,),
    )
    return fired


def test_a_killed_process_neither_repeats_nor_loses_a_slot_i21(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    with victim(_fire_and_hang, fleet_database.dsn("worker")) as doomed:
        assert doomed.result
        doomed.kill()
        assert not fleet.schedules.fire("done", 60).fired  # it fired: not again
        assert fleet.schedules.fire("cut", 60).fired  # it never committed: somebody else's
        assert not fleet.schedules.fire("cut", 60).fired


def test_schedules_of_one_interval_are_spread_the_same_everywhere() -> None:
    assert stagger_s("planner", 7200) == stagger_s("planner", 7200)
    spread = {stagger_s(f"worker{n}", 3600) for n in range(50)}
    assert len(spread) == 50
    assert all(0 <= one <= 900 for one in spread)


def test_bad_schedules_are_refused_by_name(fleet: Fleet, owner: Owner) -> None:
    for name, interval_s, field, given in (
        ("tick", 0.5, "interval_s", "0.5"),
        ("tick", 31622401, "interval_s", "31622401"),
        ("", 60, "name", ""),
        ("x" * 201, 60, "name", "x" * 200),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.schedules.fire(name, interval_s)
        assert_refused(refusal, field, given)
    with pytest.raises(InvalidValueError, match="stagger_s"):
        fleet.database.call(
            "fire_slot", incarnation=fleet.incarnation.id, name="t", interval_s=60.0, stagger_s=None
        )
    assert value(owner, "SELECT count(*) FROM fleet.schedules") == 0
