"""An upgrade of the first release's database: every row stays, every function is the new program's."""

import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from coordination import connect, hosts
from coordination.accounts import ensure_account
from coordination.database import Database
from coordination.incarnation import ProcessIdentity
from coordination.jobs import get_job_status
from migrations import functions, schema

PASSWORDS = {role: f"password-of-{role}" for role in schema.ROLES}
FIRST = "0001"
SECOND = "0002"
THIRD = "0003"
NINTH = "0009"

HERE = Path(__file__).parent
# Other results than today's, other arguments, one that stands on another, and some that are no more.
OLD_FUNCTIONS = (HERE / "first_functions.sql").read_text("utf-8")
# At least one in every table of the first release, and an act in each of its states.
ROWS = (HERE / "first_rows.sql").read_text("utf-8")
SECOND_ROWS = (HERE / "second_rows.sql").read_text("utf-8")
THIRD_ROWS = (HERE / "third_rows.sql").read_text("utf-8")
NINTH_ROWS = (HERE / "ninth_rows.sql").read_text("utf-8")
# Of 20 jobs 10 are completed, 6 given up, 2 run and 2 wait; one kind is done, and one was never counted.
NINTH_JOBS = """
    INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, max_attempts, created_at,
        incarnation, lease, lease_expires_at, claimed_real_at)
    SELECT kind, '{}', 'medium', 2, now(), now(), state, 5, now(), life, n, now() + interval '1 hour',
        CASE WHEN life IS NOT NULL THEN now() END
    FROM (VALUES (1, 'open', 'running', gen_random_uuid()), (2, 'open', 'running', gen_random_uuid()),
        (NULL, 'open', 'available', NULL), (NULL, 'open', 'retryable', NULL),
        (NULL, 'uncounted', 'available', NULL)) j (n, kind, state, life);
    INSERT INTO fleet.job_counts (kind, enqueued, claimed, completed, failed, snoozed, wait_s)
    VALUES ('open', 12, 9, 7, 3, 1, 200), ('open', 8, 7, 3, 0, 0, 100), ('ended', 5, 5, 5, 0, 0, 9);
"""

Tables = dict[str, list[dict[str, Any]]]


def left_by(release: str, database: str, rows: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database as a release left it: its own revision, functions with other results, and rows."""
    real = command.upgrade

    def to_release(config: Config, _revision: str) -> None:
        real(config, release)

    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", to_release)
        patch.setattr(functions, "sources", lambda: [("old.sql", OLD_FUNCTIONS)])
        schema.upgrade(database, PASSWORDS)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(rows.encode())
        connection.execute("SELECT setval('fleet.fencing_token', 1000)")
    return database


@pytest.fixture
def first_release(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """With at least one row in every table."""
    return left_by(FIRST, empty_database, ROWS, monkeypatch)


@pytest.fixture
def second_release(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """With rows about processes."""
    return left_by(SECOND, empty_database, SECOND_ROWS, monkeypatch)


@pytest.fixture
def third_release(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """With all that its workers had in hand."""
    return left_by(THIRD, empty_database, THIRD_ROWS, monkeypatch)


@pytest.fixture
def ninth_release(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ninth revision's, with jobs that run, and limits, candidates and acts in hand."""
    return left_by(NINTH, empty_database, NINTH_ROWS, monkeypatch)


def tables(dsn: str) -> Tables:
    """Every row of every table but the revision's."""
    found: Tables = {}
    with psycopg.connect(dsn) as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'fleet' AND tablename <> 'schema_revision'"
        ).fetchall()
        for (name,) in names:
            query = sql.SQL("SELECT to_jsonb(t) FROM {} t ORDER BY 1").format(sql.Identifier("fleet", name))
            found[name] = [row for (row,) in connection.execute(query).fetchall()]
    return found


def signatures(dsn: str) -> set[tuple[str, str]]:
    """Each routine with its arguments, and what it gives."""
    with psycopg.connect(dsn) as connection:
        return set(
            connection.execute(
                "SELECT oid::regprocedure::text, pg_get_function_result(oid) FROM pg_proc "
                "WHERE pronamespace = 'fleet'::regnamespace"
            ).fetchall()
        )


