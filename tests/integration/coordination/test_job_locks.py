"""Jobs: what many do at once is locked in one order, and a backlog that can't run is in nobody's way."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from threading import Thread
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.errors import DatabaseBusyError, FleetError, InvalidValueError, TransitionRefusedError
from coordination.jobs import Job, NewJob, decide_job, get_job_status
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until
from tests.integration.coordination.tables import Owner, planted, rows, value


class Aside:
    """A call in a thread of its own; `error` is what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.error: Exception | None = None
        self._thread = Thread(target=self._run, args=(call,))
        self._thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (FleetError, psycopg.Error) as error:
            self.error = error

    def end(self) -> None:
        self._thread.join(15)
        assert not self._thread.is_alive()
        assert self.error is None


def until_one_waits(owner: Owner, number: int = 1) -> None:
    """Until so many sessions wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    until(lambda: value(owner, waiting) >= number, 10)


def test_counting_waits_for_nobody(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    """Whoever holds every row of a kind's counts until its commit holds nobody up, and no count is lost."""
    fleet.jobs.enqueue_many([NewJob(kind="a")] * 3)
    first, second, third = fleet.jobs.claim("a", 3)
    fleet.jobs.complete(first)
    with psycopg.connect(fleet_database.superuser_dsn) as other:
        other.execute("UPDATE fleet.job_counts SET completed = completed + 10 WHERE kind = 'a'")
        owner.execute("ALTER FUNCTION fleet.complete_jobs SET lock_timeout = '50ms'")
        try:
            fleet.jobs.complete(second)
        finally:
            owner.execute("ALTER FUNCTION fleet.complete_jobs SET lock_timeout = '5s'")
        other.commit()
    fleet.jobs.complete(third)
    assert value(owner, "SELECT sum(completed) FROM fleet.job_counts WHERE kind = 'a'") == 13


def test_who_falls_asleep_waits_for_a_job_that_is_being_added_and_sees_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """So who adds one for somebody awake has nothing to tell; who comes meanwhile has, and does not wait."""
    add = "SELECT fleet.enqueue_job(%s, 'a')->'wake'"
    life = fleet.incarnation.id
    found: list[Job] = []
    with (
        fleet_database.connect("sleeper") as sleeper,
        psycopg.connect(fleet_database.superuser_dsn) as other,
    ):
        assert sleeper.jobs.claim("a") == []
        assert other.execute(add, [life]).fetchone() == (["sleeper/jobs"],)
        other.rollback()
        fleet.database.call("wake", worker="sleeper/jobs")
        assert other.execute(add, [life]).fetchone() == ([],)
        falling = Aside(lambda: found.extend(sleeper.jobs.claim("a", 3)))
        until_one_waits(owner)
        assert value(owner, add, life) == ["sleeper/jobs"]
        other.commit()
        falling.end()
    assert len(found) == 2


