"""Engagement on a real ledger, before an X that says what a test wants."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import pytest

from config import Config
from coordination import Fleet
from coordination.candidates import Find
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import credentials
from tests.integration.workers.scripted_x import ScriptedX, x_post
from workers.context import Context
from workers.fleet.engagement import Engagement, EngagementSettings
from workers.platforms.writers import Draft
from workers.platforms.writers.responses import ResponseBrief
from workers.platforms.x import X, XUnavailable
from workers.progress import Progress

SANDBOX = "sandbox"


@pytest.fixture
def x() -> Iterator[ScriptedX]:
    served = ScriptedX()
    yield served
    served.close()


@pytest.fixture
def member(fleet_database: FleetDatabase) -> Iterator[Fleet]:
    with fleet_database.connect("engagement") as joined:
        yield joined


@pytest.fixture(autouse=True)
def enterprise(fleet_database: FleetDatabase) -> None:
    set_tier(fleet_database, "enterprise")


def set_tier(fleet_database: FleetDatabase, tier: str) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.accounts SET tier = %s", (tier,))


def engagement(fleet: Fleet, x: ScriptedX, account: str = SANDBOX, **settings: Any) -> Engagement:
    context = Context(config=Config(), account=account)
    context.__dict__["x"] = X(x.url, credentials())
    worker = Engagement(context=context, fleet=fleet, progress=Progress(), draining=Event())
    worker.settings = EngagementSettings(**settings)
    return worker


def fill(fleet: Fleet, x: ScriptedX, *scores: float, account: str = SANDBOX) -> None:
    """Candidates 1, 2, 3 ... with these scores, each shown by X."""
    now: datetime = fleet.candidates.pool(account).now
    at = now - timedelta(hours=1)
    text = "Post {} about my garden, which nobody else has written like this."
    finds = [
        Find(
            platform_id=str(number),
            author_id=str(500 + number),
            handle=f"person{number}",
            text=text.format(number),
            topic="gardens",
            origin="search",
            posted_at=at,
            metrics={"likes": 3},
            score=score,
            parts={"freshness": {"value": 0.9, "weight": 20, "inputs": {"age_h": 1}}},
        )
        for number, score in enumerate(scores, 1)
    ]
    fleet.candidates.offer(account, finds, pool_size=100)
    x.posts = [x_post(int(find.platform_id), find.text, at, author=int(find.author_id)) for find in finds]


def acts(fleet_database: FleetDatabase) -> list[tuple[str, str, str]]:
    """Every intent's action, target and state."""
    with fleet_database.owner() as owner:
        return owner.execute("SELECT action, target, state FROM fleet.intents ORDER BY id").fetchall()


def pool(fleet_database: FleetDatabase) -> dict[str, tuple[str, str | None]]:
    with fleet_database.owner() as owner:
        found = owner.execute("SELECT platform_id, state, reason FROM fleet.candidates ORDER BY platform_id")
        return {row[0]: (row[1], row[2]) for row in found.fetchall()}


def states(fleet_database: FleetDatabase) -> dict[str, str]:
    return {platform_id: state for platform_id, (state, _) in pool(fleet_database).items()}


def told(fleet_database: FleetDatabase, kind: str = "engaged") -> list[str]:
    with fleet_database.owner() as owner:
        found = owner.execute("SELECT message FROM fleet.events WHERE kind = %s ORDER BY id", (kind,))
        return [row[0] for row in found.fetchall()]


def test_the_best_is_quoted_the_good_answered_the_fair_liked_and_the_rest_waits(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90, 70, 50, 30)
    engagement(member, x).step()
    assert acts(fleet_database) == [("quote", "1", "ready"), ("reply", "2", "ready"), ("like", "3", "ready")]
    assert states(fleet_database) == {"1": "proposed", "2": "proposed", "3": "proposed", "4": "waiting"}
    assert told(fleet_database) == ["looked at 3: 1 quote, 1 reply, 1 like proposed; 0 passed, 0 left"]


def test_an_act_says_where_it_came_from_and_why_not_another(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 70)
    engagement(member, x).step()
    with fleet_database.owner() as owner:
        row = owner.execute("SELECT text, origin, deadline - created_at FROM fleet.intents").fetchone()
        intent = owner.execute("SELECT i.id, c.intent FROM fleet.intents i, fleet.candidates c").fetchone()
    assert row is not None
    assert intent is not None
    assert intent[0] == intent[1]
    text, origin, time_left = row
    assert "gardens" in text
    assert timedelta(hours=1, minutes=59) < time_left <= timedelta(hours=2)
    assert (origin["author_id"], origin["handle"], origin["score"]) == ("501", "person1", 70)
    assert origin["parts"]["freshness"]["inputs"] == {"age_h": 1}
    assert origin["why"] == "scores 70.0, reply is from 60"
    assert origin["refused"] == {"quote": "score 70.0, wanted are 75"}
    assert origin["writer"] == "builtin"


