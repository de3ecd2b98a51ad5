from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content.scoring import Score, Weights, score, topic_fit
from workers.platforms.x import Post, User

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
TOPICS = ("gardens", "open source databases")
GOOD = "After ten years our garden finally has a pond, and the frogs found it within a single week."
counts = st.integers(0, 10**9)
hours = st.floats(0, 100)
number = st.floats(0, 1000)


def post(
    text: str = GOOD,
    age_h: float = 1,
    lang: str | None = "en",
    counts: dict[str, int] | None = None,
    **metrics: int,
) -> Post:
    values: dict[str, Any] = {
        "id": "1",
        "text": text,
        "created_at": (NOW - timedelta(hours=age_h)).isoformat(),
        "lang": lang,
        "public_metrics": {f"{name}_count": value for name, value in (counts or metrics).items()},
    }
    return Post.model_validate(values)


def author(followers: int | None = 500) -> User:
    reach = {} if followers is None else {"public_metrics": {"followers_count": followers}}
    return User.model_validate({"id": "2", "username": "jo", **reach})


def scored(one: Post, who: User | None = None, **more: Any) -> Score:
    return score(one, who or author(), TOPICS, NOW, **more)


def part(found: Score, name: str) -> float:
    return found.parts[name].value


@given(
    text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300),
    age_h=st.floats(-5, 10_000),
    lang=st.sampled_from(["en", "de", "und", None]),
    followers=st.none() | counts,
    impressions=counts,
    reactions=st.fixed_dictionaries(dict.fromkeys(("like", "retweet", "reply", "quote"), counts)),
    weights=st.builds(
        Weights, engagement=number, freshness=number, reach=number, topic=number, quality=number
    ),
)
def test_whatever_comes_the_total_and_every_part_keep_their_bounds(
    text: str,
    age_h: float,
    lang: str | None,
    followers: int | None,
    impressions: int,
    reactions: dict[str, int],
    weights: Weights,
) -> None:
    found = scored(
        post(text, age_h, lang, counts={"impression": impressions, **reactions}),
        author(followers),
        weights=weights,
        languages=("en",),
    )
    assert 0 <= found.total <= 100
    assert set(found.parts) == {"engagement", "freshness", "reach", "topic", "quality"}
    assert all(0 <= one.value <= 1 for one in found.parts.values())
    assert (found.topic is None) == (part(found, "topic") == 0)


@given(
    kind=st.sampled_from(["like", "retweet", "reply", "quote"]),
    low=counts,
    high=counts,
    impressions=st.none() | counts,
)
def test_more_reactions_never_lower_the_score(
    kind: str, low: int, high: int, impressions: int | None
) -> None:
    low, high = sorted((low, high))
    seen = {} if impressions is None else {"impression": impressions}
    less, more = (scored(post(counts={kind: value, **seen})) for value in (low, high))
    assert less.total <= more.total


@given(low=st.integers(1, 10**9), high=st.integers(1, 10**9), likes=counts)
def test_the_same_reactions_from_more_readers_never_raise_the_engagement(
    low: int, high: int, likes: int
) -> None:
    low, high = sorted((low, high))
    few, many = scored(post(like=likes, impression=low)), scored(post(like=likes, impression=high))
    assert part(few, "engagement") >= part(many, "engagement")


