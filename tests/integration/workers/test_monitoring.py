"""The monitor on a real database: what it gathers, what it tells, and that it tells it once."""

import contextlib
from threading import Event
from typing import Any

import psycopg
import pytest

from config import Config
from coordination import Fleet
from coordination.alerts import list_alerts
from coordination.health import latest_reports
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until
from tests.integration.coordination.tables import planted, value
from tests.integration.known_workers import ensure_worker
from workers.context import Context
from workers.errors import PartsFailedError
from workers.fleet.monitoring import Monitoring
from workers.intervals import further_duties, minutes
from workers.progress import Progress
from workers.tasks import SystemIssue


def monitoring(fleet: Fleet) -> Monitoring:
    return Monitoring(
        context=Context(config=Config(), account="sandbox"),
        fleet=fleet,
        progress=Progress(),
        draining=Event(),
    )


def told(fleet_database: FleetDatabase) -> list[tuple[Any, ...]]:
    with fleet_database.owner() as owner:
        return owner.execute(
            "SELECT severity, message FROM fleet.events WHERE kind = 'health' ORDER BY id"
        ).fetchall()


def report(fleet_database: FleetDatabase) -> dict[str, Any]:
    reader = fleet_database.database("reader")
    (latest,) = latest_reports(reader)
    reader.close()
    return latest


