"""acting_on: lock and quota together, given back on every way out."""

import re
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.errors import (
    ContentRefusedError,
    DatabaseBusyError,
    DatabaseUnavailableError,
    LockLostError,
    QuotaRefusedError,
)
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until, victim
from tests.integration.coordination.tables import Owner, planted, rows, value

ENDPOINT = "search_tweets"
HOW_TO = Path(__file__).resolve().parents[3] / "docs" / "howto" / "act-on-content.md"


def leases(owner: Owner) -> int:
    return int(value(owner, "SELECT count(*) FROM fleet.engagement_locks"))


def open_grants(owner: Owner) -> int:
    return int(value(owner, "SELECT count(*) FROM fleet.rate_grants WHERE settled_at IS NULL"))


def history(owner: Owner) -> list[Any]:
    return rows(owner, "SELECT content, action, account, worker_id, success FROM fleet.engagements")


def messages(owner: Owner) -> list[Any]:
    return rows(owner, "SELECT type, recipient, payload FROM fleet.messages ORDER BY id")


@pytest.fixture
def one_search(console: Database) -> None:
    """The account may make one request."""
    console.call("configure_rate_limit", account="sandbox", endpoint=ENDPOINT, requests=1, window_s=900)


def test_the_body_has_lock_and_grant_and_afterwards_nobody_has(fleet: Fleet, owner: Owner) -> None:
    with fleet.acting_on("1", endpoint=ENDPOINT, account="sandbox") as act:
        assert (leases(owner), open_grants(owner)) == (1, 1)
        assert fleet.engagement.request_lock("1", "other", "analysis") is None
        act.record_usage(True, {"x-rate-limit-limit": "180"})
        assert open_grants(owner) == 0
    assert (leases(owner), open_grants(owner)) == (0, 0)
    assert history(owner) == [("1", "analysis", "sandbox", "tester/1", True)]


def test_an_error_of_the_body_gives_both_back_and_is_a_failure(fleet: Fleet, owner: Owner) -> None:
    with pytest.raises(ZeroDivisionError), fleet.acting_on("1", endpoint=ENDPOINT, account="sandbox"):
        raise ZeroDivisionError
    assert (leases(owner), open_grants(owner)) == (0, 0)
    assert history(owner) == [("1", "analysis", "sandbox", "tester/1", False)]
    # Nobody said that the request was not made.
    assert fleet.rate_limits.get_remaining_capacity(ENDPOINT, "sandbox").used == 1


def test_the_body_says_what_came_of_it(fleet: Fleet, owner: Owner) -> None:
    with fleet.acting_on("1", endpoint=ENDPOINT, account="sandbox") as act:
        act.success = False
        act.give_back_quota()
    assert [success for *_, success in history(owner)] == [False]
    assert fleet.rate_limits.get_remaining_capacity(ENDPOINT, "sandbox").used == 0


def test_a_lock_of_another_type_leaves_no_history(fleet: Fleet, owner: Owner) -> None:
    with fleet.acting_on("1", "quote", account="sandbox"):
        assert leases(owner) == 1
    with pytest.raises(ZeroDivisionError), fleet.acting_on("1", "quote"):
        raise ZeroDivisionError
    assert leases(owner) == 0
    assert history(owner) == []


def test_a_refused_quota_frees_the_lock_and_says_when(fleet: Fleet, owner: Owner, one_search: None) -> None:
    assert one_search is None
    with fleet.acting_on("1", endpoint=ENDPOINT, account="sandbox"):
        pass
    with (
        pytest.raises(QuotaRefusedError, match=ENDPOINT) as refusal,
        fleet.acting_on("2", endpoint=ENDPOINT, account="sandbox"),
    ):
        pytest.fail("the body ran without a grant")
    assert refusal.value.endpoint == ENDPOINT
    assert refusal.value.retry_after_s
    assert refusal.value.booking_id is None
    assert leases(owner) == 0
    assert [content for content, *_ in history(owner)] == ["1"]


def test_a_refused_quota_can_be_booked(fleet: Fleet, owner: Owner, one_search: None) -> None:
    assert one_search is None
    if not hasattr(fleet.rate_limits, "schedule_request"):
        pytest.skip("this limiter takes no bookings")
    with fleet.acting_on("1", endpoint=ENDPOINT, account="sandbox"):
        pass
    with (
        pytest.raises(QuotaRefusedError, match="booked for") as refusal,
        fleet.acting_on("2", endpoint=ENDPOINT, account="sandbox", on_quota="schedule"),
    ):
        pytest.fail("the body ran without a grant")
    assert refusal.value.booking_id
    assert refusal.value.execute_at
    assert leases(owner) == 0


