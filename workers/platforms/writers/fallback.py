"""One writer behind another."""

from dataclasses import replace
from typing import Generic

from workers.platforms.writers.writer import BriefT_contra, Draft, Writer, WriterError


class FallbackWriter(Generic[BriefT_contra]):
    """Asks `first`; when it fails, `second`, whose draft then says why.

    Args:
        first: The writer to prefer.
        second: The one that writes when the first raises `WriterError`.
    """

    def __init__(self, first: Writer[BriefT_contra], second: Writer[BriefT_contra]) -> None:
        self._first = first
        self._second = second

    def write(self, brief: BriefT_contra) -> Draft:
        """The first's draft, else the second's with the reason; raises the second's `WriterError`."""
        try:
            return self._first.write(brief)
        except WriterError as error:
            reason = f"{type(error).__name__}: {error.reason}"
        return replace(self._second.write(brief), fallback_reason=reason)
