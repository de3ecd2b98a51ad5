"""A worker that is a plain psql script, beside those in Python."""

import json
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordination import Fleet
from coordination.fleet import connect
from host.postgres_binaries import wheel_directory
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until
from tests.integration.coordination.tables import Owner, rows, value

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "docs" / "howto" / "psql-worker.sql"


@pytest.fixture
def psql() -> str:
    """The system's, else the wheel's."""
    beside = wheel_directory()
    found = shutil.which("psql") or (shutil.which("psql", path=beside) if beside else None)
    if found is None:
        pytest.skip("there is no psql")
    return found


def command(psql: str, dsn: str, *more: str) -> list[str]:
    return [psql, dsn, "--no-psqlrc", *more]


def run(psql: str, dsn: str, tweet: str) -> str:
    """The example, as its own words say to call it."""
    told = ["-v", "account=sandbox", "-v", f"tweet={tweet}", "-v", "text=Well said."]
    done = subprocess.run(
        command(psql, dsn, *told, "-f", str(SCRIPT)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_example_locks_reserves_proposes_and_leaves_nothing_behind(
    fleet_database: FleetDatabase, psql: str, owner: Owner
) -> None:
    said = run(psql, fleet_database.dsn("worker"), "1801")
    assert said.startswith("proposed {")
    assert json.loads(said.removeprefix("proposed "))["created"]
    assert rows(owner, "SELECT action, target, proposed_by FROM fleet.intents") == [
        ("quote", "1801", "psql/1")
    ]
    assert rows(owner, "SELECT end_reason FROM fleet.reservations") == [("released",)]
    for table in ("engagement_locks", "rate_grants"):
        assert value(owner, f"SELECT count(*) FROM fleet.{table}") == 0  # type: ignore[arg-type]
    [(ended, pid_known)] = rows(
        owner, "SELECT end_reason, pid > 1 AND pid_started <> '' FROM fleet.incarnations"
    )
    assert (ended, pid_known) == ("done", True)


def test_a_python_worker_and_the_script_respect_each_others_locks(
    fleet_database: FleetDatabase, fleet: Fleet, psql: str, owner: Owner
) -> None:
    lease = fleet.engagement.request_lock("1801", "tester/1", "reply")
    assert lease is not None
    assert run(psql, fleet_database.dsn("worker"), "1801") == "not locked: held"
    assert value(owner, "SELECT count(*) FROM fleet.intents") == 0
    fleet.engagement.release_lock(lease)
    with holding(psql, fleet_database.dsn("worker"), "1801") as script:
        assert fleet.engagement.request_lock("1801", "tester/1", "reply") is None
        assert not fleet.reservations.check_availability("content", "1801").available
        script.kill()  # its session is its life
        script.wait()
        until(lambda: fleet.engagement.request_lock("1801", "tester/1", "reply") is not None, 10)
        assert fleet.reservations.reserve_resource("content", "1801", "tester/1") is not None


@contextmanager
def holding(psql: str, dsn: str, tweet: str) -> Generator[subprocess.Popen[str]]:
    """A psql that has the lock on a tweet and a reservation of it, and waits for its next line."""
    script = subprocess.Popen(
        command(psql, dsn, "-qAt"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert script.stdin is not None
    assert script.stdout is not None
    script.stdin.write(
        "SELECT gen_random_uuid() AS me \\gset\n"
        "SELECT fleet.open_incarnation(:'me', 'psql', 1, 'here', 1, 'x', '', '') AS opened \\gset\n"
        f"SELECT fleet.reserve_resource(:'me', 'content', '{tweet}', 'psql/1')->>'granted';\n"
        f"SELECT fleet.request_lock(:'me', '{tweet}', 'psql/1', 'quote')->>'granted';\n"
    )
    script.stdin.flush()
    try:
        assert [script.stdout.readline().strip() for _ in range(2)] == ["true", "true"]
        yield script
    finally:
        script.kill()
        script.wait()
        script.stdin.close()
        script.stdout.close()


def _try(start: object, dsn: str, psql: str, number: int) -> str:
    assert callable(start)
    start()
    if number % 2:
        return run(psql, dsn, "1801").partition(" ")[0]
    with connect(dsn, "python") as fleet:
        lease = fleet.engagement.request_lock("1801", f"python/{number}", "quote")
        if lease is None:
            return "not"
        intent = fleet.ledger.propose("sandbox", "quote", "1801", "Well said.")
        fleet.engagement.release_lock(lease)
        return "proposed" if intent.created else "known"


def _lives(start: object, dsn: str, psql: str) -> list[str]:
    return [_try(start if number == 0 else (lambda: 0), dsn, psql, number) for number in range(4)]


def test_scripts_and_python_workers_together_propose_once(
    fleet_database: FleetDatabase, psql: str, owner: Owner
) -> None:
    said = [one for life in together(_lives, 4, fleet_database.dsn("worker"), psql) for one in life]
    assert len(said) == 16
    assert {"proposed", "not", "known"} >= set(said)
    assert value(owner, "SELECT count(*) FROM fleet.intents") == 1
    assert value(owner, "SELECT count(*) FROM fleet.engagement_locks") == 0
    assert value(owner, "SELECT count(*) FROM fleet.reservations WHERE ended_at IS NULL") == 0
