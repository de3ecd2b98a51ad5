"""Discovery on a real ledger, before an X that says what a test wants, and before the sandbox."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import pytest

from config import Config
from coordination import Fleet, accounts
from coordination.messages import Message
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import credentials
from tests.integration.workers.scripted_x import ScriptedX, x_post
from workers.context import Context
from workers.fleet.discovery import Discovery, DiscoverySettings
from workers.platforms.x import X, XUnavailable
from workers.progress import Progress
from workers.tasks import AnalysePost

SUBJECTS = (
    "Our garden has a pond now, and the frogs found it within a single week of rain.",
    "Which database do you trust with ten years of weather readings from the roof?",
    "Nobody told me that a small garden needs more planning than a large one does.",
    "The best databases are boring, and that is exactly what makes them so pleasant.",
    "I moved the herbs to the shady side of the garden and they are thriving there.",
)


@pytest.fixture
def x() -> Iterator[ScriptedX]:
    served = ScriptedX()
    yield served
    served.close()


@pytest.fixture(autouse=True)
def known(fleet: Fleet) -> None:
    """Who the account is; a test that wants it asked forgets it."""
    fleet.accounts.confirm_identity("sandbox", "42", "fleet")


@pytest.fixture
def now(fleet: Fleet) -> datetime:
    return fleet.candidates.pool("sandbox").now


def discovery(fleet: Fleet, url: str, **settings: Any) -> Discovery:
    context = Context(config=Config(), account="sandbox")
    context.__dict__["x"] = X(url, credentials())
    worker = Discovery(context=context, fleet=fleet, progress=Progress(), draining=Event())
    worker.settings = DiscoverySettings(**settings)
    return worker


def pooled(fleet_database: FleetDatabase, state: str = "waiting") -> list[str]:
    with fleet_database.owner() as owner:
        found = owner.execute(
            "SELECT platform_id FROM fleet.candidates WHERE state = %s ORDER BY score DESC, platform_id",
            (state,),
        )
        return [row[0] for row in found.fetchall()]


def told(fleet_database: FleetDatabase, kind: str = "discovered") -> list[tuple[str, dict[str, Any]]]:
    with fleet_database.owner() as owner:
        return owner.execute(
            "SELECT message, data FROM fleet.events WHERE kind = %s ORDER BY id", (kind,)
        ).fetchall()


def liked(likes: int) -> dict[str, int]:
    return {"like_count": likes, "impression_count": 999}


def some(now: datetime, number: int = 5) -> list[dict[str, Any]]:
    return [x_post(n + 1, SUBJECTS[n], now - timedelta(hours=n + 1)) for n in range(number)]


def test_what_it_finds_is_in_the_pool_with_every_part_of_its_score(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    x.posts = some(now)
    discovery(fleet, x.url).step()
    assert pooled(fleet_database) == ["1", "2", "3", "4", "5"]
    (best,) = fleet.candidates.take("sandbox", 1)
    assert (best.handle, best.author_id, best.topic, best.origin) == ("person500", "500", "gardens", "search")
    assert best.metrics == {"likes": 30, "reposts": 5, "replies": 4, "impressions": 1000}
    assert set(best.parts) == {"engagement", "freshness", "reach", "topic", "quality"}
    assert best.parts["reach"]["inputs"] == {"followers": 20_000}
    total = sum(part["value"] * part["weight"] for part in best.parts.values())
    assert best.score == pytest.approx(
        total / sum(part["weight"] for part in best.parts.values()) * 100, abs=0.01
    )


def test_each_topic_is_searched_once_with_a_grant_since_the_last_24_hours(
    fleet: Fleet, x: ScriptedX, now: datetime
) -> None:
    discovery(fleet, x.url).step()
    assert sorted(x.queries()) == [
        '("databases" OR "database") lang:en -is:retweet',
        '("gardens" OR "garden") lang:en -is:retweet',
    ]
    start = datetime.fromisoformat(x.asked[0][1]["start_time"])
    assert timedelta(hours=23, minutes=59) < now - start < timedelta(hours=24, minutes=1)
    assert fleet.rate_limits.get_remaining_capacity("search_tweets", "sandbox").used == 2


def test_with_more_topics_than_searches_they_take_turns(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    person = fleet_database.database("console")
    accounts.set_topics(person, "sandbox", ["a1", "b2", "c3", "d4", "e5"], actor="me", reason="more")
    person.close()
    worker = discovery(fleet, x.url, searches_per_step=2, languages=[])
    for _ in range(5):
        worker.step()
    searched = [query.split('"')[1] for query in x.queries()]
    assert len(searched) == 10
    assert {topic: searched.count(topic) for topic in searched} == dict.fromkeys(
        ["a1", "b2", "c3", "d4", "e5"], 2
    )


def test_the_unsuitable_are_left_out_and_each_reason_is_counted(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    fleet.accounts.confirm_identity("default", "43", "other_of_the_fleet")
    fleet.opt_outs.record("sandbox", "44", "quiet", "9", "stop")
    at = now - timedelta(hours=1)
    x.posts = [
        x_post(1, SUBJECTS[0], at),
        x_post(2, SUBJECTS[1], at, author=42),
        x_post(3, SUBJECTS[2], at, author=43),
        x_post(4, SUBJECTS[3], at, author=44),
        x_post(5, f"RT @jo: {SUBJECTS[4]}", at, refers="retweeted"),
        x_post(6, "Your garden looks better than mine ever did.", at, refers="replied_to", to="9"),
        x_post(7, "And one more thing about that garden of mine.", at, refers="replied_to", to="500"),
        x_post(8, "An evening in the garden, some days before yesterday.", now - timedelta(hours=25)),
        x_post(9, "Nothing here is about what the account speaks of, is it?", at),
        x_post(10, "Puutarha garden on nyt valmis ja sammakot tulivat heti.", at, lang="fi"),
        x_post(11, "https://t.co/x garden", at, public_metrics={"like_count": 0}),
        x_post(12, "What about a garden in the shade, @Fleet? Is it worth it?", at),
    ]
    discovery(fleet, x.url, min_score=45).step()
    assert set(pooled(fleet_database)) == {"1", "7"}
    ((message, data),) = told(fleet_database)
    assert data["dropped"] == {  # both topics' searches show the whole timeline
        "another language": 2,
        "fleet's own": 1,
        "found twice": 3,
        "low score": 2,
        "names the account": 2,
        "off topic": 2,
        "opted out": 2,
        "own": 2,
        "reply to somebody else": 2,
        "repost": 2,
        "too old": 2,
    }
    assert data["found"] == 24
    assert "in the pool" in message


def test_copies_are_dropped_and_the_best_of_a_group_is_kept(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    at = now - timedelta(hours=1)
    text = SUBJECTS[0]
    x.posts = [
        x_post(1, f"{text} https://t.co/abc", at),
        x_post(2, text.replace("single", "short"), at, author=501, public_metrics=liked(90)),
        x_post(3, SUBJECTS[1], at),
        x_post(4, f"@jo {text.upper()}", at, author=502),
    ]
    discovery(fleet, x.url).step()
    assert set(pooled(fleet_database)) == {"2", "3"}
    x.posts = [
        x_post(5, SUBJECTS[1], at),
        x_post(6, f"{text} Really!", at, public_metrics=liked(900)),
    ]
    discovery(fleet, x.url).step()
    first, second = (data["dropped"] for _, data in told(fleet_database))
    assert first["near-duplicate"] >= 1
    assert second["copy"] == 1
    assert set(pooled(fleet_database)) == {"3", "6"}
    assert pooled(fleet_database, "given_up") == ["2"]


def test_who_says_it_again_and_again_is_left_out_whole(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    at = now - timedelta(hours=1)
    x.posts = [
        x_post(1, "Free garden guide no 17! Only today, see https://t.co/a", at, author=666),
        x_post(2, "FREE garden guide no. 342 - only today! See https://t.co/b", at, author=666),
        x_post(3, "Free garden guide, no 640, only for today: see https://t.co/c", at, author=666),
        x_post(4, SUBJECTS[0], at, author=666, public_metrics=liked(900)),
        x_post(5, SUBJECTS[2], at),
        x_post(6, f"{SUBJECTS[2]} Really!", at, public_metrics=liked(50)),
    ]
    discovery(fleet, x.url).step()
    assert pooled(fleet_database) == ["6"]
    ((message, data),) = told(fleet_database)
    assert data["dropped"]["says it again and again"] == 4  # a post that both topics find is one post
    assert "4 says it again and again" in message


def test_what_scores_too_low_counts_and_what_others_said_does_not(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    at = now - timedelta(hours=1)
    unseen: dict[str, Any] = {"public_metrics": {"impression_count": 0}, "lang": "fi"}
    x.posts = [
        x_post(1, f"{SUBJECTS[0]} One!", at, author=666, **unseen),
        x_post(2, f"{SUBJECTS[0]} Two!", at, author=666, **unseen),
        x_post(3, SUBJECTS[0], at, author=666),
        *(x_post(n, f"RT @jo: {SUBJECTS[1]}", at, author=700, refers="retweeted") for n in (4, 5, 6)),
        x_post(7, SUBJECTS[1], at, author=700),
    ]
    discovery(fleet, x.url).step()
    assert pooled(fleet_database) == ["7"]
    assert told(fleet_database)[0][1]["dropped"]["says it again and again"] == 1


@pytest.mark.parametrize("liked_before", [5, 950])
def test_a_better_copy_of_one_that_is_found_again_takes_its_place(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime, liked_before: int
) -> None:
    at = now - timedelta(hours=1)
    x.posts = [x_post(1, SUBJECTS[0], at, public_metrics=liked(liked_before))]
    discovery(fleet, x.url).step()
    x.posts = [
        x_post(1, SUBJECTS[0], at, public_metrics=liked(5)),
        x_post(2, f"{SUBJECTS[0]} Really!", at, public_metrics=liked(50)),
    ]
    discovery(fleet, x.url).step()
    assert pooled(fleet_database) == ["2"]
    assert pooled(fleet_database, "given_up") == ["1"]


def test_a_bad_item_is_kept_with_its_reason_and_the_others_go_on(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    x.posts = [
        {"id": "1", "text": ["no text"]},
        *some(now, 2),
        {**x_post(7, "A garden without a time", now), "created_at": None},
    ]
    discovery(fleet, x.url).step()
    assert set(pooled(fleet_database)) == {"1", "2"}
    with fleet_database.owner() as owner:
        failed = owner.execute("SELECT item, error FROM fleet.failed_items ORDER BY item").fetchall()
    assert [item for item, _ in failed] == ["post:1", "post:7"]
    assert "text" in failed[0][1]
    assert "has no time" in failed[1][1]


def test_the_pool_keeps_its_size_and_what_is_stale_is_given_up(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    x.posts = some(now)
    discovery(fleet, x.url, pool_size=3).step()
    assert pooled(fleet_database) == ["1", "2", "3"]
    x.posts = []
    fleet_database.advance(22 * 3600)
    discovery(fleet, x.url, pool_size=3).step()
    assert pooled(fleet_database) == ["1"]
    assert told(fleet_database)[-1][1]["given_up"] == {"overfull_or_copy": 0, "stale": 2, "weak": 0}


@pytest.mark.parametrize(
    ("tier", "why"),
    [("free", "the free tier doesn't search"), ("pay_per_use", "lets the account act on no find")],
)
def test_where_the_tier_may_not_search_or_act_on_what_is_found_it_idles_and_says_why_once(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, tier: str, why: str
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.accounts SET tier = %s WHERE name = 'sandbox'", (tier,))
    worker = discovery(fleet, x.url)
    worker.step()
    worker.step()
    assert x.asked == []
    ((message, _),) = told(fleet_database, "discovery_idle")
    assert why in message


def test_without_a_grant_it_stops_searching_and_keeps_what_it_has(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    fleet.rate_limits.configure("search_tweets", [(1, 900)], "sandbox")
    x.posts = some(now, 2)
    discovery(fleet, x.url).step()
    assert len(x.queries()) == 1
    assert set(pooled(fleet_database)) == {"1", "2"}


def test_a_refusal_fails_the_step_after_what_was_found_is_kept(
    fleet: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    x.status["/2/tweets/search/recent"] = 503
    with pytest.raises(XUnavailable):
        discovery(fleet, x.url).step()
    assert len(told(fleet_database)) == 1


# On delegation


def delegated(fleet: Fleet, fleet_database: FleetDatabase, post_id: str) -> tuple[Message, AnalysePost]:
    """A message as mentions sends it, claimed by discovery's own incarnation."""
    task = AnalysePost(account="sandbox", post_id=post_id, mention_id="77")
    with fleet_database.connect("mentions") as mentions:
        mentions.messages.send("TASK_DELEGATION", fleet.incarnation.worker, task.model_dump())
    (message,) = fleet.messages.claim(1)
    return message, task


