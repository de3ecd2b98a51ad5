"""Jobs: what a call reads does not grow with queue or history, whatever its session knew when it began."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from coordination import Fleet
from coordination.jobs import NewJob
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner

MANY = 20_000
BATCH = 10
FILL = (
    """
    INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, max_attempts, created_at,
        unique_key, concurrency_key, concurrency_limit)
    SELECT k.kind, '{}', 'medium', 2, t.at, t.at - interval '20 minutes', 'available', 5, t.at, 'u' || n,
        CASE WHEN k.kind = 'keyed' THEN 'k' || mod(n, 100) END, CASE WHEN k.kind = 'keyed' THEN 3 END
    FROM generate_series(1, %(many)s) n, unnest('{plain,other,keyed}'::text[]) k (kind),
        LATERAL (SELECT fleet.now() - make_interval(secs => n * 0.001)) t (at)
    """,
    """
    INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, max_attempts, created_at,
        attempts, incarnation, lease, lease_expires_at, claimed_at, claimed_real_at)
    SELECT 'other', '{}', 'medium', 2, t.at, t.at - interval '20 minutes', 'running', 5, t.at, 1, %(life)s,
        nextval('fleet.fencing_token'), t.at + interval '1 hour', t.at, t.at
    FROM generate_series(1, %(many)s) n, LATERAL (SELECT fleet.now()) t (at)
    """,
    """
    INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, max_attempts, created_at,
        waits_for)
    SELECT 'heir', '{}', 'medium', 2, t.at, t.at - interval '20 minutes', 'available', 5, t.at, ARRAY[p.id]
    FROM (SELECT id FROM fleet.jobs WHERE kind = 'other') p, LATERAL (SELECT fleet.now()) t (at)
    """,
    """
    INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts,
        errors, created_at, finished_at)
    SELECT -n, 'plain', '{}', 'medium', t.at, 'completed', 1, 5, '[]', t.at, t.at
    FROM generate_series(1, %(many)s) n, LATERAL (SELECT fleet.now()) t (at)
    """,
    """
    INSERT INTO fleet.runs
        (worker, slot, incarnation, step, trace_id, started_at, started_real_at, outcome, job)
    SELECT 'tester', 1, %(life)s, 'plain', '', t.at, t.at, 'done', n
    FROM generate_series(1, %(many)s) n, LATERAL (SELECT fleet.now()) t (at)
    """,
)
READ = """
    SELECT coalesce(sum(s.seq_scan), 0), coalesce(sum(s.idx_tup_fetch), 0) FROM pg_stat_xact_user_tables s
    WHERE s.schemaname = 'fleet' AND s.relname ~ '^(jobs|jobs_finished.*|runs.*)$'
"""
CLAIM = "claim_jobs({life}, {kind}, {n})"
REPORTS = {
    "complete": "complete_jobs({life}, {jobs}, {leases})",
    "turn": "turn_jobs({life}, {jobs}, {leases}, {kind}, {n})",
    "fail": "fail_jobs({life}, {jobs}, {leases}, array_fill('no'::text, ARRAY[{n}]))",
    "die": "fail_jobs({life}, {jobs}, {leases}, array_fill('no'::text, ARRAY[{n}]), final => true)",
    "snooze": "snooze_jobs({life}, {jobs}, {leases}, 60)",
    "renew": "renew_jobs({life}, {jobs}, {leases})",
}
OTHERS = {
    "claim": CLAIM,
    "enqueue": "enqueue_job({life}, {kind})",
    "enqueue what is there": "enqueue_job({life}, {kind}, unique_key => 'u77')",
    "enqueue behind another": "enqueue_job({life}, 'heir', depends => ARRAY[{first}])",
    "enqueue many": "enqueue_jobs({life}, (SELECT jsonb_agg(jsonb_build_object('kind', {kind}, 'unique_key', "
    "'n' || n)) FROM generate_series(1, {n}) n))",
    "ask for the next": "next_job_in_s({life}, {kind})",
    "cancel": "cancel_jobs({life}, ARRAY[{first}])",
    "look at one": "get_job({first})",
}


class Session:
    """A session of old: it called everything when there was nothing, and keeps the plans of then."""

    def __init__(self, connection: psycopg.Connection[Any], life: str) -> None:
        self._connection = connection
        self._life = life

    def call(self, function: str, **values: object) -> Any:
        """Call a function of the fleet."""
        written = function.format(life=f"'{self._life}'", n=BATCH, **values)
        row = self._connection.execute(f"SELECT fleet.{written}".encode()).fetchone()
        assert row is not None
        return row[0]

    def rows_read(self, function: str, **values: object) -> int:
        """Call it, take it back, and give how many rows of jobs and their history it read, all by index."""
        self._connection.execute(
            "SELECT pg_stat_force_next_flush()"
        )  # what was counted before is told, and forgotten
        with self._connection.transaction(force_rollback=True):
            self.call(function, **values)
            row = self._connection.execute(READ.encode()).fetchone()
        assert row is not None
        assert row[0] == 0, f"{function} read a whole table"
        return int(row[1])

    def claimed(self, kind: str) -> dict[str, object]:
        """Claim a batch; give it as reports name it."""
        jobs = self.call(CLAIM, kind=f"'{kind}'")
        assert len(jobs) == BATCH
        ids, leases = ([one[name] for one in jobs] for name in ("id", "lease"))
        return {
            "kind": f"'{kind}'",
            "jobs": f"'{{{','.join(map(str, ids))}}}'::bigint[]",
            "leases": f"'{{{','.join(map(str, leases))}}}'::bigint[]",
        }


@pytest.fixture(params=["as it grew", "analysed", "analysed while none ran", "analysed while none waited"])
def session(
    request: pytest.FixtureRequest, fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> Iterator[Session]:
    life = str(fleet.incarnation.id)
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as connection:
        old = Session(connection, life)
        for _ in range(7):  # as often as it takes PostgreSQL to keep a plan
            fleet.jobs.enqueue_many([NewJob(kind="plain")] * (2 * BATCH * len(REPORTS)))
            for report in REPORTS.values():
                old.call(report, **old.claimed("plain"))
            for other in OTHERS.values():
                old.call(other, kind="'plain'", first=f"'{fleet.jobs.enqueue('plain').id}'::bigint")
            owner.execute("TRUNCATE fleet.jobs")
        waiting, running, *rest = FILL
        first, second = (running, waiting) if "none waited" in request.param else (waiting, running)
        for statement in (first, second, *rest):
            connection.execute(statement.encode(), {"many": MANY, "life": life})
            if "while" in request.param and statement is first:
                connection.execute("ANALYZE fleet.jobs")
        if request.param == "analysed":
            connection.execute("ANALYZE fleet.jobs, fleet.jobs_finished, fleet.runs")
        yield old


@pytest.mark.parametrize("kind", ["plain", "keyed"])
def test_no_call_reads_more_where_there_is_more(session: Session, owner: Owner, kind: str) -> None:
    found = owner.execute("SELECT min(id) FROM fleet.jobs WHERE kind = %s", (kind,)).fetchone()
    assert found is not None
    read = {name: session.rows_read(call, kind=f"'{kind}'", first=found[0]) for name, call in OTHERS.items()}
    held = session.claimed(kind)
    read |= {name: session.rows_read(call, **held) for name, call in REPORTS.items()}
    assert {name: rows for name, rows in read.items() if rows > 25 * BATCH} == {}
