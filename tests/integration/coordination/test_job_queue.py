"""Jobs: many in a call, limits by key, ageing, dependencies, records, and what is counted of them."""

from collections.abc import Callable
from datetime import timedelta
from json import loads
from typing import Any

import pytest

from coordination import Fleet, alerts, connect
from coordination.database import Database, Json
from coordination.errors import InvalidValueError, LockLostError, TransitionRefusedError
from coordination.jobs import Job, NewJob, decide_job, get_job, get_job_status
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

DAY_S = 86_400


def counts(console: Database, kind: str = "a") -> dict[str, Any]:
    return next(one for one in get_job_status(console) if one["kind"] == kind)


# Many in one call


def test_many_are_enqueued_claimed_and_completed_in_three_calls(fleet: Fleet, owner: Owner) -> None:
    made = fleet.jobs.enqueue_many([NewJob(kind="a", payload={"n": n}) for n in range(100)])
    assert [one.created for one in made] == [True] * 100
    jobs = fleet.jobs.claim("a", 100)
    assert [job.payload["n"] for job in jobs] == list(range(100))
    assert len({job.lease for job in jobs}) == 100
    assert fleet.jobs.complete_many(jobs, [{"half": job.payload["n"] / 2} for job in jobs]) == ()
    ended = rows(owner, "SELECT id::text, (result->>'half')::float FROM fleet.jobs_finished f ORDER BY f.id")
    assert ended == [(one.id, n / 2) for n, one in enumerate(made)]


def test_many_are_enqueued_or_none(fleet: Fleet, owner: Owner) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.jobs.enqueue_many([NewJob(kind="a"), NewJob(kind="b", max_attempts=0)])
    assert_refused(refusal, "max_attempts", "0")
    assert value(owner, "SELECT count(*) FROM fleet.jobs") == 0


def _enqueue_both_ways(start: Callable[[], int], dsn: str) -> int:
    with connect(dsn, "writer") as fleet:
        keys = [str(n) for n in range(40)]
        order = keys if start() % 2 else keys[::-1]
        return sum(
            one.created
            for _ in range(5)
            for one in fleet.jobs.enqueue_many(
                [NewJob(kind="a", unique_key=key, concurrency_key=f"c{key}") for key in order]
            )
        )


