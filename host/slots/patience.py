"""Patience: how long a slot waits after a failure, and when its failing is told to a person."""

from host.slots.failures import MANY, PROBE_S, WINDOW_S, Failures
from host.slots.ground import Ground


class Patience:
    """One slot's failures, its next try, and its alert.

    Attributes:
        failures: those that count.
        due: when the next try is, on the ground's clock; None while none is waited for.
    """

    def __init__(self, ground: Ground, worker: str, slot: int) -> None:
        self.failures = Failures(ground.spread)
        self.due: float | None = None
        self._ground = ground
        self._name = f"{worker}/{slot}"
        self._data = {"worker": worker, "slot": slot}
        self._is_proven = False
        self._is_excused = False

    def wait(self, how: str, *, counts: bool) -> str:
        """Wait after one more failure; say what for. The one that makes a crash loop raises the alert."""
        was_loop = self.failures.is_loop
        now = self._ground.clock()
        wait_s = self.failures.next_s(now, counts=counts)
        self._is_excused = not counts
        self.due = now + wait_s
        if not self.failures.is_loop:
            return f"{how}; starts again in {wait_s:.1f} s"
        if not was_loop:
            text = f"{self._name} failed {MANY} times within {WINDOW_S:g} s: {how}"
            self._ground.line.raise_alert(self._alert, "error", text, self._data)
        return f"{how}; one try every {PROBE_S:g} s"

    @property
    def is_unproven(self) -> bool:
        """Whether it failed, or an alert may be open that an earlier manager, or another host's, raised."""
        return self.failures.has_waited or not self._is_proven

    def hasten(self) -> None:
        """End a wait that wasn't counted: what explained it is over. Not all slots at once."""
        if self.due is not None and self._is_excused:
            self.due = min(self.due, self._ground.clock() + self.failures.soon_s())

    def forgive(self, *, proven: bool = False) -> None:
        """Forget what failed; the alert is taken back.

        Args:
            proven: whether an alert is over whoever raised it: it has been at work for long enough, or should
                not run any more.
        """
        if self.failures.is_loop or (proven and not self._is_proven):
            self._ground.line.clear_alert(self._alert)
        self._is_proven |= proven
        self.failures.clear()

    @property
    def _alert(self) -> str:
        return f"crash_loop:{self._name}"
