"""Similarity: whether two posts say nearly the same.

A text in its canonical form (`wording.canonical`) is cut into shingles of five characters; the likeness of
two texts is the Jaccard index of their shingles: what they share over what either has (Broder 1997).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from workers.content.wording import canonical

SHINGLE = 5
NEAR = 0.7
"""From this likeness on two texts are near-duplicates: a changed word or two in a post's length."""
OFTEN = 3
"""From so many near-duplicates on their author says it again and again; twice may be a second try."""
NUMBER = re.compile(r"\d+")

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What two texts are compared by."""

    canonical: str
    shingles: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Where a text was said before: its place among those compared, and how like it is (0 to 1)."""

    place: int
    likeness: float

    @property
    def is_exact(self) -> bool:
        """Whether they say the same, but for links, mentions, case and punctuation."""
        return self.likeness == 1


def fingerprint(text: str) -> Fingerprint:
    """Cut a text into its shingles; a text shorter than one is one itself."""
    return _cut(canonical(text))


def _cut(said: str) -> Fingerprint:
    starts = range(max(1, len(said) - SHINGLE + 1))
    return Fingerprint(
        canonical=said, shingles=frozenset(said[start : start + SHINGLE] for start in starts if said)
    )


def likeness(one: Fingerprint, other: Fingerprint) -> float:
    """The Jaccard index of two texts: 1 where they say the same, 0 where they share nothing."""
    if one.canonical == other.canonical:
        return 1.0
    shared = len(one.shingles & other.shingles)
    either = len(one.shingles) + len(other.shingles) - shared
    # Texts with the same shingles in another order are near, not equal.
    return min(shared / either, 1 - 1e-9) if either else 0.0


def find_copy(said: Fingerprint, others: Sequence[Fingerprint], near: float = NEAR) -> Copy | None:
    """The first of the others that `said` is a copy of, exactly or nearly; None when there is none."""
    size = len(said.shingles)
    for place, other in enumerate(others):
        # The index can't exceed the smaller over the larger: most pairs need no comparison.
        smaller, larger = sorted((size, len(other.shingles)))
        if smaller >= near * larger and (found := likeness(said, other)) >= near:
            return Copy(place=place, likeness=found)
    return None


def says_again_and_again(texts: Iterable[str], near: float = NEAR) -> bool:
    """Whether an author says nearly the same `OFTEN` times or more.

    Numbers are taken for one another: who sends "guide no 342" and "guide no 640" says one thing twice. Texts
    without a word say nothing. For n texts up to n²/2 comparisons, which end as soon as it is so.
    """
    prints: list[Fingerprint] = []
    times: list[int] = []  # how often each was said, once by itself
    for text in texts:
        said = _cut(NUMBER.sub("0", canonical(text)))
        if not said.shingles:
            continue
        times.append(1)
        for place, other in enumerate(prints):
            if find_copy(said, [other], near) is not None:
                times[place] += 1
                times[-1] += 1
                if max(times[place], times[-1]) >= OFTEN:
                    return True
        prints.append(said)
    return False


def best_of_each(
    items: Iterable[Item],
    text: Callable[[Item], str],
    rank: Callable[[Item], float],
    near: float = NEAR,
) -> tuple[list[Item], list[Copy]]:
    """Keep the highest-ranked of every group of copies, best first; give those kept, and how each other fell.

    Args:
        items: any number; n kept ones cost up to n comparisons for each item.
        text: what an item says.
        rank: the higher, the better; among equals the first is kept.
        near: the likeness from which a text is a copy.
    """
    kept: list[Item] = []
    prints: list[Fingerprint] = []
    copies: list[Copy] = []
    for item in sorted(items, key=rank, reverse=True):
        said = fingerprint(text(item))
        copy = find_copy(said, prints, near)
        if copy is not None:
            copies.append(copy)
        else:
            kept.append(item)
            prints.append(said)
    return kept, copies
