"""One living process of a slot, as its manager holds it: words from it, signals to it, its end to come."""

import os
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from host.keeper.wire import Started
from host.process_proof import boottime_s
from host.slots.log_tail import explain, last_words
from host.slots.stall import Signs
from host.slots.usage import CpuShare, Usage
from workers.progress_pipe import Word, WordReader

AT_WORK = frozenset({"READY", "BUSY", "PAUSED"})
USUAL_OF = 20
"""So many runs of a step say how long it usually takes."""


@dataclass(kw_only=True)
class Leaving:
    """Why and until when a process is on its way out.

    Attributes:
        reason: for a person.
        since: when it was told to.
        until: when it is killed.
        counts: whether its end is a failure of the slot.
        killed: whether it was.
    """

    reason: str
    since: float
    until: float
    counts: bool = False
    killed: bool = False


class WorkerProcess:
    """Holds the file descriptors that came with a process until `close`; times are monotonic seconds.

    Attributes:
        usage: what it and its descendants used when last measured.
        leaving: set once it was told to end.
        ready_at: when it said first that it is at work.
        stalled: what its stall is, once it was seen.
        log_offset: where its log began.
    """

    def __init__(self, started: Started, now: float, *, log_offset: int = 0) -> None:
        self.started = started
        self.born_at = now - started.age_s
        self.log_offset = log_offset
        self.usage: Usage | None = None
        self.cpu = CpuShare()
        self.leaving: Leaving | None = None
        self.ready_at: float | None = None
        self.stalled: str | None = None
        self._signs = Signs(now)
        self._reader = None if started.progress is None else WordReader(started.progress)
        self._step_since: float | None = None
        self._durations: dict[str, deque[float]] = {}

    @property
    def pid(self) -> int:
        """The process id, which is its session's and its group's too."""
        return self.started.pid

    @property
    def word(self) -> Word | None:
        """What it said last."""
        return self._signs.word

    @property
    def heard_at(self) -> float:
        """When it said something last."""
        return self._signs.heard_at

    @property
    def is_at_work(self) -> bool:
        """Whether its last word says that it is ready, busy or paused, and nobody told it to end."""
        return self.word is not None and self.word.state in AT_WORK and self.leaving is None

    @property
    def may_act(self) -> bool:
        """Whether it may be changing the world now; one that was adopted, until it says that it isn't."""
        return self.started.resumed if self.word is None else self.word.acting

    @property
    def reached_database_s(self) -> float | None:
        """Seconds since it asked what the database answered last, with those of the machine's sleep.

        None where nobody knows, or where it was without an answer for too long within its present step.
        """
        at = self.word.answered_at_s if self.word else None
        return None if at is None else boottime_s() - at

    def hear(self, now: float) -> bool:
        """Take what came through its pipe; False once nothing more can come."""
        if self._reader is None:
            return False
        word = self._reader.read()
        if word is not None:
            self._note_step(word, now)
            self._signs.hear(word, now)
            if word.state in AT_WORK and self.ready_at is None:
                self.ready_at = now
        return not self._reader.closed

    def excuse(self, absent_s: float, now: float) -> None:
        """Leave out a time in which nobody listened to it."""
        self._signs.excuse(absent_s, now)

    def stall(self, now: float, database_age_s: float | None) -> str | None:
        """What its stall is, or None; a process that is told to end has its own deadline."""
        if self._reader is None or self.leaving is not None:
            return None
        if self._signs.stall(now, database_age_s):
            self.hear(now)  # what it said a moment ago comes before the verdict
        return self._signs.stall(now, database_age_s)

    def leave(self, reason: str, now: float, within_s: float, *, counts: bool = False) -> None:
        """Tell it to drain, once; at `within_s` from now it is killed."""
        if self.leaving is None:
            self.leaving = Leaving(reason=reason, since=now, until=now + within_s, counts=counts)
            self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process, never to another that got its pid."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.started.pidfd, number)

    def kill(self, kill_group: Callable[[int], None]) -> None:
        """End it and its group without grace."""
        self.signal(signal.SIGKILL)
        kill_group(self.pid)

    def running_s(self, now: float) -> float | None:
        """How long its present step has run; None outside of one."""
        return None if self._step_since is None else now - self._step_since

    def usual_s(self, step: str) -> float | None:
        """How long a step usually takes, by the median of its last runs; None where none was seen."""
        seen = sorted(self._durations.get(step, ()))
        return seen[len(seen) // 2] if seen else None

    def explain(self, exit_code: int, log: Path) -> str:
        """Say how it ended: by what was asked of it, else by itself."""
        leaving = self.leaving
        if leaving is None:
            return explain(exit_code, last_words(log, self.log_offset))
        by_deadline = leaving.until > leaving.since and self.stalled is None
        if by_deadline and (leaving.killed or exit_code == -signal.SIGKILL):
            return f"killed: it did not drain within {leaving.until - leaving.since:g} s ({leaving.reason})"
        return leaving.reason

    def close(self) -> None:
        """Give the file descriptors back, but the eventfd, which has its own keeper; once."""
        for fd in (self.started.pidfd, self.started.progress, self.started.stacks):
            if fd is not None:
                os.close(fd)
        self._reader = None

    def _note_step(self, word: Word, now: float) -> None:
        before = self.word
        step_before = before.step if before and before.state == "BUSY" else None
        step = word.step if word.state == "BUSY" else None
        if step == step_before:
            return
        if step_before is not None and self._step_since is not None:
            seen = self._durations.setdefault(step_before, deque(maxlen=USUAL_OF))
            seen.append(now - self._step_since)
        self._step_since = now if step else None
