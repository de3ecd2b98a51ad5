import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content.wording import canonical, prose, stems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gardens", "gardening"),
        ("database", "databases"),
        ("berry", "berries"),
        ("planned", "planning"),
        ("bikes", "biking"),
        ("cache", "caches"),
        ("gardener's", "gardeners"),
    ],
)
def test_words_of_one_kind_have_one_stem(one: str, other: str) -> None:
    assert stems(one) == stems(other)


@pytest.mark.parametrize(
    ("one", "other"), [("ring", "red"), ("bus", "but"), ("glass", "glad"), ("art", "ant")]
)
def test_short_words_keep_their_endings(one: str, other: str) -> None:
    assert stems(one) != stems(other)


def test_links_names_case_and_punctuation_do_not_tell_two_texts_apart() -> None:
    one = "RT @jo: My #garden &amp; I -- at last!! https://t.co/abc"
    assert (
        canonical(one) == canonical("my garden & i, AT LAST @ann http://example.org") == "my garden i at last"
    )


def test_prose_has_no_tags_either() -> None:
    assert prose("@jo look https://t.co/x #one two #three $ABC") == "look two"


@given(st.text())
def test_any_text_has_a_canonical_form_that_is_its_own(text: str) -> None:
    once = canonical(text)
    assert once == " ".join(once.split())
    assert not any(letter.isupper() for letter in once if letter.isascii())
    assert all(stems(text))