def test_it_reads_all_candidates_again_in_one_request_and_writes_nothing_to_x(
    member: Fleet, x: ScriptedX
) -> None:
    fill(member, x, 90, 70, 50)
    engagement(member, x).step()
    assert [(path, given["ids"]) for path, given in x.asked] == [("/2/tweets", "1,2,3")]


def test_lock_and_grant_are_given_back_without_history(member: Fleet, x: ScriptedX) -> None:
    fill(member, x, 90, 70, 50)
    engagement(member, x).step()
    for endpoint in ("post_tweet", "like_tweet"):
        assert member.rate_limits.get_remaining_capacity(endpoint, SANDBOX).used == 0
    for content in ("1", "2", "3"):
        assert member.engagement.request_lock(content, "other", "analysis") is not None
    assert member.engagement.get_engagement_stats().total_engagements == 0


def test_the_poster_is_woken_once_more_when_the_post_is_free(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90)
    with fleet_database.connect("poster") as poster:
        engagement(member, x).step()
        woken: list[bool] = []
        while len(woken) < 2:  # who only heard the first would find the post locked
            heard = list(poster.incarnation.wake_ups(10))
            assert heard, "nobody woke the poster a second time"
            woken += [worker == "poster" for worker in heard]
        assert all(woken)
        assert poster.engagement.request_lock("1", "poster/1", "quote") is not None


class _Terse:
    """Says the first of its texts that is not to be avoided."""

    def write(self, brief: ResponseBrief) -> Draft:
        texts = [f"Yes, {word}." for word in ("one", "two", "three", "four")]
        text = next(text for text in texts if text not in brief.avoid)
        return Draft(text=text, writer="terse", topic=brief.topic, detail={})


def test_no_text_comes_twice_neither_in_a_step_nor_after_it(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90, 70, 70, 70)
    for _ in range(2):
        worker = engagement(member, x, likes_per_step=0)
        worker.__dict__["_responder"] = _Terse()
        worker.step()
    with fleet_database.owner() as owner:
        texts = [row[0] for row in owner.execute("SELECT text FROM fleet.intents ORDER BY id").fetchall()]
    assert texts == ["Yes, one.", "Yes, two.", "Yes, three.", "Yes, four."]


def test_what_is_gone_is_passed_over_with_the_platforms_reason(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90, 70)
    x.posts = x.posts[1:]
    x.errors = [{"resource_id": "1", "detail": "Could not find tweet with ids: [1]."}]
    engagement(member, x).step()
    assert acts(fleet_database) == [("reply", "2", "ready")]
    assert pool(fleet_database)["1"] == ("passed", "gone: Could not find tweet with ids: [1].")


