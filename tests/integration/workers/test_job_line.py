"""A worker that takes jobs, one with a cron line, and a step that is tried again."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, ClassVar

import pytest

from config import Config
from coordination import Fleet
from coordination.errors import LockLostError
from coordination.jobs import Job
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import planted
from tests.integration.workers.waiting import eventually
from workers import duties
from workers.base import Worker
from workers.context import Context
from workers.errors import JobPutOffError, JobRefusedError
from workers.intervals import also, cron, hours, jobs
from workers.lifecycle import Life

Script = Callable[["Analyser", Job], Mapping[str, Any] | None]


class Analyser(Worker):
    """Do what the test says with each job."""

    name = "tester"
    every = jobs("analyse", at_once=3)
    script: ClassVar[Script]
    handled: ClassVar[list[str]] = []

    def handle(self, job: Job) -> Mapping[str, Any] | None:
        self.handled.append(job.id)
        return type(self).script(self, job)

    @also(every=jobs("translate"))
    def translate(self, job: Job) -> Mapping[str, Any] | None:
        return {"text": job.payload["text"].upper()}


class Ticking(Analyser):
    """The same, with a lease that is soon half over."""

    every = jobs("analyse", lease_s=1)
    stall_after_s = 0.5


class Batched(Ticking):
    """The same, with several jobs in each claim."""

    every = jobs("analyse", at_once=3, lease_s=1)


class Nightly(Worker):
    """Come round each night, and fail as often as the test says."""

    name = "nightly"
    every = cron("0 2 * * *", tz="Europe/Paris")
    failures: ClassVar[int] = 0
    steps: ClassVar[list[str]] = []

    def step(self) -> None:
        self.steps.append("step")
        if len(self.steps) <= self.failures:
            raise ValueError("not yet")

    @also(every=hours(5000))
    def seldom(self) -> None:
        self.steps.append("seldom")


class Running:
    """One life in a thread."""

    def __init__(self, fleet_database: FleetDatabase, kind: type[Worker]) -> None:
        self.draining, self.stir = Event(), Event()
        self.fleet = fleet_database.connect(kind.name)
        self._life = Life(
            kind,
            context=Context(config=Config(), account="sandbox"),
            fleet=self.fleet,
            draining=self.draining,
            stir=self.stir,
        )
        self.thread = Thread(target=self._life.live)
        self.thread.start()

    def drain(self) -> None:
        self.draining.set()
        self.stir.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.fleet.close()


@contextmanager
def living(fleet_database: FleetDatabase, kind: type[Worker]) -> Generator[Running]:
    running = Running(fleet_database, kind)
    try:
        yield running
    finally:
        running.drain()


@contextmanager
def analysing(fleet_database: FleetDatabase, script: Script) -> Generator[Running]:
    Analyser.script, Analyser.handled = script, []
    with living(fleet_database, Analyser) as running:
        yield running


def rows(fleet_database: FleetDatabase, query: str) -> list[tuple[Any, ...]]:
    with fleet_database.owner() as owner:
        return owner.execute(query.encode()).fetchall()


def ended(fleet_database: FleetDatabase) -> list[tuple[Any, ...]]:
    return rows(fleet_database, "SELECT state, attempts, result FROM fleet.jobs_finished f ORDER BY f.id")


@pytest.fixture
def client(fleet_database: FleetDatabase) -> Generator[Fleet]:
    with fleet_database.connect("client") as fleet:
        yield fleet


def test_each_job_is_handled_and_its_result_kept(fleet_database: FleetDatabase, client: Fleet) -> None:
    for n in range(5):
        client.jobs.enqueue("analyse", {"n": n})
    client.jobs.enqueue("translate", {"text": "hello"})
    with analysing(fleet_database, lambda _worker, job: {"twice": job.payload["n"] * 2}):
        eventually(lambda: len(ended(fleet_database)) == 6, what="six jobs")
    assert ended(fleet_database) == [
        *(("completed", 1, {"twice": 2 * n}) for n in range(5)),
        ("completed", 1, {"text": "HELLO"}),
    ]
    runs = "SELECT step, outcome, items FROM fleet.runs WHERE job IS NOT NULL ORDER BY job"
    assert rows(fleet_database, runs) == [*[("analyse", "done", 1)] * 5, ("translate", "done", 1)]


@pytest.mark.timed
def test_a_job_that_comes_later_wakes_its_worker(fleet_database: FleetDatabase, client: Fleet) -> None:
    with analysing(fleet_database, lambda _worker, _job: None):
        takers = "SELECT kind FROM fleet.job_takers"
        eventually(lambda: len(rows(fleet_database, takers)) == 2, what="the first look")
        client.jobs.enqueue("analyse")
        eventually(lambda: ended(fleet_database) == [("completed", 1, None)], what="the job", within_s=5)


def test_what_a_handler_raises_is_kept_and_tried_again_refused_or_put_off(
    fleet_database: FleetDatabase, client: Fleet
) -> None:
    def script(_worker: Analyser, job: Job) -> None:
        match job.payload["do"]:
            case "fail":
                raise ValueError("broken")
            case "refuse":
                raise JobRefusedError("no such thing")
            case "wait":
                raise JobPutOffError("too early", delay_s=600)
            case _:
                return

    for do in ("fail", "refuse", "wait", "work"):
        client.jobs.enqueue("analyse", {"do": do})
    with analysing(fleet_database, script):
        eventually(lambda: len(Analyser.handled) == 4, what="four jobs")
        eventually(lambda: len(ended(fleet_database)) == 2, what="two ends")
    assert [row[0] for row in ended(fleet_database)] == ["dead", "completed"]
    waiting = rows(
        fleet_database,
        "SELECT payload->>'do', state, attempts, errors->0->>'error', run_at > fleet.now() FROM fleet.jobs "
        "ORDER BY id",
    )
    assert waiting == [
        ("fail", "retryable", 1, "ValueError: broken", True),
        ("wait", "available", 0, None, True),
    ]


CIRCLE: dict[str, Any] = {}
CIRCLE["again"] = CIRCLE


@pytest.mark.parametrize(
    "result",
    [{"text": "x" * 70_000}, {"text": object()}, ["no mapping"], CIRCLE],
    ids=["long", "object", "list", "circle"],
)
def test_a_job_whose_result_can_not_be_kept_is_not_done_again(
    fleet_database: FleetDatabase, client: Fleet, result: Any
) -> None:
    """What it did is done: each further try would do it once more, and end as this one."""
    client.jobs.enqueue("analyse")
    with analysing(fleet_database, lambda _worker, _job: result):
        told = "SELECT state, attempts, errors->0->>'error' FROM fleet.jobs_finished"
        eventually(lambda: len(rows(fleet_database, told)) == 1, what="its end", within_s=20)
    [(state, attempts, error)] = rows(fleet_database, told)
    assert (state, attempts, len(Analyser.handled)) == ("dead", 1, 1)
    assert "its result can't be kept" in error


def test_a_drain_gives_back_what_is_claimed_and_not_begun(
    fleet_database: FleetDatabase, client: Fleet
) -> None:
    begun, release = Event(), Event()

    def script(_worker: Analyser, _job: Job) -> None:
        begun.set()
        release.wait(10)

    for _ in range(3):
        client.jobs.enqueue("analyse")
    with analysing(fleet_database, script) as running:
        assert begun.wait(10)
        running.draining.set()
        release.set()
        running.drain()
        assert ended(fleet_database) == [("completed", 1, None)]
        assert rows(fleet_database, "SELECT state, attempts FROM fleet.jobs") == [("available", 0)] * 2


def test_a_handler_that_ticks_keeps_its_job_and_hears_when_it_is_lost(
    fleet_database: FleetDatabase, client: Fleet
) -> None:
    told: list[str] = []
    lease = "SELECT lease_expires_at FROM fleet.jobs"

    def ticks_until(worker: Worker, condition: Callable[[], object], what: str) -> None:
        def tick() -> object:
            worker.progress.tick()
            return condition()

        eventually(tick, what=what)

    def script(worker: Analyser, _job: Job) -> None:
        claimed = rows(fleet_database, lease)
        ticks_until(worker, lambda: rows(fleet_database, lease) > claimed, "the renewal")
        with fleet_database.owner() as owner:
            owner.execute("UPDATE fleet.jobs SET lease = lease + 1")
        try:
            ticks_until(worker, lambda: False, "the loss")
        except LockLostError as error:
            told.append(str(error))
            raise

    client.jobs.enqueue("analyse")
    Analyser.script, Analyser.handled = script, []
    with living(fleet_database, Ticking):
        eventually(lambda: told, what="the loss")
    assert "somebody else's" in told[0]
    assert rows(fleet_database, "SELECT state FROM fleet.jobs") == [("running",)]


@pytest.mark.parametrize("items", [("first", "second"), ("first", "second", "third")], ids=len)
def test_items_of_a_job_renew_it_and_none_is_begun_once_it_is_lost(
    fleet_database: FleetDatabase, client: Fleet, items: tuple[str, ...]
) -> None:
    """Items that each take long and never tick themselves; it is lost in the second, the last or not."""
    begun: list[str] = []
    ends: list[tuple[str, ...]] = []
    lease = "SELECT lease_expires_at FROM fleet.jobs"
    half_over = "SELECT 1 FROM fleet.jobs WHERE lease_expires_at < clock_timestamp() + interval '0.4 s'"
    seen: list[Any] = []

    def handle(item: str) -> None:
        begun.append(item)
        seen.append(rows(fleet_database, lease))
        if item == "second":
            with fleet_database.owner() as owner:
                owner.execute("UPDATE fleet.jobs SET lease = lease + 1")
        eventually(lambda: rows(fleet_database, half_over), what="half of the lease")

    def script(worker: Analyser, _job: Job) -> None:
        try:
            worker.each(items, str, handle)
        except LockLostError as error:
            ends.append((*begun, str(error)))
            raise
        ends.append((*begun, "all are done"))

    client.jobs.enqueue("analyse")
    Analyser.script, Analyser.handled = script, []
    with living(fleet_database, Ticking):
        eventually(lambda: ends, what="the end of the items")
    first, second, *more = ends[0]
    assert (first, second, len(more)) == ("first", "second", 1)
    assert "somebody else's" in more[0]
    assert seen[1] > seen[0]


def test_a_job_that_another_has_by_now_is_not_begun(fleet_database: FleetDatabase, client: Fleet) -> None:
    """The first handler is silent until the lease of the whole batch is over."""
    taken: list[str] = []

    def script(_worker: Analyser, _job: Job) -> None:
        def others_have_some() -> bool:
            taken.extend(one.id for one in client.jobs.claim("analyse", 2))
            return len(taken) == 2

        if not taken:
            eventually(others_have_some, what="the others' claim")

    made = [client.jobs.enqueue("analyse").id for _ in range(3)]
    Analyser.script, Analyser.handled = script, []
    with living(fleet_database, Batched):
        eventually(lambda: len(ended(fleet_database)) == 1, what="the one that nobody took")
    assert sorted(taken) == made[:2]
    assert Analyser.handled == [made[0], made[2]]


def test_a_cron_line_runs_the_step_when_its_time_comes(fleet_database: FleetDatabase) -> None:
    Nightly.steps, Nightly.failures = [], 0
    with living(fleet_database, Nightly) as running:
        eventually(lambda: Nightly.steps == ["seldom"], what="the interval's first slot")
        ((wait_s,),) = rows(
            fleet_database,
            "SELECT extract(epoch FROM next_slot_at - fleet.now())::float FROM fleet.schedules "
            "WHERE cron IS NOT NULL",
        )
        assert 0 < wait_s <= 25 * 3600
        fleet_database.advance(wait_s + 1)
        running.stir.set()
        eventually(lambda: "step" in Nightly.steps, what="the night's step", within_s=20)
    assert rows(fleet_database, "SELECT zone, policy FROM fleet.schedules WHERE name = 'nightly'") == [
        ("Europe/Paris", "fire_once")
    ]


def test_a_step_that_fails_is_tried_again_before_its_next_slot(
    fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def soon(attempt: int) -> float:
        return 0.01 * attempt

    monkeypatch.setattr(duties, "retry_in_s", soon)
    Nightly.steps, Nightly.failures = [], 99
    with living(fleet_database, Nightly) as running:
        eventually(lambda: Nightly.steps == ["seldom"], what="ready")
        Nightly.steps.clear()
        fleet_database.advance(25 * 3600)
        running.stir.set()
        eventually(lambda: len(Nightly.steps) == 4, what="three more tries")
    outcomes = rows(fleet_database, "SELECT outcome FROM fleet.runs WHERE step = 'step'")
    assert outcomes == [("failed",)] * 4
    assert rows(fleet_database, "SELECT fired FROM fleet.schedules WHERE name = 'nightly'") == [(1,)]


@pytest.mark.parametrize("delay_s", [1e12, float("inf"), float("nan"), -5.0])
def test_a_delay_that_no_job_can_be_put_off_by_is_cut(
    fleet_database: FleetDatabase, client: Fleet, delay_s: float
) -> None:
    def script(_worker: Analyser, job: Job) -> None:
        if job.payload["n"] == 1 and len(Analyser.handled) == 1:
            raise JobPutOffError("later", delay_s=delay_s)

    client.jobs.enqueue("analyse", {"n": 1})
    with analysing(fleet_database, script):
        eventually(lambda: Analyser.handled, what="the first")
        client.jobs.enqueue("analyse", {"n": 2})
        eventually(lambda: len(ended(fleet_database)) >= 1, what="another one")
    days = "SELECT extract(epoch FROM run_at - fleet.now())::float / 86400 FROM fleet.jobs"
    assert all(-1 < days <= 30 for (days,) in rows(fleet_database, days))


@pytest.mark.parametrize("function", ["complete_jobs", "fail_jobs", "claim_jobs"])
def test_a_busy_database_costs_no_job_and_no_life(
    fleet_database: FleetDatabase, client: Fleet, function: str
) -> None:
    """Each call fails twice; a third one goes through."""

    def script(_worker: Analyser, job: Job) -> None:
        if job.payload["n"] == 1 and len(Analyser.handled) == 1:
            raise ValueError("broken")

    busy = (
        "PERFORM fleet.require_read_committed(); IF nextval('fleet.test_tries') <= 2 THEN "
        "RAISE EXCEPTION 'busy' USING ERRCODE = '55P03'; END IF;"
    )
    client.jobs.enqueue("analyse", {"n": 1 if function == "fail_jobs" else 2})
    with fleet_database.owner() as owner:
        owner.execute("CREATE SEQUENCE fleet.test_tries")
        with (
            planted(owner, function, ("PERFORM fleet.require_read_committed();", busy)),
            analysing(fleet_database, script) as running,
        ):
            if function == "fail_jobs":
                retryable = "SELECT 1 FROM fleet.jobs WHERE state = 'retryable'"
                eventually(lambda: rows(fleet_database, retryable), what="the failure's report")
            else:
                eventually(lambda: len(ended(fleet_database)) == 1, what="the job's end")
            assert running.thread.is_alive()
    assert len(Analyser.handled) == 1
    assert rows(fleet_database, "SELECT count(DISTINCT incarnation) FROM fleet.runs") == [(1,)]


def test_a_handler_that_loses_locks_again_and_again_has_failed(
    fleet_database: FleetDatabase, client: Fleet
) -> None:
    def script(_worker: Analyser, _job: Job) -> None:
        raise LockLostError("some other lock")

    client.jobs.enqueue("analyse", max_attempts=3)
    with analysing(fleet_database, script) as running:

        def is_dead() -> bool:
            fleet_database.advance(3600)
            running.stir.set()
            client.database.call("wake", worker="tester")
            return [row[0] for row in ended(fleet_database)] == ["dead"]

        eventually(is_dead, what="the dead job")
    assert len(Analyser.handled) == 3 * 11  # ten times it was put off, then the attempt counted
