"""The last gate before the socket: each guard refuses by itself, and leaves nothing half done."""

import threading
from collections.abc import Callable
from typing import Any, Self

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import (
    DatabaseBusyError,
    IncarnationLostError,
    InvalidValueError,
    LockLostError,
    TransitionRefusedError,
)
from coordination.kill_switch import get_kill_switch, set_kill_switch
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import until
from tests.integration.coordination.tables import Owner, assert_refused, kill_session, planted, rows, value


@pytest.fixture(autouse=True)
def no_limits(console: Database) -> None:
    acts.plentiful(console)


def assert_untouched(fleet: Fleet, owner: Owner, act: acts.Act) -> None:
    """A refusal by an error rolled everything back: claim, lock and grant are as they were."""
    assert acts.transitions(owner, act.claim.intent)[-1] == "claimed"
    assert acts.state(fleet, act.claim.intent) == "claimed"
    assert acts.is_locked(owner, act)
    assert acts.open_grants(owner) == 1
    assert value(owner, "SELECT count(*) FROM fleet.attempts") == 0


def assert_moved_on(fleet: Fleet, owner: Owner, act: acts.Act, to: str) -> None:
    """A refusal by an answer moved the intent on, freed the lock and returned the grant."""
    assert acts.transitions(owner, act.claim.intent)[-1] == to
    assert acts.state(fleet, act.claim.intent) == to
    assert not acts.is_locked(owner, act)
    assert value(owner, "SELECT count(*) FROM fleet.rate_grants") == 0
    assert value(owner, "SELECT count(*) FROM fleet.attempts") == 0
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'send_refused'") == 1


