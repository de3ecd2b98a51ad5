"""Wake-ups: they go out when somebody sleeps, once, and in no business transaction."""

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.errors import InvalidValueError
from coordination.messages import Message, Reply
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until, victim
from tests.integration.coordination.tables import Owner, planted, rows, value

TASK = "TASK_DELEGATION"
DO: dict[str, Any] = {"kind": "do"}
Heard = Callable[[], list[str]]


@pytest.fixture
def heard(fleet: Fleet) -> Heard:
    """Gives who was woken since the last call."""

    def woken() -> list[str]:
        # The listener gets what was committed, in order: its own mark is the end of what came before.
        fleet.database.call("wake", worker="mark")
        names: list[str] = []
        until(lambda: bool(names.extend(fleet.incarnation.wake_ups(1)) or "mark" in names), 5)
        return names[:-1]

    return woken


@pytest.fixture
def other(fleet_database: FleetDatabase) -> Iterator[Fleet]:
    with fleet_database.connect("other") as joined:
        yield joined


def take(fleet: Fleet) -> list[Message]:
    """All that is there, until it sleeps."""
    taken: list[Message] = []
    while claimed := fleet.messages.claim(10):
        for message in claimed:
            fleet.messages.acknowledge(message)
        taken += claimed
    return taken


def test_one_that_sleeps_is_told_once_until_it_has_looked(fleet: Fleet, other: Fleet, heard: Heard) -> None:
    assert take(other) == []
    for _ in range(3):
        fleet.messages.send(TASK, "other", DO)
    assert heard() == ["other/messages"]
    assert len(take(other)) == 3
    fleet.messages.send(TASK, "other", DO)
    assert heard() == ["other/messages"]


def test_one_that_says_it_looks_again_is_not_woken(fleet: Fleet, other: Fleet, heard: Heard) -> None:
    fleet.messages.send(TASK, "other", DO)
    assert heard() == ["other/messages"]
    (message,) = other.messages.claim()
    assert other.messages.claim(sleeps=False) == []
    fleet.messages.send(TASK, "other", DO)
    assert heard() == []
    other.messages.acknowledge(message)
    assert len(take(other)) == 1


def test_one_that_has_not_looked_for_a_second_is_told_again(
    fleet: Fleet, other: Fleet, heard: Heard, owner: Owner
) -> None:
    """It may have died, or its wake-up may be lost."""
    take(other)
    fleet.messages.send(TASK, "other", DO)
    assert heard() == ["other/messages"]
    owner.execute("UPDATE fleet.sleepers SET changed_at = changed_at - interval '1.1 seconds'")
    for _ in range(3):
        fleet.messages.send(TASK, "other", DO)
    assert heard() == ["other/messages"]


def test_of_two_slots_one_that_sleeps_is_enough(
    fleet_database: FleetDatabase, fleet: Fleet, heard: Heard
) -> None:
    with fleet_database.connect("other") as first, fleet_database.connect("other", slot=2) as second:
        take(first)
        take(second)
        fleet.messages.send(TASK, "other", DO)
        assert heard() == ["other/messages"]
        assert len(first.messages.claim()) == 1  # at work; the second looks and sleeps again
        take(second)
        fleet.messages.send(TASK, "other", DO)
        assert heard() == ["other/messages"]


def test_who_is_not_known_to_be_awake_is_woken(fleet: Fleet, other: Fleet, heard: Heard) -> None:
    fleet.database.call("wake", worker="poster")
    fleet.database.call("wake", worker="poster")
    assert heard() == ["poster", "poster"]
    fleet.messages.send(TASK, other.incarnation.worker, DO)  # it never looked
    assert heard() == ["other/messages"]


def test_nobody_is_woken_by_no_name(fleet: Fleet, heard: Heard) -> None:
    for nobody in (None, "", "w" * 201):
        with pytest.raises(InvalidValueError, match="worker is"):
            fleet.database.call("wake", worker=nobody)
    assert heard() == []


def test_the_coordinator_is_told_once_of_many_messages_to_roles(
    fleet_database: FleetDatabase, fleet: Fleet, heard: Heard
) -> None:
    with fleet_database.connect("coordination") as coordinator:
        assert coordinator.messages.route() == []
        for _ in range(5):
            fleet.messages.send(TASK, "colour", DO, to="role")
        assert heard() == ["coordination"]
        coordinator.messages.route()
        fleet.messages.send(TASK, "colour", DO, to="role")
        assert heard() == ["coordination"]


def test_an_answer_wakes_who_asked(fleet: Fleet, other: Fleet, heard: Heard) -> None:
    other.messages.send(TASK, "tester", DO)
    take(other)
    heard()
    fleet.messages.acknowledge(fleet.messages.claim()[0], Reply(payload=DO))
    assert heard() == ["other/messages"]


