"""Standing: what a slot's state is, why, and since when; read off what there is, never kept beside it."""

from dataclasses import dataclass

from host.orders import SlotState
from host.slots.process import AT_WORK, WorkerProcess


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What there is of a slot.

    Attributes:
        process: the one that does its work.
        awaited: of one that was asked for and isn't born yet why that takes long; empty where that is plain,
            None where none is on its way.
        waits: whether it waits for its next start.
        is_loop: whether its failing is a crash loop.
        idle_reason: why there is no process.
    """

    process: WorkerProcess | None
    awaited: str | None
    waits: bool
    is_loop: bool
    idle_reason: str


class Standing:
    """The state of one slot, with the moment, in monotonic seconds, at which it came into it."""

    def __init__(self, now: float) -> None:
        self.state = "STOPPED"
        self.reason = ""
        self.since = now
        self._before: SlotState | None = None
        self._told: tuple[object, ...] = ()

    def resume(self, before: SlotState) -> None:
        """Take what an earlier manager process told: it holds until the process says itself how it is."""
        self._before = before

    def look(self, seen: Seen, now: float) -> bool:
        """Read the state off; say whether anything is worth telling."""
        process, word = seen.process, seen.process.word if seen.process else None
        pid = process.pid if process else None
        state, reason = self._read(seen)
        if state != self.state:
            before = self._before
            is_same = before is not None and (before.state, before.pid) == (state, pid)
            self.since = before.since if before and is_same else now
        self.state, self.reason = state, reason
        told = (state, reason, pid, word.incarnation if word else None, word.step if word else None)
        is_new, self._told = told != self._told, told
        return is_new

    def _read(self, seen: Seen) -> tuple[str, str]:
        process = seen.process
        if process is None:
            return self._read_without_process(seen)
        if process.stalled is not None:
            return "STALLED", process.stalled
        if process.leaving is not None:
            return "DRAINING", process.leaving.reason
        word, before = process.word, self._before
        if word is None and before and before.pid == process.pid and before.state in AT_WORK:
            return before.state, before.reason
        if word is None or (word.state not in AT_WORK and word.state != "DRAINING"):
            return self._being_born(seen, word.reason if word else "")
        return word.state, word.reason

    def _read_without_process(self, seen: Seen) -> tuple[str, str]:
        if seen.awaited is not None:
            return self._being_born(seen, seen.awaited)
        if seen.waits:
            return "CRASH_LOOP" if seen.is_loop else "BACKOFF", seen.idle_reason
        return "STOPPED", seen.idle_reason

    def _being_born(self, seen: Seen, reason: str) -> tuple[str, str]:
        if seen.is_loop and (seen.process is None or seen.process.ready_at is None):
            return "CRASH_LOOP", f"a try after a crash loop{': ' if reason else ''}{reason}"
        return "STARTING", reason
