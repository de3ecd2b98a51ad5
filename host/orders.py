"""What the manager and its line to PostgreSQL tell each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from coordination.desired import Part, WantedSlot
from host.process_proof import boottime_s

SlotName = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Orders:
    """This host's share, and what commands ask of it since the last orders.

    Attributes:
        slots: the whole share; a slot that isn't in it is drained and forgotten.
        progress_ages: seconds since each running slot's last progress as the database has it.
        number: names the share; what is reported after these orders were taken is as of it.
        asked_at_s: when they were asked for, by CLOCK_BOOTTIME: the times in the parts are of then.
    """

    slots: Sequence[WantedSlot] = ()
    parts: Sequence[Part] = ()
    progress_ages: Mapping[SlotName, float] = field(default_factory=dict[SlotName, float])
    number: int = 0
    asked_at_s: float | None = None

    def parts_now(self) -> Sequence[Part]:
        """The parts with their times as of now."""
        late_s = 0.0 if self.asked_at_s is None else boottime_s() - self.asked_at_s
        return [
            replace(part, age_s=part.age_s + late_s, remaining_s=part.remaining_s - late_s)
            for part in self.parts
        ]


@dataclass(frozen=True, kw_only=True)
class SlotState:
    """One slot as the manager sees it; `since` is on the monotonic clock, in seconds."""

    worker: str
    slot: int
    state: str
    reason: str
    since: float
    pid: int | None = None
    pid_started: str | None = None
    incarnation: str | None = None
    restart_count: int = 0
    failures: int = 0
    memory_bytes: int | None = None
    cpu_percent: float | None = None
    step: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProcessEnd:
    """The end of a worker's process.

    Attributes:
        exit_code: negative for a signal.
        how: in words, such as "killed by SIGKILL".
        ended_at_boottime_s: when, on CLOCK_BOOTTIME.
    """

    worker: str
    slot: int
    pid: int
    pid_started: str
    exit_code: int
    how: str
    ended_at_boottime_s: float
