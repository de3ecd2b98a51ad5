"""What people say: before the world begins, and while it lives."""

import re

import pytest

from sandbox.world import law as laws
from sandbox.world import phrases, traits
from sandbox.world.life import DECK, SLOT_MS, Life, Said
from sandbox.world.past import DAYS, past
from sandbox.world.population import HOUR_MS, Population
from sandbox.world.reaction import Deed
from sandbox.world.speech import Heard, Utterance

END_MS = 1_795_000_020_000 // SLOT_MS * SLOT_MS
LAW = laws.default()
CROWD = Population.make("1", 400, taken="fleet", most=LAW.most, hours=LAW.hours)
NOTHING = Said(heard=[], mentions=[], own=[])


def number(at_ms: int, last: int) -> int:
    return max(at_ms, last + 1)


def heard(post_id: int, text: str, username: str = "ada") -> Heard:
    return Heard(id=post_id, username=username, text=text, topic=2, conversation=post_id - 1)


def life(population: Population = CROWD, *, posts_per_day: float = 900, mentions: float = 60) -> Life:
    return Life(
        population=population,
        account="the_fleet",
        link=lambda username, post_id: f"https://x.com/{username}/status/{post_id}",
        posts_per_day=posts_per_day,
        mentions_per_hour=mentions,
    )


SAID = Said(
    heard=[heard(11, "Coffee!"), heard(12, "More coffee")],
    mentions=[heard(21, "@the_fleet which coffee?", "bela")],
    own=[heard(31, "I like coffee", "the_fleet")],
)


def slots(count: int, said: Said = SAID, lived: Life | None = None) -> list[Utterance]:
    first = END_MS // SLOT_MS
    return [one for slot in range(first, first + count) for one in (lived or life()).slot(slot, said)]


# The past


def test_the_past_is_the_same_from_the_same_seed_and_reaches_back_a_week() -> None:
    found = list(past(CROWD, number, count=3000, end_ms=END_MS, account="the_fleet"))
    assert found == list(past(CROWD, number, count=3000, end_ms=END_MS, account="the_fleet"))
    ids = [post_id for post_id, _ in found]
    times = [said.at_ms for _, said in found]
    assert len(found) == 3000
    assert ids == sorted(set(ids))
    assert times == sorted(times)
    assert END_MS - DAYS * 24 * HOUR_MS <= times[0] < times[-1] < END_MS
    assert sum(END_MS - at_ms < 24 * HOUR_MS for at_ms in times) > 200


def test_who_answers_quotes_or_repeats_does_so_after_it_was_said() -> None:
    found = dict(past(CROWD, number, count=3000, end_ms=END_MS, account="the_fleet"))
    linked = 0
    for post_id, said in found.items():
        for other in (said.reply_to, said.quote_of, said.repost_of):
            if other is not None:
                linked += 1
                assert other < post_id
                assert other in found
        if said.reply_to is not None:
            assert said.conversation == said.reply_to or found[said.reply_to].conversation
            assert said.text.startswith(f"@{CROWD.people[found[said.reply_to].person].username} ")
    assert linked > 500


def test_people_speak_at_their_waking_hours() -> None:
    night = 0
    found = list(past(CROWD, number, count=4000, end_ms=END_MS, account="the_fleet"))
    for _, said in found:
        night += CROWD.attention(said.at_ms)[said.person] < 0.2
    assert night < len(found) * 0.15


def test_most_texts_are_said_once_and_each_topic_can_be_searched() -> None:
    found = [said for _, said in past(CROWD, number, count=20_000, end_ms=END_MS, account="the_fleet")]
    behaved = [said for said in found if CROWD.people[said.person].kind == "ordinary"]
    own = [said.text for said in behaved if not (said.reply_to or said.repost_of or said.quote_of)]
    assert len(set(own)) > 0.9 * len(own)
    for topic in phrases.topics():
        assert sum(topic.name in text.lower() for text in own) > 50
    assert all(0 < len(text) <= 280 for text in own)


def test_what_is_said_about_a_topic_is_recognised_as_about_it() -> None:
    found = [said for _, said in past(CROWD, number, count=3000, end_ms=END_MS, account="the_fleet")]
    about = [said for said in found if said.topic >= 0 and not said.reply_to and not said.quote_of]
    assert sum(said.topic in traits.topics(said.text) for said in about) > 0.75 * len(about)