def test_what_passes_is_committed_as_sending_with_its_attempt_i6(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    clearance = acts.begin(fleet, act)
    assert (clearance.sending, clearance.attempt, clearance.text) == (True, 1, "Hello")
    assert clearance.fence == act.claim.fencing_token
    assert rows(
        owner, "SELECT intent::text, attempt, incarnation, fencing_token, grant_id::text FROM fleet.attempts"
    ) == [(act.claim.intent, 1, fleet.incarnation.id, act.claim.fencing_token, act.grant_id)]
    with pytest.raises(TransitionRefusedError):  # and only once
        acts.begin(fleet, act)


def test_a_stale_token_is_refused_i3(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    for token in (act.claim.fencing_token - 1, act.claim.fencing_token + 1, None):
        with pytest.raises(TransitionRefusedError):
            fleet.database.call(
                "begin_send", incarnation=fleet.incarnation.id, intent=int(act.claim.intent), token=token,
                grant_id=int(act.grant_id), worker_id="w", http_deadline_s=13.0, fence_seen=0,
            )  # fmt: skip
    assert_untouched(fleet, owner, act)
    owner.execute("UPDATE fleet.engagement_locks SET fencing_token = nextval('fleet.fencing_token')")
    with pytest.raises(LockLostError):
        acts.begin(fleet, act)
    assert_untouched(fleet, owner, act)


def test_a_lock_that_somebody_else_took_is_refused(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    act = acts.prepared(fleet)
    owner.execute("UPDATE fleet.engagement_locks SET lease_expires_at = clock_timestamp()")
    with fleet_database.connect("other") as other:
        assert other.engagement.request_lock(act.claim.content, "other/1", "analysis") is not None
        with pytest.raises(LockLostError):
            acts.begin(fleet, act)
    assert_untouched(fleet, owner, act)


def test_a_lease_too_short_for_the_deadline_is_refused(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet, lease_s=14)
    with pytest.raises(LockLostError):
        acts.begin(fleet, act, http_deadline_s=13)
    assert_untouched(fleet, owner, act)
    assert acts.begin(fleet, act, http_deadline_s=5).sending


def test_a_missing_or_senseless_deadline_or_fence_is_refused(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    for field, bad in (
        ("http_deadline_s", None), ("http_deadline_s", -60.0), ("http_deadline_s", 0.0),
        ("http_deadline_s", float("nan")), ("http_deadline_s", 61.0), ("fence_seen", None),
    ):  # fmt: skip
        options: dict[str, Any] = {"http_deadline_s": 13.0, "fence_seen": 0, field: bad}
        with pytest.raises(InvalidValueError) as refusal:
            fleet.database.call(
                "begin_send", incarnation=fleet.incarnation.id, intent=int(act.claim.intent),
                token=act.claim.fencing_token, grant_id=int(act.grant_id), worker_id="w", **options,
            )  # fmt: skip
        assert refusal.value.field == field
    assert_untouched(fleet, owner, act)


def test_a_life_that_lost_its_session_is_refused(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    kill_session(owner, "tester/1 incarnation")
    with pytest.raises(IncarnationLostError, match="connect again"):
        acts.begin(fleet, act)
    assert_untouched(fleet, owner, act)


def test_the_claim_of_another_life_is_refused(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    act = acts.prepared(fleet)
    with fleet_database.connect("thief") as thief, pytest.raises(TransitionRefusedError):
        acts.begin(thief, act)
    assert_untouched(fleet, owner, act)


def test_the_kill_switch_refuses(fleet: Fleet, owner: Owner, console: Database) -> None:
    act = acts.prepared(fleet)
    set_kill_switch(console, on=True, actor="me", reason="storm")
    clearance = acts.begin(fleet, act)
    assert (clearance.sending, clearance.reason) == (False, "the kill switch is on: storm")
    assert_moved_on(fleet, owner, act, "ready")
    assert fleet.ledger.claim("sandbox", "tester/1") is None
    set_kill_switch(console, on=False, actor="me", reason="over")
    assert fleet.ledger.claim("sandbox", "tester/1") is not None


def test_another_cluster_refuses_until_a_person_accepts_it(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    for column, other in (("system_identifier", "1"), ("timeline", "000000FF")):
        owner.execute("DELETE FROM fleet.events")
        act = acts.prepared(fleet)
        owner.execute(f"UPDATE fleet.installation SET {column} = '{other}'")  # pyright: ignore[reportArgumentType, reportCallIssue]
        clearance = acts.begin(fleet, act)
        assert "failover or a restore" in str(clearance.reason)
        assert_moved_on(fleet, owner, act, "ready")
        set_kill_switch(console, on=False, actor="me", reason="looked at it")
        again = acts.Act(claim=acts.claimed(fleet), grant_id=acts.grant(fleet))
        assert acts.begin(fleet, again).sending
        owner.execute("DELETE FROM fleet.attempts; DELETE FROM fleet.rate_grants")


def test_a_fence_below_the_one_seen_refuses(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    clearance = acts.begin(fleet, act, fence_seen=act.claim.fencing_token + 1)
    assert "restored from a backup" in str(clearance.reason)
    assert_moved_on(fleet, owner, act, "ready")


def test_only_an_open_unused_post_grant_of_ones_own_for_that_account_will_do_i9(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    acts.plentiful(console, "default")
    act = acts.prepared(fleet)
    settled = acts.grant(fleet)
    fleet.rate_limits.record_usage(settled, True)
    with fleet_database.connect("other") as other:
        for useless in (
            "999999999",
            settled,
            acts.grant(other),
            acts.grant(fleet, "default"),
            acts.grant(fleet, "sandbox", "user_tweets"),
        ):
            with pytest.raises(InvalidValueError) as refusal:
                acts.begin(fleet, acts.Act(claim=act.claim, grant_id=useless))
            assert_refused(refusal, "grant_id", useless)
    assert acts.state(fleet, act.claim.intent) == "claimed"
    assert acts.begin(fleet, act).sending
    acts.ready(fleet)
    with pytest.raises(InvalidValueError) as refusal:  # one grant is one request
        acts.begin(fleet, acts.Act(claim=acts.claimed(fleet), grant_id=act.grant_id))
    assert_refused(refusal, "grant_id", act.grant_id)
    assert value(owner, "SELECT count(*) FROM fleet.attempts") == 1


def test_an_act_past_its_deadline_expires(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    acts.ready(fleet, deadline=value(owner, "SELECT fleet.now() + interval '1 minute'"))
    act = acts.Act(claim=acts.claimed(fleet), grant_id=acts.grant(fleet))
    fleet_database.advance(61)
    assert not acts.begin(fleet, act).sending
    assert_moved_on(fleet, owner, act, "expired")


def test_a_content_engaged_meanwhile_rejects(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    owner.execute(
        "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
        "VALUES (%s, 'post', 'x', true, fleet.now())",
        (act.claim.content,),
    )
    assert acts.begin(fleet, act).reason == "recent_engagement"
    assert_moved_on(fleet, owner, act, "rejected")


def test_waiting_for_a_lock_ends_after_half_a_second_and_changes_nothing(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    with owner.transaction():
        owner.execute("SELECT 1 FROM fleet.accounts WHERE name = 'sandbox' FOR UPDATE")
        with pytest.raises(DatabaseBusyError, match="try again"):
            acts.begin(fleet, act)
    assert_untouched(fleet, owner, act)
    assert acts.begin(fleet, act).sending


class Hammers:
    """Threads that claim, begin and settle without rest, each a worker of its own."""

    def __init__(self, fleet_database: FleetDatabase, number: int) -> None:
        self._database = fleet_database
        self._stop = threading.Event()
        self.faults: list[Exception] = []
        self.begun = 0
        self._threads = [threading.Thread(target=self._hammer, args=(n,)) for n in range(number)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _hammer(self, number: int) -> None:
        try:
            with self._database.connect("hammer", slot=number + 1) as fleet:
                while not self._stop.is_set():
                    claim = fleet.ledger.claim("sandbox", "hammer")
                    if claim is None:
                        continue
                    if acts.begin(fleet, acts.Act(claim=claim, grant_id=acts.grant(fleet))).sending:
                        self.begun += 1
                        fleet.ledger.settle(
                            claim.intent, claim.attempt + 1, "not_written", "hammer", reason="test"
                        )
        except Exception as error:  # noqa: BLE001  the test reports it
            self.faults.append(error)


def throw_and_watch(owner: Owner, console: Database, times: int, hammers: Hammers) -> int:
    """Throw the switch again and again; count sends that begin without being listed."""
    strays = 0
    for _ in range(times):
        before = hammers.begun
        until(lambda before=before: hammers.begun > before or bool(hammers.faults), 10)
        answer = set_kill_switch(console, on=True, actor="me", reason="test")
        listed = {(one["intent"], one["attempt"]) for one in answer["in_flight"]}
        now = rows(owner, "SELECT id::text, attempt FROM fleet.intents WHERE state = 'sending'")
        strays += len(set(now) - listed)
        owner.execute(
            "SELECT pg_sleep(0.012)"
        )  # the time that a send which slipped through has to show itself
        strays += value(
            owner,
            "SELECT count(*) FROM fleet.intent_transitions WHERE to_state = 'sending' AND real_at > %s",
            answer["acknowledged_at"],
        )
        set_kill_switch(console, on=False, actor="me", reason="test")
    return strays


def hammered(fleet_database: FleetDatabase, fleet: Fleet, act: Callable[[Hammers], int]) -> int:
    for _ in range(12):
        acts.ready(fleet)
    with Hammers(fleet_database, 4) as hammers:
        strays = act(hammers)
    assert hammers.faults == []
    return strays


def test_after_the_acknowledgement_no_send_begins_that_it_does_not_list_i22(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    strays = hammered(fleet_database, fleet, lambda hammers: throw_and_watch(owner, console, 50, hammers))
    assert strays == 0
    assert value(owner, "SELECT count(*) FROM fleet.audits WHERE action = 'kill_switch_on'") == 50


def in_the_gap(owner: Owner) -> bool:
    """Whether a send waits where the planted fault makes it wait."""
    return bool(value(owner, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))


def throw_into_the_gap(owner: Owner, console: Database, hammers: Hammers) -> int:
    """Throw the switch once while a send is in the gap; count sends that begin after the answer."""
    until(lambda: in_the_gap(owner) or bool(hammers.faults), 30)
    answer = set_kill_switch(console, on=True, actor="me", reason="test")
    until(lambda: not in_the_gap(owner), 30)

    def begun() -> int:
        return value(
            owner,
            "SELECT count(*) FROM fleet.intent_transitions WHERE to_state = 'sending' AND real_at > %s",
            answer["acknowledged_at"],
        )

    until(lambda: begun() > 0 or bool(hammers.faults), 30)
    return begun()


def test_with_the_switch_read_before_its_key_is_taken_the_test_above_would_fail(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    key = "PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('kill', 'global'));"
    read = "switch := fleet.get_kill_switch();"
    with planted(owner, "begin_send", (key, ""), (read, f"{read} PERFORM pg_sleep(0.2); {key}")):
        strays = hammered(fleet_database, fleet, lambda hammers: throw_into_the_gap(owner, console, hammers))
    assert strays > 0


def test_the_acknowledgement_lists_what_is_in_flight(fleet: Fleet, console: Database) -> None:
    act = acts.sending(fleet)
    answer = set_kill_switch(console, on=True, actor="me", reason="storm")
    assert answer["in_flight"] == [{"intent": act.claim.intent, "attempt": 1}]
    assert (answer["on"], answer["scope"]) == (True, "global")
    assert get_kill_switch(console)["reason"] == "storm"
    # What is in flight may still report.
    assert (
        fleet.ledger.settle(act.claim.intent, 1, "posted", "tester/1", platform_id="p1")["state"] == "posted"
    )


def test_a_switch_without_an_actor_or_a_reason_is_refused(console: Database) -> None:
    throw: Any = set_kill_switch
    for options, field in (
        ({"on": None, "actor": "me", "reason": "x"}, "kill switch"),
        ({"on": True, "actor": " ", "reason": "x"}, "actor"),
        ({"on": True, "actor": "me", "reason": None}, "reason"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            throw(console, **options)
        assert refusal.value.field == field
    assert get_kill_switch(console)["on"] is False