@given(low=hours, high=hours)
def test_an_older_post_is_never_fresher(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert scored(post(age_h=low)).total >= scored(post(age_h=high)).total


@given(low=counts, high=counts)
def test_more_followers_never_lower_the_reach(low: int, high: int) -> None:
    low, high = sorted((low, high))
    assert part(scored(post(), author(low)), "reach") <= part(scored(post(), author(high)), "reach")


@given(words=st.lists(st.sampled_from(["garden", "gardens", "pond", "frog"]), max_size=8))
def test_another_word_on_the_topic_never_lowers_the_fit(words: list[str]) -> None:
    assert topic_fit(" ".join(words), TOPICS)[1] <= topic_fit(" ".join([*words, "gardening"]), TOPICS)[1]


def test_freshness_falls_from_1_at_once_to_0_after_24_hours() -> None:
    ages = {0: 1.0, 6: 0.75, 12: 0.5, 24: 0.0, 48: 0.0}
    assert {age: part(scored(post(age_h=age)), "freshness") for age in ages} == pytest.approx(ages)


def test_reach_saturates_at_a_million_followers() -> None:
    assert part(scored(post(), author(0)), "reach") == 0
    assert part(scored(post(), author(1000)), "reach") == pytest.approx(0.5, abs=0.01)
    assert part(scored(post(), author(10**6)), "reach") == 1
    assert part(scored(post(), author(10**8)), "reach") == 1
    assert part(scored(post(), author(None)), "reach") == 0


def test_the_rate_is_by_impressions_and_by_followers_where_there_are_none() -> None:
    assert scored(post(like=5, impression=900)).parts["engagement"].inputs == {
        "likes": 5,
        "reposts": 0,
        "replies": 0,
        "quotes": 0,
        "impressions": 900,
        "base": "impressions",
        "rate": 0.005,
    }
    by_followers = scored(post(like=5), author(400)).parts["engagement"].inputs
    assert (by_followers["base"], by_followers["rate"]) == ("followers", 0.01)


def test_one_like_among_three_readers_proves_less_than_fifty_among_a_thousand() -> None:
    small, large = scored(post(like=1, impression=3)), scored(post(like=50, impression=1000))
    assert part(small, "engagement") < part(large, "engagement")


@pytest.mark.parametrize(
    ("text", "topic", "fit"),
    [
        ("My garden is green", "gardens", 0.7),
        ("Gardening in gardens with a gardener's garden", "gardens", 1.0),
        ("#Gardens all day", "gardens", 0.7),
        ("Databases and nothing else", "open source databases", 0.7 / 3),
        ("An open source database, with the source open", "open source databases", 1.0),
        ("Nothing of the kind at all", None, 0.0),
        ("@garden https://gardens.example", None, 0.0),
    ],
)
def test_the_topic_fit_is_the_share_of_the_topics_words(text: str, topic: str | None, fit: float) -> None:
    assert topic_fit(text, TOPICS) == (topic, pytest.approx(fit))


def test_a_topic_in_a_script_without_spaces_fits_where_it_stands_in_the_text() -> None:
    assert topic_fit("今日は庭園を見ました", ("庭園",)) == ("庭園", pytest.approx(0.7))


@pytest.mark.parametrize(
    ("worse", "fault"),
    [
        (post("garden https://t.co/abc https://t.co/def"), "length"),
        (post(f"{GOOD} " + " ".join(f"#tag{n}" for n in range(8))), "hashtags"),
        (post(GOOD.upper()), "shouting"),
        (post("garden " + "1234567890 !!! " * 12), "letters"),
        (post(GOOD, lang="fi"), "language"),
    ],
)
def test_each_fault_of_quality_is_named_and_costs(worse: Post, fault: str) -> None:
    good, found = scored(post(), languages=("en",)), scored(worse, languages=("en",))
    assert part(good, "quality") == 1
    assert part(found, "quality") < 1
    assert found.parts["quality"].inputs[f"{fault}_value"] < 1
    assert found.total < good.total


def test_the_escapes_of_html_are_no_hashtags_and_no_letters() -> None:
    escaped = scored(post(f"{GOOD} It&#39;s &#39;&amp;&#39; &#39;and&#39; so on &#8230;"))
    assert escaped.parts["quality"].inputs["hashtags"] == 0
    assert part(escaped, "quality") == 1


def test_a_post_of_links_alone_has_no_quality() -> None:
    assert part(scored(post("https://t.co/abc @jo #garden")), "quality") == 0


def test_the_total_is_the_weighted_mean_and_only_the_proportion_counts() -> None:
    found = scored(post(like=10, impression=1000))
    mean = sum(one.value * one.weight for one in found.parts.values()) / sum(
        one.weight for one in found.parts.values()
    )
    assert found.total == pytest.approx(100 * mean, abs=0.01)
    double = Weights(engagement=60, freshness=40, reach=30, topic=40, quality=30)
    assert scored(post(like=10, impression=1000), weights=double).total == found.total
    alone = Weights(engagement=0, freshness=1, reach=0, topic=0, quality=0)
    assert scored(post(age_h=6), weights=alone).total == 75
    nothing = Weights(engagement=0, freshness=0, reach=0, topic=0, quality=0)
    assert scored(post(), weights=nothing).total == 0


def test_a_post_without_its_time_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="created_at"):
        score(Post.model_validate({"id": "1", "text": "x"}), None, TOPICS, NOW)
