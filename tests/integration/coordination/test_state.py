"""Shared state: who read a version changes the value only while it is that version."""

from collections.abc import Callable
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.errors import DatabaseBusyError, IncarnationLostError, InvalidValueError
from coordination.state import ABSENT
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, assert_refused, planted, value

SPACE = "plan"


def test_a_value_is_what_was_set_last_with_who_and_when(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    assert fleet.state.get(SPACE, "theme") is None
    first = fleet.state.set(SPACE, "theme", {"name": "autumn", "weights": [1, 2.5, None]})
    assert fleet.state.get(SPACE, "theme") == first
    with fleet_database.connect("other") as other:
        second = other.state.set(SPACE, "theme", "winter")
    assert (second.value, second.changed_by) == ("winter", "other/1")
    assert second.version > first.version
    assert second.changed_at >= first.changed_at
    assert fleet.state.get(SPACE, "theme") == second


def test_who_read_an_older_version_changes_nothing(fleet: Fleet) -> None:
    first = fleet.state.compare_and_set(SPACE, "turn", ABSENT, "a")
    assert first is not None
    assert fleet.state.compare_and_set(SPACE, "turn", ABSENT, "b") is None
    second = fleet.state.compare_and_set(SPACE, "turn", first.version, "b")
    assert second is not None
    assert fleet.state.compare_and_set(SPACE, "turn", first.version, "c") is None
    assert fleet.state.get(SPACE, "turn") == second


def test_a_value_that_was_deleted_and_set_anew_is_not_the_one_that_was_read(fleet: Fleet) -> None:
    read = fleet.state.set(SPACE, "turn", "a")
    assert fleet.state.delete(SPACE, "turn")
    assert fleet.state.compare_and_set(SPACE, "turn", read.version, "b") is None
    again = fleet.state.set(SPACE, "turn", "a")
    assert again.version > read.version
    assert fleet.state.compare_and_set(SPACE, "turn", read.version, "b") is None


def test_a_delete_may_be_bound_to_what_was_read(fleet: Fleet) -> None:
    first = fleet.state.set(SPACE, "turn", "a")
    second = fleet.state.set(SPACE, "turn", "b")
    assert not fleet.state.delete(SPACE, "turn", first.version)
    assert fleet.state.delete(SPACE, "turn", second.version)
    assert not fleet.state.delete(SPACE, "turn")


def test_values_are_listed_by_prefix_page_by_page(fleet: Fleet) -> None:
    for key in ("b/2", "a/1", "b/1", "b_3", "b/3"):
        fleet.state.set(SPACE, key, key)
    fleet.state.set("other", "b/9", "not here")
    first = fleet.state.list(SPACE, "b/", n=2)
    assert [one.key for one in first] == ["b/1", "b/2"]
    assert [one.key for one in fleet.state.list(SPACE, "b/", after_key="b/2")] == ["b/3"]
    assert len(fleet.state.list(SPACE)) == 5


def test_null_is_a_value(fleet: Fleet) -> None:
    fleet.state.set(SPACE, "nothing", None)
    found = fleet.state.get(SPACE, "nothing")
    assert found is not None
    assert found.value is None


LIVES, TIMES = 8, 25


def count_up(start: Callable[[], None], dsn: str) -> int:
    with connect(dsn, "counter") as fleet:
        start()
        for _ in range(TIMES):
            while True:
                try:
                    fleet.state.update(SPACE, "count", lambda number: (number or 0) + 1)
                except DatabaseBusyError:
                    continue  # others were faster fifty times
                break
    return TIMES


def test_of_many_updates_at_once_none_is_lost(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    together(count_up, LIVES, fleet_database.dsn("worker"))
    found = fleet.state.get(SPACE, "count")
    assert found is not None
    assert found.value == LIVES * TIMES
    fleet.state.delete(SPACE, "count")
    with planted(owner, "compare_and_set_state", ("AND s.version = expected_version", "")):
        together(count_up, LIVES, fleet_database.dsn("worker"))
    lossy = fleet.state.get(SPACE, "count")
    assert lossy is not None
    assert lossy.value < LIVES * TIMES


def create(start: Callable[[], None], dsn: str) -> bool:
    with connect(dsn, "creator") as fleet:
        start()
        return fleet.state.compare_and_set(SPACE, "leader", ABSENT, "me") is not None


def test_of_many_who_create_at_once_one_does(fleet_database: FleetDatabase) -> None:
    assert sum(together(create, LIVES, fleet_database.dsn("worker"))) == 1


@pytest.mark.parametrize(
    ("change", "field", "given"),
    [
        ({"namespace": "No"}, "namespace", "No"),
        ({"namespace": None}, "namespace", None),
        ({"key": ""}, "key", ""),
        ({"key": None}, "key", None),
        ({"value": None}, "value", None),
        ({"expected_version": -1}, "expected_version", "-1"),
        ({"expected_version": None}, "expected_version", None),
    ],
)
def test_bad_values_are_refused_by_name(
    fleet: Fleet, owner: Owner, change: dict[str, Any], field: str, given: str | None
) -> None:
    asked: dict[str, Any] = {"namespace": SPACE, "key": "k", "expected_version": 0, "value": "1", **change}
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("compare_and_set_state", **asked)
    assert_refused(refusal, field, given)
    assert value(owner, "SELECT count(*) FROM fleet.state") == 0


def test_a_value_may_not_be_larger_than_its_bound(fleet: Fleet) -> None:
    fleet.state.set(SPACE, "large", "x" * 262_000)
    with pytest.raises(InvalidValueError, match="262144 bytes"):
        fleet.state.set(SPACE, "large", "x" * 262_144)


def test_a_life_that_ended_changes_nothing(fleet: Fleet, owner: Owner) -> None:
    owner.execute("UPDATE fleet.incarnations SET ended_at = clock_timestamp()")
    with pytest.raises(IncarnationLostError):
        fleet.state.set(SPACE, "turn", "a")