def login(dsn: str, role: str) -> str:
    parts = conninfo_to_dict(dsn)
    name = f"fleet_{role}"
    return (
        f"postgresql://{name}:{PASSWORDS[name]}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    )


def test_an_upgrade_keeps_every_row_of_every_table(first_release: str) -> None:
    before = tables(first_release)
    assert all(before.values()), [name for name, rows in before.items() if not rows]
    assert schema.upgrade(first_release, PASSWORDS) == schema.head() != FIRST
    after = tables(first_release)
    for name, rows in before.items():
        # What a column of its own told of finished jobs, none of which is here, another table tells now.
        kept = [{column: row.get(column) for column in rows[0]} for row in after[name]]
        if name == "rate_limits":  # an endpoint of its own for likes, and pools: that is all that is new
            new = [row for row in kept if row not in rows]
            assert {(row["account"], row["endpoint"]) for row in new} == {
                ("*", "like_tweet"),
                *((account, pool) for account in ("*", "sandbox") for pool in ("api_requests", "api_tweets")),
            }
            kept = [row for row in kept if row in rows]
        assert kept == rows, name
    assert {row["tier"] for row in after["accounts"]} == {"pay_per_use"}
    assert all(row["roles"] == [] for row in after["workers"])


def test_an_upgrade_moves_what_ended_to_the_tables_of_what_ended(first_release: str) -> None:
    with psycopg.connect(first_release, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, state, attempts, max_attempts, "
            "errors, result, created_at, finished_at) SELECT 'k', '{}', 'low', 1, now(), s, 2, 3, "
            '\'[{"error": "no"}]\', '
            "'{\"n\": 1}', now(), now() - n * interval '1 day' "
            "FROM unnest('{completed,cancelled,dead}'::text[]) WITH ORDINALITY AS u (s, n)"
        )
        connection.execute(
            "INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, "
            "started_real_at, outcome) SELECT 'poster', 1, gen_random_uuid(), o, 't', "
            "now() - interval '9 days', now(), o "
            "FROM unnest('{running,failed,cut}'::text[]) o"
        )
        newest = connection.execute("SELECT max(id) FROM fleet.runs").fetchone()
    schema.upgrade(first_release, PASSWORDS)
    with psycopg.connect(first_release) as connection:
        ended = connection.execute(
            "SELECT state, attempts, errors->0->>'error', result->>'n' FROM fleet.jobs_finished "
            "ORDER BY state"
        ).fetchall()
        assert ended == [(state, 2, "no", "1") for state in ("cancelled", "completed", "dead")]
        assert connection.execute("SELECT state FROM fleet.jobs").fetchall() == [("available",)]
        assert connection.execute("SELECT step FROM fleet.open_runs").fetchall() == [("running",)]
        closed = connection.execute("SELECT outcome FROM fleet.runs ORDER BY 1").fetchall()
        assert closed == [("cut",), ("done",), ("failed",)]
        for table in ("runs_rest", "jobs_finished_rest"):
            rest = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("fleet", table))
            assert connection.execute(rest).fetchone() == (0,)
        following = connection.execute("SELECT nextval('fleet.run_id')").fetchone()
        assert newest is not None
        assert following is not None
        assert following[0] > newest[0]


def test_what_was_set_before_is_the_first_of_its_history(first_release: str) -> None:
    schema.upgrade(first_release, PASSWORDS)
    kept = [
        (row["kind"], row["name"], row["version"], row["value"], row["changed_by"], row["reason"])
        for row in tables(first_release)["configuration_history"]
    ]
    assert sorted(kept) == [
        ("flag", "poster_enabled", 2, True, "me", "why"),
        ("setting", "poster_interval_s", 1, 15, "me", "why"),
    ]


def test_an_upgrade_replaces_functions_and_leaves_none_of_the_old(
    first_release: str, empty_database_beside: str
) -> None:
    old = signatures(first_release)
    assert ("fleet.get_intent(bigint)", "text") in old
    schema.upgrade(first_release, PASSWORDS)
    schema.upgrade(empty_database_beside, PASSWORDS)
    assert signatures(first_release) == signatures(empty_database_beside)
    names = {name for name, _ in signatures(first_release)}
    assert not {"fleet.ancient(bigint)", "fleet.kept_apart()"} & names
    with psycopg.connect(first_release) as connection:
        leaked = connection.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'fleet'::regnamespace "
            "AND (p.proowner <> 'fleet_owner'::regrole OR has_function_privilege('public', p.oid, 'EXECUTE'))"
        ).fetchall()
    assert leaked == []


