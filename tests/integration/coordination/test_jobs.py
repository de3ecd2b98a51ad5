"""Jobs: work as rows, claimed with a lease, retried, dead-lettered with every error kept."""

import time
from collections.abc import Callable
from math import nan
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.errors import InvalidValueError, LockLostError
from coordination.jobs import get_job
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value


def _work_off(start: Callable[[], int], dsn: str) -> list[str]:
    done: list[str] = []
    with connect(dsn, "worker") as fleet:
        start()
        while jobs := fleet.jobs.claim("sum", 3):
            for job in jobs:
                fleet.jobs.complete(job, {"by": str(fleet.incarnation.id)})
                done.append(job.id)
    return done


def test_8_processes_do_every_job_once(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    enqueued = sorted(fleet.jobs.enqueue("sum", {"n": n}).id for n in range(150))
    done = sorted(job for jobs in together(_work_off, 8, fleet_database.dsn("worker")) for job in jobs)
    assert done == enqueued
    ended = "SELECT state, max(attempts), count(*) FROM fleet.jobs_finished GROUP BY state"
    assert rows(owner, ended) == [("completed", 1, 150)]
    assert value(owner, "SELECT count(*) FROM fleet.jobs") == 0


def test_higher_priority_goes_first_then_the_older(fleet: Fleet) -> None:
    order: list[tuple[Any, str]] = [
        ("low", "l"), ("medium", "m1"), ("critical", "c"), ("medium", "m2"), ("high", "h"),
    ]  # fmt: skip
    names = {fleet.jobs.enqueue("a", priority=priority).id: name for priority, name in order}
    assert [names[job.id] for job in fleet.jobs.claim("a", 4)] == ["c", "h", "m1", "m2"]
    assert [names[job.id] for job in fleet.jobs.claim("a", 4)] == ["l"]
    assert fleet.jobs.claim("a", 4) == []


def test_a_job_waits_for_its_time(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    fleet.jobs.enqueue("a", {"x": 1}, run_at=value(owner, "SELECT fleet.now() + interval '1 hour'"))
    assert fleet.jobs.claim("a") == []
    fleet_database.advance(3601)
    assert fleet.jobs.claim("a")[0].payload == {"x": 1}


def test_a_unique_key_names_one_unfinished_job_of_a_kind(fleet: Fleet) -> None:
    first = fleet.jobs.enqueue("a", unique_key="k")
    again = fleet.jobs.enqueue("a", unique_key="k")
    assert (again.id, again.created, again.state) == (first.id, False, "available")
    assert fleet.jobs.enqueue("b", unique_key="k").created
    (job,) = fleet.jobs.claim("a")
    assert fleet.jobs.enqueue("a", unique_key="k").state == "running"
    fleet.jobs.complete(job)
    assert fleet.jobs.enqueue("a", unique_key="k").created


def _enqueue_and_finish(start: Callable[[], int], dsn: str, duration_s: float) -> set[str | None]:
    seen: set[str | None] = set()
    with connect(dsn, "worker") as fleet:
        start()
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            seen.add(fleet.jobs.enqueue("a", unique_key="k").id)
            for job in fleet.jobs.claim("a"):
                fleet.jobs.complete(job)
    return seen


def test_enqueueing_beside_a_job_that_just_ends_still_gives_a_job(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    look = "there := ARRAY("
    with planted(owner, "add_jobs", (look, f"PERFORM pg_sleep(0.002); {look}")):  # a wider gap to end in
        for seen in together(_enqueue_and_finish, 4, fleet_database.dsn("worker"), 0.4):
            assert None not in seen


def test_reports_with_a_lost_lease_are_refused_and_change_nothing(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.jobs.enqueue("a")
    (lost,) = fleet.jobs.claim("a", lease_s=0.01)
    with fleet_database.connect("heir") as heir:
        taken: list[Any] = []
        until(lambda: bool(taken.extend(heir.jobs.claim("a")) or taken), 2)
        assert taken[0].lease > lost.lease
        assert taken[0].attempt == 2
        before = rows(owner, "SELECT * FROM fleet.jobs")
        for report in (
            lambda: fleet.jobs.complete(lost, {"x": 1}),
            lambda: fleet.jobs.fail(lost, "x"),
            lambda: fleet.jobs.snooze(lost, 1),
        ):
            with pytest.raises(LockLostError, match="lease"):
                report()
        assert rows(owner, "SELECT * FROM fleet.jobs") == before
        heir.jobs.complete(taken[0])


def test_a_lone_worker_gets_its_own_job_back_when_the_lease_is_over(fleet: Fleet) -> None:
    fleet.jobs.enqueue("a")
    (lost,) = fleet.jobs.claim("a", lease_s=0.01)
    taken: list[Any] = []
    until(lambda: bool(taken.extend(fleet.jobs.claim("a")) or taken), 2)
    assert taken[0].id == lost.id
    with pytest.raises(LockLostError):
        fleet.jobs.complete(lost)


def _claim_and_hold(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "doomed")
    keep(fleet)
    return fleet.jobs.claim("a", lease_s=3600)[0].id


@pytest.mark.timed
def test_a_dead_workers_job_is_claimed_by_another_at_once_i8(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.jobs.enqueue("a")
    with victim(_claim_and_hold, fleet_database.dsn("worker")) as doomed:
        assert fleet.jobs.claim("a") == []
        doomed.kill()
        taken: list[Any] = []
        assert until(lambda: bool(taken.extend(fleet.jobs.claim("a")) or taken), 5) < 1
        assert (taken[0].id, taken[0].attempt) == (doomed.result, 2)
    assert "ended" in value(owner, "SELECT errors->0->>'error' FROM fleet.jobs")


def test_failures_are_retried_after_their_backoff_then_dead_with_every_error_kept(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    enqueued = fleet.jobs.enqueue("a", max_attempts=3)
    for attempt in (1, 2, 3):
        (job,) = fleet.jobs.claim("a")
        assert job.attempt == attempt
        assert fleet.jobs.fail(job, f"error {attempt}", backoff_s=60) == (
            "dead" if attempt == 3 else "retryable"
        )
        assert fleet.jobs.claim("a") == []
        fleet_database.advance(61)
    assert fleet.jobs.claim("a") == []
    errors = value(owner, "SELECT errors FROM fleet.jobs_finished")
    assert [(one["attempt"], one["error"]) for one in errors] == [(n, f"error {n}") for n in (1, 2, 3)]
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'dead_letter'") == 1
    assert fleet.jobs.replay(enqueued.id)
    (again,) = fleet.jobs.claim("a")
    assert again.attempt == 1
    fleet.jobs.complete(again)
    assert len(value(owner, "SELECT errors FROM fleet.jobs_finished")) == 3


def test_a_snoozed_job_comes_back_and_the_attempt_does_not_count(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.jobs.enqueue("a", max_attempts=1)
    (job,) = fleet.jobs.claim("a")
    fleet.jobs.snooze(job, 60)
    assert fleet.jobs.claim("a") == []
    fleet_database.advance(61)
    assert fleet.jobs.claim("a")[0].attempt == 1


def test_cancel_ends_what_does_not_run_and_replay_starts_it_anew(fleet: Fleet) -> None:
    waiting = fleet.jobs.enqueue("a", unique_key="k").id
    assert fleet.jobs.cancel(waiting)
    assert not fleet.jobs.cancel(waiting)
    assert fleet.jobs.claim("a") == []
    successor = fleet.jobs.enqueue("a", unique_key="k")
    assert successor.created
    assert not fleet.jobs.replay(waiting)  # its key is another's now
    assert fleet.jobs.cancel(successor.id)
    assert fleet.jobs.replay(waiting)
    (job,) = fleet.jobs.claim("a")
    assert not fleet.jobs.cancel(job.id)
    assert not fleet.jobs.replay(job.id)


def test_bad_jobs_are_refused_by_name(fleet: Fleet) -> None:
    enqueue: Any = fleet.jobs.enqueue
    for arguments, options, field, given in (
        (("Sum",), {}, "kind", "Sum"),
        ((None,), {}, "kind", None),
        (("a",), {"priority": "urgent"}, "priority", "urgent"),
        (("a",), {"max_attempts": 0}, "max_attempts", "0"),
        (("a",), {"unique_key": ""}, "unique_key", ""),
        (("a",), {"unique_key": "k" * 501}, "unique_key", "k" * 200),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            enqueue(*arguments, **options)
        assert_refused(refusal, field, given)
    for options, field, given in (
        ({"n": 0}, "n", "0"),
        ({"n": 1001}, "n", "1001"),
        ({"lease_s": 0}, "lease_s", "0"),
        ({"lease_s": float("nan")}, "lease_s", "NaN"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.jobs.claim("a", **options)  # pyright: ignore[reportArgumentType]
        assert_refused(refusal, field, given)


def test_what_is_no_id_of_a_job_is_refused_by_name(fleet: Fleet) -> None:
    for call in (
        lambda: fleet.jobs.cancel("abc"),
        lambda: fleet.jobs.replay("abc"),
        lambda: fleet.jobs.enqueue("analyse", depends=["abc"]),
        lambda: get_job(fleet.database, "abc"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            call()
        assert_refused(refusal, "job", "abc")
    with pytest.raises(InvalidValueError) as refusal:
        fleet.jobs.replay_many(["1", None])  # pyright: ignore[reportArgumentType]
    assert_refused(refusal, "job", "None")


def test_a_payload_that_is_no_json_is_refused_by_name(fleet: Fleet) -> None:
    for payload, given in (
        ({"score": nan}, "{'score': nan}"),
        ({"at": {1}}, "{'at': {1}}"),
        (["a"], '["a"]'),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.jobs.enqueue("analyse", payload)  # pyright: ignore[reportArgumentType]
        assert_refused(refusal, "payload", given)
    circle: dict[str, Any] = {}
    circle["again"] = circle
    with pytest.raises(InvalidValueError, match="holds itself"):
        fleet.jobs.enqueue("analyse", circle)
