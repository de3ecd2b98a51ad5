"""The watch over one slot's process: stalls, with a black box before the end, and limits."""

from coordination.desired import Limits
from host.slots.black_box import BlackBox
from host.slots.ground import Ground
from host.slots.log_file import LogFile
from host.slots.process import WorkerProcess
from host.slots.usage import renice

STALLED_DRAIN_S = 2.0
MIB = 1 << 20
ABOVE = "above its limit of"


class Watch:
    """Looks at the process that does a slot's work and tells it to end where that must be."""

    def __init__(self, ground: Ground, name: tuple[str, int], log: LogFile) -> None:
        self._ground = ground
        self._name = name
        self._log = log
        self._box: BlackBox | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a black box is being filled, which wants to be looked at often."""
        return self._box is not None

    def look(self, process: WorkerProcess, now: float) -> None:
        """See whether it stalled; once its black box is filled it is told to end."""
        if self._box is not None:
            if self._box.is_complete():
                self._end_stalled(process, self._box)
        elif process.stalled is None and (
            stall := process.stall(now, self._ground.progress_age_s(self._name))
        ):
            process.stalled = stall
            self._box = BlackBox(self._ground, self._name, process, self._log.path)

    def ended(self) -> None:
        """The process is gone: a black box that was being filled is kept as far as it came."""
        if self._box is not None:
            self._box.keep()
            self._box = None

    def excess(self, process: WorkerProcess, limits: Limits) -> str | None:
        """What it uses above its limits, in words; None while it keeps to them."""
        usage, share = process.usage, process.cpu.percent_of_window
        if limits.memory_mb and usage and usage.memory_bytes > limits.memory_mb * MIB:
            return f"uses {usage.memory_bytes // MIB} MB of memory, {ABOVE} {limits.memory_mb} MB"
        if limits.cpu_percent and share is not None and share > limits.cpu_percent:
            return f"used {share:.0f}% of a CPU over a minute, {ABOVE} {limits.cpu_percent}%"
        return None

    def renice(self, process: WorkerProcess, nice: int) -> None:
        """Change its priority while it lives, as far as this user may."""
        try:
            renice(process.pid, nice)
        except PermissionError:
            worker, slot = self._name
            text = f"{worker}/{slot} gets niceness {nice} when it starts anew: this user may not lower it"
            self._ground.line.event("warning", "not_reniced", text, {})

    def _end_stalled(self, process: WorkerProcess, box: BlackBox) -> None:
        file = box.keep()
        self._box = None
        worker, slot = self._name
        text = f"{worker}/{slot} {process.stalled}; black box: {file or 'the disk refused it'}"
        self._ground.line.event("error", "stalled", text, {"file": str(file)})
        # What a signal stopped gets no grace: it would have to be let on for it.
        grace_s = 0.0 if box.was_stopped else STALLED_DRAIN_S
        process.leave(process.stalled or "", self._ground.clock(), grace_s, counts=True)
