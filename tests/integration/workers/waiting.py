"""Waiting for what another process or thread does."""

from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import TypeVar

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], *, what: str, within_s: float = 60) -> Found:
    """Look until something is there."""
    deadline = monotonic() + within_s
    pause = Event()
    while True:
        found = look()
        if found:
            return found
        assert monotonic() < deadline, f"not within {within_s} s: {what}"
        pause.wait(0.05)