def test_no_notification_leaves_a_business_transaction(fleet: Fleet, other: Fleet, heard: Heard) -> None:
    """The database alone, without the caller's second call, wakes nobody."""
    take(other)
    fleet.database.select(
        "SELECT fleet.send_message(%(who)s, 'TASK_DELEGATION', 'other', '{\"kind\": \"do\"}')",
        {"who": fleet.incarnation.id},
    )
    assert heard() == []
    assert len(take(other)) == 1


def _taken_while_falling_asleep(fleet: Fleet, other: Fleet, owner: Owner) -> list[Message]:
    """A message is sent while the addressee, which has looked, falls asleep; give what its claim took."""
    fleet.messages.send(TASK, "other", DO)
    (first,) = other.messages.claim()  # it was told, and is awake
    other.messages.acknowledge(first)
    slower = ("    INSERT INTO fleet.sleepers", "    PERFORM pg_sleep(0.5);\n    INSERT INTO fleet.sleepers")
    taken: list[Message] = []
    with planted(owner, "fall_asleep", slower):
        thread = Thread(target=lambda: taken.extend(other.messages.claim()))
        thread.start()
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(lambda: value(owner, asleep) == 1, 5)
        fleet.messages.send(TASK, "other", DO)
        thread.join()
    return taken


def test_what_is_sent_while_one_falls_asleep_is_not_slept_through(
    fleet: Fleet, other: Fleet, owner: Owner
) -> None:
    assert len(_taken_while_falling_asleep(fleet, other, owner)) == 1


def test_without_a_second_look_it_would_be_slept_through(fleet: Fleet, other: Fleet, owner: Owner) -> None:
    fault = ("THEN\n        claimed := fleet.take_messages(life, n, lease_s);", "THEN\n        NULL;")
    with planted(owner, "claim_messages", fault):
        assert _taken_while_falling_asleep(fleet, other, owner) == []


def _told_while_it_sleeps(
    sender: Fleet, owner: Owner, heard: Heard, to: str, look: Callable[[], object], function: str, end: str
) -> list[str]:
    """A message is sent after the addressee's last look, before that is committed; give who was woken."""
    heard()
    with planted(owner, function, (end, f"    PERFORM pg_sleep(0.5);\n{end}")):
        thread = Thread(target=look)
        thread.start()
        until(
            lambda: value(owner, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == 1, 5
        )
        sender.messages.send(TASK, to, DO, to="worker" if to == "other" else "role")
        thread.join()
    return heard()


def _worker_told(fleet: Fleet, other: Fleet, owner: Owner, heard: Heard) -> list[str]:
    fleet.messages.send(TASK, "other", DO)
    take_one = other.messages.claim()
    other.messages.acknowledge(take_one[0])  # it was told, and is awake
    end = "    -- That somebody sleeps need not be on disk."
    return _told_while_it_sleeps(fleet, owner, heard, "other", other.messages.claim, "claim_messages", end)


def _coordination_told(fleet: Fleet, owner: Owner, heard: Heard, fleet_database: FleetDatabase) -> list[str]:
    with fleet_database.connect("coordination") as coordinator:
        coordinator.messages.route()
        fleet.messages.send(TASK, "colour", DO, to="role")
        route = coordinator.messages.route
        return _told_while_it_sleeps(
            fleet, owner, heard, "colour", route, "route_messages", "    RETURN routed;"
        )


def test_who_has_looked_and_is_not_yet_seen_to_sleep_is_told(
    fleet_database: FleetDatabase, fleet: Fleet, other: Fleet, owner: Owner, heard: Heard
) -> None:
    assert _worker_told(fleet, other, owner, heard) == ["other/messages"]
    assert _coordination_told(fleet, owner, heard, fleet_database) == ["coordination"]


def test_without_a_wait_for_its_commit_it_would_not_be(
    fleet_database: FleetDatabase, fleet: Fleet, other: Fleet, owner: Owner, heard: Heard
) -> None:
    fault = ("    PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('asleep', worker));\n", "NULL;")
    with planted(owner, "wake", fault):
        assert _worker_told(fleet, other, owner, heard) == []
        assert _coordination_told(fleet, owner, heard, fleet_database) == []


def _sleep(keep: Callable[[object], None], dsn: str) -> None:
    fleet = connect(dsn, "crew")
    keep(fleet)
    fleet.messages.claim()


def test_a_life_leaves_no_sleeper_behind_its_slots_next_life(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with victim(_sleep, fleet_database.dsn("worker")) as doomed:
        doomed.kill()
    with fleet_database.connect("crew"), fleet_database.connect("crew", slot=2):
        found = rows(owner, "SELECT slot FROM fleet.sleepers WHERE worker = 'crew' ORDER BY slot")
        assert found == [(1,), (2,)]
    assert value(owner, "SELECT count(*) FROM fleet.sleepers WHERE worker = 'crew'") == 0
