"""Ground: what all slots of a host stand on: the keeper, the line, the clock, the places of files."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from host.keeper.client import Keeper
from host.orders import SlotName
from host.slots.line import Line
from host.slots.wakes import Wakes

EXCUSED_S = 5.0
"""So long after the database came back a failure is still laid at its door."""


@dataclass(kw_only=True)
class Ground:
    """Shared by the slots; everything belongs to the main thread.

    Attributes:
        keeper: gives birth to processes.
        line: to the database.
        watch: has a function called when a file descriptor can be read; `unwatch` ends that.
        logs: the directory of the logs.
        black_boxes: the directory of black boxes.
        environment: what each process gets besides the keeper's own.
        stop_timeout_s: how long a worker may drain before it is killed.
        clock: monotonic seconds.
        spread: the share, 0 to 1, of each backoff; None for chance.
        wakes: the eventfds of the processes.
        changes: rises with everything about a slot that is worth telling.
    """

    keeper: Keeper
    line: Line
    watch: Callable[[int, Callable[[], None]], None]
    unwatch: Callable[[int], None]
    logs: Path
    black_boxes: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    stop_timeout_s: float = 10.0
    clock: Callable[[], float] = time.monotonic
    spread: Callable[[], float] | None = None
    wakes: Wakes = field(default_factory=Wakes)
    changes: int = 0
    _was_away: bool = False
    _back_at: float = float("-inf")
    _ages: Mapping[SlotName, float] = field(default_factory=dict[SlotName, float])
    _ages_at: float = 0.0

    def look(self) -> None:
        """Note whether the database is away; call it at every turn."""
        if self._was_away and not self.line.is_away:
            self._back_at = self.clock()
        self._was_away = self.line.is_away

    @property
    def is_excused(self) -> bool:
        """Whether a failure now is rather the database's: it is away, or was a moment ago."""
        self.look()
        return self.line.is_away or self.clock() - self._back_at < EXCUSED_S

    def note_progress(self, ages: Mapping[SlotName, float]) -> None:
        """Keep how old the progress is that the database saw of each slot."""
        self._ages, self._ages_at = ages, self.clock()

    def progress_age_s(self, name: SlotName) -> float | None:
        """Seconds since the database saw progress of a slot; None while it can't tell."""
        age = None if self.line.is_away else self._ages.get(name)
        return None if age is None else age + self.clock() - self._ages_at
