"""The vigil: whether the manager process still turns, by what its main thread says once a second.

One that is stopped, or hangs in a disk that doesn't answer, is alive for the kernel and of no use to anybody:
its workers are watched by nobody.
"""

import time

HANGS_AFTER_S = 20.0
"""Longer than the main thread waits for anything once the fleet is there: 14 s for PostgreSQL, at its end."""
TAKES_OVER_WITHIN_S = 60.0
"""One that takes over imports its modules first, which a busy machine may take its time for."""
LONGEST_TURN_S = 6.0
"""More than the keeper's own turns take. One that took longer was none: the keeper itself was stopped, and
whatever stopped it may have stopped the manager process too."""


class Vigil:
    """Over one manager process; times are the keeper's running time, in seconds."""

    def __init__(self) -> None:
        self._allowed_s: float | None = None
        self._silent_s = 0.0
        self._looked_at = time.monotonic()

    def expect(self, within_s: float | None = None) -> None:
        """Wait for its next word from now on, the usual time if None. Before, it may be silent for ever."""
        self._allowed_s, self._silent_s = HANGS_AFTER_S if within_s is None else within_s, 0.0

    def hear(self) -> None:
        """Take its word; nothing as long as none is expected: a fleet's first start may take its time."""
        if self._allowed_s is not None:
            self.expect()

    def hangs(self) -> bool:
        """Whether it has been silent for too long. Ask at every turn, once all that it said is heard."""
        now = time.monotonic()
        self._silent_s += min(now - self._looked_at, LONGEST_TURN_S)
        self._looked_at = now
        return self._allowed_s is not None and self._silent_s > self._allowed_s