def test_a_content_that_somebody_has_is_refused_before_any_quota(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    with fleet_database.connect("holder") as holder, holder.acting_on("1"):
        with (
            pytest.raises(ContentRefusedError, match="held") as refusal,
            fleet.acting_on("1", endpoint=ENDPOINT, account="sandbox"),
        ):
            pytest.fail("the body ran without a lock")
        assert (refusal.value.reason, refusal.value.holder) == ("held", "holder/1")
        assert not refusal.value.escalated
        assert value(owner, "SELECT count(*) FROM fleet.rate_grants") == 0
        assert messages(owner) == []


def test_a_conflict_is_put_before_the_coordinator_once_a_lease(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    with fleet_database.connect("holder") as holder, holder.acting_on("1999", priority="low"):
        for _ in range(2):
            with (
                pytest.raises(ContentRefusedError) as refusal,
                fleet.acting_on("1999", priority="high", on_conflict="escalate"),
            ):
                pytest.fail("the body ran without a lock")
            assert refusal.value.escalated
    ((kind, recipient, payload),) = messages(owner)
    assert (kind, recipient) == ("CONFLICT_RESOLUTION", "coordinator")
    assert (payload["kind"], payload["thing"]) == ("resource", "content 1999")
    assert [(one["worker"], one["priority"]) for one in payload["contenders"]] == [
        ("holder", "low"),
        ("tester", "high"),
    ]


def test_what_was_engaged_is_no_conflict(fleet: Fleet, owner: Owner) -> None:
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
        "VALUES ('1', 'quote', 'x', true, fleet.now())"
    )
    with (
        pytest.raises(ContentRefusedError, match="recent_engagement") as refusal,
        fleet.acting_on("1", "reply", on_conflict="escalate"),
    ):
        pytest.fail("the body ran without a lock")
    assert not refusal.value.escalated


def test_renewing_prolongs_and_tells_when_the_lock_is_lost(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    misses = fleet.engagement.get_lock_measures()["misses"]

    def act_too_long(heir: Fleet) -> None:
        with fleet.acting_on("1", endpoint=ENDPOINT, account="sandbox") as act:
            before = act.lease.lease_expires_at
            assert act.renew(30).lease_expires_at > before
            owner.execute("UPDATE fleet.engagement_locks SET lease_expires_at = clock_timestamp()")
            assert heir.engagement.request_lock("1", "heir/1", "analysis") is not None
            act.renew()
            pytest.fail("a lost lock was renewed")

    with fleet_database.connect("heir") as heir, pytest.raises(LockLostError):
        act_too_long(heir)
    assert [holder for (holder,) in rows(owner, "SELECT worker_id FROM fleet.engagement_locks")] == ["heir/1"]
    assert open_grants(owner) == 0
    assert history(owner) == []
    # The renewal, and the release that the way out tried.
    assert fleet.engagement.get_lock_measures()["misses"] - misses == 2


def test_a_lock_lost_without_notice_is_told_at_the_end(fleet: Fleet, owner: Owner) -> None:
    with pytest.raises(LockLostError), fleet.acting_on("1"):
        owner.execute("DELETE FROM fleet.engagement_locks")
    assert history(owner) == []


def cut_off(fleet: Fleet, owner: Owner) -> None:
    """The work's connection is lost, the life's own is not."""
    owner.execute("SELECT pg_terminate_backend(%s, 5000)", (fleet.database.seen_pid(),))


def test_a_connection_lost_in_the_body_leaves_nothing_held(fleet: Fleet, owner: Owner) -> None:
    with pytest.raises(DatabaseUnavailableError), fleet.acting_on("1"):
        cut_off(fleet, owner)
    assert leases(owner) == 0
    assert history(owner) == [("1", "analysis", None, "tester/1", True)]


def test_what_could_not_be_given_back_is_given_back_before_the_next_request(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "analysis")
    assert lease is not None
    with psycopg.connect(fleet_database.superuser_dsn) as busy:
        busy.execute("SELECT pg_advisory_xact_lock(fleet.lock_key('content', '1'))")
        soon = ("SET lock_timeout TO '5s'", "SET lock_timeout TO '10ms'")
        with planted(owner, "release_lock", soon), pytest.raises(DatabaseBusyError):
            fleet.engagement.release_lock(lease)
    assert leases(owner) == 1
    assert fleet.engagement.request_lock("1", "tester/1", "analysis") is not None


def _act(keep: Any, dsn: str) -> None:
    fleet = connect(dsn, "doomed")
    held = fleet.acting_on("1", duration_minutes=60)
    keep((fleet, held))
    held.__enter__()


def test_the_lock_of_one_who_dies_while_acting_is_free_at_once_i8(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    with victim(_act, fleet_database.dsn("worker")) as doomed:
        with pytest.raises(ContentRefusedError), fleet.acting_on("1"):
            pytest.fail("the body ran without a lock")
        doomed.kill()
        with fleet.acting_on("1", wait_s=10):
            pass


def test_it_waits_for_its_turn(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    with fleet_database.connect("holder") as holder:
        lease = holder.engagement.request_lock("1", "holder/1", "analysis")
        assert lease is not None

        def give_back() -> None:
            until(lambda: bool(holder.engagement.get_lock_status("1")["waiting"]), 10)
            holder.engagement.release_lock(lease)

        thread = Thread(target=give_back)
        thread.start()
        with fleet.acting_on("1", wait_s=30):
            assert leases(owner) == 1
        thread.join()


def test_the_example_of_the_how_to_does_what_it_says(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, one_search: None
) -> None:
    assert one_search is None
    example: dict[str, Any] = {}
    example_code, more = re.findall(r"```python\n(.+?)```", HOW_TO.read_text("utf-8"), flags=re.DOTALL)
    exec(example_code.replace("wait_s=10", "wait_s=0.1"), example)

    def fetch(_content: str) -> SimpleNamespace:
        return SimpleNamespace(ok=True, headers={}, status=200)

    with fleet_database.connect("holder") as holder, holder.acting_on("1999"):
        assert example["analyse"](fleet, "1999", fetch) == "not now: timed_out by holder/1"
    assert example["analyse"](fleet, "1999", fetch) == "done"
    assert re.fullmatch(r"later: [\d.]+ s", example["analyse"](fleet, "2000", fetch))
    assert {content: success for content, *_, success in history(owner)} == {"1999": True}
    exec(more, {"fleet": fleet})
