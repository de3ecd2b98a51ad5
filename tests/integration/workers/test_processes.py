"""Workers as the OS processes that they are, against a real PostgreSQL and the X sandbox."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests

from coordination import accounts, ledger, settings
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import Scripted, read_request, reply
from tests.integration.workers.waiting import eventually

ROOT = Path(__file__).parents[3]
QUICK = {"planner_spacing_s": 1, "planner_queue_target": 2, "poster_interval_s": 1, "metrics_interval_s": 1}


class Host:
    """A state directory, a sandbox, and worker processes on it."""

    def __init__(self, state: Path, fleet_database: FleetDatabase) -> None:
        self.state = state
        self.database = fleet_database
        (state / "dsn").mkdir(parents=True)
        (state / "dsn" / "worker").write_text(fleet_database.dsn("worker"))
        self.processes: list[subprocess.Popen[str]] = []
        self.sandbox = self._start("sandbox", "x", "--port", "0", "--state", str(state / "sandbox"))
        assert self.sandbox.stdout
        assert select.select([self.sandbox.stdout], [], [], 30)[0], "the sandbox said nothing"
        line = self.sandbox.stdout.readline()
        self.url = next(word for word in line.split() if word.startswith("http://")).rstrip("/.,")
        self.point_sandbox_to(self.url)

    def point_sandbox_to(self, url: str) -> None:
        maintainer = self.database.database("maintainer")
        accounts.ensure_account(
            maintainer, "sandbox", platform="x", api_url=url, sandbox=True, topics=["gardens"]
        )
        maintainer.close()

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**kept, "SOCIALFLEET_STATE_DIR": str(self.state), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def worker(self, name: str, slot: int = 1, **environment: str) -> subprocess.Popen[str]:
        port = self.url.rpartition(":")[2]
        return self._start(
            "manager",
            "worker",
            "run",
            name,
            "--slot",
            str(slot),
            **{"SOCIALFLEET_SANDBOX_PORT": port, **environment},
        )

    def writes(self) -> list[dict[str, Any]]:
        return list(requests.get(f"{self.url}/_sandbox/writes", timeout=10).json())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.owner() as owner:
            return owner.execute(query.encode()).fetchall()

    def states(self) -> list[str]:
        return [row[0] for row in self.rows("SELECT state FROM fleet.intents ORDER BY id")]

    def set(self, **values: object) -> None:
        person = self.database.database("console")
        for key, value in values.items():
            settings.set_setting(person, key, value, actor="me", reason="quicker")
        person.close()

    def propose(self, text: str, account: str = "sandbox") -> str:
        person = self.database.database("console")
        intent = ledger.propose_by_person(person, account, "post", f"manual:{text}", text, actor="me")
        person.close()
        return intent.id

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait(10)
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def host(fleet_database: FleetDatabase, tmp_path: Path) -> Iterator[Host]:
    running = Host(tmp_path / "state", fleet_database)
    yield running
    running.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the log as JSON lines."""
    out, _ = process.communicate(timeout=20)
    return process.returncode, [json.loads(line) for line in out.splitlines()]


def test_planner_poster_and_metrics_work_together_through_rows_alone(host: Host) -> None:
    host.set(**QUICK, metrics_first_reading_s=1)
    for name in ("planner", "poster", "metrics"):
        host.worker(name)
    eventually(lambda: host.rows("SELECT 1 FROM fleet.readings"), what="a reading", within_s=60)
    posted = dict(host.rows("SELECT platform_id, text FROM fleet.intents WHERE state = 'posted'"))
    accepted = {write["id"]: write["text"] for write in host.writes()}
    assert posted
    assert posted.items() <= accepted.items()


@pytest.mark.timed
def test_a_persons_post_wakes_the_poster(host: Host) -> None:
    host.worker("poster")
    eventually(lambda: host.rows("SELECT 1 FROM fleet.heartbeats WHERE state = 'READY'"), what="ready")
    eventually(lambda: host.rows("SELECT 1 FROM fleet.runs WHERE outcome = 'done'"), what="the first step")
    host.propose("Said by hand")
    eventually(lambda: [w["text"] for w in host.writes()] == ["Said by hand"], what="posted", within_s=5)