def test_unique_keys_given_in_different_orders_neither_deadlock_nor_repeat(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    assert sum(together(_enqueue_both_ways, 4, fleet_database.dsn("worker"))) == 40
    assert value(owner, "SELECT count(*) FROM fleet.jobs") == 40


def test_reports_on_many_tell_which_are_lost_count_them_and_take_the_rest(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    fleet.jobs.enqueue_many([NewJob(kind="a") for _ in range(4)])
    jobs = fleet.jobs.claim("a", 4)
    owner.execute(
        "UPDATE fleet.jobs SET lease_expires_at = now() - interval '1 s' WHERE id <= %s", (jobs[1].id,)
    )
    with fleet_database.connect("heir") as heir:
        taken = heir.jobs.claim("a", 4)
        assert [job.id for job in taken] == [jobs[0].id, jobs[1].id]
        renewed = fleet.jobs.renew(jobs, 60)
        assert renewed.lost == (jobs[0].id, jobs[1].id)
        assert fleet.jobs.complete_many(jobs[:3]) == (jobs[0].id, jobs[1].id)
        assert fleet.jobs.snooze_many(jobs[1:2], 0) == (jobs[1].id,)
        assert fleet.jobs.fail_many(jobs, ["no"] * 4, 0) == {jobs[3].id: "retryable"}
        assert heir.jobs.complete_many(taken) == ()
    status = counts(console)
    assert (status["missed"], status["completed"], status["failed"], status["rescued"]) == (8, 3, 3, 2)


def test_one_batch_is_reported_and_the_next_taken_in_one_call(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    ids = [one.id for one in fleet.jobs.enqueue_many([NewJob(kind="a") for _ in range(5)])]
    first, second = fleet.jobs.claim("a", 2)
    owner.execute("UPDATE fleet.jobs SET lease = nextval('fleet.fencing_token') WHERE id = %s", (second.id,))
    jobs, lost = fleet.jobs.turn([first, second], "a", 2, results=[{"n": 1}, {"n": 2}])
    assert [job.id for job in jobs] == ids[2:4]
    assert lost == (second.id,)
    assert rows(owner, "SELECT id::text, result FROM fleet.jobs_finished") == [(first.id, {"n": 1})]
    jobs, lost = fleet.jobs.turn(jobs, "a", 2)
    assert [job.id for job in jobs] == ids[4:]
    assert fleet.jobs.turn(jobs, "a", 2) == ([], ())
    with fleet_database.connect("other") as other:
        other.jobs.enqueue("a")
        assert heard(fleet) == ["tester/jobs"]  # it fell asleep as after a claim that finds nothing
    assert value(owner, "SELECT count(*) FROM fleet.runs WHERE outcome = 'done'") == 4


def test_a_renewed_lease_outlives_the_first_one(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    fleet.jobs.enqueue("a")
    (job,) = fleet.jobs.claim("a", lease_s=0.05)
    renewed = fleet.jobs.renew([job], 3600)
    assert renewed.lost == ()
    assert renewed.lease_expires_at > job.lease_expires_at + timedelta(minutes=50)
    with fleet_database.connect("heir") as heir:
        assert heir.jobs.claim("a") == []
    fleet.jobs.complete(job)


def test_many_are_cancelled_and_replayed(fleet: Fleet, owner: Owner) -> None:
    ids = [one.id for one in fleet.jobs.enqueue_many([NewJob(kind="a") for _ in range(3)])]
    fleet.jobs.claim("a")
    assert fleet.jobs.cancel_many(ids) == tuple(ids[1:])
    assert fleet.jobs.replay_many(ids) == tuple(ids[1:])
    assert value(owner, "SELECT count(*) FROM fleet.jobs_finished") == 0
    assert [job.id for job in fleet.jobs.claim("a", 3)] == ids[1:]


# Limits by key


def _work_with_a_limit(start: Callable[[], int], dsn: str) -> int:
    done = 0
    with connect(dsn, "worker") as fleet:
        kinds = "ab" if start() % 2 else "ba"
        while any(kind["available"] for kind in fleet.database.call("get_job_status")):
            jobs = [job for kind in kinds for job in fleet.jobs.claim(kind, 3)]
            for job in jobs:
                fleet.jobs.renew([job])
                fleet.jobs.complete(job)
                done += 1
    return done


MOST_AT_ONCE = """
    SELECT max(n) FROM (SELECT count(*) AS n FROM fleet.runs r JOIN fleet.runs o
        ON o.started_real_at <= r.started_real_at AND o.ended_real_at > r.started_real_at GROUP BY r.id) x
    """


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_jobs_of_a_key_run_at_once_than_its_limit(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, limit: int
) -> None:
    fleet.jobs.enqueue_many(
        [NewJob(kind=kind, concurrency_key="site", concurrency_limit=limit) for kind in "ab" * 30]
    )
    assert sum(together(_work_with_a_limit, 6, fleet_database.dsn("worker"))) == 60
    assert value(owner, MOST_AT_ONCE) <= limit


def test_counted_without_the_keys_row_the_test_above_would_fail(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.jobs.enqueue_many([NewJob(kind=kind, concurrency_key="site") for kind in "ab" * 30])
    lock = (
        "PERFORM fleet.hold_limits(array_agg(j.concurrency_key), array_agg(coalesce(j.concurrency_limit, 1)))"
    )
    counted = "WHERE t.turn <= p.free"
    slowly = f"{counted} AND pg_sleep(0.05) IS NOT NULL"  # a wider gap between the count and the claim
    with planted(owner, "within_limits", (lock, "PERFORM 1"), (counted, slowly)):
        together(_work_with_a_limit, 6, fleet_database.dsn("worker"))
    assert value(owner, MOST_AT_ONCE) > 1


def test_a_full_key_holds_up_no_other_job(fleet: Fleet) -> None:
    fleet.jobs.enqueue_many([NewJob(kind="a", payload={"n": n}, concurrency_key="k") for n in range(50)])
    fleet.jobs.enqueue_many([NewJob(kind="a", payload={"n": n}) for n in range(100, 103)])
    fleet.jobs.enqueue_many(
        [
            NewJob(kind="a", payload={"n": n}, concurrency_key="two", concurrency_limit=2)
            for n in range(200, 205)
        ]
    )
    taken = fleet.jobs.claim("a", 10)
    assert [job.payload["n"] for job in taken] == [0, 100, 101, 102, 200, 201]
    assert fleet.jobs.claim("a", 10) == []
    fleet.jobs.complete(taken[0])
    assert [job.payload["n"] for job in fleet.jobs.claim("a", 10)] == [1]


def _claim_and_hold(keep: Callable[[object], None], dsn: str) -> Job:
    fleet = connect(dsn, "zombie")
    keep(fleet)
    return fleet.jobs.claim("a", lease_s=3600)[0]


def test_a_zombies_reports_on_a_job_of_limit_one_have_no_effect(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    """Its claim ran out while it was stopped; it goes on beside its heir, and every word of it is refused."""
    fleet.jobs.enqueue("a", concurrency_key="one")
    with fleet_database.connect("zombie") as zombie, fleet_database.connect("heir") as heir:
        (stale,) = zombie.jobs.claim("a", lease_s=0.01)
        taken: list[Job] = []
        until(lambda: bool(taken.extend(heir.jobs.claim("a")) or taken), 5)
        assert fleet.jobs.claim("a") == []
        for report in (
            lambda: zombie.jobs.complete(stale, {"by": "zombie"}),
            lambda: zombie.jobs.fail(stale, "no"),
            lambda: zombie.jobs.snooze(stale, 0),
        ):
            with pytest.raises(LockLostError):
                report()
        assert zombie.jobs.renew([stale]).lost == (stale.id,)
        assert zombie.jobs.claim("a") == []  # its place is the heir's
        assert taken[0].lease > stale.lease
        heir.jobs.complete(taken[0], {"by": "heir"})
    assert rows(owner, "SELECT attempts, result->>'by' FROM fleet.jobs_finished") == [(2, "heir")]
    assert rows(owner, "SELECT attempt, outcome FROM fleet.runs ORDER BY attempt") == [
        (1, "cut"),
        (2, "done"),
    ]
    assert counts(console)["missed"] == 4


def test_a_dead_workers_place_in_a_limit_is_free_at_once(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    fleet.jobs.enqueue_many([NewJob(kind="a", concurrency_key="one") for _ in range(2)])
    with victim(_claim_and_hold, fleet_database.dsn("worker")) as doomed:
        assert fleet.jobs.claim("a", 2) == []
        doomed.kill()
        taken: list[Job] = []
        until(lambda: bool(taken.extend(fleet.jobs.claim("a", 2)) or taken), 5)
        assert [(job.id, job.attempt) for job in taken] == [(doomed.result.id, 2)]


def test_jobs_of_a_kind_that_nobody_claims_any_more_are_rescued_too(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.jobs.enqueue("a")
    with victim(_claim_and_hold, fleet_database.dsn("worker")) as doomed:
        assert fleet.jobs.rescue() == (0, 0)
        doomed.kill()
        until(lambda: fleet.jobs.rescue()[0] == 1, 5)
    assert rows(owner, "SELECT state, attempts FROM fleet.jobs") == [("retryable", 1)]


# Order


def test_each_ten_minutes_of_waiting_make_up_for_one_rank_i12(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    names = {fleet.jobs.enqueue("a", priority="low").id: "old low"}
    fleet_database.advance(25 * 60)
    names[fleet.jobs.enqueue("a", priority="high").id] = "high"
    names[fleet.jobs.enqueue("a", priority="critical").id] = "critical"
    assert [names[job.id] for job in fleet.jobs.claim("a", 3)] == ["critical", "old low", "high"]


def test_a_job_waits_for_those_that_it_depends_on(fleet: Fleet, owner: Owner) -> None:
    first, second = fleet.jobs.enqueue("a").id, fleet.jobs.enqueue("a").id
    last = fleet.jobs.enqueue("b", depends=[first, second, first]).id
    assert fleet.jobs.claim("b") == []
    one, two = fleet.jobs.claim("a", 2)
    fleet.jobs.complete(one)
    assert fleet.jobs.claim("b") == []
    fleet.jobs.complete(two)
    assert [job.id for job in fleet.jobs.claim("b")] == [last]
    assert fleet.jobs.enqueue("c", depends=[first]).created
    assert len(fleet.jobs.claim("c")) == 1  # it is completed already
    with pytest.raises(InvalidValueError) as refusal:
        fleet.jobs.enqueue("b", depends=["999999"])
    assert_refused(refusal, "depends", "999999")
    assert value(owner, "SELECT count(*) FROM fleet.jobs") == 2


def test_what_depends_on_a_dead_job_is_cancelled_and_says_why(fleet: Fleet, owner: Owner) -> None:
    first = fleet.jobs.enqueue("a", max_attempts=1).id
    second = fleet.jobs.enqueue("b", depends=[first]).id
    third = fleet.jobs.enqueue("b", depends=[second]).id
    (job,) = fleet.jobs.claim("a")
    assert fleet.jobs.fail(job, "no") == "dead"
    ended = rows(
        owner, "SELECT id::text, state, errors->-1->>'error' FROM fleet.jobs_finished f ORDER BY f.id"
    )
    assert ended == [
        (first, "dead", "no"),
        (second, "cancelled", f"job {first}, on which it depends, is dead"),
        (third, "cancelled", f"job {second}, on which it depends, is cancelled"),
    ]


def _complete_in_turn(start: Callable[[], int], dsn: str) -> int:
    done = 0
    with connect(dsn, "worker") as fleet:
        start()
        while jobs := [*fleet.jobs.claim("a", 2), *fleet.jobs.claim("b", 2)]:
            done += len(jobs) - len(fleet.jobs.complete_many(jobs))
    return done


def test_jobs_that_end_together_release_what_waits_for_both(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    firsts = [one.id for one in fleet.jobs.enqueue_many([NewJob(kind="a") for _ in range(40)])]
    fleet.jobs.enqueue_many(
        [NewJob(kind="b", depends=(firsts[n], firsts[-1 - n], firsts[n // 2])) for n in range(20)]
    )
    done = sum(together(_complete_in_turn, 4, fleet_database.dsn("worker")))
    while jobs := fleet.jobs.claim("b", 10):  # those that were released after everybody's last look
        done += len(jobs) - len(fleet.jobs.complete_many(jobs))
    assert done == 60
    assert value(owner, "SELECT count(*) FROM fleet.jobs") == 0


# Failing


def test_without_a_backoff_of_its_own_a_failure_waits_longer_each_time(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.jobs.enqueue("a", max_attempts=9)
    waits: list[float] = []
    for _ in range(5):
        (job,) = fleet.jobs.claim("a")
        fleet.jobs.fail(job, "no", error_class="ValueError")
        waits.append(value(owner, "SELECT extract(epoch FROM run_at - fleet.now())::float FROM fleet.jobs"))
        wait_s = fleet.jobs.next_in_s("a")
        assert wait_s is not None
        fleet_database.advance(wait_s + 0.1)
    assert all(5 * 2**n - 1 <= wait <= 10 * 2**n for n, wait in enumerate(waits))
    assert {row[0] for row in rows(owner, "SELECT error_class FROM fleet.runs")} == {"ValueError"}


def test_a_final_failure_is_dead_at_once(fleet: Fleet) -> None:
    fleet.jobs.enqueue("a", max_attempts=9)
    assert fleet.jobs.fail(fleet.jobs.claim("a")[0], "never", final=True) == "dead"


def test_a_job_that_takes_longer_than_expected_is_told_once(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    fleet.jobs.enqueue("a", expected_s=60)
    (job,) = fleet.jobs.claim("a")
    assert job.expected_s == 60
    assert fleet.jobs.rescue() == (0, 0)
    owner.execute("UPDATE fleet.jobs SET claimed_real_at = claimed_real_at - interval '61 s'")
    assert fleet.jobs.rescue() == (0, 1)
    assert fleet.jobs.rescue() == (0, 0)
    (alert,) = alerts.list_alerts(console)
    assert (alert["key"], alert["kind"], alert["times"]) == (f"job:{job.id}", "job_overdue", 1)
    assert counts(console)["late"] == 1
    fleet.jobs.complete(job)
    assert alerts.list_alerts(console) == []
    assert counts(console)["overdue"] == 1


# Records, measures, and what is kept


def test_every_execution_leaves_a_run_record(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    for kind in ("good", "bad", "late"):
        fleet.jobs.enqueue(kind)
    fleet_database.advance(30)
    good, bad, late = (fleet.jobs.claim(kind)[0] for kind in ("good", "bad", "late"))
    assert len({job.trace_id for job in (good, bad, late)}) == 3
    fleet.jobs.complete(good)
    fleet.jobs.fail(bad, "no", error_class="KeyError")
    fleet.jobs.snooze(late, 5)
    ended = rows(
        owner,
        "SELECT step, outcome, items, item_errors, error_class, error, wait_s BETWEEN 30 AND 40, "
        "ended_real_at >= started_real_at FROM fleet.runs ORDER BY id",
    )
    assert ended == [
        ("good", "done", 1, 0, None, None, True, True),
        ("bad", "failed", 0, 1, "KeyError", "no", True, True),
        ("late", "put_off", 0, 0, None, None, True, True),
    ]
    recorded = rows(owner, "SELECT step, worker, job::text, attempt, trace_id FROM fleet.runs ORDER BY id")
    assert recorded == [(job.kind, "tester", job.id, 1, job.trace_id) for job in (good, bad, late)]


def test_each_job_counts_once_as_enqueued_however_often_it_ends(fleet: Fleet, console: Database) -> None:
    dying, resting, done = (fleet.jobs.enqueue("a", max_attempts=1) for _ in range(3))
    heir = fleet.jobs.enqueue("b", depends=[dying.id])

    def enqueued() -> tuple[int, int]:
        return counts(console)["enqueued"], counts(console, "b")["enqueued"]

    assert enqueued() == (3, 1)
    assert fleet.jobs.cancel(resting.id)
    for _ in range(2):
        for job in fleet.jobs.claim("a", 3):
            if job.id == done.id:
                fleet.jobs.complete(job)
            else:
                fleet.jobs.fail(job, "no")
        assert enqueued() == (3, 1)
        assert len(fleet.jobs.replay_many([dying.id, resting.id, heir.id])) == 3
        assert enqueued() == (3, 1)
        assert fleet.jobs.cancel(resting.id)
    assert counts(console)["dead"] == 2


def test_the_status_tells_depth_waits_and_outcomes(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    fleet.jobs.enqueue_many([NewJob(kind="a", max_attempts=2) for _ in range(5)])
    fleet.jobs.enqueue("a", run_at=value(owner, "SELECT fleet.now() + interval '1 hour'"))
    fleet.jobs.enqueue("a", depends=[fleet.jobs.enqueue("a").id])
    fleet_database.advance(120)
    jobs = fleet.jobs.claim("a", 3)
    fleet.jobs.complete(jobs[0])
    fleet.jobs.fail(jobs[1], "no")
    status = counts(console)
    assert {name: status[name] for name in ("available", "retryable", "running", "scheduled", "blocked")} == {
        "available": 5, "retryable": 1, "running": 1, "scheduled": 2, "blocked": 1,
    }  # fmt: skip
    assert (status["enqueued"], status["claimed"], status["completed"], status["failed"]) == (8, 3, 1, 1)
    assert 120 <= status["oldest_due_s"] < 180
    assert 360 <= status["wait_s"] < 420
    assert status["run_s"] > 0


def test_what_ended_goes_by_whole_days_and_a_missing_day_is_made_up(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    parts = "SELECT relname FROM pg_class WHERE relname ~ '^jobs_finished_[0-9]{8}$' ORDER BY 1"
    fleet_database.advance(40 * DAY_S)  # far beyond every day that was made ahead

    def finish() -> str:
        fleet.jobs.enqueue("a")
        (job,) = fleet.jobs.claim("a")
        fleet.jobs.complete(job)
        return job.id

    old = finish()
    assert value(owner, "SELECT count(*) FROM fleet.jobs_finished_rest") == 1
    assert fleet.retention.sweep("jobs", keep_s=2 * DAY_S) == 0
    assert value(owner, "SELECT count(*) FROM fleet.jobs_finished_rest") == 0
    assert get_job(console, old) is not None
    made = [name for (name,) in rows(owner, parts)]
    fleet_database.advance(4 * DAY_S)
    new = finish()
    fleet.runs.finish(fleet.runs.start("s", "t"), items=0, item_errors=0)
    assert fleet.retention.sweep("jobs", keep_s=2 * DAY_S) == 1
    assert fleet.retention.sweep("runs", keep_s=2 * DAY_S) >= 1
    assert get_job(console, old) is None
    found = get_job(console, new)
    assert found is not None
    assert (found["state"], found["kind"]) == ("completed", "a")
    assert made[0] not in [name for (name,) in rows(owner, parts)]
    assert value(owner, "SELECT count(*) FROM fleet.runs WHERE step = 's'") == 1


def heard(fleet: Fleet) -> list[str]:
    """Who was woken since the last call: what was committed comes in order, its own mark last."""
    fleet.database.call("wake", worker="mark")
    names: list[str] = []
    until(lambda: bool(names.extend(fleet.incarnation.wake_ups(1)) or "mark" in names), 5)
    return names[:-1]


def test_who_sleeps_and_takes_jobs_of_a_kind_is_woken_once_until_it_looks(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    soon = value(owner, "SELECT fleet.now() + interval '5 seconds'")
    with fleet_database.connect("analyser") as analyser:
        assert analyser.jobs.claim("analyse") == []
        fleet.jobs.enqueue("other")
        assert heard(fleet) == []
        fleet.jobs.enqueue("analyse")
        fleet.jobs.enqueue_many([NewJob(kind="analyse"), NewJob(kind="analyse")])
        assert heard(fleet) == ["analyser/jobs"]
        first, *others = analyser.jobs.claim("analyse", 3)
        analyser.jobs.complete_many(others)
        assert analyser.jobs.claim("analyse") == []
        fleet.jobs.enqueue("analyse", run_at=soon)  # it does not know yet that it must look again
        assert heard(fleet) == ["analyser/jobs"]
        assert analyser.jobs.claim("analyse") == []
        fleet.jobs.enqueue("analyse", depends=[first.id])
        assert heard(fleet) == []
        analyser.jobs.complete(first)
        assert heard(fleet) == ["analyser/jobs"]


@pytest.mark.parametrize("end", ["complete", "fail", "snooze"])
def test_a_keys_place_that_gets_free_wakes_who_waits_for_it_with_another_kind(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, end: str
) -> None:
    later = value(owner, "SELECT fleet.now() + interval '1 hour'")
    with fleet_database.connect("other") as other, fleet_database.connect("third") as third:
        fleet.jobs.enqueue("a", concurrency_key="k")
        (job,) = fleet.jobs.claim("a")
        waits = fleet.jobs.enqueue("b", concurrency_key="k").id
        fleet.jobs.enqueue("c", concurrency_key="k", run_at=later)
        fleet.jobs.enqueue("c", concurrency_key="l", depends=[waits])
        assert other.jobs.claim("b") == []
        assert third.jobs.claim("c") == []
        assert heard(fleet) == []
        if end == "complete":
            fleet.jobs.complete(job)
        elif end == "fail":
            fleet.jobs.fail(job, "no", 600)
        else:
            fleet.jobs.snooze(job, 600)
        assert heard(fleet) == ["other/jobs"]
        assert [one.id for one in other.jobs.claim("b")] == [waits]


def test_a_person_cancels_and_replays_with_an_audit(fleet: Fleet, owner: Owner, console: Database) -> None:
    job = fleet.jobs.enqueue("a").id
    assert decide_job(console, job, "cancel", actor="me", reason="not needed")["state"] == "cancelled"
    with pytest.raises(TransitionRefusedError, match="cancelled"):
        decide_job(console, job, "cancel", actor="me", reason="again")
    assert decide_job(console, job, "replay", actor="me", reason="after all")["state"] == "available"
    assert rows(owner, "SELECT action, target FROM fleet.audits ORDER BY id") == [
        ("cancel_job", job),
        ("replay_job", job),
    ]
    with pytest.raises(InvalidValueError):
        decide_job(console, "999999", "cancel", actor="me", reason="no such")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ('{"kind": "a", "run_at": "soon"}', "run_at"),
        ('{"kind": "a", "run_at": "2026-13-45"}', "run_at"),
        ('{"kind": "a", "max_attempts": "many"}', "max_attempts"),
        ('{"kind": "a", "max_attempts": 99999999999}', "max_attempts"),
        ('{"kind": "a", "expected_s": "long"}', "expected_s"),
        ('{"kind": "a", "concurrency_key": "k", "concurrency_limit": 1.5}', "concurrency_limit"),
        ('{"kind": "a", "depends": 7}', "depends"),
        ('{"kind": "a", "depends": ["x"]}', "depends"),
        ("[]", "jobs"),
    ],
)
def test_what_is_no_time_or_number_among_many_is_refused_by_name(
    fleet: Fleet, given: str, field: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("enqueue_jobs", jobs=Json([loads(given)]))
    assert refusal.value.field == field
    assert refusal.value.allowed


def test_what_can_be_no_job_is_refused_by_name(fleet: Fleet) -> None:
    enqueue: Any = fleet.jobs.enqueue
    for options, field, given in (
        ({"payload": {"x": "y" * 70_000}}, "payload", None),
        ({"expected_s": 0}, "expected_s", "0"),
        ({"expected_s": float("nan")}, "expected_s", "NaN"),
        ({"run_at": "9000-01-01 00:00:00+00"}, "run_at", None),  # as a client says it that is no Python
        ({"concurrency_key": ""}, "concurrency_key", ""),
        ({"concurrency_key": "k", "concurrency_limit": 0}, "concurrency_limit", "0"),
        ({"depends": [str(n) for n in range(1, 102)]}, "depends", "101 jobs"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            enqueue("a", **options)
        assert refusal.value.field == field
        assert given is None or refusal.value.value == given
    fleet.jobs.enqueue("a")
    (job,) = fleet.jobs.claim("a")
    for report, field in (
        (lambda: fleet.jobs.snooze(job, -1), "delay_s"),
        (lambda: fleet.jobs.snooze(job, float("nan")), "delay_s"),
        (lambda: fleet.jobs.fail(job, "no", float("nan")), "backoff_s"),
        (lambda: fleet.jobs.renew([job], 0), "lease_s"),
        (lambda: fleet.jobs.complete_many([job], [{}, {}]), "results"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            report()
        assert refusal.value.field == field