def answers(fleet_database: FleetDatabase) -> list[dict[str, Any]]:
    with fleet_database.owner() as owner:
        found = owner.execute("SELECT payload FROM fleet.messages WHERE recipient = 'mentions' ORDER BY id")
        return [row[0] for row in found.fetchall()]


@pytest.fixture
def finder(fleet_database: FleetDatabase) -> Iterator[Fleet]:
    with fleet_database.connect("discovery") as joined:
        yield joined


def test_a_delegated_post_is_scored_offered_and_answered_once(
    finder: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    x.posts = some(now, 1)
    message, task = delegated(finder, fleet_database, "1")
    discovery(finder, x.url).analyse(message, task)
    finder.messages.acknowledge(message, discovery(finder, x.url).analyse(message, task))  # once more
    (answer,) = answers(fleet_database)
    assert answer["kind"] == "post_analysed"
    assert (answer["found"], answer["topic"], answer["handle"]) == (True, "gardens", "person500")
    assert answer["reason"] == "a candidate"
    assert set(answer["parts"]) == {"engagement", "freshness", "reach", "topic", "quality"}
    (candidate,) = finder.candidates.take("sandbox", 1)
    assert candidate.origin == f"message:{message.id}"
    assert candidate.score == pytest.approx(answer["score"], abs=0.1)  # it was read a moment later


def test_an_old_post_is_scored_but_is_no_candidate(
    finder: Fleet, fleet_database: FleetDatabase, x: ScriptedX, now: datetime
) -> None:
    x.posts = [x_post(1, SUBJECTS[0], now - timedelta(days=400))]
    message, task = delegated(finder, fleet_database, "1")
    finder.messages.acknowledge(message, discovery(finder, x.url).analyse(message, task))
    (answer,) = answers(fleet_database)
    assert answer["found"]
    assert answer["parts"]["freshness"] == 0
    assert answer["score"] > 0
    assert answer["reason"] == "no candidate: too old"
    assert pooled(fleet_database) == []


def test_a_post_that_is_gone_is_answered_with_the_reason(
    finder: Fleet, fleet_database: FleetDatabase, x: ScriptedX
) -> None:
    x.errors = [{"resource_id": "1", "detail": "Could not find tweet with ids: [1]."}]
    message, task = delegated(finder, fleet_database, "1")
    finder.messages.acknowledge(message, discovery(finder, x.url).analyse(message, task))
    (answer,) = answers(fleet_database)
    assert (answer["found"], answer["score"]) == (False, None)
    assert "Could not find" in answer["reason"]
