"""The console's process: up before the database, up without it, and gone when it is told to."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from console.__main__ import main
from coordination import Fleet
from tests.integration.conftest import FleetDatabase
from tests.integration.console.conftest import ConsoleProcess, PaperHost, slot_report, until
from tests.postgres_servers import LocalServer

STOP_S = 2
CHROMIUM = shutil.which("chromium")


def shown_by_a_browser(url: str) -> str:
    """The page's DOM after its first reading."""
    with tempfile.TemporaryDirectory() as profile:
        found = subprocess.run(
            [
                str(CHROMIUM),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={profile}",
                "--virtual-time-budget=5000",
                "--dump-dom",
                url,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    return found.stdout


def test_it_is_up_before_the_database_and_finds_it_when_it_comes(
    early: ConsoleProcess, fleet_database: FleetDatabase
) -> None:
    assert early.json("/health/live") == {"status": "live"}
    assert early.get("/").status_code == 200
    assert early.get("/health/ready").status_code == 503
    assert "socialfleet_database_up 0.0" in early.get("/metrics").text
    seen = early.json("/api/overview")
    assert seen == {"database": seen["database"], "local": None, "workers": []}
    assert seen["database"].items() >= {"up": False, "stale_since": None}.items()
    assert "written when the fleet starts" in seen["database"]["reason"]
    workers = early.get("/api/workers/status")
    assert workers.status_code == 503
    assert workers.json()["last_known"] == []
    assert early.get("/api/intents").status_code == 503

    early.point_to(fleet_database.dsn("console"))
    until(lambda: early.json("/api/overview")["database"]["up"])
    assert early.json("/api/workers/status") == []


def test_an_empty_database_is_told_to_be_migrated(
    early: ConsoleProcess, fleet_database: FleetDatabase
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("DROP SCHEMA fleet CASCADE")
    early.point_to(fleet_database.dsn("console"))
    until(lambda: "socialfleet migrate" in early.json("/api/overview")["database"]["reason"])
    assert early.get("/health/ready").status_code == 503


def test_a_wrong_password_is_said_and_not_shown(early: ConsoleProcess, fleet_database: FleetDatabase) -> None:
    early.point_to(fleet_database.dsn("console").replace("password-of-", "wr0ng-"))
    until(lambda: "password authentication failed" in early.json("/api/overview")["database"]["reason"])
    shown = [early.get(path).text for path in ("/api/overview", "/health/ready", "/metrics", "/api/intents")]
    assert "wr0ng" not in "".join(shown)
    early.point_to(fleet_database.dsn("console"))
    until(lambda: early.json("/api/overview")["database"]["up"])


@contextmanager
def away(lone: ConsoleProcess, fleet_database: FleetDatabase) -> Generator[dict[str, Any]]:
    """Take the server away; give the first overview that says so."""
    fleet_database.server.immediate_stop()
    try:
        until(lambda: not lone.json("/api/overview")["database"]["up"])
        yield lone.json("/api/overview")
    finally:
        fleet_database.server.start()


def stale_s(lone: ConsoleProcess) -> float:
    found = re.search(r"^socialfleet_database_stale_seconds (\S+)$", lone.get("/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def test_while_the_database_is_away_the_last_known_state_stands_with_its_age(
    lone: ConsoleProcess, fleet_database: FleetDatabase, paper_host: PaperHost
) -> None:
    fleet = fleet_database.connect()
    fleet.ledger.propose("sandbox", "post", "plan:1", "one")
    fleet.close()
    paper_host.report(slot_report("poster"))
    paper_host.raise_alert("test", "look at this")
    paper_host.keep_black_box("poster", {"stacks": "Thread 1"})
    command = lone.command(action="pause", selector="poster", reason="a drill").json()["id"]
    until(lambda: lone.json("/api/overview")["commands"] != [] and stale_s(lone) == 0)
    assert lone.json("/api/overview")["local"] is None
    with away(lone, fleet_database) as seen:
        assert seen["intents"]["states"] == {"ready": 1}
        assert seen["database"]["stale_since"] == seen["now"]
        assert [slot["name"] for slot in seen["workers"]] == ["planner", "poster"]
        for path, known in (
            ("/api/workers/status", [slot["name"] for slot in seen["workers"]]),
            ("/api/hosts", ["alpha"]),
            ("/api/alerts", ["look at this"]),
            ("/api/black-boxes?worker=planner", ["poster"]),
            ("/api/commands", [command]),
        ):
            answer = lone.get(path)
            assert answer.status_code == 503
            told = answer.json()
            assert told["stale_since"] == seen["now"]
            assert told["error"]["message"]
            names = ("message", "worker", "name", "id")
            assert [next(i[name] for name in names if name in i) for i in told["last_known"]] == known
        age_s = seen["database"]["stale_for_s"]
        until(lambda: lone.json("/api/overview")["database"]["stale_for_s"] > age_s + 1)
        assert stale_s(lone) > age_s + 1
        assert "socialfleet_slot_state" not in lone.get("/metrics").text
        assert lone.json("/health/live") == {"status": "live"}
        assert "socialfleet_database_up 0.0" in lone.get("/metrics").text
        not_ready = lone.get("/health/ready")
        assert not_ready.status_code == 503
        assert not_ready.json()["reasons"][0].startswith("database: ")
        for refused in (
            lone.order('{"on": true, "reason": "x"}'),
            lone.command(action="stop", selector="poster", reason="x"),
        ):
            assert refused.status_code == 503
            assert "nothing was changed" in refused.json()["error"]["message"]
    until(lambda: lone.json("/api/overview")["database"]["up"])
    assert lone.order('{"on": true, "reason": "x"}').status_code == 200
    assert [one["id"] for one in lone.json("/api/commands")["items"]] == [command]


@contextmanager
def manager_on_paper(state: Path) -> Generator[None]:
    """What a manager of this host keeps in its state directory."""
    slot = {"name": "poster", "slot": 1, "state": "BACKOFF", "pid": None, "reason": "killed by SIGKILL"}
    told = {"at": datetime.now(UTC).isoformat(), "database": "away", "stale_since": None, "slots": [slot]}
    (state / "status.json").write_text(json.dumps(told))
    directory = os.open(state, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/manager.sock")  # a socket's path has 107 bytes at most
        os.close(directory)
        yield
    (state / "manager.sock").unlink()


def test_while_the_database_is_away_this_hosts_manager_is_asked_for_its_own_word(
    lone: ConsoleProcess, fleet_database: FleetDatabase
) -> None:
    with away(lone, fleet_database) as seen:
        assert seen["local"] is None
        with manager_on_paper(lone.state):
            local = lone.json("/api/overview")["local"]
            assert local["listens"] is True
            assert (local["slots"][0]["state"], local["slots"][0]["reason"]) == (
                "BACKOFF",
                "killed by SIGKILL",
            )
            told = lone.get("/api/workers/status").json()
            assert told["local"] == local | {"age_s": told["local"]["age_s"]}
            (poster,) = told["last_known"]
            assert (poster["name"], poster["state"], poster["source"]) == ("poster", "BACKOFF", "manager")
            assert [one["state"] for one in lone.json("/api/overview")["workers"]] == ["BACKOFF"]
        assert lone.json("/api/overview")["local"]["listens"] is False


def test_what_is_last_known_is_what_was_so_when_the_database_went_though_nobody_had_asked(
    lone: ConsoleProcess, fleet_database: FleetDatabase, paper_host: PaperHost
) -> None:
    paper_host.report(slot_report("poster", pid=77), slot_report("planner", pid=5))
    until(lambda: [slot["pid"] for slot in lone.json("/api/workers/status")] == [5, 77])
    paper_host.report(slot_report("poster", pid=78), slot_report("planner", pid=5))
    changed_at = _now(fleet_database)
    until(lambda: _read_whole_since(fleet_database, changed_at))
    fleet_database.server.immediate_stop()
    try:
        until(lambda: lone.get("/api/workers/status").status_code == 503)
        told = lone.get("/api/workers/status").json()
        assert [slot["pid"] for slot in told["last_known"]] == [5, 78]
        assert {slot["source"] for slot in told["last_known"]} == {"database"}
        assert datetime.fromisoformat(told["stale_since"]) > changed_at
        with manager_on_paper(lone.state):
            planner, poster = lone.get("/api/workers/status").json()["last_known"]
            assert (planner["pid"], planner["source"]) == (5, "database")
            assert (poster["state"], poster["pid"], poster["source"]) == ("BACKOFF", None, "manager")
            assert poster["host"] == "alpha"
            assert [slot["pid"] for slot in lone.json("/api/overview")["workers"]] == [5, None]
    finally:
        fleet_database.server.start()
    until(lambda: [slot["pid"] for slot in lone.json("/api/overview")["workers"]] == [5, 78])
    assert all("source" not in slot for slot in lone.json("/api/workers/status"))


@pytest.mark.skipif(CHROMIUM is None, reason="a browser shows the page: install chromium")
def test_a_page_of_a_console_that_never_met_the_database_shows_its_hosts_slots(early: ConsoleProcess) -> None:
    with manager_on_paper(early.state):
        page = shown_by_a_browser(early.url)
    assert 'data-selector="poster/1"' in page
    assert "killed by SIGKILL" in page
    assert "only this host is known" in page


def test_a_call_right_after_the_connection_was_cut_works(
    lone: ConsoleProcess, fleet_database: FleetDatabase
) -> None:
    backend = _backend(fleet_database)
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
    assert lone.get("/api/intents").status_code == 200


@pytest.mark.timed
def test_a_database_that_hangs_blocks_nobody_for_long(
    lone: ConsoleProcess, fleet_database: FleetDatabase
) -> None:
    if not isinstance(fleet_database.server, LocalServer):
        pytest.skip("stopping a server process needs one on this machine")
    backend = _backend(fleet_database)
    os.kill(backend, signal.SIGSTOP)
    try:
        until(lambda: not lone.json("/api/overview")["database"]["up"])
        before = psutil.Process(lone.process.pid).num_threads()
        took: list[float] = []

        def ask() -> None:
            began = time.monotonic()
            lone.get("/api/intents")
            took.append(time.monotonic() - began)

        asking = [threading.Thread(target=ask) for _ in range(50)]
        for thread in asking:
            thread.start()
        began = time.monotonic()
        assert lone.json("/health/live") == {"status": "live"}
        assert time.monotonic() - began < 1
        for thread in asking:
            thread.join()
        assert len(took) == 50
        assert max(took) < 6
        assert psutil.Process(lone.process.pid).num_threads() <= before
        began = time.monotonic()
        assert lone.json("/api/overview")["database"]["stale_since"]
        assert time.monotonic() - began < 4
    finally:
        os.kill(backend, signal.SIGCONT)
    until(lambda: lone.json("/api/overview")["database"]["up"])
    assert lone.get("/api/intents").status_code == 200


@pytest.mark.timed
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_time_and_in_silence(early: ConsoleProcess, number: signal.Signals) -> None:
    early.json("/health/live")
    early.process.send_signal(number)
    assert early.process.wait(STOP_S) == 0
    assert early.process.stdout
    assert early.process.stderr
    assert early.process.stdout.read() + early.process.stderr.read() == ""


@pytest.mark.timed
def test_it_stops_in_time_while_the_database_hangs(
    lone: ConsoleProcess, fleet_database: FleetDatabase
) -> None:
    if not isinstance(fleet_database.server, LocalServer):
        pytest.skip("stopping a server process needs one on this machine")
    backend = _backend(fleet_database)
    os.kill(backend, signal.SIGSTOP)
    try:
        until(lambda: not lone.json("/api/overview")["database"]["up"])
        lone.process.terminate()
        assert lone.process.wait(STOP_S) == 0
    finally:
        os.kill(backend, signal.SIGCONT)


def test_a_port_that_is_taken_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = subprocess.run(
            [sys.executable, "-m", "console", "--port", str(port), "--state", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith(f"console: port {port} on 127.0.0.1 can't be had")
    assert found.stderr.count("\n") == 1


def test_a_port_out_of_range_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "65536", "--state", str(tmp_path)]) == 2
    assert "--port is 65536: allowed is a whole number from 0 to 65535" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="a browser shows the page: install chromium")
def test_a_browser_shows_hostile_texts_as_texts(
    lone: ConsoleProcess, fleet: Fleet, paper_host: PaperHost
) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    fleet.ledger.propose("sandbox", "post", "plan:1", hostile)
    paper_host.report(slot_report("poster", reason=hostile))
    paper_host.raise_alert("test", hostile)
    paper_host.keep_black_box("poster", {hostile: hostile})
    assert lone.command(action="restart", selector="poster", reason=hostile).status_code == 202
    until(lambda: lone.json("/api/overview")["commands"] != [])
    page = shown_by_a_browser(lone.url)
    assert page.count("&lt;img src=x onerror=") >= 4
    assert "<title>SocialFleet</title>" in page
    assert "owned'\"&gt;" in page
    assert "<img src=x" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="a browser shows the page: install chromium")
def test_a_page_that_is_stale_says_so_and_nothing_on_it_looks_well(
    lone: ConsoleProcess, fleet_database: FleetDatabase, paper_host: PaperHost
) -> None:
    paper_host.report(slot_report("poster"))
    until(lambda: lone.json("/api/overview")["hosts"] != [])
    well = ('class="tag good"', 'class="tag busy"', '<li class="good"', "●")
    live = shown_by_a_browser(lone.url)
    assert any(sign in live for sign in well)
    assert 'data-selector="poster/1"' in live
    with away(lone, fleet_database), manager_on_paper(lone.state):
        page = shown_by_a_browser(lone.url)
    assert "stale since" in page
    assert "Local control works" in page
    assert re.search(r"as this host's manager said \d+ s ago", page)
    assert "killed by SIGKILL" in page
    assert 'data-selector="poster/1"' in page
    assert re.findall(r"<button[^>]*data-order[^>]*>", page)
    assert all("disabled" in button for button in re.findall(r"<button[^>]*data-order[^>]*>", page))
    assert [sign for sign in well if sign in page] == []


def _now(fleet_database: FleetDatabase) -> datetime:
    with fleet_database.owner() as owner:
        row = owner.execute("SELECT clock_timestamp()").fetchone()
    assert row
    moment: datetime = row[0]
    return moment


def _read_whole_since(fleet_database: FleetDatabase, moment: datetime) -> bool:
    """Whether the console's last statement was a reading's last one, and came after `moment`."""
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT query_start > %s AND state = 'idle' AND query LIKE '%%get_message_status%%' "
            "FROM pg_stat_activity "
            "WHERE application_name = 'socialfleet console' AND datname = current_database()",
            (moment,),
        ).fetchone()
    return bool(row and row[0])


def _backend(fleet_database: FleetDatabase) -> int:
    """The server process that serves the console."""
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE application_name = 'socialfleet console' AND datname = current_database()"
        ).fetchone()
    assert row
    return int(row[0])
