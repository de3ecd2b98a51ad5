"""Who can't have a lock now keeps nobody from it; who can is passed by nobody, however many stand between."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from coordination import Fleet
from coordination.accounts import set_engagement_interval
from coordination.database import Database
from coordination.engagement import Lease, Refusal
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import until
from tests.integration.coordination.lock_lines import line_up, poll, unhurried
from tests.integration.coordination.tables import Owner, value

INTERVAL_S = 600
MANY = 40


@pytest.fixture(autouse=True)
def nobody_hurries(owner: Owner) -> Iterator[None]:
    with unhurried(owner):
        yield


@pytest.fixture
def spaced(console: Database) -> None:
    """The sandbox and the default account let ten minutes pass between two engagements."""
    set_setting(console, "engagement_spacing_s", INTERVAL_S, actor="me", reason="test")


keeps_interval = pytest.mark.usefixtures("spaced")


@pytest.fixture
def other(fleet_database: FleetDatabase) -> Iterator[Fleet]:
    with fleet_database.connect("other") as life:
        yield life


@pytest.fixture
def third(fleet_database: FleetDatabase) -> Iterator[Fleet]:
    with fleet_database.connect("third") as life:
        yield life


def engaged(owner: Owner, account: str) -> None:
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, account, worker_id, success, engaged_at) "
        "VALUES ('0', 'quote', %s, 'x', true, fleet.now())",
        (account,),
    )


def held(fleet: Fleet, content: str, account: str | None = None) -> Lease:
    lock_type = "analysis" if account is None else "quote"
    lease = fleet.engagement.ask(content, fleet.incarnation.worker, lock_type, account=account)
    assert isinstance(lease, Lease), lease
    return lease


def reason(fleet: Fleet, content: str, account: str | None = None, priority: str = "medium") -> str:
    lock_type = "analysis" if account is None else "quote"
    answer = fleet.engagement.ask(
        content,
        fleet.incarnation.worker,
        lock_type,
        account=account,
        priority=priority,  # type: ignore[arg-type]
    )
    return answer.reason if isinstance(answer, Refusal) else "granted"


def dead_holder(owner: Owner, content: str, scope: str = "") -> None:
    """A lease of a life that lost its session lock."""
    owner.execute(
        "INSERT INTO fleet.engagement_locks (content, scope, lock_type, priority, incarnation, worker_id, "
        "fencing_token, acquired_at, lease_expires_at) VALUES (%s, %s, 'reply', 'medium', gen_random_uuid(), "
        "'dead/1', nextval('fleet.fencing_token'), clock_timestamp(), clock_timestamp() + interval '1 hour')",
        (content, scope),
    )


def dead_waiters(owner: Owner, content: str, account: str | None = None) -> None:
    """Many that stand first in the line, without a session lock, and not silent yet."""
    owner.execute(
        "INSERT INTO fleet.lock_waiters (content, scope, account, lock_type, duration, priority, "
        "incarnation, worker_id, waits_since, stands_at, polled_at, poll_by, deadline_at) "
        "SELECT %s, '', %s, 'quote', '1 min', 'medium', gen_random_uuid(), 'dead', r, r - h, r, r + h, r + h "
        "FROM clock_timestamp() r, (SELECT interval '1 hour' AS h) hour, generate_series(1, %s)",
        (content, account, MANY),
    )


# A line for a content


@keeps_interval
def test_who_waits_for_its_accounts_turn_keeps_nobody_from_a_free_content_and_keeps_its_place_i13(
    fleet: Fleet, other: Fleet, third: Fleet
) -> None:
    turn = held(fleet, "1", "sandbox")
    waiter = line_up(other, "2", lock_type="quote", account="sandbox")
    assert poll(other, waiter)["reason"] == "interval"
    lease = held(third, "2", "default")
    behind = line_up(fleet, "2", account="default")
    fleet.engagement.release_lock(turn)
    assert poll(other, waiter)["position"] == 1
    third.engagement.release_lock(lease)
    assert poll(fleet, behind)["reason"] == "line"
    assert poll(other, waiter)["granted"]


@keeps_interval
def test_however_many_are_passed_over_the_first_who_can_have_it_is_not_i12(
    fleet: Fleet, other: Fleet, third: Fleet, owner: Owner
) -> None:
    engaged(owner, "sandbox")
    for number in range(20):
        line_up(other, "1", lock_type="quote", account="sandbox", worker_id=f"bound/{number}")
    lease = held(fleet, "1")
    dead_waiters(owner, "1")
    waiter = line_up(other, "1")
    fleet.engagement.release_lock(lease)
    assert reason(third, "1") == "line"
    assert poll(other, waiter)["granted"]


@keeps_interval
def test_of_an_accounts_contents_too_i12(
    fleet_database: FleetDatabase, fleet: Fleet, other: Fleet, third: Fleet, owner: Owner
) -> None:
    engaged(owner, "sandbox")
    dead_waiters(owner, "1", "sandbox")
    waiter = line_up(other, "2", lock_type="quote", account="sandbox")
    fleet_database.advance(INTERVAL_S)
    assert reason(third, "3", "sandbox") == "interval"
    assert poll(other, waiter)["granted"]
    assert reason(fleet, "4", "sandbox") == "interval"


@keeps_interval
def test_who_waits_for_a_dead_holders_content_has_its_accounts_turn(
    fleet: Fleet, other: Fleet, third: Fleet, owner: Owner
) -> None:
    held(fleet, "1")
    waiter = line_up(other, "1", lock_type="quote", account="sandbox")
    owner.execute("UPDATE fleet.engagement_locks SET incarnation = gen_random_uuid()")
    assert reason(third, "2", "sandbox") == "interval"
    assert poll(other, waiter)["granted"]


def test_two_acts_of_one_worker_have_a_place_each(fleet: Fleet, other: Fleet, owner: Owner) -> None:
    held(fleet, "1")
    first = line_up(other, "1", besides=11)
    line_up(other, "1", besides=12)
    owner.execute("UPDATE fleet.lock_waiters SET poll_by = polled_at")  # both fell silent
    line_up(other, "1", besides=12)
    assert poll(other, first)["position"] == 1
    assert value(owner, "SELECT count(*) FROM fleet.lock_waiters") == 2


# Acts of the ledger


def test_an_act_gives_no_way_to_who_waits_for_its_interval_i13(
    fleet: Fleet, other: Fleet, owner: Owner, console: Database
) -> None:
    engaged(owner, "default")
    set_engagement_interval(console, "default", INTERVAL_S, actor="me", reason="test")
    line_up(other, "1999", lock_type="quote", account="default")
    acts.towards(fleet, "reply", "1999")
    assert acts.claimed(fleet).target == "1999"


@keeps_interval
def test_an_act_that_was_due_before_another_asked_has_the_accounts_turn_i12(
    fleet_database: FleetDatabase, fleet: Fleet, other: Fleet, owner: Owner
) -> None:
    engaged(owner, "sandbox")
    acts.towards(fleet, "reply", "1999")
    fleet_database.advance(INTERVAL_S / 2)
    waiter = line_up(other, "2", lock_type="quote", account="sandbox")
    fleet_database.advance(INTERVAL_S / 2)
    acts.towards(fleet, "reply", "2000")
    claim = acts.claimed(fleet)
    assert claim.target == "1999"
    fleet.ledger.unclaim(claim, "tester/1", "test", retry_after_s=3600)
    assert fleet.ledger.claim("sandbox", "tester/1") is None
    assert poll(other, waiter)["granted"]


def test_a_content_of_the_dead_is_sought_behind_those_of_the_living_i13(
    fleet: Fleet, other: Fleet, owner: Owner
) -> None:
    for target in ("1999", "2000"):
        acts.towards(fleet, "reply", target)
        dead_holder(owner, target, "default")
    assert isinstance(
        other.engagement.ask("1999", "other", "reply", scope="account", account="sandbox"), Lease
    )
    assert acts.claimed(fleet).target == "2000"
    assert fleet.ledger.claim("sandbox", "tester/1") is None


def test_who_was_too_late_for_one_act_has_the_next(
    fleet_database: FleetDatabase, fleet: Fleet, other: Fleet, owner: Owner
) -> None:
    first, second = acts.ready(fleet), acts.ready(fleet)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(fleet_database.superuser_dsn) as faster:
        faster.execute(
            "SELECT fleet.claim_intent(%s, 'sandbox', 'w', 60)", (other.incarnation.id,)
        ).fetchone()
        claiming = pool.submit(acts.claimed, fleet)
        until(lambda: value(owner, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, 5)
        faster.commit()
        assert claiming.result(10).intent == second
    assert acts.state(fleet, first) == "claimed"
