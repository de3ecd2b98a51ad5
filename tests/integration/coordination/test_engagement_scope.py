"""An account's own locks and windows, and the interval that an account keeps between its engagements."""

from collections.abc import Iterator
from typing import Any

import pytest

from coordination import Fleet
from coordination.accounts import set_engagement_interval
from coordination.database import Database
from coordination.engagement import Lease, LockType, Refusal
from coordination.errors import InvalidValueError, LockLostError
from coordination.ledger import decide
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.acts import state
from tests.integration.coordination.lock_lines import unhurried
from tests.integration.coordination.tables import Owner, rows, value

INTERVAL_S = 600


@pytest.fixture(name="unhurried")
def nobody_hurries(owner: Owner) -> Iterator[None]:
    with unhurried(owner):
        yield


@pytest.fixture
def spaced(console: Database) -> None:
    """Ten minutes between two engagements of an account."""
    set_setting(console, "engagement_spacing_s", INTERVAL_S, actor="me", reason="test")


@pytest.fixture
def per_account(console: Database) -> None:
    """Each account has locks and windows of its own."""
    set_setting(console, "engagement_per_account", 1, actor="me", reason="test")


keeps_interval = pytest.mark.usefixtures("spaced")
accounts_apart = pytest.mark.usefixtures("per_account")
by_hand = pytest.mark.usefixtures("unhurried")


def engaged(owner: Owner, content: str, account: str, action: str = "quote") -> None:
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, account, worker_id, success, engaged_at) "
        "VALUES (%s, %s, %s, 'x', true, fleet.now())",
        (content, action, account),
    )


def ask(fleet: Fleet, content: str, lock_type: LockType = "quote", **options: Any) -> Lease | Refusal:
    return fleet.engagement.ask(content, fleet.incarnation.worker, lock_type, **options)


def reason(answer: Lease | Refusal) -> str:
    return "granted" if isinstance(answer, Lease) else answer.reason


# Scope