def test_two_parents_that_end_at_once_lock_their_heirs_in_one_order(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """Each of two reports is of two parents; their heirs are two jobs, met in opposite orders."""
    one, two, three, four = (fleet.jobs.enqueue("a").id for _ in range(4))
    low = fleet.jobs.enqueue("b", depends=[one, four]).id
    high = fleet.jobs.enqueue("b", depends=[two, three]).id
    with fleet_database.connect("left") as left, fleet_database.connect("right") as right:
        jobs = {job.id: job for job in left.jobs.claim("a", 2)}  # one, two: low, then high
        jobs |= {job.id: job for job in right.jobs.claim("a", 2)}  # three, four: high, then low
        slow = "    FOR ended IN\n"
        with planted(owner, "finish_job", (slow, f"    PERFORM pg_sleep(0.3);\n{slow}")):
            reports = [
                Aside(lambda: left.jobs.complete_many([jobs[one], jobs[two]])),
                Aside(lambda: right.jobs.complete_many([jobs[three], jobs[four]])),
            ]
            for report in reports:
                report.end()
    assert {job.id for job in fleet.jobs.claim("b", 2)} == {low, high}


def test_a_job_to_die_is_left_while_others_hold_what_depends_on_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """Taking back waits for nobody: it holds rows in no order."""
    first = fleet.jobs.enqueue("a", max_attempts=1).id
    heir = fleet.jobs.enqueue("b", depends=[first]).id
    fleet.jobs.claim("a", lease_s=0.01)
    until(
        lambda: value(
            owner, "SELECT lease_expires_at < clock_timestamp() FROM fleet.jobs WHERE state = 'running'"
        ),
        5,
    )
    with psycopg.connect(fleet_database.superuser_dsn) as other:
        other.execute("SELECT 1 FROM fleet.jobs WHERE id = %s FOR UPDATE", (heir,))
        assert fleet.jobs.rescue() == (0, 0)
        other.rollback()
    assert fleet.jobs.rescue() == (1, 0)
    ended = rows(owner, "SELECT id::text, state FROM fleet.jobs_finished f ORDER BY f.id")
    assert ended == [(first, "dead"), (heir, "cancelled")]


def test_who_enqueues_behind_a_job_and_who_claims_it_do_not_wait_in_a_circle(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """One sets the key's limit anew and depends on the job; the other has the job and wants the key's row."""
    job = fleet.jobs.enqueue("a", concurrency_key="k").id
    with fleet_database.connect("claimer") as claimer:
        wants = "PERFORM fleet.hold_limits("
        with planted(owner, "within_limits", (wants, f"PERFORM pg_sleep(0.5); {wants}")):
            claim = Aside(lambda: claimer.jobs.claim("a"))
            until(
                lambda: (
                    value(owner, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == 1
                ),
                5,
            )
            enqueue = Aside(
                lambda: fleet.jobs.enqueue("b", concurrency_key="k", concurrency_limit=2, depends=[job])
            )
            claim.end()
            enqueue.end()
    assert rows(owner, "SELECT key, capacity FROM fleet.job_limits") == [("k", 2)]


def test_who_falls_asleep_lets_go_of_the_keys_before_it_looks_again(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """It waits for a key that is full by then; what it sees next has a key that comes before that one."""
    for kind in "ab":
        fleet.jobs.enqueue(kind, concurrency_key="z")
    owner.execute("INSERT INTO fleet.job_limits VALUES ('y', 1)")
    lock = "SELECT 1 FROM fleet.job_limits WHERE key = %s FOR UPDATE"
    taken: list[Job] = []
    with (
        psycopg.connect(fleet_database.superuser_dsn) as holder,
        psycopg.connect(fleet_database.superuser_dsn) as in_order,
    ):
        holder.execute(lock, ("z",))
        in_order.execute(lock, ("y",))
        claim = Aside(lambda: taken.extend(fleet.jobs.claim("a")))
        until_one_waits(owner)
        both = Aside(lambda: in_order.execute(lock, ("z",)))
        until_one_waits(owner, 2)
        holder.execute(
            "UPDATE fleet.jobs SET state = 'running', incarnation = gen_random_uuid() WHERE kind = 'b'"
        )
        holder.execute(
            "INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, max_attempts, "
            "created_at, concurrency_key) SELECT 'a', '{\"new\": true}', priority, rank, run_at, order_at, "
            "'available', max_attempts, created_at, 'y' FROM fleet.jobs WHERE kind = 'b'"
        )
        holder.commit()
        both.end()
        in_order.commit()
        claim.end()
    assert [job.payload for job in taken] == [{"new": True}]


def _do_anything(start: Callable[[], int], dsn: str, rounds: int) -> list[str]:
    """Make, claim, end, cancel and replay jobs that hang together, by chance; give what was refused."""
    busy: list[str] = []
    with connect(dsn, "crowd") as fleet:
        chance = Random(start())
        known: list[str] = []
        for _ in range(rounds):
            try:
                made = fleet.jobs.enqueue_many(
                    [
                        NewJob(
                            kind=chance.choice("ab"),
                            unique_key=chance.choice((None, *"xyz")),
                            concurrency_key=chance.choice((None, *"klm")),
                            concurrency_limit=chance.randint(1, 3),
                            max_attempts=chance.randint(1, 2),
                        )
                        for _ in range(6)
                    ]
                )
                known = [*known, *(one.id for one in made)][-12:]
                with suppress(InvalidValueError):  # one of them may be dead
                    fleet.jobs.enqueue("b", depends=chance.sample(known, 3), concurrency_key="k")
                    fleet.jobs.enqueue("a", depends=chance.sample(known, 3))
                jobs = [job for kind in chance.sample("ab", 2) for job in fleet.jobs.claim(kind, 4, 0.5)]
                chance.shuffle(jobs)
                fleet.jobs.complete_many(jobs[:2])
                more, _ = fleet.jobs.turn(jobs[2:4], chance.choice("ab"), 4, 0.5)
                fleet.jobs.fail_many(jobs[4:6], ["no"] * len(jobs[4:6]), 0)
                fleet.jobs.snooze_many([*jobs[6:], *more], 0)
                fleet.jobs.cancel_many(chance.sample(known, 2))
                fleet.jobs.replay_many(chance.sample(known, 4))
                fleet.jobs.rescue()
            except DatabaseBusyError as error:
                busy.append(str(error))
    return busy


def test_whatever_is_done_with_jobs_at_once_nobody_waits_in_a_circle_and_all_is_counted(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    slow = "    FOR ended IN\n"  # jobs are held for longer, and waited for
    twice = "        locked := locked || wanted;"  # and what is replayed meanwhile may come between
    with (
        planted(owner, "finish_job", (slow, f"    PERFORM pg_sleep(0.01);\n{slow}")),
        planted(owner, "lock_jobs", (twice, f"        PERFORM pg_sleep(0.01);\n{twice}")),
    ):
        assert together(_do_anything, 6, fleet_database.dsn("worker"), 20) == [[]] * 6
    assert value(owner, "SELECT count(*) FROM fleet.jobs JOIN fleet.jobs_finished USING (id)") == 0
    ended = dict(rows(owner, "SELECT step, count(*) FROM fleet.runs GROUP BY step"))
    assert {kind["kind"]: kind["claimed"] - kind["running"] for kind in get_job_status(console)} == ended


def test_a_full_keys_backlog_is_not_walked_at_each_claim(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    for _ in range(10):
        fleet.jobs.enqueue_many([NewJob(kind="a", concurrency_key="full") for _ in range(1000)])
    fleet.jobs.enqueue_many([NewJob(kind="a", payload={"n": n}, concurrency_key=f"k{n}") for n in range(3)])
    fleet.jobs.enqueue("a", {"n": 3})
    owner.execute("ANALYZE fleet.jobs")
    assert len(fleet.jobs.claim("a")) == 1
    with psycopg.connect(fleet_database.superuser_dsn) as session:
        claim = f"SELECT fleet.claim_jobs('{fleet.incarnation.id}', 'a', 5)"
        claimed: Any = session.execute(claim.encode()).fetchone()
        read = session.execute(
            "SELECT sum(idx_tup_fetch + seq_tup_read) FROM pg_stat_xact_all_tables WHERE relname = 'jobs'"
        ).fetchone()
    assert claimed is not None
    assert [job["payload"]["n"] for job in claimed[0]] == [0, 1, 2, 3]
    assert read is not None
    assert int(read[0]) < 3000


def test_a_replayed_job_waits_for_what_it_depends_on(fleet: Fleet, owner: Owner, console: Database) -> None:
    parent = fleet.jobs.enqueue("a", max_attempts=1).id
    heir = fleet.jobs.enqueue("b", depends=[parent]).id
    (job,) = fleet.jobs.claim("a")
    assert fleet.jobs.fail(job, "no") == "dead"
    assert fleet.jobs.replay_many([heir]) == ()
    assert fleet.jobs.claim("b") == []
    with pytest.raises(TransitionRefusedError, match="depends"):
        decide_job(console, heir, "replay", actor="me", reason="again")
    assert fleet.jobs.replay_many([heir, parent]) == (parent, heir)
    assert fleet.jobs.claim("b") == []
    (again,) = fleet.jobs.claim("a")
    fleet.jobs.complete(again)
    assert [one.id for one in fleet.jobs.claim("b")] == [heir]
    assert value(owner, "SELECT count(*) FROM fleet.jobs_finished WHERE state <> 'completed'") == 0


def test_a_replayed_job_whose_dependency_was_completed_meanwhile_runs(fleet: Fleet) -> None:
    parent = fleet.jobs.enqueue("a").id
    heir = fleet.jobs.enqueue("b", depends=[parent]).id
    assert fleet.jobs.cancel(heir)
    (job,) = fleet.jobs.claim("a")
    fleet.jobs.complete(job)
    assert fleet.jobs.replay(heir)
    assert [one.id for one in fleet.jobs.claim("b")] == [heir]


def test_keys_and_takers_that_nobody_has_any_more_are_swept_and_come_back(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    names = "SELECT key FROM fleet.job_limits ORDER BY key"
    fleet.jobs.enqueue("a", concurrency_key="stays", concurrency_limit=2)
    fleet.jobs.enqueue("a", concurrency_key="goes", concurrency_limit=3)
    jobs = fleet.jobs.claim("a", 2)
    fleet.jobs.fail(next(job for job in jobs if job.id == jobs[1].id), "no", final=True)
    with fleet_database.connect("gone") as gone:
        gone.jobs.claim("b")
    fleet.jobs.rescue()
    assert rows(owner, names) == [("stays",)]
    assert rows(owner, "SELECT kind, worker FROM fleet.job_takers") == [("a", "tester")]
    assert fleet.jobs.replay(jobs[1].id)
    assert [job.id for job in fleet.jobs.claim("a")] == [jobs[1].id]
    assert rows(owner, "SELECT key, capacity FROM fleet.job_limits ORDER BY key") == [
        ("goes", 3),
        ("stays", 2),
    ]


def test_what_waits_for_its_next_try_is_not_at_the_head_of_the_line(fleet: Fleet, owner: Owner) -> None:
    """Its turn goes by its new time; what is tried at once keeps its place."""
    fleet.jobs.enqueue_many([NewJob(kind="a") for _ in range(3)])
    one, two, three = fleet.jobs.claim("a", 3)
    fleet.jobs.fail(one, "no", backoff_s=60)
    fleet.jobs.snooze(two, 60)
    fleet.jobs.snooze(three, 0)
    order = "SELECT order_at = fleet.job_order(run_at, rank) FROM fleet.jobs ORDER BY id"
    assert rows(owner, order) == [(True,), (True,), (False,)]


def test_a_time_that_is_past_jumps_no_line(fleet: Fleet, owner: Owner) -> None:
    critical = fleet.jobs.enqueue("a", priority="critical").id
    long_ago = value(owner, "SELECT fleet.now() - interval '1 year'")
    fleet.jobs.enqueue("a", priority="low", run_at=long_ago)
    assert [job.id for job in fleet.jobs.claim("a")] == [critical]


def test_what_falls_due_between_a_claim_and_the_question_is_due_now(fleet: Fleet) -> None:
    fleet.jobs.enqueue("a")
    assert fleet.jobs.next_in_s("a") == 0
    assert fleet.jobs.next_in_s("b") is None


def test_what_waited_for_another_job_takes_its_place_by_when_that_ended(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    parent = fleet.jobs.enqueue("parent").id
    heir = fleet.jobs.enqueue("a", depends=[parent]).id
    fleet_database.advance(3600)
    waits = fleet.jobs.enqueue("a").id
    fleet.jobs.complete(fleet.jobs.claim("parent")[0])
    assert [job.id for job in fleet.jobs.claim("a", 2)] == [waits, heir]


def test_a_key_that_becomes_free_meanwhile_is_in_no_circle(
    fleet: Fleet, fleet_database: FleetDatabase, owner: Owner
) -> None:
    """A job stood in the way of the first of two keys, and ended: whoever has the second one begins anew."""
    fleet.jobs.enqueue("a", unique_key="k3")
    (job,) = fleet.jobs.claim("a")
    both = [NewJob(kind="a", unique_key="k3"), NewJob(kind="a", unique_key="k4")]
    made: list[list[bool]] = []

    def add(fleet: Fleet) -> None:
        made.append([one.created for one in fleet.jobs.enqueue_many(both)])

    looked = "            EXIT WHEN cardinality(created) = cardinality(asked);"
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with (
        fleet_database.connect("first") as first,
        fleet_database.connect("second") as second,
        planted(owner, "add_jobs", (looked, f"{looked}\n            PERFORM pg_sleep(0.5);")),
    ):
        one = Aside(lambda: add(first))
        until(lambda: value(owner, sleeping) == 1, 5)
        fleet.jobs.complete(job)
        other = Aside(lambda: add(second))
        one.end()
        other.end()
    assert sorted(made) == [[False, False], [True, True]]
    assert value(owner, "SELECT count(*) FROM fleet.jobs") == 2


def test_as_many_answers_as_jobs_however_often_a_key_is_named(fleet: Fleet) -> None:
    u, v = NewJob(kind="a", unique_key="u"), NewJob(kind="a", unique_key="v")
    made = fleet.jobs.enqueue_many([u, u, u, v])
    assert [one.created for one in made] == [True, False, False, True]
    again = fleet.jobs.enqueue_many([v, u, u])
    assert [one.id for one in again] == [made[3].id, made[0].id, made[0].id]
    assert not any(one.created for one in again)