def test_where_one_action_is_denied_the_next_one_is_taken(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.policy_rules SET rule = 'deny' WHERE action = 'quote'")
    fill(member, x, 90)
    engagement(member, x).step()
    assert acts(fleet_database) == [("reply", "1", "ready")]


@pytest.mark.parametrize(
    ("tier", "why"),
    [
        ("free", "the free tier doesn't reply"),
        ("pay_per_use", "X allows replies only to those who mentioned the account"),
    ],
)
def test_a_tier_that_allows_nothing_unasked_idles_reads_nothing_and_says_why_once(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX, tier: str, why: str
) -> None:
    set_tier(fleet_database, tier)
    fill(member, x, 90, 50)
    worker = engagement(member, x)
    worker.step()
    worker.step()
    assert x.asked == []
    assert acts(fleet_database) == []
    assert states(fleet_database) == {"1": "waiting", "2": "waiting"}
    (message,) = told(fleet_database, "engagement_idle")
    assert why in message


def test_an_action_only_for_those_who_called_is_none_for_a_candidate(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.policy_rules SET rule = 'summoned' WHERE action IN ('quote', 'reply')")
    fill(member, x, 90)
    engagement(member, x).step()
    assert acts(fleet_database) == [("like", "1", "ready")]


def test_only_what_an_act_was_chosen_for_is_read(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90, 90, 90, 50)
    member.opt_outs.record(SANDBOX, "502", "person2", "99", "stop")
    engagement(member, x, replies_per_step=0, likes_per_step=1).step()
    assert [given["ids"] for _, given in x.asked] == ["1,3"]
    assert acts(fleet_database) == [("quote", "1", "ready"), ("like", "3", "ready")]
    found = pool(fleet_database)
    assert found["2"][0] == "passed"
    state, reason = found["4"]
    assert (state, str(reason).rpartition("; ")[2]) == ("waiting", "like: its cap is reached")


def test_who_opted_out_after_being_found_is_left_alone(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90)
    member.opt_outs.record(SANDBOX, "501", "person1", "99", "stop")
    engagement(member, x).step()
    assert x.asked == []
    assert acts(fleet_database) == []
    state, reason = pool(fleet_database)["1"]
    assert (state, "left alone" in str(reason)) == ("passed", True)


def test_a_real_account_never_likes_and_its_acts_wait_for_approval(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90, 50, account="default")
    engagement(member, x, account="default").step()
    assert acts(fleet_database) == [("quote", "1", "awaiting_approval")]
    assert states(fleet_database) == {"1": "proposed", "2": "waiting"}


# Caps and limits


def test_each_step_and_each_day_have_their_caps(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, *([90] * 8))
    worker = engagement(member, x, quotes_per_step=1, replies_per_step=1, likes_per_step=1, replies_per_day=2,
                        quotes_per_day=1, likes_per_day=2)  # fmt: skip
    counts: list[dict[str, int]] = []
    for _ in range(4):
        worker.step()
        done = [action for action, _, _ in acts(fleet_database)]
        counts.append({action: done.count(action) for action in ("quote", "reply", "like")})
    assert counts == [
        {"quote": 1, "reply": 1, "like": 1},
        {"quote": 1, "reply": 2, "like": 2},
        {"quote": 1, "reply": 2, "like": 2},
        {"quote": 1, "reply": 2, "like": 2},
    ]
    assert list(states(fleet_database).values()).count("waiting") == 3
    asked = len(x.asked)
    worker.step()
    assert len(x.asked) == asked  # with every cap reached nothing is read
    fleet_database.advance(86_401)
    fill(member, x, *([90] * 12))
    worker.step()
    assert len(acts(fleet_database)) == 8


def test_without_a_grant_all_go_back_and_the_step_stops(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    member.rate_limits.configure("post_tweet", [(1, 900)], SANDBOX)
    grant = member.rate_limits.can_make_request("post_tweet", "poster/1", account=SANDBOX)
    assert grant.allowed
    fill(member, x, 90, 70, 50)
    engagement(member, x).step()
    assert acts(fleet_database) == []
    found = pool(fleet_database)
    assert {state for state, _ in found.values()} == {"waiting"}
    assert "no grant for post_tweet: 1 of 1 requests" in str(found["1"][1])


def test_without_a_grant_to_read_nothing_is_decided(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    member.rate_limits.configure("get_tweets", [(1, 900)], SANDBOX)
    assert member.rate_limits.can_make_request("get_tweets", "other/1", account=SANDBOX).allowed
    fill(member, x, 90)
    engagement(member, x).step()
    assert x.asked == []
    assert states(fleet_database) == {"1": "waiting"}


def test_when_x_is_away_the_step_fails_and_all_go_back(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90, 70)
    x.status["/2/tweets"] = 503
    with pytest.raises(XUnavailable):
        engagement(member, x).step()
    assert set(states(fleet_database).values()) == {"waiting"}


def test_a_post_that_somebody_works_on_waits_and_one_engaged_with_lately_is_passed(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    fill(member, x, 90, 80)
    with fleet_database.connect("mentions") as other:
        assert other.engagement.request_lock("1", "mentions/1", "reply") is not None
        with fleet_database.owner() as owner:
            owner.execute(
                "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
                "VALUES ('2', 'reply', 'x/1', true, fleet.now())"
            )
        engagement(member, x).step()
    assert acts(fleet_database) == []
    assert pool(fleet_database) == {
        "1": ("waiting", "somebody else works on it"),
        "2": ("passed", "the fleet engaged with it lately"),
    }


@pytest.mark.parametrize("what", ["_choose_for", "_engage"])
def test_what_fails_again_and_again_is_a_dead_letter_and_passed_over(
    member: Fleet, fleet_database: FleetDatabase, x: ScriptedX, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    fill(member, x, 90)
    worker = engagement(member, x, max_item_attempts=2)

    def broken(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(worker, what, broken)
    worker.step()
    assert states(fleet_database) == {"1": "waiting"}
    worker.step()
    state, reason = pool(fleet_database)["1"]
    assert (state, "failed too often" in str(reason)) == ("passed", True)


def test_a_drain_leaves_the_rest_waiting(member: Fleet, fleet_database: FleetDatabase, x: ScriptedX) -> None:
    fill(member, x, 90, 80)
    worker = engagement(member, x)
    worker.draining.set()
    worker.step()
    assert x.asked == []
    assert acts(fleet_database) == []
    assert set(states(fleet_database).values()) == {"waiting"}
