"""Backoff: how long to wait before the next start of something that keeps failing."""

import random
from collections.abc import Callable

FIRST_S = 1.0
LONGEST_S = 60.0


class Backoff:
    """Waits that double from `first_s` to `longest_s`, with full jitter: 0 to the whole of it.

    Jitter keeps what failed together from coming back in step.
    """

    def __init__(
        self,
        *,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """Name the bounds; `spread` gives the share, 0 to 1, of each wait."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._spread = spread
        self.failures = 0

    def next_s(self) -> float:
        """Count one more failure and give the seconds to wait."""
        # 2**63 is far beyond every bound; an unbounded exponent would overflow a float some day.
        whole_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 63))
        self.failures += 1
        return whole_s * self._spread()

    def clear(self) -> None:
        """Begin anew: it has been stable for long enough."""
        self.failures = 0
