"""The coordinator: what it routes, ends and tells, and that it tells each thing once."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from config import Config
from coordination import Fleet, kill_switch
from coordination.messages import MessageType
from host.control import Control
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import planted
from tests.integration.known_workers import ensure_worker
from tests.integration.workers.waiting import eventually
from workers import registry
from workers.context import Context
from workers.errors import PartsFailedError
from workers.fleet.coordination import Coordination
from workers.inbox import Inbox
from workers.progress import Progress
from workers.tasks import (
    Availability,
    Claimant,
    Conflict,
    ConflictDecision,
    Escalation,
    ResourceRequest,
    StateChanged,
    Task,
)

TASK = "TASK_DELEGATION"
DO = {"kind": "do"}


class Office:
    """A database with a few workers known, and the coordinators that a test opens."""

    def __init__(self, database: FleetDatabase) -> None:
        self.database = database
        maintainer = database.database("maintainer")
        for name, roles in (
            ("coordination", Coordination.roles),
            ("painter", ("colour",)),
            ("writer", ("prose",)),
        ):
            ensure_worker(maintainer, name, name, roles)
        maintainer.close()

    @contextmanager
    def coordinator(self, slot: int = 1) -> Generator[Coordination]:
        """A coordinator in this process, after its first step."""
        with self.database.connect("coordination", slot) as fleet:
            worker = Coordination(
                context=Context(config=Config(), account="sandbox"),
                fleet=fleet,
                progress=Progress(),
                draining=Event(),
            )
            worker.first_run()
            yield worker

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.owner() as owner:
            return owner.execute(query.encode()).fetchall()

    def told(self) -> list[str]:
        """What its events say it did."""
        return [
            row[0]
            for row in self.rows("SELECT message FROM fleet.events WHERE kind = 'coordinated' ORDER BY id")
        ]

    def broadcasts(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of a kind, one for each broadcast."""
        return [
            row[0]
            for row in self.rows(
                "SELECT payload FROM fleet.messages WHERE recipient_kind = 'all' AND recipient = 'painter' "
                f"AND payload->>'kind' = '{kind}' ORDER BY id"
            )
        ]


@pytest.fixture
def office(fleet_database: FleetDatabase) -> Office:
    return Office(fleet_database)


def use_search(worker: Coordination, number: int) -> None:
    """Take and settle so many of the ten searches that a window has here."""
    for _ in range(number):
        grant = worker.fleet.rate_limits.can_make_request("search_tweets", "painter/1", account="sandbox")
        assert grant.grant_id is not None
        worker.fleet.rate_limits.record_usage(grant.grant_id, True)


@pytest.fixture
def ten_searches(office: Office) -> None:
    person = office.database.database("console")
    person.call(
        "configure_rate_limit", account="sandbox", endpoint="search_tweets", requests=10, window_s=900
    )
    person.close()


def test_a_step_with_nothing_to_do_says_nothing(office: Office) -> None:
    with office.coordinator() as coordinator:
        coordinator.step()
    assert office.told() == []
    assert office.rows("SELECT count(*) FROM fleet.messages") == [(0,)]


def test_a_step_says_in_one_line_what_it_routed_ended_and_swept(office: Office) -> None:
    with office.coordinator() as coordinator:
        messages = coordinator.fleet.messages
        for _ in range(3):
            messages.send(TASK, "colour", DO, to="role")
        messages.send(TASK, "prose", DO, to="role")
        messages.send(TASK, "music", DO, to="role", ttl_s=60)
        coordinator.fleet.engagement.request_lock("1", "coordination/1", "analysis", duration_minutes=0.0001)
        with office.database.owner() as owner:
            owner.execute(
                "UPDATE fleet.engagement_locks SET lease_expires_at = clock_timestamp() - interval '301 s'"
            )
        office.database.advance(61)
        coordinator.step()
        assert coordinator.progress.snapshot.items == 4
    (told,) = office.told()
    assert told == (
        "routed 3 colour to painter, 1 prose to writer; messages expired: 1 (broadcasts: 0); locks swept: 1"
    )


