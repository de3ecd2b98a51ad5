"""Discovery, engagement and the poster as processes: killed at every point; before the sandbox."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordination import accounts, settings
from host.x_account import TOPICS
from tests.integration.conftest import FleetDatabase
from tests.integration.known_workers import ensure_worker
from tests.integration.platforms.scripted import SECRETS
from tests.integration.workers.scripted_x import ScriptedX
from tests.integration.workers.test_engagement import acts, fill, set_tier, states
from tests.integration.workers.test_processes import Host
from tests.integration.workers.waiting import eventually
from workers.crash_points import CRASH_POINTS
from workers.platforms.x import X, XCredentials
from workers.tasks import AnalysePost, PostAnalysed

ROOT = Path(__file__).parents[3]
POINTS = [point for point in CRASH_POINTS if point.startswith("engagement.")]


# Killed


class Engager:
    """Processes of the engagement worker, one after another, before an X of the test's own."""

    def __init__(self, state: Path, fleet_database: FleetDatabase, x: ScriptedX) -> None:
        (state / "dsn").mkdir(parents=True)
        (state / "dsn" / "worker").write_text(fleet_database.dsn("worker"))
        names = ("X_CONSUMER_KEY", "X_CONSUMER_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET")
        self._environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._environment |= dict(zip(names, SECRETS, strict=False))
        self._environment |= {
            "SOCIALFLEET_STATE_DIR": str(state),
            "X_API_URL": x.url,
            "SOCIALFLEET_ACCOUNT": "sandbox",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, crash_at: str = "") -> subprocess.Popen[bytes]:
        armed = {"SOCIALFLEET_CRASH_AT": crash_at} if crash_at else {}
        process = subprocess.Popen(
            [sys.executable, "-m", "manager", "worker", "run", "engagement", "--slot", "1"],
            cwd=ROOT,
            env={**self._environment, **armed},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)


@pytest.fixture
def x() -> Iterator[ScriptedX]:
    served = ScriptedX()
    yield served
    served.close()


@pytest.fixture
def engager(tmp_path: Path, fleet_database: FleetDatabase, x: ScriptedX) -> Iterator[Engager]:
    maintainer = fleet_database.database("maintainer")
    accounts.ensure_account(
        maintainer, "sandbox", platform="x", api_url=x.url, sandbox=True, topics=["gardens"]
    )
    maintainer.close()
    set_tier(fleet_database, "enterprise")
    running = Engager(tmp_path / "state", fleet_database, x)
    yield running
    running.close()


def set_settings(fleet_database: FleetDatabase, **values: object) -> None:
    person = fleet_database.database("console")
    for key, value in values.items():
        settings.set_setting(person, key, value, actor="me", reason="quicker")
    person.close()


@pytest.mark.parametrize("point", [*POINTS, "engagement.after_propose:2", "engagement.after_grant:3"])
def test_killed_at_any_point_it_does_nothing_twice_and_leaves_nothing_stuck(
    engager: Engager, fleet_database: FleetDatabase, x: ScriptedX, point: str
) -> None:
    set_settings(fleet_database, engagement_interval_s=1)
    with fleet_database.connect("discovery") as fleet:
        fill(fleet, x, 90, 70, 50)
    killed = engager.start(point)
    assert killed.wait(30) == -signal.SIGKILL
    engager.start()
    eventually(lambda: set(states(fleet_database).values()) == {"proposed"}, what="all proposed", within_s=60)
    assert sorted(acts(fleet_database)) == [
        ("like", "3", "ready"),
        ("quote", "1", "ready"),
        ("reply", "2", "ready"),
    ]
    with fleet_database.owner() as owner:
        linked = owner.execute(
            "SELECT count(*) FROM fleet.candidates c JOIN fleet.intents i ON i.id = c.intent "
            "AND i.target = c.platform_id"
        ).fetchone()
    assert linked == (3,)
    with fleet_database.connect("tester") as fleet:
        for content in ("1", "2", "3"):
            assert eventually(
                lambda content=content: fleet.engagement.request_lock(content, "tester/1", "analysis"),
                what="the lock is free",
            )


# Before the sandbox


@pytest.fixture
def host(fleet_database: FleetDatabase, tmp_path: Path) -> Iterator[Host]:
    running = Host(tmp_path / "state", fleet_database)
    person = fleet_database.database("console")
    accounts.set_topics(person, "sandbox", list(TOPICS), actor="me", reason="what its people speak of")
    person.close()
    set_tier(fleet_database, "enterprise")
    yield running
    running.close()


def test_what_discovery_finds_is_engaged_with_and_sent_once(host: Host) -> None:
    host.set(
        discovery_interval_s=5,
        discovery_searches_per_step=5,
        engagement_interval_s=1,
        poster_interval_s=1,
    )
    for name in ("discovery", "engagement", "poster"):
        host.worker(name)

    def each_kind_was_sent() -> list[dict[str, Any]] | None:
        found = host.writes()
        return found if {"quote", "reply", "like"} <= {write["action"] for write in found} else None

    sent = eventually(each_kind_was_sent, what="a quote, a reply and a like in its record", within_s=90)
    targets = [write["target"] for write in sent]
    assert len(targets) == len(set(targets))
    intents = host.rows("SELECT target FROM fleet.intents WHERE state <> 'rejected'")
    assert len(intents) == len(set(intents))
    known = {row[0] for row in host.rows("SELECT platform_id FROM fleet.candidates WHERE state = 'proposed'")}
    assert set(targets) <= known


def test_a_post_that_mentions_points_to_is_looked_at_and_answered_through_the_coordinator(
    host: Host, fleet_database: FleetDatabase
) -> None:
    maintainer = fleet_database.database("maintainer")
    for name, roles in (("discovery", ["content_analysis"]), ("coordination", []), ("mentions", [])):
        ensure_worker(maintainer, name, name, roles)
    maintainer.close()
    credentials = XCredentials.from_file(host.state / "sandbox" / "credentials.json")
    shown = X(host.url, credentials).search("coffee lang:en -is:retweet").value[-1]
    task = AnalysePost(account="sandbox", post_id=shown.id, mention_id="77")
    host.worker("coordination")
    host.worker("discovery")
    with fleet_database.connect("mentions") as mentions:
        mentions.messages.send("TASK_DELEGATION", "content_analysis", task.model_dump(), to="role")
        (answer,) = eventually(mentions.messages.claim, what="the answer", within_s=60)
    finding = PostAnalysed.model_validate(answer.payload)
    assert (answer.type, answer.sender) == ("TASK_DELEGATION", "discovery")
    assert (finding.found, finding.mention_id) == (True, "77")
    assert finding.score is not None
    assert finding.score > 0
    assert set(finding.parts) == {"engagement", "freshness", "reach", "topic", "quality"}
