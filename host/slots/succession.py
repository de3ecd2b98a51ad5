"""Succession: a replacement on its way while the process that it replaces still works."""

from dataclasses import dataclass, field

from host.slots.process import WorkerProcess

READY_WITHIN_S = 30.0
SETTLED_S = 1.0
"""A replacement that is ready so long, and ticks, may take over."""


@dataclass(kw_only=True)
class Succession:
    """One replacement.

    Attributes:
        request: the keeper's number of its birth.
        reason: why the slot is replaced.
        since: when it was asked for, monotonic seconds.
        process: once it lives.
    """

    request: int | None
    reason: str
    since: float
    process: WorkerProcess | None = field(default=None)

    def may_take_over(self, now: float) -> bool:
        """Whether it is ready, ticks, and has been so for long enough to be believed."""
        process = self.process
        return (
            process is not None
            and process.is_at_work
            and process.word is not None
            and process.word.ticks > 0
            and process.ready_at is not None
            and now - process.ready_at >= SETTLED_S
        )

    def fault(self, now: float) -> str | None:
        """Why it must not take over; None while it still may."""
        process = self.process
        if process is not None and process.is_at_work and process.word and not process.word.healthy:
            return f"the replacement is not healthy{': ' if process.word.reason else ''}{process.word.reason}"
        if now - self.since > READY_WITHIN_S and not self.may_take_over(now):
            return f"the replacement was not ready within {READY_WITHIN_S:g} s"
        return None