def test_a_part_of_a_step_that_fails_keeps_no_other_from_being_done(office: Office) -> None:
    broken = ("at := fleet.now();", "RAISE EXCEPTION 'this one is broken';")
    with office.coordinator() as coordinator, office.database.owner() as owner:
        coordinator.fleet.messages.send(TASK, "colour", DO, to="role")
        with (
            planted(owner, "escalate_messages", broken),
            pytest.raises(PartsFailedError, match=r"^escalate: DatabaseError: this one is broken$"),
        ):
            coordinator.step()
        with planted(owner, "escalate_messages", broken):
            coordinator.first_run()  # or it would take no messages as long as one part fails
    assert office.told() == ["routed 1 colour to painter"]


def test_a_lock_whose_lease_is_over_stays_for_the_grace(office: Office) -> None:
    with office.coordinator() as coordinator:
        coordinator.fleet.engagement.request_lock("1", "coordination/1", "analysis")
        coordinator.fleet.engagement.request_lock("2", "coordination/1", "analysis")
        with office.database.owner() as owner:
            owner.execute(
                "UPDATE fleet.engagement_locks SET lease_expires_at = clock_timestamp() - interval '290 s' "
                "WHERE content = '1'"
            )
        coordinator.step()
    assert office.rows("SELECT count(*) FROM fleet.engagement_locks") == [(2,)]


def test_more_messages_than_a_batch_are_routed_in_one_step(office: Office) -> None:
    with office.coordinator() as coordinator:
        coordinator.settings = coordinator.settings.model_copy(update={"batch_size": 2})
        for _ in range(5):
            coordinator.fleet.messages.send(TASK, "colour", DO, to="role")
        coordinator.step()
    assert office.told() == ["routed 5 colour to painter"]


@pytest.mark.usefixtures("ten_searches")
def test_each_crossing_of_a_limit_is_told_once_to_all(office: Office) -> None:
    with office.coordinator() as coordinator:
        use_search(coordinator, 7)
        coordinator.step()
        assert office.broadcasts("rate_limit_crossed") == []
        for number, health, percent in ((1, "warning", 80), (2, "critical", 100)):
            use_search(coordinator, number)
            for _ in range(3):
                coordinator.step()
            newest = office.broadcasts("rate_limit_crossed")[-1]
            assert (newest["health"], newest["used_percent"]) == (health, percent)
            assert (newest["account"], newest["endpoint"]) == ("sandbox", "search_tweets")
        with office.coordinator(2) as second:  # one more, which has seen nothing yet
            second.step()
        assert len(office.broadcasts("rate_limit_crossed")) == 2
        office.database.advance(901)
        coordinator.step()
        assert [one["health"] for one in office.broadcasts("rate_limit_crossed")] == [
            "warning",
            "critical",
            "healthy",
        ]
        use_search(coordinator, 8)
        coordinator.step()
    assert office.broadcasts("rate_limit_crossed")[-1]["health"] == "warning"
    assert office.told()[0] == "told 3 workers: search_tweets of sandbox is warning"


def test_the_last_word_of_a_limit_is_how_it_is_also_after_a_flap_and_a_restart(office: Office) -> None:
    def look(coordinator: Coordination, health: str) -> None:
        limit: dict[str, object] = {"account": "sandbox", "endpoint": "search_tweets", "health": health}
        status = [limit | {"utilization_percent": 90, "window_s": 86_400}]
        coordinator.fleet.rate_limits.get_system_status = lambda: status
        coordinator.step()

    def told() -> list[str]:
        return [one["health"] for one in office.broadcasts("rate_limit_crossed")]

    flapping = ["critical", "healthy", "critical"]  # within one window
    with office.coordinator() as coordinator:
        for health in flapping:
            look(coordinator, health)
            look(coordinator, health)
        assert told() == flapping
    with office.coordinator() as following:
        look(following, "critical")
        assert told() == flapping
        look(following, "healthy")
    assert told() == [*flapping, "healthy"]


