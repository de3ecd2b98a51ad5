"""Jobs that depend on others, in long lines and wide fans: their ends cost no more than their rows."""

from collections.abc import Sequence

import psycopg
import pytest

from coordination import Fleet, alerts
from coordination.database import Database
from coordination.jobs import NewJob
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, planted, rows, value

MANY = 10_000
OVER = "UPDATE fleet.jobs SET lease_expires_at = clock_timestamp() - interval '1 s' WHERE state = 'running'"
ENDED = "SELECT state, count(*) FROM fleet.jobs_finished GROUP BY state ORDER BY state"


def line_up(owner: Owner, first: str, number: int) -> Sequence[str]:
    """So many jobs of the kind b, each of which waits for the one before."""
    made = rows(
        owner,
        """
        INSERT INTO fleet.jobs
            (kind, payload, priority, rank, run_at, order_at, state, max_attempts, created_at)
        SELECT 'b', '{}', priority, rank, run_at, order_at, state, max_attempts, created_at
        FROM fleet.jobs, generate_series(1, %s) WHERE id = %s RETURNING id::text
        """,
        number,
        first,
    )
    ids = [one for (one,) in made]
    owner.execute(
        "UPDATE fleet.jobs j SET waits_for = ARRAY[p.before] "
        "FROM unnest(%s::bigint[], %s::bigint[]) p (id, before) WHERE j.id = p.id",
        (ids, [first, *ids[:-1]]),
    )
    return ids


def test_a_long_line_is_cancelled_and_each_says_why(fleet: Fleet, owner: Owner) -> None:
    first = fleet.jobs.enqueue("a", max_attempts=1).id
    ids = line_up(owner, first, MANY)
    (job,) = fleet.jobs.claim("a")
    assert fleet.jobs.fail(job, "no") == "dead"
    assert rows(owner, ENDED) == [("cancelled", MANY), ("dead", 1)]
    why = dict(rows(owner, "SELECT id::text, errors->-1->>'error' FROM fleet.jobs_finished"))
    assert why[ids[0]] == f"job {first}, on which it depends, is dead"
    assert why[ids[-1]] == f"job {ids[-2]}, on which it depends, is cancelled"


def test_heirs_are_found_by_index_also_by_a_session_that_began_when_there_were_few(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """Its plan was made then; with the whole table read for each heir a long line took half a minute."""
    owner.execute("TRUNCATE fleet.jobs")
    owner.execute("VACUUM ANALYZE fleet.jobs")
    first = fleet.jobs.enqueue("a").id
    heirs = "SELECT cardinality(fleet.heirs_of(ARRAY[%s]::bigint[], true))"
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as session:
        for _ in range(10):
            assert session.execute(heirs, (first,)).fetchone() == (0,)
        line_up(owner, first, 1000)
        with session.transaction():
            assert session.execute(heirs, (first,)).fetchone() == (1000,)
            read = session.execute(
                "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
            ).fetchone()
    assert read == (0,)


def test_a_long_line_behind_a_job_that_was_taken_back_holds_nobody_up(fleet: Fleet, owner: Owner) -> None:
    line_up(owner, fleet.jobs.enqueue("a", max_attempts=1).id, MANY)
    fleet.jobs.claim("a")
    owner.execute(OVER)
    other = fleet.jobs.enqueue("a").id
    assert [job.id for job in fleet.jobs.claim("a")] == [other]
    assert rows(owner, ENDED) == [("cancelled", MANY), ("dead", 1)]


def test_a_job_that_can_not_be_ended_is_told_and_stops_no_other(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    stuck = fleet.jobs.enqueue("a", max_attempts=1).id
    other = fleet.jobs.enqueue("a", max_attempts=2).id
    fleet.jobs.claim("a", 2)
    owner.execute(OVER)
    broken = "at := fleet.now(); RAISE EXCEPTION 'broken';"
    with planted(owner, "finish_job", ("at := fleet.now();", broken)):
        assert [job.id for job in fleet.jobs.claim("a", 2)] == [other]
        assert fleet.jobs.rescue() == (0, 0)
        (alert,) = alerts.list_alerts(console)
        assert (alert["key"], alert["kind"]) == (f"job_stuck:{stuck}", "job_stuck")
        assert "broken" in alert["message"]
    assert fleet.jobs.rescue() == (1, 0)
    assert alerts.list_alerts(console) == []


def test_the_alert_of_a_job_that_could_not_be_taken_back_ends_with_it(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    """Its worker was slow, not dead, and reports after all."""
    fleet.jobs.enqueue("a", max_attempts=1)
    (job,) = fleet.jobs.claim("a")
    owner.execute(OVER)
    broken = "at := fleet.now(); RAISE EXCEPTION 'broken';"
    with planted(owner, "finish_job", ("at := fleet.now();", broken)):
        assert fleet.jobs.rescue() == (0, 0)
    assert len(alerts.list_alerts(console)) == 1
    fleet.jobs.complete(job)
    assert fleet.jobs.rescue() == (0, 0)
    assert alerts.list_alerts(console) == []


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_a_wide_fan_ends_or_goes_on_at_once(fleet: Fleet, owner: Owner, end: str) -> None:
    first = fleet.jobs.enqueue("a", max_attempts=1).id
    for _ in range(0, MANY, 1000):
        fleet.jobs.enqueue_many([NewJob(kind="b", depends=(first,)) for _ in range(1000)])
    (job,) = fleet.jobs.claim("a")
    if end == "complete":
        fleet.jobs.complete(job)
        assert value(owner, "SELECT count(*) FROM fleet.jobs WHERE waits_for = '{}'") == MANY
    else:
        fleet.jobs.fail(job, "no")
        assert rows(owner, ENDED) == [("cancelled", MANY), ("dead", 1)]


def test_a_long_line_whose_beginning_is_not_replayed_goes_back_at_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """Each of them waits for one that goes back; they are found in one walk along the line."""
    first = fleet.jobs.enqueue("a").id
    ids = line_up(owner, first, 1000)
    fleet.jobs.cancel(first)
    with psycopg.connect(fleet_database.superuser_dsn) as session:
        replay = "SELECT fleet.replay_jobs(%s, %s::bigint[])"
        assert session.execute(replay, (fleet.incarnation.id, ids)).fetchone() == ([],)
        read = session.execute(
            "SELECT sum(idx_tup_fetch + seq_tup_read) FROM pg_stat_xact_all_tables WHERE relname = 'jobs'"
        ).fetchone()
    assert rows(owner, ENDED) == [("cancelled", 1001)]
    assert read is not None
    assert int(read[0]) < 30_000
