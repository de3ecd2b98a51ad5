"""The built-in answers: in the tone of what was written, never repeating it, never twice the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.platforms.post_text import check
from workers.platforms.writers import WriterExhausted
from workers.platforms.writers.answer_phrases import CLOSERS, OPENERS, THOUGHTS
from workers.platforms.writers.answers import AnswerBrief, BuiltinAnswerer, Report, tone_of, topic_in

TOPICS = ("gardens", "databases")


def answered(words: str, seed: int = 1, report: Report | None = None, *avoid: str) -> str:
    brief = AnswerBrief(words=words, topics=TOPICS, report=report, avoid=frozenset(avoid), seed=seed)
    return BuiltinAnswerer().write(brief).text


@pytest.mark.parametrize(
    ("words", "tone"),
    [
        ("@fleet how do you brew coffee?", "how"),
        ("@fleet which of the two?", "choice"),
        ("@fleet tea or coffee?", "choice"),
        ("@fleet what about gardens?", "what"),
        ("@fleet is gardening a sport?", "question"),
        ("@fleet thank you!", "thanks"),
        ("@fleet rain again", "remark"),
    ],
)
def test_the_tone_is_that_of_what_was_written(words: str, tone: str) -> None:
    assert tone_of(words) == tone
    assert any(answered(words).startswith(opener) for opener in OPENERS[tone])


def test_the_same_brief_gives_the_same_answer_and_a_taken_one_another() -> None:
    first = answered("@fleet hello?")
    assert answered("@fleet hello?") == first
    assert answered("@fleet hello?", 1, None, first) != first


@given(words=st.text(max_size=300), seed=st.integers(0, 2**64 - 1))
def test_whatever_was_written_the_answer_is_of_our_own_words_and_can_be_posted(words: str, seed: int) -> None:
    text = answered(words, seed)
    check(text)
    assert "@" not in text
    assert any(f" {thought} " in text for thought in THOUGHTS)
    assert text.endswith(CLOSERS)


@given(
    score=st.floats(0, 100) | st.none(),
    topic=st.text(max_size=200) | st.none(),
    found=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_a_report_says_the_score_and_the_topic_and_can_be_posted(
    *, score: float | None, topic: str | None, found: bool, seed: int
) -> None:
    text = answered("@fleet check out this", seed, Report(found=found, score=score, topic=topic))
    check(text)
    if found and score is not None:
        assert f"{score:.0f}" in text


@pytest.mark.parametrize("seed", range(8))
def test_a_report_on_what_fits_no_topic_names_none(seed: int) -> None:
    said = answered("what do you make of this?", seed, Report(found=True, score=33))
    assert "33" in said
    assert not any(topic in said for topic in TOPICS)
    assert " it as " not in said


def test_a_report_of_nothing_says_so() -> None:
    assert "post" in answered("@fleet check out this", 1, Report(found=False))


def test_a_topic_of_the_account_is_known_in_what_was_written() -> None:
    assert topic_in("@fleet what about Databases?", TOPICS) == "databases"
    assert topic_in("@fleet what about tea?", TOPICS) is None


def test_when_all_was_said_it_says_so() -> None:
    class Everything(frozenset[str]):
        def __contains__(self, _text: object) -> bool:
            return True

    brief = AnswerBrief(words="hello", topics=TOPICS, avoid=Everything(), seed=1)
    with pytest.raises(WriterExhausted, match="wait"):
        BuiltinAnswerer().write(brief)