def test_a_change_of_the_kill_switch_is_told_once_to_all(office: Office) -> None:
    person = office.database.database("console")
    with office.coordinator() as coordinator:
        kill_switch.set_kill_switch(person, on=True, actor="me", reason="stop")
        for _ in range(3):
            coordinator.step()
        with office.coordinator(2):
            pass
        assert [(one["on"], one["reason"]) for one in office.broadcasts("kill_switch_changed")] == [
            (True, "stop")
        ]
        kill_switch.set_kill_switch(person, on=False, actor="me", reason="go on")
        coordinator.step()
        assert [one["on"] for one in office.broadcasts("kill_switch_changed")] == [True, False]
    assert office.told() == [
        "told 3 workers: the kill switch is on",
        "told 3 workers: the kill switch is off",
    ]
    person.close()


def test_an_old_change_of_the_kill_switch_is_no_news(office: Office) -> None:
    person = office.database.database("console")
    kill_switch.set_kill_switch(person, on=True, actor="me", reason="long ago")
    person.close()
    with office.database.owner() as owner:
        owner.execute("UPDATE fleet.kill_switch SET changed_at = clock_timestamp() - interval '1 hour'")
    with office.coordinator():
        pass
    assert office.broadcasts("kill_switch_changed") == []


def test_conflicts_since_the_last_step_are_counted_in_its_event(office: Office) -> None:
    refused = (
        "INSERT INTO fleet.events (at, severity, kind, source, message, data) VALUES "
        "(fleet.now(), 'warning', 'send_refused', 'poster/1', 'post 7 was not sent: recent_engagement', '{}')"
    )
    with office.database.owner() as owner:
        owner.execute(refused)
        with office.coordinator() as coordinator:
            assert office.told() == []  # before its time
            owner.execute(refused)
            owner.execute(refused)
            coordinator.fleet.engagement.request_lock("1", "coordination/1", "analysis")
            coordinator.step()
            coordinator.step()
    assert office.told() == ["acts on content that was engaged already: 2; locks held: 1"]


def test_the_manager_stores_what_roles_the_programs_workers_have(office: Office) -> None:
    """And what a program of another version stored before is replaced."""
    with_roles = {name: kind.roles for name, kind in registry.find().items() if kind.roles}
    assert with_roles
    maintainer = office.database.database("maintainer")
    for name in with_roles:
        ensure_worker(maintainer, name, "older", ("gone",))
    maintainer.close()
    control = Control(
        lambda: office.database.dsn("maintainer"),
        {**dict.fromkeys(with_roles, "newer"), "stranger": "of no file"},
        wake=Event().set,
        say=lambda _line, _severity: None,
        tell=lambda _event: None,
    )
    control.start()
    try:
        look: Callable[[], dict[str, Any]] = lambda: {  # noqa: E731  a name for the query
            name: tuple(roles) for name, roles in office.rows("SELECT name, roles FROM fleet.workers")
        }
        eventually(lambda: "stranger" in look(), what="the registration")
        assert look().items() >= {**with_roles, "stranger": ()}.items()
    finally:
        control.stop()


# What is asked of it


def ask(office: Office, coordinator: Coordination, type_: MessageType, payload: Task, sender: Fleet) -> None:
    """Send it to nobody in particular, and let the coordinator work it off."""
    sender.messages.send(type_, None, payload.model_dump(mode="json", exclude_none=True), to="role")
    coordinator.step()
    Inbox(coordinator, coordinator.fleet, recorded).work_off()
    assert office.rows("SELECT message FROM fleet.events WHERE kind = 'dead_letter'") == []


def recorded(_step: str, method: Callable[[], None], _trace: str) -> Exception | None:
    method()
    return None


def test_a_conflict_that_a_worker_brings_is_settled_and_told_to_all_parties(office: Office) -> None:
    conflict = Conflict(
        kind="resource",
        thing="post 7",
        contenders=[Claimant(worker="painter"), Claimant(worker="writer", priority="high")],
    )
    with office.coordinator() as coordinator, office.database.connect("painter") as painter:
        ask(office, coordinator, "CONFLICT_RESOLUTION", conflict, painter)
        (told,) = painter.messages.claim(5)
        decision = ConflictDecision.model_validate(told.payload)
        assert (decision.winner, decision.strategy, decision.state) == ("writer", "priority", "decided")
    assert office.rows("SELECT asked_by, decided_by, took_s >= 0 FROM fleet.conflicts") == [
        ("painter", "coordination", True)
    ]


