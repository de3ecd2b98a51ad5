"""What X accepts as a post's text, and when two texts are the same."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from workers.platforms import post_text
from workers.platforms.post_text import (
    Link,
    PostTextError,
    canonical,
    cashtags,
    check,
    weighted_length,
)

CONFORMANCE = Path(__file__).parents[4] / "shared/data/x/twitter-text"
SECTIONS = ("WeightedTweetsWithDiscountedEmojiCounterTest", "UnicodeDirectionalMarkerCounterTest")
COUNTED = re.compile(
    r'^      text: (".*")\n      expected:\n        weightedLength: ([0-9]+)\n        valid: (\w+)',
    re.MULTILINE,
)
TAGGED = re.compile(r'^      text: (".*")\n      expected: (\[.*\])$', re.MULTILINE)

needs_data = pytest.mark.skipif(not CONFORMANCE.is_dir(), reason=f"{CONFORMANCE} is not there")


def section(name: str, file: str) -> str:
    rest = (CONFORMANCE / file).read_text(encoding="utf-8").split(f"\n  {name}:\n")[1]
    return re.split(r"^  \w", rest, maxsplit=1, flags=re.MULTILINE)[0]


def unquoted(text: str) -> Any:
    return ast.literal_eval(text)


@needs_data
def test_lengths_are_those_of_the_conformance_suite() -> None:
    cases = [case for name in SECTIONS for case in COUNTED.findall(section(name, "validate.yml"))]
    assert len(cases) >= 20
    wrong = [text for text, length, _ in cases if weighted_length(unquoted(text)) != int(length)]
    assert wrong == []


@needs_data
def test_what_the_conformance_suite_calls_invalid_is_refused() -> None:
    cases = [case for name in SECTIONS for case in COUNTED.findall(section(name, "validate.yml"))]
    for text, _, valid in cases:
        if valid == "true":
            check(unquoted(text))
        else:
            with pytest.raises(PostTextError):
                check(unquoted(text))


@needs_data
def test_cashtags_are_those_of_the_conformance_suite() -> None:
    cases = TAGGED.findall(section("cashtags", "extract.yml"))
    assert len(cases) >= 8
    for text, tags in cases:
        assert [tag.removeprefix("$") for tag in cashtags(unquoted(text))] == unquoted(tags), text


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "x" * 280,
        "漢" * 140,
        "😷" * 140,
        f"{'x' * 256} https://example.com/{'y' * 200}",
        "a\n\tb",
        "$AAPL",
    ],
)
def test_texts_up_to_the_cap_pass(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is blank"),
        (" \n\t", "is blank"),
        ("\u200d\u2066", "is blank"),
        ("x" * 281, "has the weighted length 281"),
        ("漢" * 141, "has the weighted length 282"),
        ("a\x00b", r"has the character U\+0000"),
        ("a\x1bb", r"has the character U\+001B"),
        ("a\r\nb", r"has the character U\+000D"),
        ("a\x85b", r"has the character U\+0085"),
        ("a\ud800b", r"has the character U\+D800"),
        ("a\uffffb", r"has the character U\+FFFF"),
        ("a\ufeffb", r"has the character U\+FEFF"),
        ("$AAPL or $MSFT", r"has 2 cashtags \(\$AAPL \$MSFT\)"),
    ],
)
def test_a_text_that_x_refuses_is_refused_with_value_and_allowed(text: str, problem: str) -> None:
    with pytest.raises(PostTextError, match=f"^text: {problem}.*; allowed: "):
        check(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a." * 800, "has 800 dots; allowed: at most 280"),
        ("a." * 200, "has 60 words joined by dots"),
        ("x" * 5000, "has 5000 characters; allowed: at most 4096"),
        ("\x00" * 100_000, "has 100000 characters"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}" * 4000, "has 4000 characters beyond ASCII"),
    ],
)
def test_a_text_that_takes_long_to_weigh_is_refused_unweighed(
    text: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: list[str] = []
    monkeypatch.setattr(post_text, "weighted_length", weighed.append)
    with pytest.raises(PostTextError, match=problem):
        check(text)
    assert weighed == []


def test_the_bounds_refuse_nothing_that_x_takes() -> None:
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
    for text in (
        family * 140,
        "." * 280,
        f"https://example.com/{'y' * 4000}",
        "." * 256 + " https://a.example",
    ):
        check(text)


def test_the_error_has_the_length_that_x_counts() -> None:
    with pytest.raises(PostTextError) as caught:
        check("漢" * 141)
    assert (caught.value.weighted_length, caught.value.allowed) == (282, "1 to 280")


@pytest.mark.parametrize(
    ("posted", "returned", "links"),
    [
        ("Fish & <chips>", "Fish &amp; &lt;chips&gt;", ()),
        ("literal &amp;", "literal &amp;amp;", ()),
        ("e\u0301t\u00e9", "\u00e9t\u00e9", ()),
        (
            "see https://a.example/b",
            "see https://t.co/x1",
            (Link(short="https://t.co/x1", expanded="https://a.example/b"),),
        ),
        (
            "see a.example",
            "see https://t.co/x1",
            (Link(short="https://t.co/x1", expanded="http://a.example"),),
        ),
        (
            "go https://a.example",
            "go https://t.co/x1",
            (Link(short="https://t.co/x1", expanded="https://a.example/"),),
        ),
        (
            "a picture",
            "a picture https://t.co/p1",
            (Link(short="https://t.co/p1", expanded="https://x.com/me/status/1/photo/1", is_media=True),),
        ),
        ("a\nb", "a\r\nb", ()),
        (" edges \n", "edges", ()),
    ],
)
def test_what_x_returns_equals_what_was_posted(posted: str, returned: str, links: tuple[Link, ...]) -> None:
    assert canonical(returned, links) == canonical(posted)


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("Case", "case"), ("a\nb", "a b"), ("go!", "go")])
def test_texts_that_differ_stay_different(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_canonical_is_its_own_canonical() -> None:
    once = canonical("A &amp;lt; https://a.example/ e\u0301 ")
    assert canonical(once) == once
