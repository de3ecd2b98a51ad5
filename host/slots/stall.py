"""Stall: a worker that shows no sign of life for longer than its step declares.

Two channels can speak for a worker: its pipe, which needs no database, and the progress in its heartbeats.
A stall is one on each that can be heard.
"""

from workers.progress_pipe import Word

MUTE_S = 60.0
"""One that hasn't said a word by then never got as far as its own code, or will not."""


class Signs:
    """The signs of life of one process on its pipe; times are the caller's monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.word: Word | None = None
        self.heard_at = now
        self.moved_at = now
        self._said: tuple[object, ...] = ()

    def hear(self, word: Word, now: float) -> None:
        """Take a word; what it says anew (a tick, a state, a step) is a move."""
        said = (word.ticks, word.state, word.step, word.incarnation)
        self.word, self.heard_at = word, now
        if said != self._said:
            self._said, self.moved_at = said, now

    def excuse(self, absent_s: float, now: float) -> None:
        """Leave out a time in which nobody listened: the manager itself stood still."""
        self.heard_at = min(now, self.heard_at + absent_s)
        self.moved_at = min(now, self.moved_at + absent_s)

    def stall(self, now: float, database_age_s: float | None) -> str | None:
        """Say what the stall is, or None.

        Inside a step the loop must move; outside it has nothing to move for, and being told is enough.

        Args:
            now: the time.
            database_age_s: since progress was seen in its heartbeats; None while nobody can tell.
        """
        word = self.word
        if word is None:
            return f"not a word within {MUTE_S:g} s" if now - self.heard_at > MUTE_S else None
        silent_s, still_s = now - self.heard_at, now - self.moved_at
        allowed_s = word.stall_after_s
        if silent_s > allowed_s:
            seen = f"no sign of life for {silent_s:.1f} s"
        elif word.state == "BUSY" and still_s > allowed_s and not word.waits_for_database:
            seen = f"no tick for {still_s:.1f} s"
        else:
            return None
        if database_age_s is not None and database_age_s <= allowed_s:
            return None
        where = f" in {word.step}" if word.step else ""
        return f"stalled{where}: {seen}, {allowed_s:g} s are declared"