def test_a_changed_key_of_the_shared_state_is_told_once_to_all(office: Office) -> None:
    with office.coordinator() as coordinator, office.database.connect("painter") as painter:
        for _ in range(2):
            ask(office, coordinator, "STATE_SYNC", StateChanged(key="cadence", version=7), painter)
        told = [one for one in painter.messages.claim(10) if one.to == "all"]
        assert [one.payload for one in told] == [{"key": "cadence", "version": 7}]
    assert office.rows("SELECT count(*) FROM fleet.broadcasts") == [(1,)]


def test_what_is_called_urgent_rises_and_a_person_hears_of_what_is_critical(office: Office) -> None:
    with office.coordinator() as coordinator, office.database.connect("painter") as painter:
        waiting = painter.messages.send(TASK, "writer", DO)
        ask(office, coordinator, "PRIORITY_ESCALATION", Escalation(kind="message", id=waiting), painter)
        lock = Escalation(kind="engagement_lock", content="1999", priority="critical", reason="it waits")
        ask(office, coordinator, "PRIORITY_ESCALATION", lock, painter)
    assert office.rows(f"SELECT priority FROM fleet.messages WHERE id = {waiting}") == [("high",)]
    assert office.rows("SELECT key, severity FROM fleet.alerts WHERE cleared_at IS NULL") == [
        ("escalation:engagement_lock:1999", "critical")
    ]


def test_a_request_for_a_resource_is_answered_to_who_asked(office: Office) -> None:
    with office.coordinator() as coordinator, office.database.connect("painter") as painter:
        request = ResourceRequest(resource_type="content", resource_id="7", priority="high")
        ask(office, coordinator, "RESOURCE_REQUEST", request, painter)
        (answer,) = painter.messages.claim()
        told = Availability.model_validate(answer.payload)
        assert (told.resource_type, told.resource_id) == ("content", "7")
        assert told.available
        assert (answer.type, answer.priority) == ("RESOURCE_REQUEST", "high")


def test_what_the_dead_reserved_is_freed_and_a_long_wait_comes_to_the_coordinator(office: Office) -> None:
    with office.coordinator() as coordinator, office.database.connect("painter") as painter:
        with office.database.connect("writer") as writer:
            assert writer.reservations.reserve_resource("content", "8", "writer/1") is not None
        assert painter.reservations.reserve_resource("content", "7", "painter/1") is not None
        painter.session.call(
            "reserve_resource", resource_type="content", resource_id="7", worker_id="painter/2", wait_s=3600
        )
        with office.database.owner() as owner:
            owner.execute(
                "UPDATE fleet.reservation_queue "
                "SET asked_at = asked_at - interval '301 s', poll_by = 'infinity'"
            )
        coordinator.step()
        assert "reservations of the dead freed: 1, waits escalated: 1" in office.told()[-1]
        coordinator.step()
    assert office.rows("SELECT type, routed_to, payload->>'worker_id' FROM fleet.messages") == [
        ("PRIORITY_ESCALATION", "coordination", "painter/2")
    ]


def test_waiters_whose_time_is_over_are_swept_and_those_who_wait_stay(office: Office) -> None:
    with office.coordinator() as coordinator:
        coordinator.fleet.engagement.request_lock("1", "coordination/1", "analysis")
        for worker_id in ("gone", "here"):
            coordinator.fleet.session.call(
                "request_lock", tweet_id="1", worker_id=worker_id, lock_type="analysis", wait_s=600
            )
        with office.database.owner() as owner:
            owner.execute(
                "UPDATE fleet.lock_waiters SET deadline_at = clock_timestamp() WHERE worker_id = 'gone'"
            )
        coordinator.step()
    assert office.rows("SELECT worker_id FROM fleet.lock_waiters") == [("here",)]
    assert office.told() == ["waiters swept: 1"]