def test_sigterm_drains_and_every_log_line_is_json_with_its_context(host: Host) -> None:
    poster = host.worker("poster")
    eventually(lambda: host.rows("SELECT 1 FROM fleet.heartbeats WHERE state = 'READY'"), what="ready")
    poster.send_signal(signal.SIGTERM)
    code, log = ended(poster)
    assert code == 0
    assert log[-1]["message"] == "drained"
    assert {"at", "level", "worker", "slot", "incarnation", "message"} <= log[-1].keys()
    assert host.rows("SELECT end_reason FROM fleet.incarnations") == [("closed",)]
    secrets = json.loads((host.state / "sandbox" / "credentials.json").read_text())
    assert not any(str(value) in json.dumps(log) for key, value in secrets.items() if key.startswith("x_"))


def test_the_database_away_ends_no_worker_and_it_goes_on_as_a_new_incarnation(host: Host) -> None:
    poster = host.worker("poster")
    eventually(lambda: host.rows("SELECT 1 FROM fleet.runs WHERE outcome = 'done'"), what="the first step")
    host.database.server.immediate_stop()
    host.database.server.start()
    host.propose("After the outage")
    eventually(lambda: [w["text"] for w in host.writes()] == ["After the outage"], what="posted", within_s=60)
    assert poster.poll() is None
    assert len(host.rows("SELECT id FROM fleet.incarnations")) >= 2


def test_a_worker_without_its_dsn_says_what_to_run(host: Host) -> None:
    (host.state / "dsn" / "worker").unlink()
    code, log = ended(host.worker("poster"))
    assert code == 78
    assert "socialfleet migrate" in log[-1]["message"]


def test_credentials_that_the_platform_refuses_are_a_persons_matter(host: Host) -> None:
    path = host.state / "sandbox" / "credentials.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "x_access_token_secret": "wrong-secret-value"}))
    code, log = ended(host.worker("poster"))
    assert code == 78
    assert "X_CONSUMER_KEY" in log[-1]["message"]


def real_account(host: Host) -> dict[str, Any]:
    """The environment of a worker for `default`: not the sandbox's, whatever answers at its address."""
    keys = json.loads((host.state / "sandbox" / "credentials.json").read_text())
    maintainer = host.database.database("maintainer")
    accounts.ensure_account(
        maintainer, "default", platform="x", api_url=host.url, sandbox=False, topics=["gardens"]
    )
    maintainer.close()
    real = {key.upper(): str(value) for key, value in keys.items() if key.startswith("x_")}
    return real | {"X_API_URL": host.url, "SOCIALFLEET_ACCOUNT": "default"}


def test_somebody_elses_credentials_are_refused_before_anything_is_sent(host: Host) -> None:
    real = real_account(host)
    with host.database.connect("earlier") as fleet:
        fleet.accounts.confirm_identity("default", "999", "somebody")
    host.propose("Not for this account", "default")
    code, log = ended(host.worker("poster", **real))
    assert code == 78
    assert "somebody (999)" in log[-1]["message"]
    assert host.writes() == []


def test_a_sandbox_that_was_made_anew_is_acted_on_as_the_new_one(host: Host) -> None:
    """Its record and credentials were lost with the state directory; the database is a person's own."""
    with host.database.connect("earlier") as fleet:
        fleet.accounts.confirm_identity("sandbox", "999", "somebody")
    host.propose("For whoever it is now")
    host.worker("poster")
    eventually(lambda: len(host.writes()) == 1, what="the post")
    eventually(lambda: host.states() == ["posted"], what="its report")
    [(user_id,)] = host.rows("SELECT platform_user_id FROM fleet.accounts WHERE name = 'sandbox'")
    assert user_id != "999"
    assert len(host.rows("SELECT 1 FROM fleet.events WHERE kind = 'identity'")) == 1


