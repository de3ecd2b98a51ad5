"""Failures: how long a slot that failed is left alone, and when its failing is a crash loop."""

from collections import deque
from collections.abc import Callable

from host.backoff import Backoff

MANY = 5
WINDOW_S = 120.0
PROBE_S = 60.0
STABLE_S = 60.0
"""After so long at work everything that failed before is forgotten."""


class Failures:
    """The failures of one slot; all times are the caller's, on one monotonic clock, in seconds.

    Attributes:
        count: failures since the last stable time.
        is_loop: `MANY` of them came within `WINDOW_S`; from then on one try every `PROBE_S`.
    """

    def __init__(self, spread: Callable[[], float] | None = None) -> None:
        """Name what gives the share, 0 to 1, of each wait; by chance if None."""
        self._backoff = Backoff(spread=spread) if spread else Backoff()
        self._uncounted = Backoff(spread=spread) if spread else Backoff()
        self._times: deque[float] = deque(maxlen=MANY)
        self.count = 0
        self.is_loop = False

    def next_s(self, now: float, *, counts: bool) -> float:
        """Add one and give the seconds to wait before the next try.

        Args:
            now: when it failed.
            counts: False while something else explains it, such as a database that is away: then the waits
                still grow, and nothing is held against the slot.
        """
        if not counts:
            return PROBE_S if self.is_loop else self._uncounted.next_s()
        self.count += 1
        self._times.append(now)
        if len(self._times) == MANY and now - self._times[0] <= WINDOW_S:
            self.is_loop = True
        wait_s = self._backoff.next_s()
        return PROBE_S if self.is_loop else wait_s

    def soon_s(self) -> float:
        """The wait of a first failure that isn't counted."""
        self._uncounted.clear()
        return self._uncounted.next_s()

    @property
    def has_waited(self) -> bool:
        """Whether there is anything to forget, counted or not."""
        return self.count > 0 or self._uncounted.failures > 0

    def clear(self) -> None:
        """Forget all: it has been stable for long enough."""
        self._backoff.clear()
        self._uncounted.clear()
        self._times.clear()
        self.count = 0
        self.is_loop = False
