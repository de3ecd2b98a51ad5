"""A worker's life in one incarnation, with a worker of the test's own."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from threading import Event, Thread
from time import monotonic
from typing import Any, ClassVar, Self

import psycopg
import pytest
from pydantic import Field, model_validator

from config import Config
from coordination import flags, settings
from coordination.errors import DatabaseBusyError, DatabaseUnavailableError, IncarnationLostError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import planted, value
from tests.integration.workers.waiting import eventually
from workers.base import Health, Worker, WorkerSettings
from workers.context import Context
from workers.inbox import Inbox
from workers.intervals import also, hours
from workers.lifecycle import Life


class GreeterSettings(WorkerSettings):
    tally_interval_s: float | None = Field(default=None, ge=1)
    greeting: str = "hello"


class Greeter(Worker):
    """Do what the test says."""

    name = "tester"
    every = hours(2)
    settings_model = GreeterSettings
    script: ClassVar[Callable[["Greeter"], None]]
    steps: ClassVar[list[str]] = []

    def first_run(self) -> None:
        self.steps.append("first_run")

    def step(self) -> None:
        self.steps.append("step")
        type(self).script(self)

    @also(every=hours(1))
    def tally(self) -> None:
        self.steps.append("tally")


@pytest.fixture(autouse=True)
def known(fleet_database: FleetDatabase) -> None:
    """The database knows the test's worker as it knows the program's."""
    fleet_database.know(Greeter)


class Running:
    """One life in a thread; `error` is what ended it."""

    def __init__(self, fleet_database: FleetDatabase) -> None:
        self.draining, self.stir = Event(), Event()
        self.fleet = fleet_database.connect("tester")
        self.error: Exception | None = None
        self._life = Life(
            Greeter,
            context=Context(config=Config(), account="sandbox"),
            fleet=self.fleet,
            draining=self.draining,
            stir=self.stir,
        )
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._life.live()
        except Exception as error:  # noqa: BLE001  handed to the test
            self.error = error

    def drain(self) -> None:
        self.draining.set()
        self.stir.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.fleet.close()


@contextmanager
def living(
    fleet_database: FleetDatabase, script: Callable[[Greeter], None] = lambda _worker: None
) -> Generator[Running]:
    Greeter.script = staticmethod(script)
    Greeter.steps = []
    running = Running(fleet_database)
    try:
        yield running
    finally:
        running.drain()


def rows(fleet_database: FleetDatabase, query: str) -> list[tuple[Any, ...]]:
    with fleet_database.owner() as owner:
        return owner.execute(query.encode()).fetchall()


def beat_state(fleet_database: FleetDatabase, state: str) -> bool:
    return (state,) in rows(fleet_database, "SELECT state FROM fleet.heartbeats")


def finished_runs(fleet_database: FleetDatabase) -> list[tuple[Any, ...]]:
    return rows(
        fleet_database,
        "SELECT step, outcome, items, item_errors, error FROM fleet.runs "
        "WHERE outcome <> 'running' ORDER BY id",
    )


def test_a_life_goes_first_run_then_its_duties_and_each_leaves_a_record(
    fleet_database: FleetDatabase,
) -> None:
    with living(fleet_database):
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="three runs")
        runs = finished_runs(fleet_database)
    assert [(run[0], run[1]) for run in runs] == [("first_run", "done"), ("step", "done"), ("tally", "done")]
    assert Greeter.steps == ["first_run", "step", "tally"]


def test_a_drained_life_is_closed_in_good_order(fleet_database: FleetDatabase) -> None:
    with living(fleet_database):
        eventually(lambda: beat_state(fleet_database, "READY"), what="ready")
    assert rows(fleet_database, "SELECT end_reason FROM fleet.incarnations") == [("closed",)]


@pytest.mark.timed
def test_a_wake_up_runs_the_step_at_once(fleet_database: FleetDatabase) -> None:
    with living(fleet_database) as running:
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
        person = fleet_database.database("console")
        person.call("wake", worker="somebody-else")
        person.call("wake", worker="tester")
        eventually(lambda: Greeter.steps.count("step") == 2, what="the woken step", within_s=5)
        person.close()
        assert running.error is None
    assert Greeter.steps.count("step") == 2


def test_the_schedule_runs_the_step_again_when_its_time_comes(fleet_database: FleetDatabase) -> None:
    with living(fleet_database) as running:
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
        fleet_database.advance(2 * 3600)
        running.stir.set()
        eventually(lambda: Greeter.steps.count("step") == 2, what="the next slot")
        eventually(lambda: Greeter.steps.count("tally") == 2, what="the other duty's next slot")


@pytest.mark.timed
def test_a_flag_switched_off_pauses_and_switched_on_resumes(fleet_database: FleetDatabase) -> None:
    person = fleet_database.database("console")
    flags.set_flag(person, "tester_enabled", enabled=False, actor="me", reason="look first")
    with living(fleet_database):
        eventually(lambda: beat_state(fleet_database, "PAUSED"), what="paused")
        assert Greeter.steps == []
        flags.set_flag(person, "tester_enabled", enabled=True, actor="me", reason="go")
        eventually(lambda: Greeter.steps[:2] == ["first_run", "step"], what="resumed", within_s=10)
    person.close()


@pytest.mark.timed
def test_live_settings_reach_the_worker(fleet_database: FleetDatabase) -> None:
    seen: list[str] = []
    person = fleet_database.database("console")
    with living(fleet_database, lambda worker: seen.append(worker.settings.model_dump()["greeting"])):
        eventually(lambda: seen == ["hello"], what="the first step")
        settings.set_setting(person, "tester_greeting", "good day", actor="me", reason="politer")
        settings.set_setting(person, "tester_interval_s", 1, actor="me", reason="sooner")
        eventually(lambda: "good day" in seen, what="the new setting", within_s=10)
    person.close()


def test_a_setting_that_is_not_allowed_is_told_and_the_one_before_stays(
    fleet_database: FleetDatabase,
) -> None:
    seen: list[str] = []
    person = fleet_database.database("console")
    settings.set_setting(person, "tester_batch_size", 5, actor="me", reason="then an older program's")
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.settings SET value = '-5'")
    with living(fleet_database, lambda worker: seen.append(str(worker.settings.batch_size))):
        eventually(lambda: seen == ["10"], what="a step with the default")
    told = rows(fleet_database, "SELECT message FROM fleet.events WHERE kind = 'bad_settings'")
    assert "tester_batch_size is -5" in told[0][0]
    person.close()


def test_settings_that_are_not_allowed_together_end_no_worker(
    fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Polite(GreeterSettings):
        @model_validator(mode="after")
        def _fit(self) -> Self:
            if self.batch_size > 10 * self.max_item_attempts:
                raise ValueError("more than can be tried")
            return self

    monkeypatch.setattr(Greeter, "settings_model", Polite)
    person = fleet_database.database("console")
    settings.set_setting(person, "tester_batch_size", 51, actor="me", reason="more")
    person.close()
    with living(fleet_database) as running:
        eventually(lambda: "step" in Greeter.steps, what="a step with the defaults", within_s=10)
        assert running.error is None
    told = rows(fleet_database, "SELECT message FROM fleet.events WHERE kind = 'bad_settings'")
    assert "what tester is set to is {'batch_size': 51}: Value error, more than can be tried" in told[0][0]


def test_a_step_that_fails_is_recorded_and_told_and_the_loop_goes_on(fleet_database: FleetDatabase) -> None:
    def fail_once(_worker: Greeter) -> None:
        if Greeter.steps.count("step") == 1:
            raise ValueError("nothing works")

    with living(fleet_database, fail_once):
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
        person = fleet_database.database("console")
        person.call("wake", worker="tester")
        person.close()
        eventually(lambda: len(finished_runs(fleet_database)) == 4, what="the step after")
    runs = [run for run in finished_runs(fleet_database) if run[0] == "step"]
    assert [run[1] for run in runs] == ["failed", "done"]
    assert runs[0][4] == "nothing works"
    assert rows(fleet_database, "SELECT message FROM fleet.events WHERE kind = 'step_failed'") == [
        ("step failed: nothing works",)
    ]


def test_an_items_error_is_kept_with_the_item_and_the_others_go_on(fleet_database: FleetDatabase) -> None:
    handled: list[str] = []

    def handle(item: str) -> None:
        handled.append(item)
        if item == "bad":
            raise ValueError("this one is broken")

    with living(fleet_database, lambda worker: worker.each(["a", "bad", "b"], lambda item: item, handle)):
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
    assert handled == ["a", "bad", "b"]
    step = next(run for run in finished_runs(fleet_database) if run[0] == "step")
    assert step[:4] == ("step", "done", 3, 1)
    assert rows(
        fleet_database, "SELECT worker, item, attempts, error, dead_at IS NULL FROM fleet.failed_items"
    ) == [("tester", "bad", 1, "this one is broken", True)]


def test_after_too_many_failures_an_item_is_a_dead_letter_and_passed_over(
    fleet_database: FleetDatabase,
) -> None:
    handled: list[str] = []

    def handle(item: str) -> None:
        handled.append(item)
        raise ValueError("broken")

    person = fleet_database.database("console")
    settings.set_setting(person, "tester_max_item_attempts", 2, actor="me", reason="soon")
    with living(fleet_database, lambda worker: worker.each(["x"], lambda item: item, handle)):
        for number in range(1, 5):
            eventually(lambda n=number: Greeter.steps.count("step") >= n, what=f"step {number}")
            eventually(
                lambda n=number: sum(run[0] == "step" for run in finished_runs(fleet_database)) >= n,
                what=f"record {number}",
            )
            person.call("wake", worker="tester")
    person.close()
    assert handled == ["x", "x"]
    assert rows(fleet_database, "SELECT attempts, dead_at IS NOT NULL FROM fleet.failed_items") == [(2, True)]
    assert rows(fleet_database, "SELECT count(*) FROM fleet.events WHERE kind = 'dead_letter'") == [(1,)]


def test_an_item_that_works_again_is_forgotten_as_a_failure(fleet_database: FleetDatabase) -> None:
    def handle(_item: str) -> None:
        if Greeter.steps.count("step") == 1:
            raise ValueError("not yet")

    with living(fleet_database, lambda worker: worker.each(["x"], lambda item: item, handle)):
        eventually(
            lambda: rows(fleet_database, "SELECT item FROM fleet.failed_items") == [("x",)], what="failed"
        )
        person = fleet_database.database("console")
        person.call("wake", worker="tester")
        person.close()
        eventually(lambda: not rows(fleet_database, "SELECT item FROM fleet.failed_items"), what="forgotten")


@pytest.mark.timed
def test_the_beat_tells_the_loops_progress_not_its_own(fleet_database: FleetDatabase) -> None:
    """A hung step beats on, and its progress stands still."""
    release = Event()

    def hang(_worker: Greeter) -> None:
        release.wait(30)

    with living(fleet_database, hang):
        hanging = "SELECT beat_at, progress, progressed_at FROM fleet.heartbeats WHERE step = 'step'"
        first = eventually(lambda: rows(fleet_database, hanging), what="a beat of the step")[0]
        second = eventually(
            lambda: next(
                (
                    row
                    for row in rows(
                        fleet_database, "SELECT beat_at, progress, progressed_at FROM fleet.heartbeats"
                    )
                    if row[0] > first[0]
                ),
                None,
            ),
            what="another beat",
            within_s=15,
        )
        release.set()
    assert second[1:] == first[1:]


@pytest.mark.timed
def test_a_lost_session_ends_the_life(fleet_database: FleetDatabase) -> None:
    with living(fleet_database) as running:
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
        with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE application_name = 'socialfleet tester/1 incarnation'"
            )
        eventually(lambda: not running.thread.is_alive(), what="the life's end", within_s=10)
        assert isinstance(running.error, IncarnationLostError | DatabaseUnavailableError)


def test_health_tells_database_platform_and_memory(fleet_database: FleetDatabase) -> None:
    with living(fleet_database):
        health = eventually(
            lambda: next(
                iter(
                    rows(
                        fleet_database,
                        "SELECT healthy, health FROM fleet.heartbeats WHERE health ? 'memory_mb'",
                    )
                ),
                None,
            ),
            what="a health check in a beat",
        )
    assert health[0] is True
    assert health[1]["database_ms"] >= 0
    assert health[1]["memory_mb"] > 1


@pytest.mark.parametrize("name", ["step", "tally"])
def test_each_slot_of_a_duty_is_one_workers_alone(fleet_database: FleetDatabase, name: str) -> None:
    with living(fleet_database), living(fleet_database):
        eventually(lambda: len(finished_runs(fleet_database)) >= 4, what="both lives' steps")
    assert Greeter.steps.count(name) <= 1


def broken(_worker: Greeter) -> Health:
    raise ValueError("no such sensor")


def without_an_answer(_worker: Greeter) -> Health | None:
    return None


def with_what_is_no_json(_worker: Greeter) -> Health:
    return Health(healthy=True, details={"seen": datetime.now(UTC)})


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (broken, "no such sensor"),
        (without_an_answer, "'NoneType' object has no attribute 'details'"),
        (with_what_is_no_json, "Object of type datetime is not JSON serializable"),
    ],
)
def test_a_health_check_that_fails_is_an_unhealthy_one_and_the_worker_goes_on(
    fleet_database: FleetDatabase,
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[Greeter], Health | None],
    reason: str,
) -> None:
    def heard() -> list[tuple[Any, ...]]:
        return rows(fleet_database, "SELECT health->>'reason' FROM fleet.heartbeats WHERE NOT healthy")

    monkeypatch.setattr(Greeter, "health_check", check)
    with living(fleet_database) as running:
        assert eventually(heard, what="an unhealthy beat") == [(f"health check failed: {reason}",)]
        assert running.error is None


def test_a_worker_whose_step_failed_is_not_healthy_until_one_works(fleet_database: FleetDatabase) -> None:
    def fail_once(_worker: Greeter) -> None:
        if Greeter.steps.count("step") == 1:
            raise ValueError("nothing works")

    with living(fleet_database, fail_once):
        unhealthy = eventually(
            lambda: rows(fleet_database, "SELECT health->>'reason' FROM fleet.heartbeats WHERE NOT healthy"),
            what="an unhealthy beat",
        )
        assert "step failed: nothing works" in unhealthy[0][0]
        person = fleet_database.database("console")
        person.call("wake", worker="tester")
        person.close()
        eventually(
            lambda: rows(fleet_database, "SELECT 1 FROM fleet.heartbeats WHERE healthy"), what="healthy again"
        )


def test_a_nul_in_an_error_breaks_nobody_who_reports_it(fleet_database: FleetDatabase) -> None:
    handled: list[str] = []

    def handle(item: str) -> None:
        handled.append(item)
        if item == "bad":
            raise ValueError("a NUL \0 and a lone \ud800 surrogate")

    def script(worker: Greeter) -> None:
        worker.each(["bad", "good"], lambda item: item, handle)
        raise ValueError("once more: \0")

    with living(fleet_database, script) as running:
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
        assert running.error is None
    assert handled == ["bad", "good"]
    assert rows(fleet_database, "SELECT item FROM fleet.failed_items") == [("bad",)]


def test_a_moments_conflict_is_no_mark_against_an_item(fleet_database: FleetDatabase) -> None:
    def handle(_item: str) -> None:
        raise DatabaseBusyError("a lock was held for a moment")

    with living(fleet_database, lambda worker: worker.each(["x"], lambda item: item, handle)):
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
    assert rows(fleet_database, "SELECT item FROM fleet.failed_items") == []


def test_a_first_run_that_fails_is_tried_again_before_any_step(
    fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def first_run(_worker: Greeter) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")

    monkeypatch.setattr("workers.lifecycle.FIRST_RUN_RETRY_S", 0.1)
    monkeypatch.setattr(Greeter, "first_run", first_run)
    with living(fleet_database):
        eventually(lambda: len(finished_runs(fleet_database)) == 4, what="two first runs, a step, a tally")
    assert [run[:2] for run in finished_runs(fleet_database)][:3] == [
        ("first_run", "failed"),
        ("first_run", "done"),
        ("step", "done"),
    ]


def test_a_message_is_looked_for_again_so_long_after_the_end_of_a_long_handler(
    fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_s = 0.0
    looks: list[float] = []

    def work_off(_inbox: Inbox) -> float:
        nonlocal passed_s
        looks.append(passed_s)
        if len(looks) > 1:
            return inf
        passed_s = 20.0  # the handler took so long
        return 10.0

    monkeypatch.setattr(Inbox, "work_off", work_off)
    monkeypatch.setattr("workers.lifecycle.monotonic", lambda: monotonic() + passed_s)
    with living(fleet_database) as running:
        eventually(lambda: len(finished_runs(fleet_database)) == 3, what="the first steps")
        eventually(lambda: beat_state(fleet_database, "READY"), what="ready")
        passed_s = 31.0
        running.stir.set()
        eventually(lambda: len(looks) > 1, what="the next look")
    assert looks == [0.0, 31.0]


BUSY = "PERFORM nextval('fleet.fencing_token'); RAISE EXCEPTION 'busy' USING ERRCODE = '55P03';"
"""What a function says whose lock wait timed out; the sequence tells how often."""


@pytest.mark.parametrize(
    ("function", "before"),
    [
        ("claim_messages", "PERFORM fleet.require_batch(n);"),
        ("fire_slot", "life := fleet.require_incarnation(incarnation);"),
        ("start_run", "life := fleet.require_incarnation(incarnation);"),
    ],
)
def test_a_busy_database_ends_no_life_and_is_asked_again(
    fleet_database: FleetDatabase, function: str, before: str
) -> None:
    with fleet_database.owner() as owner, living(fleet_database) as running:
        with planted(owner, function, (before, BUSY)):
            eventually(lambda: beat_state(fleet_database, "READY"), what="ready")
            met = int(value(owner, "SELECT last_value FROM fleet.fencing_token"))
            person = fleet_database.database("console")

            def is_asked_again() -> bool:
                person.call("wake", worker="tester")
                asked = int(value(owner, "SELECT last_value FROM fleet.fencing_token"))
                return running.error is not None or asked >= met + 2

            eventually(is_asked_again, what="two more tries")
            person.close()
        assert running.error is None
        eventually(lambda: {"step", "tally"} <= set(Greeter.steps), what="the steps, once it is free")
        assert running.error is None
    assert rows(fleet_database, "SELECT count(*) FROM fleet.incarnations WHERE ended_at IS NULL") == [(0,)]


@pytest.mark.timed
def test_a_busy_database_at_a_beat_ends_no_life(fleet_database: FleetDatabase) -> None:
    with fleet_database.owner() as owner, living(fleet_database) as running:
        eventually(lambda: beat_state(fleet_database, "READY"), what="ready")
        before = "life := fleet.require_incarnation(incarnation);"
        with planted(owner, "beat", (before, BUSY)):
            met = int(value(owner, "SELECT last_value FROM fleet.fencing_token"))
            asked = "SELECT last_value FROM fleet.fencing_token"
            eventually(lambda: int(value(owner, asked)) > met, what="a beat")
        beats = "SELECT max(beat_at) FROM fleet.heartbeats"
        last = rows(fleet_database, beats)
        eventually(lambda: rows(fleet_database, beats) > last, what="the next beat")
        assert running.error is None
        assert running.thread.is_alive()
