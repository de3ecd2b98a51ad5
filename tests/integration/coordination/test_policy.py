"""The policy gate: what no rule allows is denied, at the proposal and again when it is about to be sent."""

from collections.abc import Callable
from typing import Any

import pytest

from coordination import Fleet, accounts, connect
from coordination.accounts import TIERS, Tier
from coordination.database import Database
from coordination.errors import DatabaseBusyError, InvalidValueError
from coordination.intents import ACTIONS, Action
from coordination.ledger import propose_by_person
from coordination.policy import get_policy
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

TARGET = "1999"
TOWARDS: tuple[Action, ...] = ("reply", "quote", "like")
# What X sells, written a second time.
RULES = {
    "free": "post=allow reply=deny quote=deny like=deny search=deny mentions=deny",
    "pay_per_use": "post=allow reply=summoned quote=deny like=deny search=allow mentions=allow",
    "enterprise": "post=allow reply=allow quote=allow like=allow search=allow mentions=allow",
}
EXPECTED = {tier: dict(rule.split("=") for rule in rules.split()) for tier, rules in RULES.items()}


@pytest.fixture(autouse=True)
def no_limits(console: Database) -> None:
    acts.plentiful(console)
    acts.plentiful(console, "default")


def set_tier(console: Database, tier: Tier, account: str = "sandbox") -> None:
    accounts.set_tier(console, account, tier, actor="me", reason="another contract")


def summon(
    owner: Owner,
    target: str = TARGET,
    *,
    account: str = "sandbox",
    author: str = acts.AUTHOR,
    by: bool = True,
) -> None:
    """Somebody addressed the account in that post; X lets it answer there, or not."""
    owner.execute(
        "INSERT INTO fleet.interactions (account, platform_id, author_id, handle, text, kind, summons, "
        "request, state, posted_at, seen_at, due_at) VALUES (%s, %s, %s, 'ada', '@fleet hello', 'direct', "
        "%s, 'answer', 'seen', now(), now(), now())",
        (account, target, author, by),
    )


def reason_of(fleet: Fleet, intent: str) -> str:
    found = fleet.ledger.get(intent)
    assert found is not None
    return str(found["reason"])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("summoned", [False, True])
def test_every_tier_does_what_x_sells_and_nothing_else(
    fleet: Fleet, console: Database, owner: Owner, tier: Tier, summoned: bool
) -> None:
    set_tier(console, tier)
    if summoned:
        summon(owner)
    assert fleet.policy.of("sandbox") == EXPECTED[tier]
    for action, rule in EXPECTED[tier].items():
        allowed = rule == "allow" or (rule == "summoned" and summoned)
        verdict = fleet.policy.check("sandbox", action, TARGET, acts.AUTHOR)
        assert verdict.allowed == allowed, (action, verdict)
        assert bool(verdict.reason) != allowed
        if action in TOWARDS:
            proposed = acts.towards(fleet, action, TARGET)
            assert proposed.state == ("ready" if allowed else "rejected"), action
            assert proposed.reason == (None if allowed else f"policy: {verdict.reason}")


@pytest.mark.parametrize("tier", TIERS)
def test_a_real_account_never_likes_whatever_its_tier(fleet: Fleet, console: Database, tier: Tier) -> None:
    set_tier(console, tier, "default")
    assert fleet.policy.of("default") == {**EXPECTED[tier], "like": "deny"}
    proposed = acts.towards(fleet, "like", TARGET, "default")
    assert (proposed.state, proposed.reason) == ("rejected", "policy: X prohibits automated likes")
    reply = acts.towards(fleet, "reply", TARGET, "default")
    assert reply.state == ("awaiting_approval" if tier == "enterprise" else "rejected")


def test_what_has_no_rule_is_denied(fleet: Fleet, owner: Owner) -> None:
    for action in ("follow", "repost", "", None):
        check: Any = fleet.policy.check
        assert not check("sandbox", action, TARGET, acts.AUTHOR).allowed
    with owner.transaction(force_rollback=True):
        owner.execute("DELETE FROM fleet.policy_rules WHERE action IN ('post', 'like')")
        refusal = value(owner, "SELECT fleet.check_policy('sandbox', 'post')")
        assert refusal == {"allowed": False, "reason": "no rule lets tier enterprise post"}
        assert value(owner, "SELECT fleet.get_policy('sandbox')->'like'->>'rule'") == "deny"


