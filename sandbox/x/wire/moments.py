"""Moments: times as X writes them."""

from datetime import UTC, datetime


def time(at_ms: int) -> str:
    """A time (milliseconds since 1970) as X writes it: UTC, milliseconds, Z."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
