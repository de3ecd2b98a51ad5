import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content.similarity import NEAR, best_of_each, find_copy, fingerprint, likeness

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
