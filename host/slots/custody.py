"""Custody: what a slot holds of its processes from birth to end: its log, their pipes, what they are told."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from host.keeper.wire import Birth, Started
from host.slots.ground import Ground
from host.slots.log_file import LogFile
from host.slots.process import Leaving, WorkerProcess

LATE_S = 5.0
DRAINED_BEFORE = "it was told to drain before this manager process began"


class Custody:
    """The processes of one slot, one at a time; which is which the slot knows. For the main thread.

    Attributes:
        log: where they write.
    """

    def __init__(self, ground: Ground, name: tuple[str, int], heard: Callable[[], None]) -> None:
        """Name the slot.

        Args:
            ground: what all slots stand on.
            name: worker and number.
            heard: called after any process said something.
        """
        self._ground = ground
        self._worker, self._slot = name
        self._heard = heard
        self._log_offset = 0
        self._asked_at = 0.0
        self._left: dict[int, str] = {}
        self.log = LogFile(ground.logs / f"{self._worker}-{self._slot}.jsonl")

    def resume(self, pid: int, reason: str) -> None:
        """Know that an earlier manager process told one to drain."""
        self._left[pid] = reason

    def has_left(self, pid: int) -> bool:
        """Whether one was told to drain by an earlier manager process."""
        return pid in self._left

    def ask(self, nice: int) -> int:
        """Have one born; give the number of the request."""
        with suppress(OSError):  # a disk that is full: the keeper will say that it can't be born
            self.log.make()
        self._log_offset = self._log_size()
        self._asked_at = self._ground.clock()
        return self._ground.keeper.start(
            Birth(
                name=f"{self._worker}/{self._slot}",
                worker=self._worker,
                slot=self._slot,
                environment=self._ground.environment,
                log=self.log.path,
                nice=nice,
            )
        )

    @property
    def delay(self) -> str:
        """Why the birth that was asked for last isn't there yet; empty where that is plain."""
        is_late = self._ground.clock() - self._asked_at > LATE_S
        return f"the keeper has not answered for more than {LATE_S:g} s" if is_late else ""

    def take(self, started: Started) -> WorkerProcess:
        """Hold one that was born; listen to it from now on."""
        offset = 0 if started.resumed else self._log_offset
        process = WorkerProcess(started, self._ground.clock(), log_offset=offset)
        if started.wake is not None:
            self._ground.wakes.add(started.pid, self._worker, started.wake)
        if started.progress is not None:
            self._ground.watch(started.progress, lambda: self._listen(process))
        if started.resumed and started.pid in self._left:
            self.leave([process], self._left[started.pid])
        return process

    def hear(self, process: WorkerProcess) -> None:
        """Take what it said."""
        progress = process.started.progress
        if progress is not None and not process.hear(self._ground.clock()):
            self._ground.unwatch(progress)
        if process.started.resumed and process.word and process.word.state == "DRAINING":
            self.leave([process], DRAINED_BEFORE)

    def leave(self, processes: Sequence[WorkerProcess], reason: str, within_s: float | None = None) -> None:
        """Tell them to drain, within the usual time if None."""
        for process in processes:
            process.leave(
                reason, self._ground.clock(), self._ground.stop_timeout_s if within_s is None else within_s
            )

    def kill(self, process: WorkerProcess) -> None:
        """End it and its group without grace."""
        if process.leaving is not None:
            process.leaving.killed = True
        process.kill(self._ground.keeper.kill_group)

    def cut_off(self, processes: Sequence[WorkerProcess], reason: str, after_s: float) -> None:
        """Kill those that may be acting, but one that reached the database itself less than `after_s` ago."""
        for process in processes:
            self.hear(process)  # what it said a moment ago comes before the verdict
            reached_s = process.reached_database_s
            if process.may_act and (reached_s is None or reached_s >= after_s):
                self._fence(process, reason)

    def release(self, process: WorkerProcess) -> None:
        """Hold it no more: it ended, or this process does."""
        self.hear(process)  # its last word may say more than the one before
        if process.started.progress is not None:
            self._ground.unwatch(process.started.progress)
        self._ground.wakes.remove(process.pid)
        process.close()

    def _fence(self, process: WorkerProcess, reason: str) -> None:
        if process.leaving is not None and process.leaving.killed:
            return
        now = self._ground.clock()
        process.leaving = Leaving(reason=reason, since=now, until=now)
        self.kill(process)
        told = {"worker": self._worker, "slot": self._slot, "pid": process.pid}
        text = f"{self._worker}/{self._slot} (pid {process.pid}): {reason}"
        self._ground.line.event("warning", "fenced", text, told)

    def _listen(self, process: WorkerProcess) -> None:
        self.hear(process)
        self._heard()

    def _log_size(self) -> int:
        with suppress(OSError):
            return self.log.path.stat().st_size
        return 0