def test_two_accounts_have_one_content_each_and_the_fleet_nobody_beside_it(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    with fleet_database.connect("other") as other:
        mine = ask(fleet, "1", scope="account", account="sandbox")
        theirs = ask(other, "1", scope="account", account="default")
        assert isinstance(mine, Lease)
        assert isinstance(theirs, Lease)
        assert reason(ask(other, "1", scope="account", account="sandbox")) == "held"
        assert reason(ask(other, "1")) == "held"
        fleet.engagement.release_lock(mine)
        assert reason(ask(fleet, "1")) == "held"
        other.engagement.release_lock(theirs)
        assert reason(ask(fleet, "1")) == "granted"
        assert reason(ask(other, "1", scope="account", account="default")) == "held"


def test_an_accounts_window_is_its_own(fleet: Fleet, owner: Owner) -> None:
    engaged(owner, "1", "sandbox")
    assert reason(ask(fleet, "1", scope="account", account="sandbox")) == "recent_engagement"
    assert reason(ask(fleet, "1")) == "recent_engagement"
    assert reason(ask(fleet, "1", scope="account", account="default")) == "granted"
    assert fleet.engagement.has_recent_engagement("1")
    assert fleet.engagement.has_recent_engagement("1", account="sandbox")
    assert not fleet.engagement.has_recent_engagement("1", account="default")


def test_an_account_that_is_not_named_is_the_default(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    assert reason(ask(fleet, "1", scope="account")) == "granted"
    with fleet_database.connect("other") as other:
        assert reason(ask(other, "1", scope="account", account="default")) == "held"
        assert reason(ask(other, "1", scope="account", account="sandbox")) == "granted"


def test_who_decides_about_an_act_locks_as_the_ledger_will_and_keeps_no_interval(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    set_setting(console, "engagement_spacing_s", INTERVAL_S, actor="me", reason="test")
    engaged(owner, "0", "sandbox")
    engaged(owner, "1", "default")
    assert reason(ask(fleet, "1", scope="act", account="sandbox")) == "recent_engagement"
    lease = ask(fleet, "2", scope="act", account="sandbox")
    assert isinstance(lease, Lease)
    with fleet_database.connect("other") as other:
        assert reason(ask(other, "2", scope="act", account="default")) == "held"
        set_setting(console, "engagement_per_account", 1, actor="me", reason="test")
        assert reason(ask(other, "1", scope="act", account="sandbox")) == "granted"
        assert reason(ask(other, "2", scope="act", account="default")) == "held", "of the whole fleet"
        fleet.engagement.release_lock(lease)
        assert reason(ask(other, "2", scope="act", account="default")) == "granted"
        assert reason(ask(fleet, "2", scope="act", account="sandbox")) == "granted"


def test_who_lost_the_lock_to_another_scope_writes_nothing_i3(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    stale = ask(fleet, "1", "analysis", scope="account", account="sandbox")
    assert isinstance(stale, Lease)
    owner.execute("UPDATE fleet.engagement_locks SET lease_expires_at = clock_timestamp()")
    with fleet_database.connect("heir") as heir:
        assert reason(ask(heir, "1", "analysis")) == "granted"
        for write in (
            lambda: fleet.engagement.renew_lock(stale),
            lambda: fleet.engagement.release_lock(stale, success=True),
        ):
            with pytest.raises(LockLostError):
                write()
    assert value(owner, "SELECT count(*) FROM fleet.engagements") == 0
    assert rows(owner, "SELECT scope, worker_id FROM fleet.engagement_locks") == [("", "heir")]


def test_an_intent_that_asks_ignores_itself(fleet: Fleet, owner: Owner) -> None:
    act = acts.sending(fleet)
    content, intent = act.claim.content, act.claim.intent
    assert fleet.engagement.has_recent_engagement(content)
    assert not fleet.engagement.has_recent_engagement(content, intent=intent)
    owner.execute("DELETE FROM fleet.engagement_locks")
    assert reason(ask(fleet, content)) == "recent_engagement"
    assert reason(ask(fleet, content, intent=intent)) == "granted"


@accounts_apart
def test_where_accounts_are_apart_each_engages_once_with_a_content(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    acts.plentiful(console)
    acts.posted(fleet, acts.prepared_towards(fleet, "reply", "1999"), "1")
    engaged(owner, "2000", "default")
    assert acts.begin(fleet, acts.prepared_towards(fleet, "quote", "2000")).sending
    again = acts.prepared_towards(fleet, "quote", "1999")
    assert acts.begin(fleet, again).reason == "recent_engagement"


def test_where_they_are_not_the_fleet_engages_once(fleet: Fleet, owner: Owner, console: Database) -> None:
    acts.plentiful(console)
    engaged(owner, "2000", "default")
    assert acts.begin(fleet, acts.prepared_towards(fleet, "quote", "2000")).reason == "recent_engagement"


# The interval


@keeps_interval
def test_an_account_lets_the_interval_pass_between_two_contents(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    engaged(owner, "1", "sandbox")
    refused = ask(fleet, "2", account="sandbox")
    assert isinstance(refused, Refusal)
    assert refused.reason == "interval"
    assert refused.retry_after_s == pytest.approx(INTERVAL_S, abs=60)
    for other in ("default", None):
        lease = ask(fleet, "2", account=other)
        assert isinstance(lease, Lease)
        fleet.engagement.release_lock(lease)
    assert reason(ask(fleet, "3", "analysis", account="sandbox")) == "granted"
    assert reason(ask(fleet, "4", "post", account="sandbox")) == "granted"
    fleet_database.advance(INTERVAL_S)
    assert reason(ask(fleet, "2", account="sandbox")) == "granted"


@keeps_interval
def test_an_account_prepares_one_engagement_at_a_time(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    lease = ask(fleet, "1", account="sandbox")
    assert isinstance(lease, Lease)
    with fleet_database.connect("other") as other:
        assert reason(ask(other, "2", account="sandbox")) == "interval"
        assert reason(ask(other, "2", account="default")) == "granted"
        fleet.engagement.release_lock(lease)
        assert reason(ask(other, "3", account="sandbox")) == "granted"


@keeps_interval
@by_hand
def test_of_an_accounts_contents_the_better_goes_first_and_a_newcomer_takes_nobodys_turn(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    engaged(owner, "0", "sandbox")
    with fleet_database.connect("fair") as fair, fleet_database.connect("good") as good:
        places: dict[str, int] = {}
        for life, content, score in ((fair, "1", 20), (good, "2", 90)):
            answer = life.session.call(
                "request_lock", tweet_id=content, worker_id="w", lock_type="quote", wait_s=60,
                account="sandbox", score=score,
            )  # fmt: skip
            places[content] = int(answer["waiter"])
        fleet_database.advance(INTERVAL_S)
        assert reason(ask(fleet, "3", account="sandbox")) == "interval"
        assert not fair.session.call("poll_lock", waiter=places["1"])["granted"]
        assert good.session.call("poll_lock", waiter=places["2"])["granted"]
        # One that has the content it waits for held by others keeps nobody from the account's turn.
        good.session.call("leave_line", waiter=places["2"])
        held = ask(fleet, "1", account="default", priority="critical")
        assert isinstance(held, Lease)
        assert reason(ask(fleet, "3", account="sandbox")) == "granted"


@keeps_interval
@by_hand
def test_who_waits_for_its_interval_keeps_nobody_from_the_content(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    engaged(owner, "0", "sandbox")
    with fleet_database.connect("other") as other:
        answer = fleet.session.call(
            "request_lock", tweet_id="1", worker_id="w", lock_type="quote", wait_s=60, account="sandbox"
        )
        assert answer["reason"] == "interval"
        assert reason(ask(other, "1", account="default")) == "granted"


def test_an_account_may_have_an_interval_of_its_own(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    def own(interval_s: float | None) -> float:
        return set_engagement_interval(console, "sandbox", interval_s, actor="me", reason="slow")

    for account in ("sandbox", "default"):
        engaged(owner, "0", account)
    assert own(INTERVAL_S) == INTERVAL_S
    assert reason(ask(fleet, "1", account="sandbox")) == "interval"
    lease = ask(fleet, "1", account="default")
    assert isinstance(lease, Lease)
    fleet.engagement.release_lock(lease)
    set_setting(console, "engagement_spacing_s", 10, actor="me", reason="test")
    assert own(0) == 0
    lease = ask(fleet, "1", account="sandbox")
    assert isinstance(lease, Lease)
    fleet.engagement.release_lock(lease)
    assert own(None) == 10
    assert reason(ask(fleet, "1", account="sandbox")) == "interval"
    fleet_database.advance(10)
    assert reason(ask(fleet, "1", account="sandbox")) == "granted"
    for nonsense in (-1, 86401, float("nan")):
        with pytest.raises(InvalidValueError, match="interval_s"):
            own(nonsense)
    assert rows(owner, "SELECT target, details->>'interval_s' FROM fleet.audits ORDER BY id") == [
        ("sandbox", "600"),
        ("engagement_spacing_s", None),
        ("sandbox", "0"),
        ("sandbox", None),
    ]


# Acts of the ledger


@keeps_interval
def test_an_act_that_may_have_happened_counts_until_somebody_knows(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    acts.plentiful(console)
    act = acts.prepared_towards(fleet, "reply", "1")
    begun = acts.begin(fleet, act)
    fleet.ledger.settle(act.claim.intent, begun.attempt, "unknown", "tester/1", reason="504")
    assert state(fleet, act.claim.intent) == "parked"
    refused = ask(fleet, "2", account="sandbox")
    assert isinstance(refused, Refusal)
    assert refused.reason == "interval"
    assert refused.retry_after_s == pytest.approx(INTERVAL_S, abs=60)
    acts.towards(fleet, "like", "2")
    assert fleet.ledger.claim("sandbox", "tester/1") is None
    fleet_database.advance(INTERVAL_S)
    assert acts.claimed(fleet).target == "2"  # it was then, if it was


@keeps_interval
def test_an_act_that_did_not_happen_ends_no_interval(fleet: Fleet, console: Database) -> None:
    acts.plentiful(console)
    act = acts.prepared_towards(fleet, "reply", "1")
    begun = acts.begin(fleet, act)
    fleet.ledger.settle(act.claim.intent, begun.attempt, "unknown", "tester/1", reason="504")
    decide(console, act.claim.intent, "cancel", actor="me", reason="it is not there")
    assert reason(ask(fleet, "2", account="sandbox")) == "granted"


@keeps_interval
def test_acts_of_an_account_keep_the_interval_and_posts_go_on(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    acts.plentiful(console)
    acts.posted(fleet, acts.prepared_towards(fleet, "reply", "1"), "1900")
    acts.towards(fleet, "like", "2")
    assert fleet.ledger.claim("sandbox", "tester/1") is None
    post = acts.ready(fleet)
    assert acts.claimed(fleet).intent == post
    fleet_database.advance(INTERVAL_S)
    assert acts.claimed(fleet).target == "2"


@keeps_interval
def test_the_last_gate_keeps_the_interval_and_says_when(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    acts.plentiful(console)
    act = acts.prepared_towards(fleet, "reply", "1")
    engaged(owner, "7", "sandbox")
    begun = acts.begin(fleet, act)
    assert not begun.sending
    assert "interval" in (begun.reason or "")
    assert state(fleet, act.claim.intent) == "retry_at"
    assert value(owner, "SELECT count(*) FROM fleet.engagement_locks") == 0
    assert acts.open_grants(owner) == 0
    assert value(
        owner, "SELECT retry_at BETWEEN fleet.now() + interval '9 min' AND fleet.now() + interval '10 min' "
        "FROM fleet.intents"
    )  # fmt: skip
    fleet_database.advance(INTERVAL_S)
    fleet.ledger.tidy("sandbox")
    assert acts.begin(fleet, acts.granted(fleet, acts.claimed(fleet))).sending


@keeps_interval
def test_under_an_interval_the_better_scored_act_goes_first_but_none_waits_for_ever(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    acts.plentiful(console)

    def propose(target: str, score: float) -> None:
        origin = {"author_id": "7", "score": score}
        fleet.ledger.propose("sandbox", "reply", target, "Well said", origin=origin)

    propose("1", 10)
    fleet_database.advance(60)
    propose("2", 95)
    claim = acts.claimed(fleet)
    assert claim.target == "2"
    fleet.ledger.unclaim(claim, "tester/1", "test")
    fleet_database.advance(3600)
    propose("3", 100)  # an hour's waiting is worth any score
    assert acts.claimed(fleet).target == "2"


def test_without_an_interval_the_oldest_act_goes_first(fleet: Fleet, fleet_database: FleetDatabase) -> None:
    for target, score in (("1", 10), ("2", 95)):
        fleet.ledger.propose(
            "sandbox", "reply", target, "Well said", origin={"author_id": "7", "score": score}
        )
        fleet_database.advance(1)
    assert acts.claimed(fleet).target == "1"


@by_hand
def test_an_act_gives_way_to_who_stands_in_line_for_its_content_and_no_other_act_waits_behind_it(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    with fleet_database.connect("holder") as holder, fleet_database.connect("waiter") as waiter:
        lease = ask(holder, "1999", "analysis")
        assert isinstance(lease, Lease)
        answer = waiter.session.call(
            "request_lock",
            tweet_id="1999",
            worker_id="w",
            lock_type="analysis",
            wait_s=60,
            priority="critical",
        )
        acts.towards(fleet, "reply", "1999")
        acts.towards(fleet, "reply", "2000")
        holder.engagement.release_lock(lease)
        claim = acts.claimed(fleet)
        assert claim.target == "2000"
        assert fleet.ledger.claim("sandbox", "tester/1") is None
        assert waiter.session.call("poll_lock", waiter=int(answer["waiter"]))["granted"]
        waiter.session.call("leave_line", waiter=int(answer["waiter"]))
        assert acts.claimed(fleet).target == "1999"
