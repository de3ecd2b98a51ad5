"""The law of reactions: what each factor does, and that nothing else happens than it says."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.world import law as laws
from sandbox.world import policy, reaction, traits
from sandbox.world.law import ACTS, LawError
from sandbox.world.policy import Expected, Policy
from sandbox.world.population import HOUR_MS, Population
from sandbox.world.reaction import Reaction, react
from sandbox.world.traits import Traits

DAY_MS = 1_795_000_000_000 // 86_400_000 * 86_400_000
LAW = laws.default()
CROWD = Population.make("law", 200, taken="fleet", most=LAW.most, hours=LAW.hours)
FOLLOWERS = CROWD.first_followers(range(5), 0.25)
NEUTRAL = Policy(topic="coffee", hour=19, length=120, format="plain")
PLAIN = NEUTRAL.traits()
AT_MS = DAY_MS + 19 * HOUR_MS


def expected(post: Traits = PLAIN, *, at_ms: int = AT_MS, followers: list[int] = FOLLOWERS) -> Expected:
    return policy.expected(LAW, CROWD, post, at_ms=at_ms, followers=followers)


def reacted(post_id: int, post: Traits = PLAIN, *, at_ms: int = AT_MS) -> Reaction:
    return react(LAW, CROWD, post_id=post_id, at_ms=at_ms, traits=post, followers=dict.fromkeys(FOLLOWERS, 0))


# What each factor does


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (PLAIN, replace(PLAIN, topics=())),
        (PLAIN, replace(PLAIN, length=20)),
        (PLAIN, replace(PLAIN, length=275)),
        (PLAIN, replace(PLAIN, link=True)),
        (PLAIN, replace(PLAIN, tags=5)),
        (PLAIN, replace(PLAIN, similarity=0.9)),
        (PLAIN, replace(PLAIN, format="shout")),
        (PLAIN, replace(PLAIN, format="reply")),
        (replace(PLAIN, similarity=0.6), replace(PLAIN, similarity=0.9)),
        (replace(PLAIN, length=90), replace(PLAIN, length=40)),
    ],
)
def test_topic_length_link_tags_novelty_and_manners_count(better: Traits, worse: Traits) -> None:
    assert expected(better).engagement > expected(worse).engagement
    assert expected(better).likes > expected(worse).likes


def test_a_question_is_answered_and_a_list_is_kept() -> None:
    question, listed = replace(PLAIN, format="question"), replace(PLAIN, format="list")
    assert expected(question).replies > 2 * expected().replies
    assert expected(question).reposts < expected().reposts
    assert expected(listed).bookmarks > 1.5 * expected().bookmarks
    assert expected(listed).replies < expected().replies


def test_a_link_costs_readers_and_is_bookmarked_by_more_of_them() -> None:
    linked = expected(replace(PLAIN, link=True))
    assert linked.impressions < expected().impressions
    assert linked.bookmarks / linked.impressions > expected().bookmarks / expected().impressions


def test_two_hashtags_cost_nothing_and_a_tolerated_likeness_neither() -> None:
    assert expected(replace(PLAIN, tags=2, similarity=LAW.novelty.tolerated)) == expected()


def test_readers_pay_attention_at_their_own_evening() -> None:
    there = somebody_in("Asia/Tokyo")
    by_hour = [there.mean_attention(DAY_MS + hour * HOUR_MS) for hour in range(24)]
    assert by_hour.index(max(by_hour)) == 20 - 9
    assert by_hour.index(min(by_hour)) in {(2 - 9) % 24, (3 - 9) % 24}


def test_a_readers_hours_follow_summer_time() -> None:
    there = somebody_in("Europe/Berlin")
    january, july = 1_768_435_200_000, 1_784_073_600_000  # midnights of the 15th, 2026, UTC
    assert there.attention(january + 19 * HOUR_MS) == [1.0]
    assert there.attention(july + 18 * HOUR_MS) == [1.0]


def somebody_in(zone: str) -> Population:
    return Population("law", (replace(CROWD.people[0], zone=zone, shift_h=0),), LAW.hours)


def test_more_followers_mean_more_readers_among_strangers_too() -> None:
    assert expected(followers=FOLLOWERS).impressions > expected(followers=FOLLOWERS[:10]).impressions
    assert LAW.reach(50, 200) > LAW.reach(10, 200) > LAW.reach(0, 200) > 0
    assert LAW.reach(200, 200) == 1


def test_interest_decides_what_a_reader_does() -> None:
    assert LAW.fits(0.9) > LAW.fits(0.1) > 0
    assert LAW.channel(follows=True, interest=0, reach=0) > LAW.channel(follows=False, interest=0, reach=1)


# What happens


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=2**62), st.lists(st.integers(0, 200_000_000), min_size=2))
def test_a_reading_never_falls_and_a_later_look_says_the_same(post_id: int, ages_ms: list[int]) -> None:
    found = reacted(post_id)
    readings = [vars(found.counts(AT_MS + age_ms)) for age_ms in sorted(ages_ms)]
    for earlier, later in pairwise(readings):
        assert all(earlier[name] <= later[name] for name in earlier)
    assert found == reacted(post_id)
    assert set(vars(found.counts(AT_MS)).values()) == {0}


def test_the_first_readers_come_within_a_minute_and_most_within_hours() -> None:
    for post_id in range(50):
        found = reacted(post_id)
        total = len(found.seen_ms)
        assert 0 < found.counts(AT_MS + 60_000).impressions < total
        assert found.counts(AT_MS + 5 * HOUR_MS).impressions > 0.75 * total
        assert found.counts(AT_MS + 48 * HOUR_MS).impressions == total


def test_nobody_reacts_to_what_they_have_not_seen() -> None:
    for post_id in range(30):
        found = reacted(post_id)
        for act in ACTS:
            deeds = found.acts[act]
            assert deeds == sorted(deeds, key=lambda deed: deed.at_ms)
            assert len({deed.person for deed in deeds}) == len(deeds) <= len(found.seen_ms)
            assert all(deed.at_ms > found.seen_ms[0] for deed in deeds)
        assert not {deed.person for deed in found.acts["follow"]} & set(FOLLOWERS)


def test_another_post_has_other_luck_and_another_seed_too() -> None:
    assert reacted(1) != reacted(2)
    other = Population("other", CROWD.people, LAW.hours)
    found = react(LAW, other, post_id=1, at_ms=AT_MS, traits=PLAIN, followers=dict.fromkeys(FOLLOWERS, 0))
    assert found != reacted(1)


def test_who_follows_later_has_not_seen_it_sooner() -> None:
    later = dict.fromkeys(range(200), AT_MS + 1)
    none = react(LAW, CROWD, post_id=1, at_ms=AT_MS, traits=PLAIN, followers={})
    assert react(LAW, CROWD, post_id=1, at_ms=AT_MS, traits=PLAIN, followers=later) == none


def test_who_is_answered_sees_the_answer() -> None:
    answer = replace(PLAIN, format="reply", topics=())
    seen = sum(
        react(LAW, CROWD, post_id=post_id, at_ms=AT_MS, traits=answer, followers={}, addressed=7).seen_ms
        != []
        for post_id in range(200)
    )
    assert seen > 180


# What it is worth


def simulated(plan: Policy, posts: int, first_id: int) -> list[float]:
    """The engagement of each of many posts made by a policy."""
    at_ms = DAY_MS + plan.hour * HOUR_MS
    found = (reacted(first_id + number, plan.traits(), at_ms=at_ms) for number in range(posts))
    return [sum(LAW.worth.of(act) * len(one.acts[act]) for act in ACTS) for one in found]


def mean_and_error(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)) ** 0.5


def test_the_best_policy_beats_others_by_the_margin_that_the_law_predicts() -> None:
    best = policy.best(LAW, CROWD, day_ms=DAY_MS, followers=FOLLOWERS)
    others = [
        replace(best, topic="home repair"),
        replace(best, hour=(best.hour + 9) % 24),
        replace(best, length=30),
        replace(best, format="list"),
        replace(best, link=True),
    ]
    predicted = policy.of(LAW, CROWD, best, day_ms=DAY_MS, followers=FOLLOWERS).engagement
    mean, error = mean_and_error(simulated(best, 300, 0))
    assert abs(mean - predicted) < 4 * error
    for number, other in enumerate(others, 1):
        worth = policy.of(LAW, CROWD, other, day_ms=DAY_MS, followers=FOLLOWERS).engagement
        its_mean, its_error = mean_and_error(simulated(other, 300, number * 1000))
        spread = (error**2 + its_error**2) ** 0.5
        assert mean - its_mean > 2 * spread
        assert abs((mean - its_mean) - (predicted - worth)) < 4 * spread


def test_no_policy_is_worth_more_than_the_best() -> None:
    best = policy.best(LAW, CROWD, day_ms=DAY_MS, followers=FOLLOWERS)

    def worth(plan: Policy) -> float:
        return policy.of(LAW, CROWD, plan, day_ms=DAY_MS, followers=FOLLOWERS).engagement

    most = worth(best)
    assert all(worth(replace(best, hour=hour)) <= most for hour in range(24))
    assert all(worth(replace(best, length=length)) <= most for length in range(5, 281, 5))
    assert all(worth(replace(best, format=form)) <= most for form in policy.CHOICES)
    assert worth(replace(best, topic="gardening", hour=12, format="list")) < most


# The file of numbers


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("like = 0.16", "like = 0.9", "'like' could be"),
        ("follower = 0.8", "follower = 1.2", "'see' could be"),
        ("[fit]", "[fits]", "KeyError('fit')"),
        ("quick_s", "quick_ms", "quick_ms"),
        ("0.12, 0.06,", "", "expected 24 numbers"),
        (", follow = 30 }", " }", "act_s"),
        ("[seeing]", "[seeing", "TOMLDecodeError"),
    ],
)
def test_numbers_that_are_no_law_are_refused_by_name(old: str, new: str, named: str) -> None:
    text = laws.source().decode()
    assert old in text
    with pytest.raises(LawError) as refused:
        laws.read(text.replace(old, new))
    assert named in str(refused.value)


# What the law sees


def test_a_text_shows_its_traits() -> None:
    text = "@ada Which beans do you brew?\n1. Old ones\n2. New ones\n#coffee #beans https://example.org/x"
    found = traits.read(text, earlier=[traits.words("which beans do you brew")])
    assert found.topics == (2,)
    assert (found.format, found.link, found.tags) == ("list", True, 2)
    assert 0.3 < found.similarity < 1
    assert found.length < len(text) - len("https://example.org/x")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("A novel, read slowly.", "plain"),
        ("Which novel?", "question"),
        ("READ THIS NOVEL NOW", "shout"),
        ("- one\n- two", "list"),
        ("- one", "plain"),
        ("USA 24", "plain"),
        ("", "plain"),
    ],
)
def test_a_text_has_a_format(text: str, form: str) -> None:
    assert traits.read(text).format == form


def test_the_same_text_again_is_not_new_and_an_unknown_topic_is_none() -> None:
    assert traits.read("Hello there", earlier=[traits.words("hello THERE")]).similarity == 1
    assert traits.read("Hello there").similarity == 0
    assert traits.read("Hello there").topics == ()
    assert reaction.interest_in(LAW, CROWD, traits.read("Hello there")) == [LAW.fit.unknown] * 200