def test_only_the_summoned_account_may_answer_and_only_that_post(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    set_tier(console, "pay_per_use")
    summon(owner, TARGET, account="default")
    summon(owner, "2000", by=False)
    for target in (TARGET, "2000", "2001", None):
        assert not fleet.policy.check("sandbox", "reply", target, acts.AUTHOR).allowed
    summon(owner, "2001")
    assert fleet.policy.check("sandbox", "reply", "2001", acts.AUTHOR).allowed
    assert not fleet.policy.check("sandbox", "quote", "2001", acts.AUTHOR).allowed


def test_whoever_opted_out_is_left_alone_by_every_account_for_ever(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    set_tier(console, "enterprise", "default")
    assert not fleet.opt_outs.has("sandbox", acts.AUTHOR)
    assert fleet.opt_outs.record("default", acts.AUTHOR, "ada", "1", "stop\0 it")
    assert not fleet.opt_outs.record("sandbox", acts.AUTHOR, "ada2", "2", "really")
    assert fleet.opt_outs.among("sandbox", [acts.AUTHOR, "8"]) == {acts.AUTHOR}
    fleet_database.advance(10 * 365 * 86400)
    summon(owner)  # even where they call the account again
    for account in ("sandbox", "default"):
        for action in TOWARDS:
            proposed = acts.towards(fleet, action, TARGET, account)
            assert proposed.state == "rejected"
            if (account, action) != ("default", "like"):
                assert proposed.reason == "policy: its author asked to be left alone"
    assert acts.towards(fleet, "reply", "2000", author_id="8").state == "ready"
    assert rows(owner, "SELECT author_id, handle, account, words FROM fleet.opt_outs") == [
        (acts.AUTHOR, "ada", "default", "stop� it")
    ]
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'opt_out'") == 1


def test_an_opt_out_holds_also_where_the_proposer_names_another_author(fleet: Fleet, owner: Owner) -> None:
    fleet.opt_outs.record("sandbox", acts.AUTHOR, "ada", "1", "stop")
    summon(owner)
    assert acts.towards(fleet, "reply", TARGET, author_id="8").state == "rejected"
    owner.execute(
        "INSERT INTO fleet.candidates (account, platform_id, author_id, handle, text, topic, origin, "
        "posted_at, found_at, scored_at, metrics, score, parts, state) VALUES ('default', '2000', %s, 'ada', "
        "'x', 't', 'search', now(), now(), now(), '{}', 1, '{}', 'waiting')",
        (acts.AUTHOR,),
    )
    assert acts.towards(fleet, "quote", "2000", author_id="8").state == "rejected"


def test_a_post_whose_author_nobody_knows_is_left_alone(fleet: Fleet, owner: Owner) -> None:
    for author in ({}, {"author_id": None}, {"author_id": ""}):
        proposed = fleet.ledger.propose("sandbox", "reply", TARGET, "Hi", origin=author)
        assert proposed.state == "rejected"
        assert "nobody knows who wrote that post" in str(proposed.reason)
    summon(owner)  # now the fleet knows
    assert fleet.ledger.propose("sandbox", "reply", TARGET, "Hi").state == "ready"


def test_the_fleet_never_answers_itself(fleet: Fleet, owner: Owner) -> None:
    fleet.accounts.confirm_identity("sandbox", "42", "fleet")
    fleet.accounts.confirm_identity("default", "43", "other")
    for action in TOWARDS:
        itself = acts.towards(fleet, action, TARGET, author_id="42")
        assert (itself.state, itself.reason) == ("rejected", "policy: it is the account's own post")
        another = acts.towards(fleet, action, "2000", author_id="43")
        assert another.reason == "policy: it is a post of the fleet's own account default"
    # Nor where a proposer says that somebody else wrote what the ledger posted.
    acts.posted(fleet, acts.prepared(fleet), "3000")
    assert acts.towards(fleet, "reply", "3000").reason == "policy: it is the account's own post"
    # What it liked is not its own.
    acts.posted(fleet, acts.prepared_towards(fleet, "like", "4000"))
    assert fleet.policy.check("default", "post").allowed
    assert acts.towards(fleet, "reply", "4000").state == "ready"
    assert value(owner, "SELECT count(*) FROM fleet.interactions") == 0


def test_a_refusal_is_kept_once_and_another_reason_is_another_intent(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    set_tier(console, "free")
    first = acts.towards(fleet, "reply", TARGET)
    again = acts.towards(fleet, "reply", TARGET)
    assert (first.created, again.created, again.id, again.state) == (True, False, first.id, "rejected")
    assert acts.transitions(owner, first.id) == ["rejected"]
    set_tier(console, "pay_per_use")
    other = acts.towards(fleet, "reply", TARGET)
    assert other.created
    assert other.id != first.id
    set_tier(console, "enterprise")
    allowed = acts.towards(fleet, "reply", TARGET)
    assert (allowed.state, allowed.created) == ("ready", True)
    set_tier(console, "free")  # what lives is given, whatever would be said of it now: the gate decides
    assert acts.towards(fleet, "reply", TARGET).id == allowed.id
    assert value(owner, "SELECT count(*) FROM fleet.intents") == 3


def _propose_what_is_refused(start: Callable[[], int], dsn: str) -> set[str]:
    with connect(dsn, "proposer") as fleet:
        start()
        return {acts.towards(fleet, "like", str(n), "default").id for n in range(1, 26) for _ in range(2)}


def test_8_processes_whose_proposals_are_refused_leave_one_intent_each(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    answers = together(_propose_what_is_refused, 8, fleet_database.dsn("worker"))
    assert all(answer == answers[0] for answer in answers)
    assert value(owner, "SELECT count(*) FROM fleet.intents") == 25
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'intent_rejected'") == 25


def test_without_its_lock_the_test_above_would_fail(fleet_database: FleetDatabase, owner: Owner) -> None:
    lock = "PERFORM pg_advisory_xact_lock(fleet.lock_key('refusal',"
    add = "INSERT INTO fleet.intents ("
    with planted(
        owner,
        "add_intent",
        (lock, "PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('refusal',"),
        (add, f"PERFORM pg_sleep(0.05); {add}"),
    ):
        together(_propose_what_is_refused, 8, fleet_database.dsn("worker"))
    assert value(owner, "SELECT count(*) FROM fleet.intents") > 25


@pytest.mark.parametrize("action", TOWARDS)
def test_what_was_allowed_and_is_not_any_more_is_stopped_at_the_last_gate(
    fleet: Fleet, console: Database, owner: Owner, action: Action
) -> None:
    act = acts.prepared_towards(fleet, action, TARGET)
    set_tier(console, "free")
    clearance = acts.begin(fleet, act)
    assert not clearance.sending
    assert acts.state(fleet, act.claim.intent) == "rejected"
    assert reason_of(fleet, act.claim.intent).startswith("policy: ")
    assert acts.open_grants(owner) == 0
    assert not acts.is_locked(owner, act)
    assert value(owner, "SELECT count(*) FROM fleet.attempts") == 0


def test_without_the_last_gate_the_test_above_would_fail(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    act = acts.prepared_towards(fleet, "reply", TARGET)
    set_tier(console, "free")
    gate = "refusal := fleet.judge_act(owner, known.action, known.target, known.origin->>'author_id');"
    with planted(owner, "begin_send", (gate, "refusal := NULL;")):
        assert acts.begin(fleet, act).sending


def test_a_send_waits_for_an_opt_out_that_is_being_recorded(fleet: Fleet, owner: Owner) -> None:
    """So that, when the opt-out has answered, no act towards its author is let through."""
    act = acts.prepared_towards(fleet, "reply", TARGET)
    with owner.transaction():
        value(owner, "SELECT pg_advisory_xact_lock(fleet.lock_key('author', 'x:' || %s))", acts.AUTHOR)
        with pytest.raises(DatabaseBusyError):
            acts.begin(fleet, act)
    assert acts.begin(fleet, act).sending


def test_a_person_passes_the_same_gate_but_needs_no_approval(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    def propose(action: Action, text: str = "Hi") -> Any:
        return propose_by_person(
            console, "default", action, TARGET, text, actor="me", origin={"author_id": acts.AUTHOR}
        )

    assert propose("reply").state == "rejected"  # nobody summoned the account
    assert propose("like", "").state == "rejected"
    summon(owner, account="default")
    assert propose("reply").state == "ready"
    fleet.opt_outs.record("default", acts.AUTHOR, "ada", "1", "stop")
    claim = acts.claimed(fleet, "default")
    assert not acts.begin(fleet, acts.granted(fleet, claim)).sending
    assert propose("reply").reason == "policy: its author asked to be left alone"
    assert rows(owner, "SELECT DISTINCT actor, action FROM fleet.audits") == [("me", "propose")]


def test_a_tier_is_set_by_a_person_and_told(console: Database, owner: Owner) -> None:
    assert (
        accounts.set_tier(console, "default", "enterprise", actor="me", reason="signed").tier == "enterprise"
    )
    accounts.set_tier(console, "default", "enterprise", actor="me", reason="again")
    assert rows(owner, "SELECT actor, action, target, reason, details FROM fleet.audits ORDER BY id") == [
        ("me", "set_tier", "default", "signed", {"tier": "enterprise"}),
        ("me", "set_tier", "default", "again", {"tier": "enterprise"}),
    ]
    assert rows(owner, "SELECT message FROM fleet.events WHERE kind = 'tier'") == [
        ("account default is enterprise now, it was pay_per_use",)
    ]
    assert get_policy(console, "default")["reply"].rule == "allow"
    change: Any = accounts.set_tier
    for account, tier, actor, reason, field, given in (
        ("default", "gold", "me", "x", "tier", "gold"),
        ("default", None, "me", "x", "tier", None),
        ("nobody", "free", "me", "x", "account", "nobody"),
        ("default", "free", "", "x", "actor", ""),
        ("default", "free", "me", " ", "reason", " "),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            change(console, account, tier, actor=actor, reason=reason)
        assert_refused(refusal, field, given)
    assert get_policy(console, "default")["reply"].rule == "allow"


def test_the_fleets_start_sets_the_tier_and_tells_a_change(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    maintainer = fleet_database.database("maintainer")

    def ensure(name: str, tier: Any, *, sandbox: bool = True) -> str:
        url = "http://127.0.0.1:1" if sandbox else "https://api.x.com"
        return accounts.ensure_account(
            maintainer, name, platform="x", api_url=url, sandbox=sandbox, topics=["a"], tier=tier
        ).tier

    assert [ensure("sandbox", tier) for tier in ("enterprise", "free", "free", None)] == [
        "enterprise", "free", "free", "free"
    ]  # fmt: skip
    assert rows(owner, "SELECT severity, source, message FROM fleet.events WHERE kind = 'tier'") == [
        ("warning", "up", "account sandbox is free now, it was enterprise")
    ]
    assert ensure("default", None, sandbox=False) == "pay_per_use"
    with pytest.raises(InvalidValueError) as refusal:
        ensure("sandbox", "gold")
    assert_refused(refusal, "tier", "gold")
    maintainer.close()


def test_questions_about_an_account_that_is_not_there_name_those_there_are(fleet: Fleet) -> None:
    for ask in (
        lambda: fleet.policy.of("nobody"),
        lambda: fleet.policy.check("nobody", "post"),
        lambda: fleet.opt_outs.has("nobody", "1"),
        lambda: fleet.opt_outs.record("nobody", "1", "a", "1", "stop"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            ask()
        assert_refused(refusal, "account", "nobody")
        assert refusal.value.allowed == "one of default, sandbox"
    record: Any = fleet.opt_outs.record
    for author in ("", "ada", None, "1" * 20):
        with pytest.raises(InvalidValueError, match="author_id"):
            record("sandbox", author, "a", "1", "stop")


def test_the_actions_of_the_ledger_are_those_of_the_policy() -> None:
    assert set(ACTIONS) <= EXPECTED["free"].keys()
