"""One writer behind another."""

from dataclasses import replace

from workers.platforms.writers.writer import Brief, Draft, Writer, WriterError


class FallbackWriter:
    """Asks `first`; when it fails, `second`, whose draft then says why.

    Args:
        first: The writer to prefer.
        second: The one that writes when the first raises `WriterError`.
    """

    def __init__(self, first: Writer, second: Writer) -> None:
        self._first = first
        self._second = second

    def write(self, brief: Brief) -> Draft:
        """The first's draft, else the second's with the reason; raises the second's `WriterError`."""
        try:
            return self._first.write(brief)
        except WriterError as error:
            reason = f"{type(error).__name__}: {error.reason}"
        return replace(self._second.write(brief), fallback_reason=reason)


def with_fallback(first: Writer, second: Writer) -> Writer:
    """`first`, with `second` behind it."""
    return FallbackWriter(first, second)
