import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content.similarity import (
    NEAR,
    best_of_each,
    find_copy,
    fingerprint,
    likeness,
    says_again_and_again,
)

LONG = "Three things I learned about growing tomatoes on a balcony this summer, and one that I forgot."
texts = st.text(alphabet="abc d", max_size=40)


def alike(one: str, other: str) -> float:
    return likeness(fingerprint(one), fingerprint(other))


@given(texts, texts)
def test_likeness_is_a_symmetric_number_from_0_to_1(one: str, other: str) -> None:
    assert 0 <= alike(one, other) <= 1
    assert alike(one, other) == alike(other, one)


@given(st.text())
def test_a_text_is_an_exact_copy_of_itself(text: str) -> None:
    assert alike(text, text) == 1


@pytest.mark.parametrize(
    "copy",
    [
        LONG,
        LONG.upper(),
        f"RT @someone: {LONG}",
        f"{LONG} https://t.co/abcdef",
        f"@jo @ann {LONG} #",
        LONG.replace(",", " -").replace(".", "!!"),
    ],
)
def test_what_differs_in_links_names_and_punctuation_alone_is_an_exact_copy(copy: str) -> None:
    found = find_copy(fingerprint(copy), [fingerprint("else"), fingerprint(LONG)])
    assert found is not None
    assert (found.place, found.is_exact) == (1, True)


@pytest.mark.parametrize(
    "copy", [LONG.replace("Three", "Four"), LONG + " Enjoy!", LONG.replace("this summer", "that summer")]
)
def test_a_changed_word_makes_a_near_copy(copy: str) -> None:
    found = find_copy(fingerprint(copy), [fingerprint(LONG)])
    assert found is not None
    assert not found.is_exact
    assert NEAR <= found.likeness < 1


@pytest.mark.parametrize(
    "other",
    [
        "Three things I learned about baking bread in a small oven last winter, and two that I forgot.",
        "Tomatoes on my balcony, this summer's first.",
        "",
    ],
)
def test_another_text_on_the_same_subject_is_none(other: str) -> None:
    assert find_copy(fingerprint(other), [fingerprint(LONG)]) is None


@given(st.lists(st.tuples(texts, st.integers(0, 100)), max_size=12))
def test_of_every_group_of_copies_the_best_is_kept(items: list[tuple[str, int]]) -> None:
    kept, copies = best_of_each(items, text=lambda item: item[0], rank=lambda item: item[1])
    assert len(kept) + len(copies) == len(items)
    assert [rank for _, rank in kept] == sorted((rank for _, rank in kept), reverse=True)
    for place, (text, _) in enumerate(kept):
        assert find_copy(fingerprint(text), [fingerprint(other) for other, _ in kept[:place]]) is None
    for copy in copies:
        assert 0 <= copy.place < len(kept)
    if items:
        assert kept[0][1] == max(rank for _, rank in items)


SPAM = (
    "Free open source guide no 17! Only today, see https://example.org/open-source/92310",
    "FREE open source guide no. 342 - only today! See https://example.org/open-source/5",
    "Free open source guide, no 640, only for today: see https://example.org/open-source/77771",
)


def test_the_same_offer_in_three_wordings_under_other_numbers_is_said_again_and_again() -> None:
    assert says_again_and_again(SPAM)
    assert says_again_and_again([LONG, *SPAM, "And now for something else."])
    assert not says_again_and_again(SPAM[:2])


def test_what_is_near_to_each_of_two_that_are_not_near_each_other_counts_whenever_it_comes() -> None:
    middle = "one two three four five six seven eight nine ten eleven twelve"
    begun = f"{middle.removeprefix('one two ')} thirteen"
    ended = f"zero {middle.removesuffix(' twelve')}"
    assert alike(begun, ended) < NEAR
    assert min(alike(middle, begun), alike(middle, ended)) >= NEAR
    for texts in ((middle, begun, ended), (begun, middle, ended), (begun, ended, middle)):
        assert says_again_and_again(texts)


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["https://t.co/a", "https://t.co/b @jo", "https://t.co/c"],
        [
            "Three things I learned about growing tomatoes on a balcony this summer.",
            "Three things I forgot about watering beans before we left for the sea.",
            "Three things nobody says about a garden in the shade of a tall house.",
        ],
        [LONG, f"{LONG} Really!"],
    ],
)
def test_links_alone_a_style_and_a_second_try_are_not(said: list[str]) -> None:
    assert not says_again_and_again(said)


@given(st.lists(texts.filter(lambda text: text.strip() != ""), max_size=8))
def test_the_order_in_which_an_author_speaks_changes_nothing(said: list[str]) -> None:
    assert says_again_and_again(said) == says_again_and_again(said[::-1])