def test_a_fleet_without_trouble_is_healthy_and_its_figures_are_kept(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    fleet.runs.finish(fleet.runs.start("step", "t"), items=3, item_errors=0)
    fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
    monitoring(fleet).step()
    kept = report(fleet_database)
    assert kept["status"] == "healthy"
    assert kept["report"]["queues"]["intents"] == {"ready": 1}
    assert kept["report"]["database"]["size_mb"] > 1
    (run,) = kept["report"]["runs"]
    assert (run["worker"], run["runs"], run["failed"], run["items"]) == ("tester", 1, 0, 3)


def test_a_finding_is_told_when_it_begins_and_when_it_is_over_and_not_in_between(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    run = fleet.runs.start("step", "t")
    fleet.runs.finish(run, items=0, item_errors=0, error_class="ValueError", error="a bad post")
    monitor = monitoring(fleet)
    monitor.step()
    monitor.step()
    assert told(fleet_database) == [("error", "1 of 1 runs of tester failed, the last with: a bad post")]
    assert report(fleet_database)["status"] == "critical"
    fleet_database.advance(7200)
    monitor.step()
    assert told(fleet_database)[1:] == [
        ("info", "over: 1 of 1 runs of tester failed, the last with: a bad post")
    ]
    assert report(fleet_database)["status"] == "healthy"


def test_what_is_critical_is_one_alert_until_it_is_critical_no_more(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    console = fleet_database.database("console")
    fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.intents SET state = 'parked'")
    monitor = monitoring(fleet)
    monitor.step()
    monitoring(fleet).step()  # also by another process than the one that raised it
    (alert,) = list_alerts(console)
    assert (alert["key"], alert["severity"], alert["times"]) == ("health:parked", "critical", 2)
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.intents SET state = 'rejected'")
    monitor.step()
    assert list_alerts(console) == []
    assert len(list_alerts(console, open_only=False)) == 1
    console.close()


def test_between_two_snapshots_what_begins_or_ends_is_told_within_a_minute(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    def park(state: str) -> int:
        """Give how many snapshots there are after three looks at acts in this state."""
        with fleet_database.owner() as owner:
            owner.execute("UPDATE fleet.intents SET state = %s", (state,))
            for _ in range(3):
                monitor.watch()
            return len(owner.execute("SELECT 1 FROM fleet.health_snapshots").fetchall())

    console = fleet_database.database("console")
    fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
    monitor = monitoring(fleet)
    monitor.step()
    assert further_duties(Monitoring) == {"watch": minutes(1)}
    assert park("ready") == 1
    assert park("parked") == 2
    assert [alert["key"] for alert in list_alerts(console)] == ["health:parked"]
    assert park("rejected") == 3
    assert list_alerts(console) == []
    assert [severity for severity, _ in told(fleet_database)] == ["error", "info"]
    console.close()


def test_a_rate_limit_in_use_and_a_parked_act_are_found(fleet: Fleet, fleet_database: FleetDatabase) -> None:
    console = fleet_database.database("console")
    console.call("configure_rate_limit", account="sandbox", endpoint="get_tweets", requests=5, window_s=900)
    console.close()
    for _ in range(4):
        assert fleet.rate_limits.can_make_request("get_tweets", "tester/1", account="sandbox").grant_id
    fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.intents SET state = 'parked'")
    monitoring(fleet).step()
    found = {one["key"]: one["level"] for one in report(fleet_database)["report"]["findings"]}
    assert found == {"limit:sandbox:get_tweets": "warning", "parked": "critical"}


def test_a_limit_that_is_used_up_is_an_alert_until_there_is_room_again(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    monitor = monitoring(fleet)
    console = fleet_database.database("console")
    console.call("configure_rate_limit", account="sandbox", endpoint="get_tweets", requests=5, window_s=900)
    for _ in range(5):
        granted = fleet.rate_limits.can_make_request("get_tweets", "tester/1", account="sandbox")
        assert granted.grant_id is not None
        fleet.rate_limits.record_usage(granted.grant_id, True, {})
    monitor.step()
    (alert,) = list_alerts(console)
    assert (alert["key"], alert["severity"]) == ("health:limit:sandbox:get_tweets", "critical")
    assert "5 of 5 requests of get_tweets are used" in alert["message"]
    fleet_database.advance(901)
    monitor.step()
    assert list_alerts(console) == []
    console.close()


def test_a_worker_that_should_run_and_does_not_is_critical(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    with fleet_database.owner() as owner:
        owner.execute(
            "INSERT INTO fleet.workers "
            "(name, enabled, replicas, description, changed_by, reason, changed_at) "
            "VALUES ('poster', true, 1, '', 'me', 'why', now()), ('idle', false, 1, '', 'me', 'why', now())"
        )
    monitoring(fleet).step()
    (finding,) = report(fleet_database)["report"]["findings"]
    assert finding == {"key": "worker:poster/1", "level": "critical", "message": "poster/1 is LOST"}


def test_a_worker_that_is_ready_and_never_beat_is_silent_since_then(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    maintainer = fleet_database.database("maintainer")
    ensure_worker(maintainer, "poster", "posts")
    maintainer.close()
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.workers SET enabled = name = 'poster'")
        owner.execute(
            "INSERT INTO fleet.slots (worker, slot, host, state, reason, since, pid, restart_count, seen_at) "
            "VALUES ('poster', 1, 'here', 'READY', '', now() - interval '1 minute', 7, 0, now())"
        )
    monitoring(fleet).step()
    (finding,) = report(fleet_database)["report"]["findings"]
    assert (finding["key"], finding["level"]) == ("worker:poster/1", "critical")
    assert finding["message"].startswith("poster/1 has been silent for 6")


def test_an_issue_that_another_worker_found_is_told(fleet: Fleet, fleet_database: FleetDatabase) -> None:
    maintainer = fleet_database.database("maintainer")
    ensure_worker(maintainer, "monitoring", "looks", roles=("system_issue",))
    maintainer.close()
    issue = {"kind": "system_issue", "issue": "the disk fills", "severity": "error"}
    fleet.messages.send("TASK_DELEGATION", "monitoring", issue)
    with fleet_database.connect("monitoring") as joined:
        (message,) = joined.messages.claim(1, 60)
        monitoring(joined).issue(message, SystemIssue.model_validate(message.payload))
        joined.messages.acknowledge(message)
    with fleet_database.owner() as owner:
        found = owner.execute("SELECT severity, message FROM fleet.events WHERE kind = 'issue'").fetchall()
    assert found == [("error", "tester: the disk fills")]


def test_the_nearer_the_database_is_to_its_last_session_the_less_content_is_begun(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    def capacity() -> int:
        (pool,) = fleet.reservations.get_pool_status("content", "content_pipeline")
        return pool["total_capacity"]

    monitor = monitoring(fleet)
    monitor.watch()
    assert capacity() == 100
    with contextlib.ExitStack() as crowd:
        owner = crowd.enter_context(fleet_database.owner())
        most = int(owner.execute("SHOW max_connections").fetchall()[0][0])
        for _ in range(int(0.7 * most)):
            crowd.enter_context(psycopg.connect(fleet_database.superuser_dsn))
        monitor.watch()
        assert 25 < capacity() < 75
    with fleet_database.owner() as owner:
        mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        until(lambda: value(owner, mine) < 0.4 * most, 5)
    monitor.watch()
    assert capacity() == 100


def test_a_part_of_a_look_that_fails_keeps_no_other_from_being_done(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    broken = "RAISE EXCEPTION 'this one is broken';"
    monitor = monitoring(fleet)
    with fleet_database.owner() as owner:
        with (
            planted(owner, "watch_breakers", ("life := fleet.require_incarnation(incarnation);", broken)),
            pytest.raises(PartsFailedError, match=r"^watch breakers: DatabaseError: this one is broken$"),
        ):
            monitor.step()
        assert report(fleet_database)["status"] == "healthy"
        relieved = "SELECT max(load) > 0 FROM fleet.pools"
        assert value(owner, relieved) is None
        fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
        owner.execute("UPDATE fleet.intents SET state = 'parked'")
        with (
            planted(owner, "take_snapshot", ("PERFORM fleet.require_incarnation(incarnation);", broken)),
            pytest.raises(PartsFailedError, match=r"^keep: DatabaseError: this one is broken$"),
        ):
            monitor.watch()
        assert value(owner, relieved)
