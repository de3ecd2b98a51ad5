"""A grant: the permission for one request, and what its answer tells of the limit."""

from collections.abc import Mapping
from dataclasses import dataclass

from coordination.plain import plain


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The answer to a request for one request; when `allowed`, one unit is taken until it is settled."""

    allowed: bool
    grant_id: str | None = None
    retry_after_seconds: float | None = None
    reason: str | None = None


def limit_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Keep the headers that speak of limits, and the Date that they are relative to; names in lower case."""
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    return {
        name: plain(value[:200])
        for name, value in lowered.items()
        if name == "date" or name.startswith(("x-rate-limit-", "x-user-limit-", "x-app-limit-"))
    }
