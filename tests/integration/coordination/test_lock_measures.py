"""What is counted of locks and engagements: over any window, by outcome, by time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.engagement import Successes
from coordination.errors import InvalidValueError, LockLostError
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.lock_lines import line_up, poll, unhurried
from tests.integration.coordination.tables import Owner, rows, value


@pytest.fixture(autouse=True)
def nobody_hurries(owner: Owner) -> Iterator[None]:
    with unhurried(owner):
        yield


def measures(fleet: Fleet, hours: float = 24) -> dict[str, Any]:
    return fleet.engagement.get_lock_measures(hours)


def test_without_requests_there_are_no_means(fleet: Fleet) -> None:
    found = measures(fleet)
    assert (found["requests"], found["granted"], found["queue_depth"], found["held"]) == (0, 0, 0, 0)
    for mean in ("acquisition_s", "conflict_resolution_s", "conflict_frequency"):
        assert found[mean] is None


def test_each_outcome_is_counted(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "analysis")
    assert lease is not None
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
        "VALUES ('2', 'quote', 'x', true, fleet.now())"
    )
    with fleet_database.connect("other") as other:
        assert other.engagement.request_lock("1", "other/1", "analysis") is None
        assert other.engagement.request_lock("2", "other/1", "quote") is None
        assert other.engagement.request_lock("1", "other/1", "analysis", wait_s=0.01) is None
        waiter = line_up(other)
        assert measures(fleet)["queue_depth"] == 1
        fleet.engagement.release_lock(lease)
        assert poll(other, waiter)["granted"]
        found = measures(fleet)
    assert found["granted"] == 2
    assert found["granted_after_waiting"] == 1
    assert (found["refused_held"], found["refused_engaged"], found["refused_interval"]) == (3, 1, 0)
    assert found["timed_out"] + found["given_up"] == 1
    assert found["requests"] == 5
    assert found["conflict_frequency"] == pytest.approx(4 / 5)
    assert found["conflicts_resolved"] == 2
    assert found["conflict_resolution_max_s"] >= found["conflict_resolution_s"] > 0
    assert found["acquisition_max_s"] >= found["acquisition_s"] > 0
    assert sum(found["acquisition_within"].values()) == 2
    assert found["held"] == 1
    # Each life counts in a row of its own.
    assert value(owner, "SELECT count(*) FROM fleet.lock_measures") == 2


def test_a_claim_takes_as_long_as_it_takes_not_as_long_as_its_act_was_due(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    acts.ready(fleet)
    fleet_database.advance(3600)
    acts.claimed(fleet)
    found = measures(fleet)
    assert found["granted"] == 1
    assert found["acquisition_max_s"] < 60


def test_measures_are_of_a_window(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    assert fleet.engagement.request_lock("1", "tester/1", "analysis") is not None
    fleet_database.advance(2 * 3600)
    assert measures(fleet, hours=1)["granted"] == 0
    assert measures(fleet, hours=3)["granted"] == 1
    assert fleet.retention.sweep("lock_measures", keep_s=3600) == 1
    with pytest.raises(InvalidValueError, match="hours"):
        measures(fleet, hours=-1)


def test_a_late_report_is_a_miss_although_it_changed_nothing(fleet: Fleet) -> None:
    before = measures(fleet)["misses"]
    lease = fleet.engagement.request_lock("1", "tester/1", "analysis")
    assert lease is not None
    fleet.engagement.release_lock(lease)
    for late in (lambda: fleet.engagement.release_lock(lease), lambda: fleet.engagement.renew_lock(lease)):
        with pytest.raises(LockLostError):
            late()
    assert measures(fleet)["misses"] - before == 2


def test_the_status_says_who_has_what_and_who_waits(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "analysis", priority="high")
    assert lease is not None
    with fleet_database.connect("other") as other:
        line_up(other, priority="low", worker_id="other/low")
        line_up(other, priority="critical", worker_id="other/critical")
        found = fleet.engagement.get_lock_status()
    (held,) = found["held"]
    assert (held["content"], held["scope"], held["holder"], held["priority"]) == (
        "1", "fleet", "tester/1", "high",
    )  # fmt: skip
    assert held["fencing_token"] == lease.fencing_token
    assert [(one["worker_id"], one["position"]) for one in found["waiting"]] == [
        ("other/critical", 1),
        ("other/low", 2),
    ]
    assert fleet.engagement.get_lock_status("2") == {"held": [], "waiting": []}
    with pytest.raises(InvalidValueError, match="n is"):
        fleet.engagement.get_lock_status(n=0)


# History


@pytest.fixture
def engagements(owner: Owner) -> datetime:
    """Six engagements at three hours of one day; give the day."""
    day = datetime(2026, 3, 1, tzinfo=UTC)
    for hour, action, account, success in (
        (9, "quote", "sandbox", True),
        (9, "quote", "sandbox", False),
        (9, "reply", "default", True),
        (15, "like", "sandbox", True),
        (15, "analysis", None, True),
        (21, "reply", "default", False),
    ):
        owner.execute(
            "INSERT INTO fleet.engagements (content, action, account, worker_id, success, engaged_at) "
            "VALUES ('c', %s, %s, 'x', %s, %s)",
            (action, account, success, day + timedelta(hours=hour)),
        )
    return day


def test_stats_are_over_any_window_and_of_any_account(fleet: Fleet, engagements: datetime) -> None:
    end = engagements + timedelta(days=1)
    stats = fleet.engagement.get_engagement_stats(24, until=end)
    assert (stats.total_engagements, stats.successful_engagements, stats.success_rate) == (5, 3, 0.6)
    stats = fleet.engagement.get_engagement_stats(24, until=end, account="sandbox")
    assert (stats.total_engagements, stats.quote_tweets, stats.likes) == (3, 2, 1)
    assert fleet.engagement.get_engagement_stats(4, until=end).total_engagements == 1
    assert fleet.engagement.get_engagement_stats(1, until=engagements).success_rate is None
    assert fleet.engagement.get_engagement_stats(1_000_000).total_engagements == 5


def test_patterns_say_which_actions_hours_and_accounts_succeed(fleet: Fleet, engagements: datetime) -> None:
    found = fleet.engagement.get_engagement_patterns(24, until=engagements + timedelta(days=1))
    assert found.by_action == {
        "quote": Successes(total=2, successful=1, success_rate=0.5),
        "reply": Successes(total=2, successful=1, success_rate=0.5),
        "like": Successes(total=1, successful=1, success_rate=1),
    }
    assert {hour: one.total for hour, one in found.by_hour.items()} == {9: 3, 15: 1, 21: 1}
    assert found.by_hour[21].success_rate == 0
    assert {name: one.total for name, one in found.by_account.items()} == {"sandbox": 3, "default": 2}
    assert fleet.engagement.get_engagement_patterns(1, until=engagements).by_action == {}


def test_an_act_that_the_platform_refused_counts_without_success_and_opens_no_window(
    fleet: Fleet, owner: Owner
) -> None:
    act = acts.prepared_towards(fleet, "reply", "1999")
    begun = acts.begin(fleet, act)
    fleet.ledger.settle(
        act.claim.intent, begun.attempt, "rejected", "tester/1", status=403, reason="not allowed"
    )
    assert rows(owner, "SELECT content, action, account, success FROM fleet.engagements") == [
        ("1999", "reply", "sandbox", False)
    ]
    assert not fleet.engagement.has_recent_engagement("1999")
    assert fleet.engagement.get_engagement_stats().success_rate == 0


def test_history_is_kept_as_long_as_a_lock_or_a_report_looks_back(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    def kept(hours: float) -> int:
        fleet_database.advance(hours * 3600)
        fleet.retention.sweep("engagements", keep_s=0)
        return int(value(owner, "SELECT count(*) FROM fleet.engagements"))

    set_setting(console, "engagement_window_hours", 240, actor="me", reason="test")
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, account, worker_id, success, engaged_at) "
        "VALUES ('c', 'quote', 'sandbox', 'x', true, fleet.now())"
    )
    assert kept(239) == 1
    assert fleet.engagement.request_lock("c", "tester/1", "quote") is None
    set_setting(console, "engagement_window_hours", 1, actor="me", reason="test")
    assert kept(0) == 0
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, account, worker_id, success, engaged_at) "
        "VALUES ('c', 'quote', 'sandbox', 'x', true, fleet.now())"
    )
    assert kept(7 * 24 - 1) == 1
    assert fleet.health.gather(window_s=604_800)["engagements"]["quote_tweets"] == 1
    assert kept(2) == 0