def test_what_was_upgraded_goes_on_where_it_stopped(first_release: str) -> None:
    schema.upgrade(first_release, PASSWORDS)
    maintainer = Database(login(first_release, "maintainer"), name="test up")
    ensure_account(
        maintainer,
        "sandbox",
        platform="x",
        api_url="http://127.0.0.1:1",
        sandbox=True,
        topics=["gardens"],
        tier="enterprise",
    )
    maintainer.close()
    with connect(login(first_release, "worker"), "tester") as fleet:
        posted = fleet.ledger.propose("sandbox", "post", "plan:posted", "again")
        assert (posted.state, posted.created) == ("posted", False)
        like = fleet.ledger.propose("sandbox", "like", "1999", "", origin={"author_id": "7"})
        assert (like.state, like.created) == ("ready", True)
        assert fleet.ledger.propose("sandbox", "reply", "1900", "me", origin={"author_id": "42"}).state == (
            "rejected"
        )  # its own post, from before
        # The first release's cluster was another one: fencing tokens go on above its own.
        lease = fleet.engagement.request_lock("1999", "tester", "analysis")
        assert lease is not None
        assert lease.fencing_token > 1000


def test_an_upgrade_that_breaks_off_leaves_the_first_release_as_it_was(
    first_release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, old = tables(first_release), signatures(first_release)
    broken = [*functions.sources(), ("zz.sql", "SELECT 1/0")]
    with monkeypatch.context() as patch:
        patch.setattr(functions, "sources", lambda: broken)
        with pytest.raises(Exception, match="division by zero"):
            schema.upgrade(first_release, PASSWORDS)
    assert tables(first_release) == before
    assert signatures(first_release) == old
    assert schema.upgrade(first_release, PASSWORDS) == schema.head()


def test_a_slot_that_two_hosts_had_becomes_one_and_limits_leave_the_settings(second_release: str) -> None:
    schema.upgrade(second_release, PASSWORDS)
    after = tables(second_release)
    assert {(row["worker"], row["slot"]): (row["host"], row["state"]) for row in after["slots"]} == {
        ("planner", 1): ("new", "STOPPED"),
        ("poster", 1): ("new", "READY"),
        ("poster", 2): ("old", "READY"),
    }
    assert {row["name"]: row["memory_limit_mb"] for row in after["workers"]} == {
        "poster": 300,
        "planner": 512,  # "much" was no limit
    }
    assert [row["key"] for row in after["settings"]] == ["poster_interval_s"]
    assert {row["action"]: (row["state"], row["result"]) for row in after["commands"]} == {
        "restart": ("failed", "the program was upgraded before it was done"),
        "stop": ("failed", "the program was upgraded before it was done"),
        "start": ("done", None),
    }


def test_a_manager_of_the_new_program_takes_the_slots_that_the_old_ones_had(second_release: str) -> None:
    schema.upgrade(second_release, PASSWORDS)
    maintainer = Database(login(second_release, "maintainer"), name="test manager", reconnect=False)
    session = uuid.uuid4()
    opened = hosts.open_host(
        maintainer,
        "new",
        session=session,
        manager=ProcessIdentity.of_this_process(),
        machine="m",
        version="1",
        labels={},
        workers=[hosts.ProgramWorker(name=name, description="d") for name in ("poster", "planner")],
    )
    assert [life["worker"] for life in opened["undead"]] == ["poster"]
    hosts.get_share(maintainer, "new", session=session)
    share = hosts.get_share(maintainer, "new", session=session)
    assert {(slot.worker, slot.slot, slot.runs) for slot in share.slots} == {
        ("poster", 1, True),
        ("poster", 2, True),
        ("planner", 1, False),
    }
    assert "ann: too loud" in next(slot.reason for slot in share.slots if slot.worker == "planner")
    assert share.parts == []
    maintainer.close()


def test_the_server_shows_the_owner_what_workers_ask_it(empty_database: str) -> None:
    schema.upgrade(empty_database, PASSWORDS)
    with psycopg.connect(empty_database) as connection:
        row = connection.execute(
            "SELECT pg_has_role('fleet_owner', 'fleet_worker', 'USAGE'), "
            "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        ).fetchone()
    assert row == (True, False)


def test_what_workers_had_in_hand_is_in_hand_after_the_upgrade(third_release: str) -> None:
    schema.upgrade(third_release, PASSWORDS)
    with connect(login(third_release, "worker"), "tester") as fleet:
        # Of 50 posts 30 were made within the last minute.
        assert fleet.rate_limits.get_remaining_capacity("post_tweet", "sandbox").remaining == 20
        assert fleet.rate_limits.can_make_request("post_tweet", "t", "critical", "sandbox").allowed
        # What a person had tightened stays so.
        assert [fleet.rate_limits.get_remaining_capacity("fetch_mentions", "default").limit] == [5]
        # The holders are gone: what they held goes on at others.
        lease = fleet.engagement.request_lock("1999", "t", "analysis")
        assert lease is not None
        assert lease.fencing_token > 1000
        assert fleet.engagement.has_recent_engagement("1998")
        fleet.jobs.rescue()
        assert {job.payload["was"] for job in fleet.jobs.claim("analyse", 10)} >= {"available", "retryable"}
        assert {message.payload["was"] for message in fleet.messages.claim(10)} == {"waiting", "claimed"}
        slot = fleet.schedules.fire("tester", 3600)  # its last one is ten minutes old: none from before fires
        assert not slot.fired or slot.late_s < 660
        assert not fleet.schedules.fire("tester", 3600).fired
    with psycopg.connect(third_release) as connection:
        # By priority alone, as new ones are, whatever a person had tightened.
        shared = connection.execute(
            "SELECT bool_or(fair_share) FROM fleet.rate_limits WHERE endpoint IN ('post_tweet', 'like_tweet')"
        ).fetchone()
        assert shared == (False,)
        ended = connection.execute("SELECT payload->>'was' FROM fleet.jobs_finished ORDER BY 1").fetchall()
        assert ended == [("cancelled",), ("completed",), ("dead",)]
        kept = connection.execute("SELECT key, value FROM fleet.settings ORDER BY key").fetchall()
        assert kept == [("nobody_knows_this", "much"), ("poster_interval_s", 15)]
        assert connection.execute("SELECT name, enabled FROM fleet.flags").fetchall() == [
            ("poster_enabled", False)
        ]
        fired = connection.execute("SELECT fired FROM fleet.schedules WHERE name = 'tester'").fetchone()
        assert fired == (7 + slot.fired,)


def job_status(dsn: str) -> dict[str, Any]:
    console = Database(login(dsn, "console"), name="test console")
    (status,) = get_job_status(console)
    console.close()
    return status


def test_a_job_that_ran_before_the_upgrade_is_its_own_open_record(ninth_release: str) -> None:
    before = {row["payload"]["was"]: row for row in tables(ninth_release)["jobs"]}
    began = {row["job"]: row["started_at"] for row in tables(ninth_release)["open_runs"]}
    schema.upgrade(ninth_release, PASSWORDS)
    after = tables(ninth_release)
    jobs = {row["payload"]["was"]: row for row in after["jobs"]}
    assert {was: row.items() >= before[was].items() for was, row in jobs.items()} == dict.fromkeys(
        before, True
    )
    assert {was: row["claimed_at"] for was, row in jobs.items()} == {
        was: began.get(row["id"]) for was, row in before.items()
    }
    assert [row["step"] for row in after["open_runs"]] == ["step"]
    assert len(after["runs"]) == 1
    assert {row["state"] for row in after["jobs_finished"]} == {"completed", "dead"}


def test_what_was_counted_of_jobs_before_the_upgrade_says_the_same(ninth_release: str) -> None:
    before = tables(ninth_release)["job_counts"]
    counted = {name: sum(row[name] for row in before) for name in before[0] if name not in {"kind", "shard"}}
    schema.upgrade(ninth_release, PASSWORDS)
    status = job_status(ninth_release)
    assert {name: status[name] for name in counted} == counted
    assert (status["running"], status["claimed"], status["wait_s"]) == (2, 8, 200)
    with connect(login(ninth_release, "worker"), "tester") as fleet:
        fleet.jobs.complete_many(fleet.jobs.claim("analyse", 10))
    status = job_status(ninth_release)
    # All four were done: the two that ran were cut first, and failed by that.
    assert (status["claimed"], status["completed"], status["failed"]) == (12, 7, 4)
    assert (status["rescued"], status["running"], status["available"], status["retryable"]) == (2, 0, 0, 0)
    assert status["wait_s"] > 200 + 4 * 30


def test_executions_cut_by_the_upgrade_are_recorded_as_they_began(ninth_release: str) -> None:
    schema.upgrade(ninth_release, PASSWORDS)
    ran = {row["id"]: row for row in tables(ninth_release)["jobs"] if row["state"] == "running"}
    with connect(login(ninth_release, "worker"), "tester") as fleet:
        again = {job.payload["was"]: job for job in fleet.jobs.claim("analyse", 10)}
        assert {was: job.attempt for was, job in again.items()} == {
            "waiting": 1, "failed": 2, "out of its lease": 2, "under way": 3,
        }  # fmt: skip
    cut = [row for row in tables(ninth_release)["runs"] if row["outcome"] == "cut"]
    assert len(cut) == len(ran) == 2
    for run in cut:
        job = ran[run["job"]]
        assert (run["worker"], run["slot"], run["step"], run["wait_s"]) == ("tester", 2, "analyse", 30)
        assert (run["started_at"], run["started_real_at"]) == (job["claimed_at"], job["claimed_real_at"])
        assert (run["attempt"], run["incarnation"]) == (job["attempts"], job["incarnation"])


def test_limits_and_candidates_are_after_the_upgrade_what_they_were(ninth_release: str) -> None:
    schema.upgrade(ninth_release, PASSWORDS)
    with connect(login(ninth_release, "worker"), "tester") as fleet:
        limits = fleet.rate_limits
        assert limits.get_remaining_capacity("post_tweet", "sandbox").remaining == 20
        spaced = [limits.can_make_request("fetch_mentions", "t", "critical", "sandbox") for _ in range(6)]
        assert [grant.allowed for grant in spaced] == [True] * 5 + [False]  # of a burst of 15 ten were made
        assert limits.get_remaining_capacity("search_tweets", "sandbox").blocked_until is not None
        assert not limits.can_make_request("search_tweets", "t", "critical", "sandbox").allowed
        assert limits.can_make_request("post_tweet", "t", "critical", "sandbox").allowed
        # What the dead had in hand is taken too, the better first.
        taken = [one.platform_id for one in fleet.candidates.take("sandbox", 10)]
        assert taken == ["702", "701"]


def test_acts_are_after_the_upgrade_where_they_were(ninth_release: str) -> None:
    schema.upgrade(ninth_release, PASSWORDS)
    with connect(login(ninth_release, "worker"), "poster") as fleet:
        assert fleet.ledger.park_orphan("sandbox", grace_s=0) is not None
        fleet.ledger.tidy("sandbox")
        due = set[str]()
        while claimed := fleet.ledger.claim("sandbox", "poster/1"):
            due.add(claimed.target)
    assert due == {"plan:ready", "plan:claimed", "plan:retry_at"}
    states = {row["target"].partition(":")[2]: row["state"] for row in tables(ninth_release)["intents"]}
    assert states == {
        **dict.fromkeys(("ready", "claimed", "retry_at"), "claimed"),
        **dict.fromkeys(("ready-late", "awaiting_approval-late", "expired"), "expired"),
        **dict.fromkeys(("sending", "parked"), "parked"),
        **{
            state: state
            for state in ("draft", "awaiting_approval", "posted", "rejected", "unknown", "cancelled")
        },
    }


def test_what_is_told_of_jobs_is_the_same_after_the_upgrade(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted as it began is now what ended and what is there."""
    database = left_by(NINTH, empty_database, NINTH_JOBS, monkeypatch)
    schema.upgrade(database, PASSWORDS)
    reader = Database(login(database, "reader"), name="test")
    told = {
        one["kind"]: (one["enqueued"], one["claimed"], one["completed"], one["wait_s"])
        for one in reader.call("get_job_status")
    }
    reader.close()
    assert told == {"open": (20, 16, 10, 300), "ended": (5, 5, 5, 9), "uncounted": (0, 0, 0, 0)}
