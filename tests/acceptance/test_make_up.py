"""The whole of it, by the real commands: an empty directory, `make up`, and what a person does then."""

import csv
import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.fleet_process import ROOT, FleetProcess, alive, eventually, free_port
from tests.quickly import quickly

pytestmark = pytest.mark.acceptance
WORLD = ROOT.parent / "shared" / "data" / "tweets" / "obama.csv"
WORKERS = {
    "coordination",
    "discovery",
    "engagement",
    "maintenance",
    "mentions",
    "metrics",
    "monitoring",
    "planner",
    "poster",
}
RUNNING = {"READY", "BUSY"}


class Runs:
    """Starts fleets on one state directory and leaves none behind."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.ports = (free_port(), free_port())
        self.started: list[FleetProcess] = []

    def up(self, world: Path | None = None) -> FleetProcess:
        fleet = FleetProcess(self.state, console_port=self.ports[0], sandbox_port=self.ports[1], world=world)
        self.started.append(fleet)
        return fleet


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    all_runs = Runs(tmp_path / "state")
    yield all_runs
    for fleet in all_runs.started:
        fleet.kill()
    if all_runs.started:
        all_runs.started[-1].command("clean")


def all_running(fleet: FleetProcess) -> dict[str, int] | None:
    workers = fleet.workers()
    if set(workers) == WORKERS and all(w["state"] in RUNNING and w["healthy"] for w in workers.values()):
        return {name: worker["pid"] for name, worker in workers.items()}
    return None


def record_equals_ledger(fleet: FleetProcess) -> dict[str, str] | None:
    """Byte for byte, by the platform's own record."""
    posted = fleet.posted()
    accepted = {write["id"]: write["text"] for write in fleet.writes() if write["text"]}
    return posted if posted and posted == accepted else None


def ahead_s(fleet: FleetProcess) -> float:
    """How far the sandbox's time is ahead of real time; fleet time must be the same."""
    shown = json.loads(fleet.command("clock", "show", "--json"))
    sandbox = requests.get(f"{fleet.sandbox}/_sandbox/clock", timeout=5).json()
    asked_at = datetime.fromisoformat(shown["real_now"])
    fleet_now = datetime.fromisoformat(shown["fleet_now"])
    assert abs((datetime.fromisoformat(sandbox["now"]) - fleet_now).total_seconds()) < 10
    return (fleet_now - asked_at).total_seconds()


def readings(fleet: FleetProcess) -> float:
    text = requests.get(f"{fleet.console}/metrics", timeout=10).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("socialfleet_readings")
    )


def started_again(runs: Runs) -> FleetProcess:
    """The fleet, up within 10 s."""

    def start_s() -> float:
        if len(runs.started) > 1:
            assert runs.started[-1].stop(signal.SIGTERM) < 15
        return runs.up().wait_ready(30)

    quickly(start_s, within_s=10)
    return runs.started[-1]