def test_spammers_repeat_themselves_nearly() -> None:
    texts: dict[int, list[str]] = {}
    for _, said in past(CROWD, number, count=6000, end_ms=END_MS, account="the_fleet"):
        if CROWD.people[said.person].kind == "spammer":
            texts.setdefault(said.person, []).append(said.text)
    first, *others = max(texts.values(), key=len)
    assert len(others) > 5
    words = traits.words(first)
    assert min(traits.similarity(words, [traits.words(other)]) for other in others) > 0.5


def test_a_few_had_asked_the_account_something_before() -> None:
    found = [said for _, said in past(CROWD, number, count=6000, end_ms=END_MS, account="the_fleet")]
    assert 10 < sum(said.text.startswith("@the_fleet ") for said in found) < 50


# Life


def test_a_minute_is_told_the_same_twice_and_lies_within_itself() -> None:
    assert slots(30) == slots(30)
    first = END_MS // SLOT_MS
    for slot in range(first, first + 30):
        times = [said.at_ms for said in life().slot(slot, SAID)]
        assert times == sorted(times)
        assert all(slot * SLOT_MS <= at_ms < (slot + 1) * SLOT_MS for at_ms in times)


def test_any_ten_turns_hold_a_question_a_link_an_opt_out_an_indirect_mention_a_chain_and_a_quote() -> None:
    first = END_MS // SLOT_MS
    for begin in range(first, first + 10):
        lived = life(posts_per_day=0)
        texts = [said for slot in range(begin, begin + 10) for said in lived.slot(slot, SAID)]
        assert len(texts) == len(DECK)
        direct = [said.text for said in texts if said.text.startswith("@the_fleet")]
        assert sum("?" in text for text in direct) >= 2
        assert any(re.search(r"https://x\.com/ada/status/1[12]\b", text) for text in direct)
        assert any(re.search(r"stop|reply to me", text.lower()) for text in direct)
        inside = [said.text for said in texts if "@the_fleet" in said.text[1:]]
        assert any(not text.startswith("@") for text in inside)
        assert [said.reply_to for said in texts if said.text.startswith("@bela @the_fleet ")] == [21]
        assert [said.quote_of for said in texts if said.quote_of is not None] == [31]


def test_whoever_carries_a_mention_on_stays_in_the_conversation() -> None:
    (chained,) = [said for said in slots(10, lived=life(posts_per_day=0)) if said.reply_to is not None]
    assert chained.conversation == 20


def test_opt_outs_come_from_those_who_want_no_answer() -> None:
    told = [said for said in slots(40) if re.match(r"(?i)@the_fleet (please )?(stop|don't)", said.text)]
    assert len(told) == 4
    assert all(CROWD.people[said.person].shy for said in told)


def test_without_anything_to_show_quote_or_answer_people_ask() -> None:
    texts = [said.text for said in slots(20, NOTHING, life(posts_per_day=0))]
    assert len(texts) == 20
    assert sum(text.startswith("@the_fleet") and "?" in text for text in texts) >= 8
    assert not any("{" in text or "https://x.com" in text for text in texts)


@pytest.mark.parametrize(("hourly", "expected"), [(0, 0), (6, 6), (60, 60), (600, 600)])
def test_mentions_come_at_the_pace_that_was_asked_for(hourly: int, expected: int) -> None:
    assert abs(len(slots(60, lived=life(posts_per_day=0, mentions=hourly))) - expected) <= 1


def test_people_talk_to_each_other_at_the_pace_of_a_day() -> None:
    count = len(slots(1440, lived=life(posts_per_day=900, mentions=0)))
    assert 780 < count < 1020


@pytest.mark.parametrize("count", [1, 2])
def test_a_tiny_world_lives_too(count: int) -> None:
    tiny = Population.make("1", count, taken="fleet", most=LAW.most, hours=LAW.hours)
    assert len(slots(30, lived=life(tiny, posts_per_day=0))) == 30


def test_who_replies_by_the_law_stays_in_the_conversation_and_the_shy_ask_for_silence() -> None:
    own = heard(31, "I like coffee", "the_fleet")
    for person in CROWD.people:
        deed = Deed(at_ms=END_MS, person=person.index)
        said = life().answer(own, deed, "reply")
        assert said == life().answer(own, deed, "reply")
        assert (said.reply_to, said.conversation, said.at_ms) == (31, 30, END_MS)
        assert said.text.startswith("@the_fleet ")
        assert bool(re.search(r"(?i)stop|reply to me", said.text)) == person.shy
    assert life().answer(own, Deed(at_ms=END_MS, person=0), "quote").quote_of == 31
