"""Replies, quotes and likes: one engagement with a post, whatever the action and whoever is faster."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from coordination import Fleet, Intent, connect
from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.intents import ACTIONS, Action, Claim, Decision
from coordination.ledger import decide
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

TARGET = "1999"
TOWARDS: tuple[Action, ...] = ("reply", "quote", "like")
ENDPOINTS = {"post": "post_tweet", "reply": "post_tweet", "quote": "post_tweet", "like": "like_tweet"}


@pytest.fixture(autouse=True)
def no_limits(console: Database) -> None:
    acts.plentiful(console)
    acts.plentiful(console, "default")


def prepared(fleet: Fleet, action: Action, target: str = TARGET) -> acts.Act:
    return acts.prepared(fleet) if action == "post" else acts.prepared_towards(fleet, action, target)


def messages(owner: Owner) -> list[str]:
    return [message for (message,) in rows(owner, "SELECT message FROM fleet.events ORDER BY id")]


def test_an_action_is_a_request_of_one_endpoint_in_the_database_and_in_the_program(owner: Owner) -> None:
    for action in ACTIONS:
        claim: Any = Claim.__new__(Claim)
        object.__setattr__(claim, "action", action)
        assert claim.endpoint == value(owner, "SELECT fleet.endpoint_of(%s)", action) == ENDPOINTS[action]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_act_stands_on_a_grant_of_its_own_endpoint_only(fleet: Fleet, action: Action) -> None:
    act = prepared(fleet, action)
    other = "post_tweet" if action == "like" else "like_tweet"
    wrong = acts.Act(claim=act.claim, grant_id=acts.grant(fleet, endpoint=other))
    with pytest.raises(InvalidValueError, match=f"unused {ENDPOINTS[action]} grant") as refusal:
        acts.begin(fleet, wrong)
    assert_refused(refusal, "grant_id", wrong.grant_id)
    assert acts.begin(fleet, act).sending


@pytest.mark.parametrize("action", TOWARDS)
def test_the_lock_is_on_the_post_itself(fleet: Fleet, owner: Owner, action: Action) -> None:
    acts.towards(fleet, action, TARGET)
    held = fleet.engagement.request_lock(TARGET, "engagement/1", "like")
    assert held is not None
    assert fleet.ledger.claim("sandbox", "tester/1") is None
    fleet.engagement.release_lock(held)
    claim = acts.claimed(fleet)
    assert (claim.action, claim.target, claim.content) == (action, TARGET, TARGET)
    assert fleet.engagement.request_lock(TARGET, "engagement/1", "like") is None
    assert value(owner, "SELECT lock_type FROM fleet.engagement_locks") == action


def test_a_reply_is_there_once_and_another_action_is_another_act(fleet: Fleet) -> None:
    proposed: dict[Action, Intent] = {action: acts.towards(fleet, action, TARGET) for action in TOWARDS}
    assert len({intent.id for intent in proposed.values()}) == 3
    for action, intent in proposed.items():
        again = acts.towards(fleet, action, TARGET)
        assert (again.id, again.created) == (intent.id, False)


def test_an_answered_interaction_is_answered_once_for_ever(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    first = acts.prepared_towards(fleet, "reply", TARGET)
    acts.posted(fleet, first, "2000")
    fleet_database.advance(400 * 86400)
    again = acts.towards(fleet, "reply", TARGET)
    assert (again.id, again.state, again.created) == (first.claim.intent, "posted", False)


@pytest.mark.parametrize("action", ACTIONS)
def test_what_was_sent_leaves_its_history_and_all_but_a_like_is_measured(
    fleet: Fleet, owner: Owner, action: Action
) -> None:
    act = prepared(fleet, action)
    intent = acts.posted(fleet, act, "2000")
    platform_id = TARGET if action == "like" else "2000"  # whatever its sender says: a like has no id
    assert (intent["state"], intent["platform_id"]) == ("posted", platform_id)
    assert rows(owner, "SELECT content, action, account, intent::text, success FROM fleet.engagements") == [
        (act.claim.content, action, "sandbox", act.claim.intent, True)
    ]
    tracked = rows(owner, "SELECT platform_id FROM fleet.tracked_posts")
    assert tracked == ([] if action == "like" else [("2000",)])
    assert not acts.is_locked(owner, act)


def test_a_like_has_its_targets_id_which_a_post_may_have_too(fleet: Fleet, owner: Owner) -> None:
    """A liked post that turns out to be one's own, or two accounts' likes: no act is mistaken for another."""
    acts.posted(fleet, acts.prepared_towards(fleet, "like", "2000"))
    assert acts.posted(fleet, acts.prepared_towards(fleet, "reply", TARGET), "2000")["state"] == "posted"
    assert value(owner, "SELECT count(*) FROM fleet.intents WHERE platform_id = '2000'") == 2
    taken = acts.posted(fleet, acts.prepared_towards(fleet, "quote", "1998"), "2000")
    assert taken["state"] == "parked"  # that id is the reply's


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("way_out", ["resume", "mark_posted", "cancel"])
def test_an_answer_that_names_anothers_post_leaves_a_person_every_way_out(
    fleet: Fleet, console: Database, owner: Owner, way_out: Decision, late: bool
) -> None:
    first = acts.prepared_towards(fleet, "reply", TARGET)
    acts.posted(fleet, first, "2000")
    act = acts.prepared_towards(fleet, "quote", "1998")
    begun = acts.begin(fleet, act)
    intent = act.claim.intent
    if late:
        assert fleet.ledger.park_orphan("sandbox", grace_s=0) == intent
    fleet.ledger.settle(intent, begun.attempt, "posted", "tester/1", platform_id="2000")
    assert acts.state(fleet, intent) == "parked"
    # What the platform said is kept, and who has that post already.
    told = rows(
        owner, "SELECT outcome, headers->>'platform_id', reason FROM fleet.attempts WHERE intent = %s", intent
    )
    assert told[0][:2] == ("unknown", "2000")
    assert f"intent {first.claim.intent}" in told[0][2]

    def decided(decision: Decision, platform_id: str | None = None) -> str:
        answer = decide(console, intent, decision, actor="me", reason="looked", platform_id=platform_id)
        return str(answer["state"])

    with pytest.raises(InvalidValueError) as refusal:
        decided("mark_posted", "2000")
    assert_refused(refusal, "platform_id", "2000")
    for command in (
        f"ledger show {first.claim.intent}",
        f"ledger resume {intent}",
        f"ledger cancel {intent}",
    ):
        assert f"socialfleet {command}" in str(refusal.value)
    ends = {"resume": "ready", "mark_posted": "posted", "cancel": "cancelled"}
    assert decided(way_out, "2001" if way_out == "mark_posted" else None) == ends[way_out]


def test_a_post_that_a_person_gave_to_another_act_meanwhile_stops_no_resend(
    fleet: Fleet, console: Database
) -> None:
    late, marked = (
        acts.prepared_towards(fleet, "reply", TARGET),
        acts.prepared_towards(fleet, "quote", "1998"),
    )
    attempt = acts.begin(fleet, late).attempt
    assert fleet.ledger.park_orphan("sandbox", grace_s=0) == late.claim.intent
    fleet.ledger.settle(marked.claim.intent, acts.begin(fleet, marked).attempt, "unknown", "tester/1")
    fleet.ledger.settle(late.claim.intent, attempt, "posted", "tester/1", platform_id="2000")
    decide(console, marked.claim.intent, "mark_posted", actor="me", reason="saw it", platform_id="2000")
    assert decide(console, late.claim.intent, "resume", actor="me", reason="looked")["state"] == "ready"


def test_a_person_marks_a_like_with_the_liked_post_only(fleet: Fleet, console: Database) -> None:
    act = acts.prepared_towards(fleet, "like", TARGET)
    begun = acts.begin(fleet, act)
    fleet.ledger.settle(act.claim.intent, begun.attempt, "unknown", "tester/1", reason="504")

    def mark(platform_id: str) -> dict[str, Any]:
        return decide(
            console, act.claim.intent, "mark_posted", actor="me", reason="saw it", platform_id=platform_id
        )

    with pytest.raises(InvalidValueError) as refusal:
        mark("2000")
    assert_refused(refusal, "platform_id", "2000")
    assert mark(TARGET)["platform_id"] == TARGET


def test_people_read_which_act_it_is(fleet: Fleet, owner: Owner) -> None:
    names: dict[Action, str] = {}
    for action in TOWARDS:
        act = acts.prepared_towards(fleet, action, "1")
        names[action] = f"{action} {act.claim.intent} {'to' if action == 'reply' else 'of'} 1"
        begun = acts.begin(fleet, act)
        fleet.ledger.settle(act.claim.intent, begun.attempt, "rejected", "tester/1", reason="no")
        late = acts.towards(fleet, action, "2")
        fleet.ledger.unclaim(acts.claimed(fleet), "tester/1", "put off", retry_after_s=1)
        owner.execute("UPDATE fleet.intents SET deadline = fleet.now() WHERE id = %s", (late.id,))
        fleet.ledger.tidy("sandbox")
    told = messages(owner)
    for action, name in names.items():
        text = "" if action == "like" else ": Well said"
        [planned] = [message for message in told if message.startswith(f"planned {name} for")]
        assert planned.endswith(f"UTC{text}")
        assert f"{name} was rejected: no" in told
    assert [message.split()[0] for message in told if message.endswith("expired: its deadline passed")] == [
        *TOWARDS
    ]
    acts.posted(fleet, acts.prepared_towards(fleet, "like", "3"))
    acts.posted(fleet, acts.prepared_towards(fleet, "reply", "4"), "2000")
    parked = acts.prepared_towards(fleet, "quote", "5")
    fleet.ledger.settle(parked.claim.intent, acts.begin(fleet, parked).attempt, "unknown", "tester/1")
    ends = messages(owner)[-6:]
    assert any(message.startswith("done: like ") and message.endswith(" of 3") for message in ends)
    assert any(
        message.startswith("posted reply ") and " to 4 as 2000: Well said" in message for message in ends
    )
    assert f"quote {parked.claim.intent} of 5 is parked" in ends[-1]
    assert not [message for message in messages(owner) if message.startswith("post ")]


# One engagement with a post within the window


@pytest.mark.parametrize(("first", "second"), [*permutations(TOWARDS, 2)])
def test_a_second_act_on_a_post_is_rejected_within_the_window_and_allowed_after_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, first: Action, second: Action
) -> None:
    acts.posted(fleet, acts.prepared_towards(fleet, first, TARGET), "2000" if first != "like" else None)
    act = acts.prepared_towards(fleet, second, TARGET)
    assert acts.begin(fleet, act).reason == "recent_engagement"
    assert acts.state(fleet, act.claim.intent) == "rejected"
    assert acts.open_grants(owner) == 0
    fleet_database.advance(24 * 3600 + 1)
    assert acts.begin(fleet, acts.prepared_towards(fleet, second, TARGET)).sending


@pytest.mark.parametrize("ends", ["sending", "parked"])
def test_while_nobody_knows_of_one_act_on_a_post_no_other_is_sent(fleet: Fleet, ends: str) -> None:
    first = acts.prepared_towards(fleet, "quote", TARGET)
    begun = acts.begin(fleet, first)
    if ends == "parked":
        fleet.ledger.settle(first.claim.intent, begun.attempt, "unknown", "tester/1", reason="504")
        other = acts.prepared_towards(fleet, "like", TARGET)
        assert acts.begin(fleet, other).reason == "recent_engagement"
    else:
        acts.towards(fleet, "like", TARGET)
        assert fleet.ledger.claim("sandbox", "tester/1") is None


def test_an_act_tried_again_is_not_stopped_by_itself(fleet: Fleet, console: Database) -> None:
    act = acts.prepared_towards(fleet, "reply", TARGET)
    fleet.ledger.settle(act.claim.intent, acts.begin(fleet, act).attempt, "unknown", "tester/1", reason="504")
    decide(console, act.claim.intent, "resume", actor="me", reason="it is not there")
    again = acts.granted(fleet, acts.claimed(fleet))
    assert acts.begin(fleet, again).attempt == 2


def _engage(start: Callable[[], int], dsn: str, number: int) -> int:
    """Propose every action on the same posts, and send whatever the ledger gives; how many were sent."""
    sent = 0
    with connect(dsn, "engager") as fleet:
        start()
        for target in range(1, number + 1):
            for action in TOWARDS:
                acts.towards(fleet, action, str(target))
            while (claim := fleet.ledger.claim("sandbox", "engager")) is not None:
                act = acts.granted(fleet, claim)
                begun = acts.begin(fleet, act)
                if begun.sending:
                    platform_id = None if claim.action == "like" else str(10**6 + int(claim.intent))
                    fleet.ledger.settle(
                        claim.intent,
                        begun.attempt,
                        "posted",
                        "engager",
                        platform_id=platform_id or claim.target,
                    )
                    sent += 1
    return sent


POSTS = 12


def test_8_processes_that_reply_quote_and_like_engage_with_each_post_once_i4(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    sent = together(_engage, 8, fleet_database.dsn("worker"), POSTS)
    assert sum(sent) == POSTS
    assert (
        rows(owner, "SELECT content, count(*) FROM fleet.engagements GROUP BY content HAVING count(*) > 1")
        == []
    )
    assert value(owner, "SELECT count(DISTINCT content) FROM fleet.engagements") == POSTS
    assert value(owner, "SELECT count(*) FROM fleet.intents WHERE state NOT IN ('posted', 'rejected')") == 0
    assert acts.open_grants(owner) == 0
    assert value(owner, "SELECT count(*) FROM fleet.engagement_locks") == 0


def test_without_the_last_look_at_the_history_the_test_above_would_fail(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    look = "IF fleet.is_engaged(known.content"
    with planted(owner, "begin_send", (look, "IF false AND fleet.is_engaged(known.content")):
        sent = together(_engage, 8, fleet_database.dsn("worker"), POSTS)
    assert sum(sent) > POSTS


# Grants given back


def test_an_unused_grant_goes_back_once(fleet: Fleet, owner: Owner) -> None:
    grant = acts.grant(fleet)
    assert fleet.rate_limits.get_remaining_capacity("post_tweet", "sandbox").used == 1
    assert fleet.rate_limits.release(grant)
    assert not fleet.rate_limits.release(grant)
    assert fleet.rate_limits.get_remaining_capacity("post_tweet", "sandbox").used == 0
    assert acts.open_grants(owner) == 0


def test_a_grant_that_was_used_or_is_somebody_elses_stays(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    settled = acts.grant(fleet)
    fleet.rate_limits.record_usage(settled, False)
    sending = acts.sending(fleet)
    parked = acts.sending(fleet)
    fleet.ledger.park_orphan("sandbox", grace_s=0)
    with fleet_database.connect("other") as other:
        others = acts.grant(other)
        for grant in (settled, sending.grant_id, parked.grant_id, others, "999999999"):
            assert not fleet.rate_limits.release(grant), grant
        assert value(owner, "SELECT count(*) FROM fleet.rate_grants") == 4


# A new sandbox under the same account


def test_a_new_sandbox_begins_anew_and_keeps_history_and_opt_outs(fleet: Fleet, owner: Owner) -> None:
    fleet.accounts.confirm_identity("sandbox", "42", "fleet")
    fleet.opt_outs.record("sandbox", "9", "eve", "1", "stop")
    acts.posted(fleet, acts.prepared_towards(fleet, "reply", "1"), "2000")
    post, reply, like = acts.ready(fleet), acts.towards(fleet, "reply", "2"), acts.towards(fleet, "like", "3")
    for account in ("sandbox", "default"):
        owner.execute(
            "INSERT INTO fleet.cursors (account, name, position, baseline, started_at, moved_at) "
            "VALUES (%(a)s, 'mentions', '9', '1', now(), now());"
            "INSERT INTO fleet.interactions (account, platform_id, author_id, handle, text, kind, summons, "
            "request, state, posted_at, seen_at, due_at) VALUES (%(a)s, '5', '8', 'ada', 'hi', 'direct', "
            "true, 'answer', 'seen', now(), now(), now());"
            "INSERT INTO fleet.candidates (account, platform_id, author_id, handle, text, topic, origin, "
            "posted_at, found_at, scored_at, metrics, score, parts, state) VALUES (%(a)s, '6', '8', 'ada', "
            "'x', 't', 'search', now(), now(), now(), '{}', 1, '{}', 'waiting')".replace(
                "%(a)s", f"'{account}'"
            ).encode()
        )
    assert fleet.accounts.confirm_identity("sandbox", "42", "fleet2").handle == "fleet2"
    assert value(owner, "SELECT count(*) FROM fleet.cursors") == 2  # the same sandbox: nothing is forgotten
    again = fleet.accounts.confirm_identity("sandbox", "77", "fleet")
    assert (again.platform_user_id, again.handle) == ("77", "fleet")
    for table in ("cursors", "interactions", "candidates"):
        assert [account for (account,) in rows(owner, f"SELECT account FROM fleet.{table}")] == ["default"], (
            table
        )  # type: ignore[arg-type]
    assert [acts.state(fleet, one) for one in (post, reply.id, like.id)] == [
        "ready",
        "cancelled",
        "cancelled",
    ]
    assert value(owner, "SELECT gone_at IS NOT NULL FROM fleet.tracked_posts") is True
    assert value(owner, "SELECT count(*) FROM fleet.engagements") == 1
    assert fleet.opt_outs.has("sandbox", "9")
    assert rows(owner, "SELECT severity, message FROM fleet.events WHERE kind = 'identity'") == [
        (
            "warning",
            (
                "account sandbox is 77 now, it was 42: a new sandbox. It reads from the start, and 2 acts "
                "that waited are cancelled"
            ),
        )
    ]


def test_an_act_whose_proposer_died_with_the_lock_is_claimed_at_once(
    fleet: Fleet, fleet_database: FleetDatabase, owner: Owner
) -> None:
    with fleet_database.connect("engager") as engager:
        assert engager.engagement.request_lock(TARGET, "engager/1", "like") is not None
        liked = acts.towards(engager, "like", TARGET)
        assert fleet.ledger.claim("sandbox", "tester/1") is None, "its holder lives"
    # The lock's row stays behind the one who held it: its session lock is free, its lease is not over.
    assert rows(owner, "SELECT content FROM fleet.engagement_locks") == [(TARGET,)]
    claim = fleet.ledger.claim("sandbox", "tester/1")
    assert claim is not None
    assert claim.intent == liked.id
