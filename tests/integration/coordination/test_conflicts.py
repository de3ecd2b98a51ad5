"""Conflicts: who wins by which rule, that it is recorded and told once, and what a person decides."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from coordination import Fleet, connect
from coordination.conflicts import ConflictKind, Contender, Settlement, decide_conflict, list_conflicts
from coordination.database import Database
from coordination.errors import InvalidValueError, TransitionRefusedError
from coordination.messages import get_message_status
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, assert_refused, rows, value

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
Know = Callable[..., None]


def wants(
    worker: str, priority: Any = "medium", minutes: float | None = 0, version: int | None = None
) -> Contender:
    since = None if minutes is None else NOON + timedelta(minutes=minutes)
    return Contender(worker=worker, priority=priority, since=since, version=version)


def settle(
    fleet: Fleet, *contenders: Contender, kind: ConflictKind = "resource", **changes: Any
) -> Settlement:
    return fleet.conflicts.resolve(changes.pop("key", "k"), kind, "post 7", contenders, **changes)


@pytest.mark.parametrize("kind", ["resource", "priority"])
@pytest.mark.parametrize(
    ("contenders", "strategy", "order"),
    [
        ((wants("a", "low", 0), wants("b", "high", 5), wants("c", "medium", 1)), "priority", "bca"),
        ((wants("a", "high", 2), wants("b", "high", 1), wants("c", "low", 0)), "first_come", "bac"),
        (
            (wants("a", "high", None), wants("b", "high", 1)),
            "first_come",
            "ba",
        ),  # who can't prove when comes last
    ],
)
def test_the_higher_priority_wins_and_among_equals_who_came_first(
    fleet: Fleet, kind: ConflictKind, contenders: tuple[Contender, ...], strategy: str, order: str
) -> None:
    settled = settle(fleet, *contenders, kind=kind)
    assert (settled.state, settled.strategy, settled.winner) == ("decided", strategy, order[0])
    assert [grant["worker"] for grant in settled.grants] == list(order)
    assert f"{order[0]} " in settled.reason
    assert settled.decided_by == "tester"


def test_equals_share_what_can_be_divided(fleet: Fleet) -> None:
    settled = settle(fleet, wants("a"), wants("b"), wants("c", "low"), capacity=9)
    assert (settled.strategy, settled.winner) == ("equal_shares", None)
    assert [(grant["worker"], grant["share"]) for grant in settled.grants] == [
        ("a", 4.5),
        ("b", 4.5),
        ("c", 0),
    ]


def test_times_that_collide_are_put_one_after_the_other(fleet: Fleet) -> None:
    settled = settle(fleet, wants("a"), wants("b"), wants("c", "high", 9), kind="schedule", spacing_s=90)
    assert [(grant["worker"], grant["wait_s"]) for grant in settled.grants] == [
        ("c", 0),
        ("a", 90),
        ("b", 180),
    ]
    assert (settled.state, settled.winner) == ("decided", "c")


def test_of_inconsistent_states_the_highest_version_holds_and_equals_are_a_persons(fleet: Fleet) -> None:
    settled = settle(fleet, wants("a", "critical", version=6), wants("b", "low", version=7), kind="state")
    assert (settled.strategy, settled.winner) == ("newest", "b")
    tie = settle(fleet, wants("a", version=7), wants("b", version=7), kind="state", key="other")
    assert (tie.strategy, tie.state, tie.winner) == ("person", "open", None)


def test_what_nothing_tells_apart_waits_for_a_person_who_is_alerted_and_decides_once(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    alerts = "SELECT key, severity FROM fleet.alerts WHERE cleared_at IS NULL"
    with fleet_database.connect("a") as a, fleet_database.connect("b"):
        settled = settle(fleet, wants("a"), wants("b"), asked_by="a")
        assert (settled.state, settled.strategy) == ("open", "person")
        assert rows(owner, alerts) == [(f"conflict:{settled.id}", "error")]
        with pytest.raises(InvalidValueError, match="one of a, b"):
            decide_conflict(console, settled.id, "c", actor="me", reason="c is nicer")
        fleet_database.advance(30)
        decided = decide_conflict(console, settled.id, "b", actor="me", reason="b is nicer")
        assert (decided.state, decided.winner, decided.reason, decided.decided_by) == (
            "decided",
            "b",
            "b is nicer",
            "me",
        )
        with pytest.raises(TransitionRefusedError):
            decide_conflict(console, settled.id, "a", actor="me", reason="no, a")
        told = [(one.type, one.payload["state"], one.payload["winner"]) for one in a.messages.claim(5)]
        assert told == [("CONFLICT_RESOLUTION", "open", None), ("CONFLICT_RESOLUTION", "decided", "b")]
    assert rows(owner, alerts) == []
    assert rows(owner, "SELECT action, details->>'winner' FROM fleet.audits") == [("decide_conflict", "b")]
    (listed,) = list_conflicts(console, state="decided")
    assert (listed["id"], listed["winner"]) == (settled.id, "b")
    assert list_conflicts(console, state="open") == []
    status = get_message_status(console)
    assert (status["conflicts"], status["conflicts_open"], status["conflicts_by_strategy"]) == (
        1,
        0,
        {"person": 1},
    )
    assert 30 <= status["conflict_s_sum"] < 40


def test_every_party_is_told_once_and_who_asked_too(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    with fleet_database.connect("a") as a, fleet_database.connect("asker") as asker:
        for _ in range(2):
            settle(fleet, wants("a", "high"), wants("stranger"), wants("tester"), asked_by="asker")
        for party in (a, asker):
            (told,) = party.messages.claim(5)
            assert (told.payload["kind"], told.payload["winner"], told.payload["strategy"]) == (
                "decision",
                "a",
                "priority",
            )
            assert told.sender == "tester"
    assert fleet.messages.claim() == []  # it settled it itself


def _settle(start: Callable[[], int], dsn: str) -> list[tuple[str, str | None]]:
    with connect(dsn, "coordination") as fleet:
        start()
        found = [settle(fleet, wants("a"), wants("b", minutes=n + 1), key=f"k{n}") for n in range(10)]
        return [(one.id, one.winner) for one in found]


def test_8_processes_that_settle_the_same_settle_it_once(fleet_database: FleetDatabase, owner: Owner) -> None:
    settled = together(_settle, 8, fleet_database.dsn("worker"))
    assert all(one == settled[0] for one in settled)
    assert value(owner, "SELECT count(*) FROM fleet.conflicts") == 10
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'conflict_settled'") == 10


@pytest.mark.parametrize(
    ("changes", "field", "given"),
    [
        ({"key": ""}, "key", ""),
        ({"key": None}, "key", None),
        ({"kind": "quarrel"}, "kind", "quarrel"),
        ({"thing": ""}, "thing", ""),
        ({"contenders": [wants("a")]}, "contenders", None),
        ({"contenders": [wants("a"), wants("B")]}, "contenders.worker", "B"),
        ({"contenders": [wants("a"), wants("a")]}, "contenders.worker", None),
        ({"contenders": [wants("a"), wants("b", "now")]}, "contenders.priority", "now"),
        ({"kind": "state"}, "contenders.version", None),
        ({"capacity": 0}, "capacity", "0"),
        ({"capacity": float("nan")}, "capacity", "NaN"),
        ({"spacing_s": 0}, "spacing_s", "0"),
        ({"spacing_s": float("nan")}, "spacing_s", "NaN"),
    ],
)
def test_a_bad_conflict_is_refused_by_name(
    fleet: Fleet, owner: Owner, changes: dict[str, Any], field: str, given: str | None
) -> None:
    good: dict[str, Any] = {
        "key": "k",
        "kind": "resource",
        "thing": "x",
        "contenders": [wants("a"), wants("b")],
    }
    with pytest.raises(InvalidValueError) as refusal:
        cast("Callable[..., Settlement]", fleet.conflicts.resolve)(**good | changes)
    assert refusal.value.field == field
    if given is not None:
        assert_refused(refusal, field, given)
    assert value(owner, "SELECT count(*) FROM fleet.conflicts") == 0


def test_a_moment_without_its_offset_is_refused(fleet: Fleet) -> None:
    naive = replace(wants("a"), since=NOON.replace(tzinfo=None))
    with pytest.raises(InvalidValueError) as refusal:
        settle(fleet, naive, wants("b"))
    assert_refused(refusal, "contenders.since", "2026-01-31T12:00:00")
