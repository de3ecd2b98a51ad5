"""Tending: whether the main thread still turns. What it said last holds no more once it hangs."""

from collections.abc import Callable

from host.process_proof import boottime_s

START_S = 60.0
"""For so long the main thread may be busy with the start before it takes its first orders."""
TURN_S = 5.0
"""A main thread that takes nothing for longer hangs: nobody tends this host, and it is not told to live."""


class Tending:
    """Told by the main thread, asked by the control thread."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        """Begin, with the time that a start may take; `say` takes a line and its severity."""
        self._say = say
        self._until_s = boottime_s() + START_S
        self.is_missed = False
        """Whether the last look found that the main thread hangs."""

    def turn(self) -> None:
        """Note that the main thread turns."""
        self._until_s = boottime_s() + TURN_S

    def look(self) -> bool:
        """Whether it does; says what is news of that."""
        is_missed = boottime_s() > self._until_s
        if is_missed != self.is_missed:
            self.is_missed = is_missed
            if is_missed:
                self._say("nothing here takes orders any more: this host is not reported as alive", "error")
            else:
                self._say("orders are taken again", "info")
        return not is_missed