def test_a_fleet_comes_up_works_is_steered_survives_and_leaves_nothing(runs: Runs) -> None:
    fleet = runs.up()
    assert fleet.wait_ready(60) < 60
    assert requests.get(f"{fleet.console}/health/live", timeout=5).status_code == 200

    # Each worker is an OS process of its own, in a session of its own.
    pids = eventually(lambda: all_running(fleet), within_s=30, what="all workers healthy")
    assert len(set(pids.values())) == len(WORKERS)
    assert all(os.getsid(pid) == pid for pid in pids.values())
    assert requests.get(f"{fleet.console}/health/ready", timeout=5).status_code == 200

    # It plans, posts and measures within a minute; the platform's record equals the ledger.
    eventually(lambda: len(fleet.posted()) >= 2, within_s=60, what="two posts")
    eventually(lambda: record_equals_ledger(fleet), within_s=20, what="record equals ledger")
    eventually(lambda: readings(fleet) >= 1, within_s=60, what="a metric reading")

    # A person's post goes out byte for byte, at once, and only once.
    text = "Fish & chips <b> “quoted” é 日本語 😷"
    intent = json.loads(fleet.command("post", text, "--json"))
    assert intent["created"] is True
    eventually(lambda: text in fleet.posted().values(), within_s=10, what="the post by hand")
    repeated = json.loads(fleet.command("post", text, "--json"))
    assert (repeated["id"], repeated["created"]) == (intent["id"], False)
    assert [write["text"] for write in fleet.writes()].count(text) == 1

    # Restarted by the CLI: another process, nothing else disturbed.
    fleet.command("restart", "poster")
    now = eventually(lambda: all_running(fleet), within_s=30, what="healthy after the restart")
    assert now["poster"] != pids["poster"]
    assert {name: pid for name, pid in now.items() if name != "poster"} == {
        name: pid for name, pid in pids.items() if name != "poster"
    }

    # Killed -9 and back.
    os.kill(now["planner"], signal.SIGKILL)
    eventually(
        lambda: fleet.workers()["planner"]["pid"] not in {None, now["planner"]},
        within_s=15,
        what="a new planner process",
    )
    back = eventually(lambda: all_running(fleet), within_s=30, what="healthy after the kill")
    assert back["planner"] != now["planner"]
    assert fleet.workers()["planner"]["restartCount"] >= 1

    # Stopped and started by the CLI.
    fleet.command("stop", "metrics")
    assert fleet.workers()["metrics"]["state"] == "STOPPED"
    assert not psutil.pid_exists(back["metrics"])
    fleet.command("start", "metrics")
    eventually(lambda: all_running(fleet), within_s=30, what="healthy after the start")

    # An hour passes, for the fleet and its sandbox alike, first quickly and then at its own pace.
    fleet.command("clock", "move", "--by", "3600", "--rate", "30")
    fleet.command("clock", "move", "--rate", "1")
    assert ahead_s(fleet) > 3600
    eventually(lambda: record_equals_ledger(fleet), within_s=30, what="record equals ledger an hour later")

    # Ctrl-C's service-manager twin: all stopped within 15 s, no process left.
    everything = fleet.processes()
    assert len(everything) > len(WORKERS) + 3
    assert fleet.stop(signal.SIGTERM) < 15
    assert alive(everything) == []

    # Started again it goes on from its state, within 10 s.
    again = started_again(runs)
    assert ahead_s(again) > 3600
    posted = eventually(lambda: record_equals_ledger(again), within_s=30, what="the same record as before")
    assert text in posted.values()
    assert len(set(posted.values())) == len(posted), "a text was posted twice"
    everything = again.processes()
    assert again.stop(signal.SIGINT) < 15
    assert alive(everything) == []


@pytest.mark.skipif(not WORLD.exists(), reason=f"the recorded world {WORLD.name} is not beside this checkout")
def test_a_world_of_real_posts_can_be_searched_with_its_texts_and_counts(runs: Runs) -> None:
    fleet = runs.up(WORLD)
    fleet.wait_ready(60)
    eventually(lambda: all_running(fleet), within_s=30, what="all workers healthy")
    with WORLD.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(islice((r for r in csv.DictReader(file) if r["text"].isascii()), 200))
    checked = 0
    for row in rows[::20]:
        words = [word for word in row["text"].split() if word.isalpha() and len(word) > 3][:6]
        if len(words) < 4:
            continue
        found = {
            post["id"]: post["public_metrics"]
            for post in fleet.search(" ".join(words), max_results="100").get("data", [])
        }
        metrics = found[row["url"].rsplit("/", 1)[1]]
        assert metrics["retweet_count"] == int(row["retweets"])
        assert metrics["like_count"] == int(row["favorites"])
        assert metrics["reply_count"] == int(row["replies"])
        checked += 1
    assert checked >= 5
    eventually(lambda: record_equals_ledger(fleet), within_s=60, what="posts in that world")
    eventually(lambda: readings(fleet) >= 1, within_s=60, what="a metric reading")
    everything = fleet.processes()
    assert fleet.stop() < 15
    assert alive(everything) == []
