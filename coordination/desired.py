"""Desired state as a host's manager is given it: the slots of its share, and its parts of commands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal["start", "stop", "restart", "pause", "resume", "drain", "scale", "set", "logs"]
Mode = Literal["plain", "surge", "stop_first"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one slot's processes may use.

    Attributes:
        memory_mb: resident memory of the process and its descendants; None for no limit.
        cpu_percent: of one CPU, over a minute; None for no limit.
        nice: the scheduling priority, 0 to 19.
    """

    memory_mb: int | None = None
    cpu_percent: int | None = None
    nice: int = 0


@dataclass(frozen=True, kw_only=True)
class WantedSlot:
    """One slot of a host's share.

    Attributes:
        runs: whether a process should be there.
        paused: it runs and does no work.
        reason: why it doesn't run or is paused, for a person; empty for one that simply runs.
        singleton: a second process of this worker must not be up while the first one still is.
    """

    worker: str
    slot: int
    runs: bool
    paused: bool = False
    reason: str = ""
    singleton: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a command asks of one slot of this host.

    Attributes:
        mode: of a restart: `plain`; `surge` has the replacement ready before the old process drains;
            `stop_first` drains the old one first.
        args: the command's own, such as {"lines": 200} of `logs`.
        remaining_s: until the command times out.
        age_s: since it was first given to a manager; a manager that is new takes it up where the old one was.
    """

    id: str
    command: str
    action: str
    worker: str
    slot: int
    mode: Mode = "plain"
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    remaining_s: float = 60.0
    age_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SlotReport:
    """One slot as its manager tells it; `age_s` is how long it is in this state."""

    worker: str
    slot: int
    state: str
    reason: str
    age_s: float
    pid: int | None
    pid_started: str | None
    incarnation: str | None
    restart_count: int
    failures: int
    memory_bytes: int | None
    cpu_percent: float | None
    step: str | None
