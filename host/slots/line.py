"""The line: what a host's manager needs of `host.control.Control`; nothing of it waits for the database."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from host.orders import Orders, ProcessEnd, SlotState


class Line(Protocol):
    """Where orders come from and what happens here is told; all of it from the main thread."""

    @property
    def is_away(self) -> bool:
        """Whether the database doesn't answer."""
        ...

    @property
    def unanswered_s(self) -> float:
        """Seconds since its last answer, with those in which the machine slept."""
        ...

    def take(self) -> Orders | None:
        """New orders, or None; calls what `ended` and others were given to be called back."""
        ...

    def report(self, slots: Sequence[SlotState]) -> None:
        """Say how the slots are."""
        ...

    def tell(self, part: str, text: str) -> None:
        """Say how far a part of a command is."""
        ...

    def finish(self, part: str, *, succeeded: bool, text: str, output: str | None = None) -> None:
        """Say what came of a part of a command."""
        ...

    def ended(self, end: ProcessEnd, then: Callable[[], None]) -> None:
        """Prove a process dead; `then` is called once that is safe in the database."""
        ...

    def ask_black_box(
        self,
        worker: str,
        slot: int,
        incarnation: str | None,
        then: Callable[[Mapping[str, Any] | None], None],
    ) -> None:
        """Ask what the database knows of a life: its queries, locks and intents."""
        ...

    def black_box(
        self,
        worker: str,
        slot: int,
        incarnation: str | None,
        pid: int,
        reason: str,
        report: Mapping[str, Any],
    ) -> None:
        """Keep a black box."""
        ...

    def raise_alert(self, key: str, severity: str, message: str, data: Mapping[str, Any]) -> None:
        """Tell that a person should look."""
        ...

    def clear_alert(self, key: str) -> None:
        """Tell that it is over."""
        ...

    def event(self, severity: str, kind: str, message: str, data: Mapping[str, Any]) -> None:
        """Tell what happened."""
        ...

    def audit_later(
        self, action: str, name: str, actor: str, reason: str, then: Callable[[], None], *, key: str
    ) -> None:
        """Have a thing that was done here written as a done command, once a key; then `then` is called."""
        ...
