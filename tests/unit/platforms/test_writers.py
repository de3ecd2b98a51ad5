"""The built-in writer, and one writer behind another."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.platforms.post_text import check, urls, weighted_length
from workers.platforms.writers import (
    Brief,
    BuiltinWriter,
    Draft,
    DraftRefused,
    FallbackWriter,
    Writer,
    WriterError,
    WriterExhausted,
    WriterUnavailable,
)
from workers.platforms.writers.builtin import COMBINATIONS, TOPIC_CAP
from workers.platforms.writers.phrases import CLOSERS, MIDDLES, OPENERS

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def brief(*topics: str, seed: int = 0, avoid: frozenset[str] = frozenset()) -> Brief:
    return Brief(topics=topics, avoid=avoid, at=AT, seed=seed)


def test_the_same_brief_gives_the_same_draft_and_another_seed_another() -> None:
    drafts = {BuiltinWriter().write(brief("tea", "bread", seed=seed)).text for seed in range(200)}
    assert len(drafts) > 195
    assert BuiltinWriter().write(brief("tea", seed=7)) == BuiltinWriter().write(brief("tea", seed=7))


def test_tens_of_thousands_of_texts_a_topic_are_there_and_all_fit() -> None:
    assert COMBINATIONS >= 20_000
    longest = sum(
        max(weighted_length(phrase) for phrase in phrases) for phrases in (OPENERS, MIDDLES, CLOSERS)
    )
    assert longest + TOPIC_CAP <= 280
    for phrases in (OPENERS, MIDDLES, CLOSERS):
        assert len(set(phrases)) == len(phrases)
    assert all(opener.count("{topic}") == 1 for opener in OPENERS)


@settings(max_examples=300, deadline=None)
@given(topics=st.lists(st.text(max_size=400), max_size=3), seed=st.integers())
def test_any_topics_give_a_text_that_x_accepts_without_links_or_mentions(
    topics: list[str], seed: int
) -> None:
    text = BuiltinWriter().write(brief(*topics, seed=seed)).text
    check(text)
    assert urls(text) == []
    assert "@" not in text


@pytest.mark.parametrize(
    "topic",
    [
        "",
        " ",
        "@someone",
        "#tag",
        "$AAPL $MSFT",
        "https://evil.example/x",
        "booking.com",
        "{topic}",
        "{0}",
        "a\x00b",
        "漢字" * 100,
        "x" * 500,
        "word " * 100,
        "\u202eabc",
        "😷" * 90,
        "node.js",
        "C++",
        "\ud800",
    ],
)
def test_an_odd_topic_is_made_fit_to_speak_of(topic: str) -> None:
    draft = BuiltinWriter().write(brief(topic, seed=3))
    check(draft.text)
    assert urls(draft.text) == []
    assert draft.topic == topic


def test_never_a_text_to_avoid_even_with_other_case_or_spaces() -> None:
    avoid: frozenset[str] = frozenset()
    for _ in range(50):
        draft = BuiltinWriter().write(brief("tea", seed=1, avoid=avoid))
        assert draft.text not in avoid
        avoid |= {draft.text}
    shouted = frozenset(f" {text.upper()}\n" for text in avoid)
    assert BuiltinWriter().write(brief("tea", seed=1, avoid=shouted)).text not in avoid


def test_when_nothing_new_is_left_it_says_so_and_what_to_do() -> None:
    everything = frozenset(
        f"{opener.format(topic='tea')} {middle} {closer}"
        for opener in OPENERS
        for middle in MIDDLES
        for closer in CLOSERS
    )
    with pytest.raises(WriterExhausted, match="add topics"):
        BuiltinWriter().write(brief("tea", avoid=everything))
    last = next(iter(sorted(everything)))
    assert BuiltinWriter().write(brief("tea", avoid=everything - {last})).text == last


class Fixed:
    def __init__(self, answer: Draft | WriterError) -> None:
        self.answer = answer

    def write(self, brief: Brief) -> Draft:
        if isinstance(self.answer, WriterError):
            raise self.answer
        return replace(self.answer, topic=brief.topics[0])


DRAFT = Draft(text="Hello", writer="model", topic="tea", detail={})


def test_the_first_writers_draft_is_taken_when_there_is_one() -> None:
    assert FallbackWriter(Fixed(DRAFT), BuiltinWriter()).write(brief("tea")) == DRAFT


@pytest.mark.parametrize(
    "error", [WriterUnavailable("no answer"), DraftRefused("a link"), WriterExhausted("all")]
)
def test_the_second_writes_when_the_first_fails_and_the_draft_says_why(error: WriterError) -> None:
    writer: Writer[Brief] = FallbackWriter(Fixed(error), BuiltinWriter())
    draft = writer.write(brief("tea"))
    assert draft.writer == "builtin"
    assert draft.fallback_reason == f"{type(error).__name__}: {error.reason}"


def test_when_both_fail_the_seconds_error_is_raised() -> None:
    with pytest.raises(WriterExhausted):
        FallbackWriter(Fixed(DraftRefused("a link")), Fixed(WriterExhausted("all"))).write(brief("tea"))
