"""Engagement locks: one worker at a time on one piece of content."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.engagement import LockType
from coordination.errors import InvalidValueError, LockLostError
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

ENGAGING: tuple[LockType, ...] = ("quote", "reply", "like", "post", "follow")


def _contend(start: Callable[[], int], dsn: str, times: int) -> list[tuple[int, float, float]]:
    """Take and give back one content so many times; give (token, from, to) of each ownership."""
    owned: list[tuple[int, float, float]] = []
    with connect(dsn, "contender") as fleet:
        start()
        while len(owned) < times:
            lease = fleet.engagement.request_lock("one", "contender", "analysis", 1)
            if lease is not None:
                began = time.monotonic()
                fleet.engagement.has_recent_engagement("one")
                owned.append((lease.fencing_token, began, time.monotonic()))
                fleet.engagement.release_lock(lease)
    return owned


def _contention(dsn: str, processes: int, times: int) -> list[tuple[int, float, float]]:
    return sorted(
        (one for owned in together(_contend, processes, dsn, times) for one in owned),
        key=lambda one: one[1],
    )


def assert_no_overlap(owned: list[tuple[int, float, float]]) -> None:
    assert all(ended < began for (_, _, ended), (_, began, _) in pairwise(owned)), "overlap"


def test_of_16_processes_one_at_a_time_holds_a_content_and_tokens_rise_i1_i2(
    fleet_database: FleetDatabase,
) -> None:
    owned = _contention(fleet_database.dsn("worker"), 16, 3)
    assert len(owned) == 16 * 3
    assert_no_overlap(owned)
    assert all(token < following for (token, _, _), (following, _, _) in pairwise(owned))


def test_without_the_mutex_the_test_above_would_fail(fleet_database: FleetDatabase, owner: Owner) -> None:
    mutex = "PERFORM pg_advisory_xact_lock(fleet.lock_key('content', tweet_id));"
    decided = "PERFORM set_config('synchronous_commit', 'on', true);"
    with (
        planted(owner, "request_lock", (mutex, "")),
        planted(owner, "take_lock", (decided, f"PERFORM pg_sleep(0.01); {decided}")),
        pytest.raises(AssertionError, match=r"is lost|overlap|duplicate key"),
    ):
        assert_no_overlap(_contention(fleet_database.dsn("worker"), 8, 10))


def test_every_lock_type_is_granted(fleet: Fleet) -> None:
    for lock_type in get_args(LockType):
        lease = fleet.engagement.request_lock(f"content of {lock_type}", "tester/1", lock_type)
        assert lease is not None
        assert lease.content == f"content of {lock_type}"
        fleet.engagement.release_lock(lease)


def test_a_stale_token_renews_nothing_releases_nothing_and_writes_nothing_i3(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease_s, began = 0.2, time.monotonic()
    stale = fleet.engagement.request_lock("1", "tester/1", "analysis", lease_s / 60)
    assert stale is not None
    with fleet_database.connect("heir") as heir:
        leases: list[Any] = []

        def taken() -> bool:
            leases.append(heir.engagement.request_lock("1", "heir/1", "analysis", 5))
            return leases[-1] is not None

        until(taken, 5)
        assert time.monotonic() - began >= lease_s  # not before the lease was over, by real time
        before = rows(owner, "SELECT * FROM fleet.engagement_locks")
        for write in (
            lambda: fleet.engagement.renew_lock(stale),
            lambda: fleet.engagement.release_lock(stale),
            lambda: fleet.engagement.release_lock(stale, success=True),
        ):
            with pytest.raises(LockLostError, match="lost"):
                write()
        assert rows(owner, "SELECT * FROM fleet.engagement_locks") == before
        assert value(owner, "SELECT count(*) FROM fleet.engagements") == 0
        heir.engagement.release_lock(heir.engagement.renew_lock(leases[-1]), success=True)
        assert value(owner, "SELECT count(*) FROM fleet.engagements WHERE action = 'analysis'") == 1
    with pytest.raises(LockLostError):  # twice is once too often
        fleet.engagement.release_lock(stale)


def test_a_lease_that_is_over_can_not_be_renewed(fleet: Fleet, owner: Owner) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "quote")
    assert lease is not None
    owner.execute("UPDATE fleet.engagement_locks SET lease_expires_at = clock_timestamp()")
    with pytest.raises(LockLostError):
        fleet.engagement.renew_lock(lease)


def test_a_renewal_is_for_a_quarter_of_an_hour_unless_it_says_otherwise(fleet: Fleet, owner: Owner) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "quote", 1)
    assert lease is not None
    fleet.session.call("renew_lock", content="1", token=lease.fencing_token)
    left_s = value(
        owner, "SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM fleet.engagement_locks"
    )
    assert 14.5 * 60 < left_s <= 15 * 60


def test_moving_fleet_time_expires_no_lease(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "quote", 1)
    assert lease is not None
    fleet_database.advance(30 * 86400)
    with fleet_database.connect("heir") as heir:
        assert heir.engagement.request_lock("1", "heir/1", "quote") is None
    assert fleet.engagement.renew_lock(lease, 2).lease_expires_at > lease.lease_expires_at


def test_an_engaged_content_is_refused_to_engaging_locks_for_the_window_only(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
        "VALUES ('1', 'quote', 'x', true, fleet.now()), ('2', 'analysis', 'x', true, fleet.now()), "
        "('3', 'quote', 'x', false, fleet.now())"
    )
    assert fleet.engagement.has_recent_engagement("1")
    assert not fleet.engagement.has_recent_engagement("2")
    for lock_type in ENGAGING:
        assert fleet.engagement.request_lock("1", "tester/1", lock_type) is None
    others: list[tuple[str, LockType]] = [("1", "analysis"), ("2", "quote"), ("3", "quote")]
    for content, lock_type in others:
        lease = fleet.engagement.request_lock(content, "tester/1", lock_type)
        assert lease is not None
        fleet.engagement.release_lock(lease)
    fleet_database.advance(23 * 3600)
    assert fleet.engagement.request_lock("1", "tester/1", "quote") is None
    set_setting(console, "engagement_window_hours", 10, actor="me", reason="shorter")
    assert fleet.engagement.request_lock("1", "tester/1", "quote") is not None


def test_a_setting_that_no_span_of_time_can_have_does_not_stop_the_locks(fleet: Fleet, owner: Owner) -> None:
    for nonsense in ("1e300", "-1", '"a day"', "null", "[1]"):  # an older program's, which checked nothing
        owner.execute("DELETE FROM fleet.settings")
        owner.execute(
            "INSERT INTO fleet.settings VALUES ('engagement_window_hours', %s, 1, 'me', 'test', now())",
            (nonsense,),
        )
        lease = fleet.engagement.request_lock("1", "tester/1", "quote")
        assert lease is not None
        fleet.engagement.release_lock(lease)


def test_an_act_under_way_or_undecided_keeps_its_content_locked(fleet: Fleet, owner: Owner) -> None:
    fleet.ledger.propose("sandbox", "post", "1", "text")
    content = value(owner, "SELECT content FROM fleet.intents")
    for state in ("sending", "unknown", "parked"):
        owner.execute(
            "UPDATE fleet.intents SET state = %s, incarnation = gen_random_uuid(), fencing_token = 1",
            (state,),
        )
        assert fleet.engagement.has_recent_engagement(content)
        for lock_type in ENGAGING:
            assert fleet.engagement.request_lock(content, "tester/1", lock_type) is None
        lease = fleet.engagement.request_lock(content, "tester/1", "analysis")
        assert lease is not None
        fleet.engagement.release_lock(lease)
    owner.execute("UPDATE fleet.intents SET state = 'ready'")
    assert fleet.engagement.request_lock(content, "tester/1", "post") is not None


def test_bad_parameters_are_refused_by_name(fleet: Fleet) -> None:
    ask: Any = fleet.engagement.request_lock
    for arguments, options, field, given in (
        (("", "w", "quote"), {}, "tweet_id", ""),
        (("x" * 513, "w", "quote"), {}, "tweet_id", "x" * 200),
        (("1", "", "quote"), {}, "worker_id", ""),
        (("1", None, "quote"), {}, "worker_id", None),
        (("1", "w", "retweet"), {}, "lock_type", "retweet"),
        (("1", "w", None), {}, "lock_type", None),
        (("1", "w", "quote", 0), {}, "duration_minutes", "0"),
        (("1", "w", "quote", -1), {}, "duration_minutes", "-1"),
        (("1", "w", "quote", 1441), {}, "duration_minutes", "1441"),
        (("1", "w", "quote", float("nan")), {}, "duration_minutes", "NaN"),
        (("1", "w", "quote", float("inf")), {}, "duration_minutes", "Infinity"),
        (("1", "w", "quote"), {"priority": "urgent"}, "priority", "urgent"),
        (("1", "w", "quote"), {"wait_s": -1}, "wait_s", "-1"),
        (("1", "w", "quote"), {"wait_s": float("nan")}, "wait_s", "NaN"),
        (("1", "w", "quote"), {"wait_s": float("inf")}, "wait_s", "Infinity"),
        (("1", "w", "quote"), {"scope": "galaxy"}, "scope", "galaxy"),
        (("1", "w", "quote"), {"scope": "act"}, "account", None),
        (("1", "w", "quote"), {"account": "nobody"}, "account", "nobody"),
        (("1", "w", "quote"), {"score": 101}, "score", "101"),
        (("1", "w", "quote"), {"score": float("nan")}, "score", "NaN"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            ask(*arguments, **options)
        assert_refused(refusal, field, given)
    for hours in (-1, float("nan"), float("inf")):
        with pytest.raises(InvalidValueError, match="hours"):
            fleet.engagement.has_recent_engagement("1", hours)
        with pytest.raises(InvalidValueError, match="hours"):
            fleet.engagement.get_engagement_stats(hours)
    for content in (None, "", "x" * 513):
        with pytest.raises(InvalidValueError, match="tweet_id"):
            fleet.session.call("has_recent_engagement", tweet_id=content)
    lease = fleet.engagement.request_lock("1", "tester/1", "quote")
    assert lease is not None
    with pytest.raises(InvalidValueError) as refusal:
        fleet.engagement.release_lock(lease, success=True)
    assert_refused(refusal, "success", "true")
    with pytest.raises(InvalidValueError, match="NUL"):
        fleet.engagement.request_lock("a\0b", "tester/1", "quote")
    fleet.engagement.release_lock(lease)  # a refusal changed nothing


def test_stats_count_the_window_by_kind(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    assert fleet.engagement.get_engagement_stats().success_rate is None
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
        "SELECT 'c', action, 'x', success, fleet.now() FROM (VALUES ('quote', true), ('quote', false), "
        "('reply', true), ('like', true), ('post', true), ('analysis', true)) v (action, success)"
    )
    stats = fleet.engagement.get_engagement_stats()
    assert (stats.total_engagements, stats.successful_engagements) == (5, 4)
    assert (stats.quote_tweets, stats.replies, stats.likes, stats.posts) == (2, 1, 1, 1)
    assert stats.success_rate == 0.8
    fleet_database.advance(3600)
    assert fleet.engagement.get_engagement_stats(hours=1).total_engagements == 0