def test_on_a_real_account_nothing_goes_out_that_no_person_proposed_or_approved(host: Host) -> None:
    host.set(**QUICK)
    real = real_account(host)
    host.worker("planner", **real)
    host.worker("poster", **real)
    eventually(
        lambda: len(host.rows("SELECT 1 FROM fleet.intents WHERE state = 'awaiting_approval'")) >= 2,
        what="two plans that wait",
    )
    eventually(
        lambda: (
            len(host.rows("SELECT 1 FROM fleet.runs WHERE worker = 'poster' AND outcome = 'done'")) >= 3
            or None
        ),
        what="the poster looked three times",
    )
    assert host.writes() == []
    person = host.database.database("console")
    first = str(host.rows("SELECT min(id) FROM fleet.intents")[0][0])
    approved = ledger.decide(person, first, "approve", actor="me", reason="read it")
    person.close()
    eventually(
        lambda: [w["text"] for w in host.writes()] == [approved["text"]], what="the approved one", within_s=60
    )
    eventually(lambda: set(host.states()) == {"posted", "awaiting_approval"}, what="its report")
    assert [w["text"] for w in host.writes()] == [approved["text"]]


def test_an_act_whose_sender_was_killed_in_mid_send_is_parked_not_repeated(host: Host) -> None:
    """kill -9 while the platform holds its answer back; another poster finds the act and parks it."""
    silent = Scripted()
    arrived = Event()

    def act(connection: socket.socket) -> None:
        request = read_request(connection)
        if request.startswith(b"GET /2/users/me"):
            connection.sendall(reply(200, {"data": {"id": "42", "username": "fleet", "name": "Fleet"}}))
        else:
            arrived.set()
            silent.over.wait(30)

    silent.act = act
    keys = json.loads((host.state / "sandbox" / "credentials.json").read_text())
    environment = {key.upper(): value for key, value in keys.items() if key.startswith("x_")}
    environment |= {"X_API_URL": silent.url, "SOCIALFLEET_ACCOUNT": "sandbox"}
    host.set(poster_park_grace_s=0, poster_lease_s=20, poster_interval_s=1)
    intent = host.propose("Accepted, and nobody heard")
    host.point_sandbox_to(silent.url)
    try:
        first = host.worker("poster", **environment)
        assert arrived.wait(30)
        assert host.states() == ["sending"]
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    finally:
        silent.close()
    with host.database.owner() as owner:  # the lease's real time is over; nobody waits for it here
        owner.execute("UPDATE fleet.intents SET claimed_until = clock_timestamp() - interval '1 second'")
        owner.execute("UPDATE fleet.accounts SET platform_user_id = NULL WHERE name = 'sandbox'")
    host.point_sandbox_to(host.url)
    host.worker("poster", slot=2)
    eventually(lambda: host.states() == ["parked"], what="parked", within_s=60)
    told = host.rows("SELECT message FROM fleet.events WHERE kind = 'parked'")
    assert f"post {intent} is parked" in told[0][0]
    assert host.writes() == []


def test_a_worker_never_acts_for_an_account_at_another_address(host: Host) -> None:
    """The sandbox's plans with a real account's credentials would end on the real account."""
    keys = json.loads((host.state / "sandbox" / "credentials.json").read_text())
    real: dict[str, str] = {key.upper(): value for key, value in keys.items() if key.startswith("x_")}
    host.propose("Only for the rehearsal")
    elsewhere = {"X_API_URL": "http://127.0.0.1:1", "SOCIALFLEET_ACCOUNT": "sandbox"}
    code, log = ended(host.worker("poster", 1, **real, **elsewhere))
    assert code == 78
    assert "account sandbox is at" in log[-1]["message"]
    assert host.writes() == []


def test_a_drain_is_never_lost_however_often_it_is_asked_for(host: Host) -> None:
    poster = host.worker("poster")
    eventually(lambda: host.rows("SELECT 1 FROM fleet.heartbeats WHERE state = 'READY'"), what="ready")
    for _ in range(200):
        poster.send_signal(signal.SIGTERM)
    code, log = ended(poster)
    assert code == 0
    assert log[-1]["message"] == "drained"
