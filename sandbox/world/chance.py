"""Chance: random numbers that belong to a key, the same on every Python and every machine.

Two kinds: `Chance` is a stream, for things that are made one after the other; `Table` is a table that can
be read anywhere, for things that must not depend on what was asked before them.
"""

import math
import random
import struct
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

COLUMNS = 16
_ROW = struct.Struct(f"<{COLUMNS}I")
_SCALE = 2.0**-32


class Chance:
    """A stream of random numbers.

    Python promises that `random.Random(text).random()` stays what it is; nothing else of that class does,
    so nothing else is used.
    """

    def __init__(self, *key: str | int) -> None:
        """Begins the stream of a key, such as `("people", 7)`."""
        self.fraction = random.Random("/".join(map(str, key))).random  # noqa: S311 - a world, not a secret
        """A number from 0 (inside) to 1 (outside)."""

    def below(self, count: int) -> int:
        """A whole number from 0 to `count` - 1."""
        return int(self.fraction() * count)

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return self.fraction() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each as likely."""
        return items[int(self.fraction() * len(items))]

    def weighed(self, cumulative: Sequence[float]) -> int:
        """An index, as likely as its own share of the running sums `cumulative`."""
        return bisect_right(cumulative, self.fraction() * cumulative[-1], 0, len(cumulative) - 1)

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`, each as likely."""
        return low + (high - low) * self.fraction()

    def normal(self) -> float:
        """A number of the standard normal distribution (Box and Muller, 1958)."""
        return math.sqrt(-2 * math.log(1 - self.fraction())) * math.cos(math.tau * self.fraction())

    def heavy(self, least: float, exponent: float) -> float:
        """A number of Pareto's distribution: `least` or more, rarely much more."""
        return least * (1 - self.fraction()) ** (-1 / exponent)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order (Fisher and Yates)."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.below(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed


class Table:
    """A table of random numbers: a key's own, `COLUMNS` a row, readable in any order."""

    def __init__(self, *key: str | int) -> None:
        """Begins the table of a key."""
        self._hash = blake2b("/".join(map(str, key)).encode(), digest_size=4 * COLUMNS)

    def row(self, index: int) -> list[float]:
        """The row's numbers from 0 (inside) to 1 (outside), 32 bits each."""
        state = self._hash.copy()
        state.update(index.to_bytes(8, "little"))
        return [number * _SCALE for number in _ROW.unpack(state.digest())]


def waited(fraction: float, mean: float) -> float:
    """How long one waits for what comes at random every `mean`: the exponential distribution's quantile."""
    return -mean * math.log(1 - fraction)
