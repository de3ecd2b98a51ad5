"""The ledger: every act is an intent that happens once, or is parked for a person."""

import contextlib
from collections.abc import Callable
from typing import Any, get_args

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.errors import InvalidValueError, TransitionRefusedError
from coordination.intents import INTENT_STATES, Decision
from coordination.ledger import decide, propose_by_person
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, assert_refused, kill_session, planted, rows, value
from tests.integration.coordination.wire import wire

# Protocols, section 7, written a second time: what may follow each state.
FOLLOWS = {
    "draft": {"awaiting_approval", "ready", "cancelled", "expired"},
    "awaiting_approval": {"ready", "cancelled", "expired"},
    "ready": {"claimed", "awaiting_approval", "cancelled", "expired"},
    "claimed": {
        "sending", "ready", "retry_at", "awaiting_approval", "rejected", "expired", "dry_run", "cancelled"
    },
    "sending": {"posted", "rejected", "retry_at", "unknown", "ready", "parked"},
    "retry_at": {"ready", "cancelled", "expired"},
    "unknown": {"posted", "ready", "parked"},
    "parked": {"posted", "ready", "cancelled"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_limits(console: Database) -> None:
    acts.plentiful(console)
    acts.plentiful(console, "default")


def person(console: Database, intent: str, decision: Decision, **options: Any) -> dict[str, Any]:
    return decide(console, intent, decision, actor="me", reason="because", **options)


def test_the_database_allows_every_lawful_transition_and_refuses_every_other(owner: Owner) -> None:
    for before in INTENT_STATES:
        for after in INTENT_STATES:
            intent = value(
                owner,
                "INSERT INTO fleet.intents (account, action, target, content, text, state, not_before, "
                "proposed_by, by_person, origin, created_at, updated_at, incarnation, fencing_token, "
                "platform_id) SELECT 'sandbox', 'post', %s, 'c', 't', %s, now(), 'x', false, '{}', now(), "
                "now(), gen_random_uuid(), 1, %s RETURNING id",
                acts.target(),
                before,
                f"p{before}{after}" if before == "posted" else None,
            )
            move = "SELECT (fleet.move_intent(%s, %s, 'test', 'why', platform_id => %s)).state"
            platform_id = f"{before}{after}"
            if after in FOLLOWS.get(before, set()):
                assert value(owner, move, intent, after, platform_id) == after
                assert acts.transitions(owner, str(intent)) == [after]
            else:
                with pytest.raises(psycopg.Error) as refusal:
                    value(owner, move, intent, after, platform_id)
                assert refusal.value.sqlstate == "FL005", (before, after)
                assert acts.transitions(owner, str(intent)) == []
                assert value(owner, "SELECT state FROM fleet.intents WHERE id = %s", intent) == before


def test_proposing_twice_gives_the_same_intent(fleet: Fleet, owner: Owner) -> None:
    first = fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
    again = fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
    assert (first.state, first.created) == ("ready", True)
    assert (again.id, again.state, again.created) == (first.id, "ready", False)
    other = fleet.ledger.propose("sandbox", "post", "plan:2", "Hello")
    assert other.id != first.id
    assert value(owner, "SELECT count(*) FROM fleet.intents") == 2


def _propose(start: Callable[[], int], dsn: str) -> list[tuple[str, bool]]:
    with connect(dsn, "proposer") as fleet:
        start()
        proposed = [fleet.ledger.propose("sandbox", "post", f"slot:{n}", "Hello") for n in range(25)]
    return [(one.id, one.created) for one in proposed]


def test_8_processes_that_propose_the_same_acts_make_each_once(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    answers = together(_propose, 8, fleet_database.dsn("worker"))
    for slot in zip(*answers, strict=True):
        assert len({intent for intent, _ in slot}) == 1
        assert [created for _, created in slot].count(True) == 1
    assert value(owner, "SELECT count(*) FROM fleet.intents") == 25


def _propose_while_it_ends(start: Callable[[], int], dsn: str, console: str) -> set[str | None]:
    proposed: set[str | None] = set()
    database = Database(console, name="person")
    with connect(dsn, "proposer") as fleet:
        start()
        for _ in range(60):
            intent = fleet.ledger.propose("sandbox", "post", "slot:1", "Hello")
            proposed.add(intent.id)
            with contextlib.suppress(TransitionRefusedError):  # another process cancelled it
                decide(database, intent.id, "cancel", actor="me", reason="test")
    database.close()
    return proposed


def test_a_proposal_beside_one_that_just_ends_still_gives_an_intent(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    add = "INSERT INTO fleet.intents ("
    with planted(owner, "add_intent", (add, f"PERFORM pg_sleep(0.002); {add}")):  # a wider gap to end in
        answers = together(
            _propose_while_it_ends, 4, fleet_database.dsn("worker"), fleet_database.dsn("console")
        )
    assert all(None not in proposed for proposed in answers)


def test_ended_unsent_acts_do_not_block_and_all_others_do(fleet: Fleet, owner: Owner) -> None:
    for state in INTENT_STATES:
        where = acts.target()
        first = fleet.ledger.propose("sandbox", "post", where, "Hello")
        owner.execute(
            "UPDATE fleet.intents SET state = %s, incarnation = gen_random_uuid(), fencing_token = 1, "
            "platform_id = CASE %s WHEN 'posted' THEN 'p1' END WHERE id = %s",
            (state, state, first.id),
        )
        again = fleet.ledger.propose("sandbox", "post", where, "Hello")
        assert again.created == (state in {"rejected", "expired", "cancelled", "dry_run"}), state
        assert (again.id != first.id) == again.created


def test_bad_proposals_are_refused_by_name(fleet: Fleet, console: Database, owner: Owner) -> None:
    propose: Any = fleet.ledger.propose
    now = value(owner, "SELECT fleet.now()")
    for arguments, options, field, given in (
        (("nobody", "post", "t", "x"), {}, "account", "nobody"),
        (("sandbox", "follow", "1", "x"), {}, "action", "follow"),
        (("sandbox", None, "t", "x"), {}, "action", None),
        (("sandbox", "post", "", "x"), {}, "target", ""),
        (("sandbox", "post", None, "x"), {}, "target", None),
        (("sandbox", "post", "t" * 513, "x"), {}, "target", "t" * 200),
        (("sandbox", "post", "t", ""), {}, "text", ""),
        (("sandbox", "post", "t", " \n\t"), {}, "text", " \n\t"),
        (("sandbox", "post", "t", None), {}, "text", None),
        (("sandbox", "post", "t", "x" * 25001), {}, "text", "x" * 200),
        (("sandbox", "reply", "t1", "x"), {}, "target", "t1"),
        (("sandbox", "quote", "1" * 20, "x"), {}, "target", "1" * 20),
        (("sandbox", "like", "", ""), {}, "target", ""),
        (("sandbox", "like", None, ""), {}, "target", None),
        (("sandbox", "like", "012", ""), {}, "target", "012"),  # the same post as 12 by another name
        (("sandbox", "like", "\u0661", ""), {}, "target", "\u0661"),
        (("sandbox", "like", "12", "x"), {}, "text", "x"),
        (("sandbox", "like", "12", None), {}, "text", None),
        (("sandbox", "reply", "12", ""), {}, "text", ""),
        (("sandbox", "quote", "12", " \n"), {}, "text", " \n"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            propose(*arguments, **options)
        assert_refused(refusal, field, given)
    with pytest.raises(InvalidValueError, match="deadline"):
        fleet.ledger.propose("sandbox", "post", "t", "x", deadline=now)
    with pytest.raises(InvalidValueError, match="NUL"):
        fleet.ledger.propose("sandbox", "post", "t", "a\0b")
    for actor in ("", " "):
        with pytest.raises(InvalidValueError, match="actor"):
            propose_by_person(console, "sandbox", "post", "t", "x", actor=actor)
    assert value(owner, "SELECT count(*) FROM fleet.intents") == 0  # nothing half done


def test_what_is_due_longest_is_claimed_first_and_what_is_not_due_never(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    now = value(owner, "SELECT fleet.now()")
    later = fleet.ledger.propose(
        "sandbox", "post", "1", "x", at=value(owner, "SELECT fleet.now() + interval '1 h'")
    )
    second = fleet.ledger.propose("sandbox", "post", "2", "x")
    first = fleet.ledger.propose("sandbox", "post", "3", "x", at=now)
    assert acts.claimed(fleet).intent == first.id
    assert acts.claimed(fleet).intent == second.id
    assert fleet.ledger.claim("sandbox", "tester/1") is None
    fleet_database.advance(3601)
    assert acts.claimed(fleet).intent == later.id
    assert fleet.ledger.claim("default", "tester/1") is None


def _claim_all(start: Callable[[], int], dsn: str) -> list[tuple[str, int]]:
    taken: list[tuple[str, int]] = []
    with connect(dsn, "claimer") as fleet:
        start()
        idle = 0
        while idle < 20:
            claim = fleet.ledger.claim("sandbox", "claimer")
            if claim is None:
                idle += 1
            else:
                taken.append((claim.intent, claim.fencing_token))
    return taken


def test_8_processes_claim_every_intent_once(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    proposed = {acts.ready(fleet) for _ in range(60)}
    taken = [one for each in together(_claim_all, 8, fleet_database.dsn("worker")) for one in each]
    assert sorted(intent for intent, _ in taken) == sorted(proposed)
    assert len({token for _, token in taken}) == len(taken)


def test_claims_of_the_dead_and_of_the_slow_are_ready_again_and_of_the_living_not(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    intents = [acts.ready(fleet) for _ in range(3)]
    dead, living = fleet_database.connect("dead"), fleet_database.connect("living")
    of_dead, of_living = acts.claimed(dead), acts.claimed(living)
    slow = acts.claimed(fleet, lease_s=0.01)
    assert {of_dead.intent, of_living.intent, slow.intent} == set(intents)
    kill_session(owner, "dead/1 incarnation")
    owner.execute("SELECT pg_sleep(0.02)")
    assert fleet.ledger.tidy("sandbox") == 2
    assert [acts.state(fleet, claim.intent) for claim in (of_dead, slow, of_living)] == [
        "ready",
        "ready",
        "claimed",
    ]
    again = {acts.claimed(fleet).intent, acts.claimed(fleet).intent}
    assert again == {of_dead.intent, slow.intent}
    living.close()
    dead.close()


def test_a_claim_given_back_frees_its_lock_and_its_grant(fleet: Fleet, owner: Owner) -> None:
    act = acts.prepared(fleet)
    fleet.ledger.unclaim(act.claim, "tester/1", "drained", grant_id=act.grant_id)
    assert acts.state(fleet, act.claim.intent) == "ready"
    assert not acts.is_locked(owner, act)
    assert acts.open_grants(owner) == 0
    fleet.ledger.unclaim(act.claim, "tester/1", "again")  # nobody's claim: nothing happens
    assert acts.transitions(owner, act.claim.intent) == ["ready", "claimed", "ready"]


def test_a_claim_put_off_is_ready_when_its_time_comes(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    act = acts.prepared(fleet)
    fleet.ledger.unclaim(act.claim, "tester/1", "limit", retry_after_s=100)
    assert fleet.ledger.tidy("sandbox") == 0
    fleet_database.advance(101)
    assert fleet.ledger.tidy("sandbox") == 1
    assert acts.transitions(owner, act.claim.intent) == ["ready", "claimed", "retry_at", "ready"]


def test_giving_back_a_claim_never_returns_a_grant_that_was_sent_with_i9(fleet: Fleet, owner: Owner) -> None:
    act = acts.sending(fleet)
    fleet.ledger.unclaim(act.claim, "tester/1", "confused", grant_id=act.grant_id)
    assert acts.state(fleet, act.claim.intent) == "sending"
    assert acts.open_grants(owner) == 1
    assert (
        fleet.ledger.settle(act.claim.intent, 1, "posted", "tester/1", platform_id="p1")["state"] == "posted"
    )


def test_what_passes_its_deadline_expires_wherever_it_waits(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    deadline = value(owner, "SELECT fleet.now() + interval '1 hour'")
    act_of_retry = acts.ready(fleet, deadline=deadline)
    fleet.ledger.unclaim(acts.claimed(fleet), "tester/1", "limit", retry_after_s=9000)
    waiting = acts.ready(fleet, deadline=deadline)
    unapproved = fleet.ledger.propose("default", "post", "t", "x", deadline=deadline).id
    fleet_database.advance(3601)
    assert fleet.ledger.tidy("sandbox") == 2
    assert fleet.ledger.tidy("default") == 1
    assert [acts.state(fleet, one) for one in (act_of_retry, waiting, unapproved)] == ["expired"] * 3
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'intent_expired'") == 3
    with pytest.raises(TransitionRefusedError) as refusal:
        person(console, unapproved, "approve")
    assert refusal.value.state == "expired"


def test_a_worker_can_not_act_on_a_real_account_before_a_person_approved(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    proposed = fleet.ledger.propose("default", "post", "t", "x")
    assert proposed.state == "awaiting_approval"
    assert fleet.ledger.claim("default", "tester/1") is None
    # Even one that came to be ready otherwise is stopped at the last gate.
    owner.execute("UPDATE fleet.intents SET state = 'ready'")
    act = acts.prepared(fleet, "default")
    clearance = acts.begin(fleet, act)
    assert not clearance.sending
    assert "approves" in str(clearance.reason)
    assert acts.state(fleet, proposed.id) == "awaiting_approval"
    assert not acts.is_locked(owner, act)
    assert acts.open_grants(owner) == 0
    assert person(console, proposed.id, "approve")["state"] == "ready"
    assert acts.begin(fleet, acts.prepared(fleet, "default")).sending


def test_what_a_person_proposes_needs_no_other_approval(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    assert propose_by_person(console, "default", "post", "t", "x", actor="me").state == "ready"
    assert acts.begin(fleet, acts.prepared(fleet, "default")).sending
    assert rows(owner, "SELECT actor, login, action FROM fleet.audits") == [
        ("me", "fleet_console", "propose")
    ]


def test_a_sandbox_account_never_becomes_a_real_one(fleet_database: FleetDatabase, owner: Owner) -> None:
    maintainer = fleet_database.database("maintainer")
    try:
        for name, becomes in (("sandbox", False), ("default", True)):
            with pytest.raises(InvalidValueError) as refusal:
                maintainer.call(
                    "ensure_account",
                    name=name,
                    platform="x",
                    api_url="https://x",
                    sandbox=becomes,
                    topics=["a"],
                )
            assert refusal.value.field == "account"
    finally:
        maintainer.close()
    assert rows(owner, "SELECT name, sandbox, api_url FROM fleet.accounts ORDER BY name") == [
        ("default", False, "https://api.x.com"),
        ("sandbox", True, "http://127.0.0.1:1"),
    ]


def test_credentials_of_somebody_else_are_refused_and_the_first_identity_stays(fleet: Fleet) -> None:
    fleet.accounts.confirm_identity("default", "42", "me")
    confirm: Any = fleet.accounts.confirm_identity
    for other in ("43", "", None):
        with pytest.raises(InvalidValueError):
            confirm("default", other, "other")
    assert fleet.accounts.get("default").platform_user_id == "42"
    assert fleet.accounts.confirm_identity("default", "42", "renamed").handle == "renamed"


@pytest.mark.parametrize("outcome", ["posted", "rejected", "retry_at", "not_sent", "unknown", "not_written"])
def test_every_outcome_settles_once_and_frees_the_lock(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, outcome: str
) -> None:
    act = acts.sending(fleet)
    arguments: dict[str, Any] = {
        "posted": {"platform_id": "p1", "status": 201},
        "rejected": {"status": 403, "reason": "no"},
        "retry_at": {"status": 429, "reason": "limit", "retry_after_s": 30},
        "not_sent": {"reason": "no connection", "retry_after_s": 30},
        "unknown": {"status": 504, "reason": "gateway"},
        "not_written": {"reason": "too late"},
    }[outcome]
    word: Any = "retry_at" if outcome == "not_sent" else outcome
    expected = {"not_written": "ready", "unknown": "parked"}.get(word, word)
    for _ in range(2):  # the same report twice changes nothing
        assert fleet.ledger.settle(act.claim.intent, 1, word, "tester/1", **arguments)["state"] == expected
    last = ["unknown", "parked"] if word == "unknown" else [expected]
    assert acts.transitions(owner, act.claim.intent) == ["ready", "claimed", "sending", *last]
    assert not acts.is_locked(owner, act)
    assert acts.open_grants(owner) == 0
    grants = value(owner, "SELECT count(*) FROM fleet.rate_grants")
    assert grants == (0 if outcome in {"not_sent", "not_written"} else 1)  # what never left cost nothing
    # Another report of that attempt, and one by another life, change nothing either.
    assert fleet.ledger.settle(act.claim.intent, 1, "rejected", "tester/1")["state"] == expected
    with fleet_database.connect("other") as other, pytest.raises(InvalidValueError) as refusal:
        other.ledger.settle(act.claim.intent, 1, "rejected", "other/1")
    assert_refused(refusal, "attempt", "1")
    if expected == "retry_at":
        fleet_database.advance(61)
        assert fleet.ledger.tidy("sandbox") == 1
    if expected in {"retry_at", "ready"}:
        fleet_database.advance(901)  # a 429 that names no reset closes the endpoint for the platform's window
        again = acts.Act(claim=acts.claimed(fleet), grant_id=acts.grant(fleet))
        clearance = acts.begin(fleet, again)
        assert (clearance.attempt, clearance.text) == (2, "Hello")


def test_posted_writes_history_and_a_post_to_measure_once(fleet: Fleet, owner: Owner) -> None:
    act = acts.sending(fleet)
    for _ in range(3):
        fleet.ledger.settle(act.claim.intent, 1, "posted", "tester/1", platform_id="p1", status=201)
    assert rows(owner, "SELECT content, action, success, intent::text FROM fleet.engagements") == [
        (act.claim.content, "post", True, act.claim.intent)
    ]
    assert rows(owner, "SELECT account, platform_id FROM fleet.tracked_posts") == [("sandbox", "p1")]
    assert fleet.engagement.get_engagement_stats().posts == 1
    assert fleet.engagement.request_lock(act.claim.content, "tester/1", "post") is None


def test_a_post_that_is_another_intents_is_not_adopted_but_parked_i4(fleet: Fleet, owner: Owner) -> None:
    first, second = acts.sending(fleet), acts.sending(fleet)
    fleet.ledger.settle(first.claim.intent, 1, "posted", "tester/1", platform_id="p1")
    answer = fleet.ledger.settle(second.claim.intent, 1, "posted", "tester/1", platform_id="p1")
    assert answer["state"] == "parked"
    assert f"intent {first.claim.intent}" in answer["reason"]
    assert acts.transitions(owner, second.claim.intent)[-2:] == ["unknown", "parked"]
    assert value(owner, "SELECT count(*) FROM fleet.tracked_posts") == 1


def test_bad_reports_are_refused_by_name(fleet: Fleet) -> None:
    act = acts.sending(fleet)
    settle: Any = fleet.ledger.settle
    for arguments, options, field in (
        ((act.claim.intent, 1, "sent"), {}, "outcome"),
        ((act.claim.intent, 1, None), {}, "outcome"),
        ((act.claim.intent, 1, "posted"), {}, "platform_id"),
        ((act.claim.intent, 1, "rejected"), {"platform_id": "p"}, "platform_id"),
        ((act.claim.intent, 2, "rejected"), {}, "attempt"),
        (("999999999", 1, "rejected"), {}, "attempt"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            settle(*arguments, "tester/1", **options)
        assert refusal.value.field == field
    assert acts.state(fleet, act.claim.intent) == "sending"


PARKED = "SELECT message FROM fleet.events WHERE kind = 'parked'"


def orphan(fleet_database: FleetDatabase, owner: Owner) -> tuple[Fleet, acts.Act]:
    sender = fleet_database.connect("sender")
    act = acts.sending(sender)
    kill_session(owner, "sender/1 incarnation")
    return sender, act


def test_an_act_whose_sender_died_is_parked_after_lease_and_grace_and_not_before(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    sender, act = orphan(fleet_database, owner)
    assert fleet.ledger.park_orphan("sandbox", grace_s=60) is None  # its lease runs
    owner.execute("UPDATE fleet.intents SET claimed_until = clock_timestamp() - interval '50 seconds'")
    assert fleet.ledger.park_orphan("sandbox", grace_s=60) is None  # its grace runs
    assert fleet.ledger.park_orphan("default", grace_s=0) is None
    assert fleet.ledger.park_orphan("sandbox", grace_s=40) == act.claim.intent
    assert acts.transitions(owner, act.claim.intent)[-2:] == ["sending", "parked"]
    assert "nobody has proven it dead" in value(owner, PARKED)
    assert not acts.is_locked(owner, act)
    assert fleet.ledger.park_orphan("sandbox", grace_s=0) is None
    # The sender was not dead after all: its report is kept for the person, and changes no state.
    late = sender.ledger.settle(act.claim.intent, 1, "posted", "sender/1", platform_id="p9")
    assert late["state"] == "parked"
    assert "p9" in value(owner, "SELECT message FROM fleet.events WHERE kind = 'late_report'")
    assert value(owner, "SELECT headers->>'platform_id' FROM fleet.attempts") == "p9"
    sender.close()


def test_a_parked_act_says_that_its_senders_death_is_proven_and_how_it_died(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    sender, act = orphan(fleet_database, owner)
    owner.execute(
        "UPDATE fleet.incarnations SET died_at = now(), death = 'killed by SIGKILL' WHERE id = %s",
        (sender.incarnation.id,),
    )
    owner.execute("UPDATE fleet.intents SET claimed_until = clock_timestamp() - interval '50 seconds'")
    assert fleet.ledger.park_orphan("sandbox", grace_s=40) == act.claim.intent
    assert "its sender is dead (killed by SIGKILL)" in value(owner, PARKED)
    sender.close()


def test_nobody_parks_the_act_of_a_sender_that_lives(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    with fleet_database.connect("sender") as sender:
        act = acts.sending(sender)
        owner.execute("UPDATE fleet.intents SET claimed_until = clock_timestamp() - interval '1 day'")
        assert fleet.ledger.park_orphan("sandbox", grace_s=0) is None
        assert fleet.ledger.tidy("sandbox") == 0
        assert acts.state(fleet, act.claim.intent) == "sending"


def test_a_sender_reports_even_after_its_life_was_ended(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    sender, act = orphan(fleet_database, owner)
    assert (
        sender.ledger.settle(act.claim.intent, 1, "posted", "sender/1", platform_id="p1")["state"] == "posted"
    )
    sender.close()
    assert acts.state(fleet, act.claim.intent) == "posted"


def parked(fleet: Fleet) -> acts.Act:
    act = acts.sending(fleet)
    fleet.ledger.settle(act.claim.intent, 1, "unknown", "tester/1", reason="gone")
    return act


def test_however_many_are_claimed_what_is_overdue_expires(fleet: Fleet, owner: Owner) -> None:
    first = acts.ready(fleet)
    acts.claimed(fleet, lease_s=3600)
    owner.execute(
        "INSERT INTO fleet.intents OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(i, "
        "jsonb_build_object('id', i.id + n, 'target', i.target || ':' || n))).* "
        "FROM fleet.intents i, generate_series(1, 300) n"
    )
    overdue = value(
        owner,
        "UPDATE fleet.intents SET state = 'ready', deadline = fleet.now(), incarnation = NULL, "
        "fencing_token = NULL, claimed_until = NULL WHERE id = (SELECT max(id) FROM fleet.intents) "
        "RETURNING id::text",
    )
    assert fleet.ledger.tidy("sandbox") == 1
    assert (acts.state(fleet, first), acts.state(fleet, overdue)) == ("claimed", "expired")


def test_a_parked_act_is_resumed_marked_or_cancelled_by_a_person_only(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    resumed, marked, cancelled = parked(fleet), parked(fleet), parked(fleet)
    assert fleet.ledger.tidy("sandbox") == 0
    assert fleet.ledger.claim("sandbox", "tester/1") is None
    assert person(console, resumed.claim.intent, "resume")["state"] == "ready"
    assert person(console, marked.claim.intent, "mark_posted", platform_id="77")["platform_id"] == "77"
    assert person(console, cancelled.claim.intent, "cancel")["state"] == "cancelled"
    assert rows(owner, "SELECT actor, login, action, target, reason FROM fleet.audits ORDER BY id") == [
        ("me", "fleet_console", action, f"intent {act.claim.intent}", "because")
        for action, act in (("resume", resumed), ("mark_posted", marked), ("cancel", cancelled))
    ]
    assert value(owner, "SELECT intent::text FROM fleet.engagements") == marked.claim.intent
    assert value(owner, "SELECT intent::text FROM fleet.tracked_posts") == marked.claim.intent
    clearance = acts.begin(fleet, acts.Act(claim=acts.claimed(fleet), grant_id=acts.grant(fleet)))
    assert (clearance.sending, clearance.attempt) == (True, 2)


def test_decisions_that_the_state_does_not_allow_are_refused_and_leave_no_audit(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    sent, undecided = acts.sending(fleet), parked(fleet)
    done = acts.sending(fleet)
    fleet.ledger.settle(done.claim.intent, 1, "posted", "tester/1", platform_id="p1")
    ready = acts.ready(fleet)
    every: tuple[Decision, ...] = get_args(Decision)
    refusals: list[tuple[str, tuple[Decision, ...]]] = [
        (ready, ("resume", "mark_posted")),
        (sent.claim.intent, every),
        (undecided.claim.intent, ("approve",)),
        (done.claim.intent, every),
    ]
    for intent, refused in refusals:
        for decision in refused:
            with pytest.raises(TransitionRefusedError) as refusal:
                person(console, intent, decision, platform_id="p2")
            assert refusal.value.state == acts.state(fleet, intent)
    for intent, decision, options, field in (
        ("999999999", "cancel", {}, "intent"),
        (ready, "delete", {}, "decision"),
        (undecided.claim.intent, "mark_posted", {}, "platform_id"),
        (undecided.claim.intent, "mark_posted", {"platform_id": "a b"}, "platform_id"),
        (undecided.claim.intent, "mark_posted", {"platform_id": "p1"}, "platform_id"),  # another one has it
    ):
        with pytest.raises(InvalidValueError) as invalid:
            person(console, intent, decision, **options)  # pyright: ignore[reportArgumentType]
        assert invalid.value.field == field
        assert invalid.value.allowed
    for actor, reason, field in (("", "why", "actor"), ("me", " ", "reason")):
        with pytest.raises(InvalidValueError) as invalid:
            decide(console, ready, "cancel", actor=actor, reason=reason)
        assert invalid.value.field == field
    assert value(owner, "SELECT count(*) FROM fleet.audits") == 0


def test_cancelling_a_claimed_act_frees_its_lock_and_stops_its_send(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    act = acts.prepared(fleet)
    person(console, act.claim.intent, "cancel")
    assert not acts.is_locked(owner, act)
    with pytest.raises(TransitionRefusedError) as refusal:
        acts.begin(fleet, act)
    assert refusal.value.state == "cancelled"
    fleet.ledger.unclaim(act.claim, "tester/1", "cancelled", grant_id=act.grant_id)
    assert acts.open_grants(owner) == 0


def test_one_act_takes_at_most_five_round_trips(fleet_database: FleetDatabase) -> None:
    with wire(fleet_database.dsn("worker")) as between, connect(between.dsn, "tester") as fleet:
        trips: list[int] = []
        for number in range(8):
            acts.ready(fleet)
            before = between.answers
            act = acts.Act(claim=acts.claimed(fleet), grant_id=acts.grant(fleet))
            assert acts.begin(fleet, act).sending
            fleet.ledger.settle(act.claim.intent, 1, "posted", "tester/1", platform_id=f"p{number}")
            trips.append(between.answers - before)
    assert trips[0] == trips[-1] == 4  # psycopg prepares a statement once, with a trip of its own


def test_the_queue_says_what_waits_and_what_not_to_repeat(fleet: Fleet, owner: Owner) -> None:
    later = value(owner, "SELECT fleet.now() + interval '5 h'")
    fleet.ledger.propose("sandbox", "post", "1", "One", at=later)
    fleet.ledger.propose("sandbox", "post", "2", "Two")
    queue = fleet.ledger.queue("sandbox")
    assert (queue.waiting, queue.planned_until, queue.texts) == (2, later, frozenset({"One", "Two"}))
    assert fleet.ledger.queue("default").waiting == 0


def test_the_texts_not_to_repeat_are_those_of_the_days_asked_for(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.ledger.propose("sandbox", "post", "1", "One")
    fleet_database.advance(86_400)
    fleet.ledger.propose("sandbox", "post", "2", "Two")
    assert fleet.ledger.queue("sandbox").texts == {"One", "Two"}
    assert fleet.ledger.queue("sandbox", texts_of_days=1).texts == {"Two"}


def test_a_first_reading_is_due_when_the_setting_says(fleet: Fleet, console: Database, owner: Owner) -> None:
    set_setting(console, "metrics_first_reading_s", 5, actor="me", reason="test")
    act = acts.sending(fleet)
    fleet.ledger.settle(act.claim.intent, 1, "posted", "tester/1", platform_id="p1")
    assert value(owner, "SELECT next_reading_at - posted_at < interval '6 s' FROM fleet.tracked_posts")
