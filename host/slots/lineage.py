"""Lineage: the processes of one slot: which does its work, which is to follow it, which are on their way out.

Every living process of the slot is in here, also one that nobody waits for any more: what isn't listed would
be neither drained nor fenced nor shown, and would go on acting.
"""

from collections.abc import Sequence
from enum import Enum

from host.slots.process import WorkerProcess
from host.slots.succession import Succession

LATE = "it was born after it was given up"
LEFT_OVER = "one too many was left by an earlier manager"
UNDER_WAY = "a restart that was under way"


class Role(Enum):
    """What a process was to its slot."""

    WORK = "it did the slot's work"
    REPLACEMENT = "it was to follow the one that does"
    LEAVER = "it was on its way out"


class Lineage:
    """Who is who; it signals nobody. Times are monotonic seconds.

    Attributes:
        process: the one that does the slot's work.
        request: the keeper's number of the birth of the one that is to; None while none is on its way.
        succession: a replacement, asked for or born, while `process` works on.
        leavers: those that were replaced, or are one too many.
    """

    def __init__(self) -> None:
        self.process: WorkerProcess | None = None
        self.request: int | None = None
        self.succession: Succession | None = None
        self.leavers: list[WorkerProcess] = []

    @property
    def processes(self) -> Sequence[WorkerProcess]:
        """Every living one."""
        successor = self.succession.process if self.succession else None
        return [each for each in (self.process, successor, *self.leavers) if each is not None]

    @property
    def is_empty(self) -> bool:
        """Whether there is none, nor one on its way."""
        return self.request is None and self.succession is None and not self.processes

    @property
    def is_settled(self) -> bool:
        """Whether there is none but the one that does the work."""
        return self.succession is None and not self.leavers

    def find(self, pid: int) -> WorkerProcess | None:
        """The living one with this number."""
        return next((each for each in self.processes if each.pid == pid), None)

    def place(self, process: WorkerProcess, request: int) -> bool:
        """Give one that was just born its place; False if nobody waits for it any more: it must leave."""
        if self.succession is not None and request == self.succession.request:
            self.succession.process = process
            return True
        is_awaited = request == self.request
        if is_awaited:
            self.request = None
        if is_awaited and self.process is None:
            self.process = process
            return True
        self.leavers.append(process)
        return False

    def adopt(self, process: WorkerProcess, now: float) -> Sequence[WorkerProcess]:
        """Take one that an earlier manager process left in; give those that must leave.

        Of two that stay the older works on, and the younger was to replace it.
        """
        everyone = sorted([*self.processes, process], key=lambda each: each.started.born_at_s)
        staying = [each for each in everyone if each.leaving is None]
        self.process = staying[0] if staying else everyone[-1]
        self.succession = None
        if len(staying) > 1:
            self.succession = Succession(request=None, reason=UNDER_WAY, since=now, process=staying[1])
        self.leavers = [each for each in everyone if each not in {self.process, *staying[1:2]}]
        return staying[2:]

    def take_over(self) -> WorkerProcess | None:
        """Let the replacement do the work; give the one that did, which must leave."""
        old, succession = self.process, self.succession
        if old is None or succession is None or succession.process is None:
            return None
        self.process, self.succession = succession.process, None
        self.leavers.append(old)
        return old

    def inherit(self) -> bool:
        """Let the replacement, born or not, follow one that is gone; False where there is none."""
        succession, self.succession = self.succession, None
        if succession is None:
            return False
        self.process, self.request = (
            (succession.process, None) if succession.process else (None, succession.request)
        )
        return True

    def remove(self, process: WorkerProcess) -> Role:
        """Forget one that ended; say what it was. A replacement's succession is the caller's to end."""
        if process in self.leavers:
            self.leavers.remove(process)
            return Role.LEAVER
        if self.succession is not None and process is self.succession.process:
            return Role.REPLACEMENT
        self.process = None
        return Role.WORK
