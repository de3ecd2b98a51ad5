"""Whom and what a text names, held against X's conformance suite."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.platforms.post_entities import cashtags, hashtags, mentions

CONFORMANCE = Path(__file__).parents[4] / "shared/data/x/twitter-text/extract.yml"
CASE = re.compile(r'^      text: (".*")\n      expected: (\[.*\])$', re.MULTILINE)
READERS: dict[str, tuple[Callable[[str], list[str]], int]] = {
    "mentions": (mentions, 20),
    "hashtags": (hashtags, 60),
    "hashtags_from_astral": (hashtags, 3),
    "cashtags": (cashtags, 8),
}


@pytest.mark.skipif(not CONFORMANCE.is_file(), reason=f"{CONFORMANCE} is not there")
@pytest.mark.parametrize("name", READERS)
def test_entities_are_those_of_the_conformance_suite(name: str) -> None:
    read, least = READERS[name]
    rest = CONFORMANCE.read_text(encoding="utf-8").split(f"\n  {name}:\n")[1]
    cases = CASE.findall(re.split(r"^  \w", rest, maxsplit=1, flags=re.MULTILINE)[0])
    assert len(cases) >= least
    wrong = [
        (text, expected, found) for text, expected in cases if (found := read(said(text))) != said(expected)
    ]
    assert wrong == []


def said(text: str) -> Any:
    return ast.literal_eval(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("@fleet what about maps?", ["fleet"]),
        ("cc @Fleet, @mira.", ["Fleet", "mira"]),
        ("write to me@fleet.example", []),
        ("see @fleet/maps-and-more", []),
        ("https://example.com/@fleet", ["fleet"]),
        ("", []),
    ],
)
def test_mentions_are_read_as_x_reads_them(text: str, named: list[str]) -> None:
    assert mentions(text) == named


@given(
    text=st.text(
        alphabet=st.one_of(st.sampled_from("@#$ a1_&/:\n\ufe0f"), st.characters(exclude_categories=()))
    )
)
def test_every_name_stands_in_the_text_after_its_sign(text: str) -> None:
    assert all(f"@{name}" in text or f"\uff20{name}" in text for name in mentions(text))
    assert all(f"#{name}" in text or f"\uff03{name}" in text for name in hashtags(text))
    assert all(f"${name}" in text for name in cashtags(text))


@pytest.mark.parametrize("text", ["@" * 100_000, "#" * 100_000, "#a" * 50_000, "@a" * 50_000, "RT@" * 30_000])
def test_a_text_of_signs_alone_is_read_at_once(text: str) -> None:
    assert len(mentions(text)) + len(hashtags(text)) < 50_001
