"""What is done in fewer calls and fewer statements, where something fails or comes between."""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.database import Database, Json
from coordination.errors import DatabaseUnavailableError, InvalidValueError, LockLostError
from coordination.jobs import Job, Jobs, NewJob, get_job_status
from coordination.process_ends import wake_heirs
from coordination.session import Session
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until
from tests.integration.coordination.tables import Owner, assert_refused, rows, value
from tests.integration.coordination.test_rate_lost_answers import Unlucky

BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted"


# One call for the report and the next claim


def test_a_report_that_is_kept_is_told_although_the_second_look_fails(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.jobs.enqueue("a")
    with closing(Unlucky(fleet_database.dsn("worker"), name="unlucky")) as database:
        jobs = Jobs(Session(database, fleet.incarnation.id, fleet.incarnation.sleep))
        held = jobs.claim("a")
        database.cut_off = frozenset({"claim_jobs"})
        assert jobs.turn(held, "a") == ([], ())
    assert rows(owner, "SELECT id::text, state FROM fleet.jobs_finished") == [(held[0].id, "completed")]


def test_a_turn_that_is_refused_changed_nothing(fleet: Fleet, owner: Owner) -> None:
    fleet.jobs.enqueue("a")
    (job,) = fleet.jobs.claim("a")
    for wrong, field, given in (
        ({"kind": "A"}, "kind", "A"),
        ({"kind": "a", "n": 0}, "n", "0"),
        ({"kind": "a", "lease_s": 0}, "lease_s", "0"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.jobs.turn([job], **wrong)  # pyright: ignore[reportArgumentType]
        assert_refused(refusal, field, given)
    assert value(owner, "SELECT count(*) FROM fleet.jobs_finished") == 0
    assert fleet.jobs.turn([job], "a") == ([], ())


def test_a_turn_with_nothing_to_report_is_a_claim(fleet: Fleet) -> None:
    made = fleet.jobs.enqueue("a")
    jobs, lost = fleet.jobs.turn([], "a")
    assert ([job.id for job in jobs], lost) == ([made.id], ())


def test_a_job_reported_twice_in_one_batch_ends_once_and_one_that_ended_is_lost(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    fleet.jobs.enqueue_many([NewJob(kind="a") for _ in range(3)])
    first, second, third = fleet.jobs.claim("a", 3)
    fleet.jobs.complete(first)
    jobs, lost = fleet.jobs.turn([second, first, second, third], "a", results=[{"n": n} for n in range(4)])
    assert (jobs, lost) == ([], (first.id,))
    ended = "SELECT id::text, result->>'n' FROM fleet.jobs_finished ORDER BY finished_at, id"
    assert rows(owner, ended) == [(first.id, None), (second.id, "0"), (third.id, "3")]
    assert value(owner, "SELECT count(*) FROM fleet.runs") == 3
    (counted,) = get_job_status(console)
    assert [counted[name] for name in ("claimed", "completed", "missed", "running")] == [3, 3, 1, 0]


def test_of_two_reports_at_once_one_counts(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    fleet.jobs.enqueue("a", max_attempts=1)
    (job,) = fleet.jobs.claim("a")
    told: list[Any] = []
    report = (
        "SELECT fleet.turn_jobs(%s, %s, %s, 'b')->'lost'",
        (fleet.incarnation.id, [int(job.id)], [job.lease]),
    )
    with psycopg.connect(fleet_database.dsn("worker")) as first:
        first.execute(*report)
        late = threading.Thread(target=lambda: told.append(_fail(fleet, job)))
        late.start()
        until(lambda: value(owner, BLOCKED) > 0, 10)
        first.commit()
        late.join()
    assert told == ["lost"]
    (counted,) = (one for one in get_job_status(console) if one["kind"] == "a")
    assert [counted[n] for n in ("completed", "failed", "dead", "missed")] == [1, 0, 0, 1]


def _fail(fleet: Fleet, job: Job) -> str:
    try:
        return fleet.jobs.fail(job, "no")
    except LockLostError:
        return "lost"


def _turn(start: Callable[[], int], dsn: str) -> list[str]:
    """Work off all that there is; give each id as often as its report was kept."""
    kept: list[str] = []
    with connect(dsn, "worker") as fleet:
        start()
        jobs = fleet.jobs.claim("a", 4)
        while jobs:
            reported = [job.id for job in jobs]
            jobs, lost = fleet.jobs.turn(jobs, "a", 4)
            kept += [one for one in reported if one not in lost]
    return kept


def test_6_processes_that_turn_do_every_job_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    made = fleet.jobs.enqueue_many(
        [NewJob(kind="a", concurrency_key="k" if n % 3 else None, concurrency_limit=8) for n in range(300)]
    )
    kept = [one for part in together(_turn, 6, fleet_database.dsn("worker")) for one in part]
    assert sorted(kept) == sorted(one.id for one in made)
    assert rows(owner, "SELECT DISTINCT state, attempts FROM fleet.jobs_finished") == [("completed", 1)]
    assert value(owner, "SELECT count(DISTINCT job) = 300 AND count(*) = 300 FROM fleet.runs")


def test_what_a_turn_took_whose_answer_was_lost_comes_back_and_what_it_reported_does_not(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    first, second = (one.id for one in fleet.jobs.enqueue_many([NewJob(kind="a") for _ in range(2)]))
    with closing(Unlucky(fleet_database.dsn("worker"), name="unlucky")) as database:
        jobs = Jobs(Session(database, fleet.incarnation.id, fleet.incarnation.sleep))
        held = jobs.claim("a")
        database.deaf_to = frozenset({"turn_jobs"})
        with pytest.raises(DatabaseUnavailableError):
            jobs.turn(held, "a", lease_s=0.05)
        assert jobs.complete_many(held) == (first,)
    taken: list[Job] = []
    until(lambda: bool(taken.extend(fleet.jobs.claim("a")) or taken), 5)
    assert [(job.id, job.attempt) for job in taken] == [(second, 2)]
    assert rows(owner, "SELECT id::text, state FROM fleet.jobs_finished") == [(first, "completed")]


# One cursor for all calls


def test_a_call_after_one_that_failed_is_whole(fleet: Fleet) -> None:
    fleet.jobs.enqueue("a", {"n": 1})
    for _ in range(3):
        with pytest.raises(InvalidValueError):
            fleet.jobs.claim("A")
        with pytest.raises(InvalidValueError):
            fleet.database.call(
                "claim_jobs", incarnation=fleet.incarnation.id, kind="a", n=Json({"a": object()})
            )
    (job,) = fleet.jobs.claim("a")
    assert job.payload == {"n": 1}


def test_a_call_that_was_given_up_leaves_no_answer_to_the_next(
    fleet_database: FleetDatabase,
) -> None:
    database = fleet_database.database("worker")

    def gives_up(_waited_s: float) -> None:
        raise DatabaseUnavailableError("enough")

    with connect(fleet_database.dsn("worker"), "asker") as fleet:
        incarnation = fleet.incarnation.id
        assert database.call("next_job_in_s", incarnation=incarnation, kind="a") is None
        with psycopg.connect(fleet_database.superuser_dsn) as holder:
            holder.execute("LOCK fleet.jobs IN ACCESS EXCLUSIVE MODE")
            database.while_waiting = gives_up
            with pytest.raises(DatabaseUnavailableError, match="enough"):
                database.call("next_job_in_s", incarnation=incarnation, kind="a")
            holder.rollback()
        database.while_waiting = None
        assert database.call("claim_jobs", incarnation=incarnation, kind="a", sleeps=False) == []
    database.close()


# Wake-ups for the jobs of the dead


def test_a_dead_process_whose_session_stays_keeps_no_heir_of_another_asleep(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with (
        closing(fleet_database.database("maintainer")) as manager,
        fleet_database.connect("heir") as heir,
        closing(fleet_database.connect("gone")) as gone,
        fleet_database.connect("stays") as stays,
    ):
        for kind, holder in (("a", gone), ("b", stays)):
            holder.jobs.enqueue(kind)
            assert len(holder.jobs.claim(kind)) == 1
        owner.execute(
            "UPDATE fleet.incarnations SET died_at = clock_timestamp(), ended_at = clock_timestamp() "
            "WHERE worker IN ('gone', 'stays')"
        )
        assert heir.jobs.claim("a") == []  # and sleeps from now on
        gone.incarnation.database.close()
        wake_heirs(manager)
        assert "heir/jobs" in list(heir.incarnation.wake_ups(5))
        assert len(heir.jobs.claim("a")) == 1
