"""Answers: JSON as the console writes it, and refusals that name field, value and what is allowed.

RefusedError         the request can't be served; becomes {"error": {...}}
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

SHOWN_VALUE = 200
"""Characters of a bad value that are shown again."""


class RefusedError(Exception):
    """A request that is not served.

    Attributes:
        status: the HTTP status.
        body: what the answer holds: `error`, and what else helps.
        headers: what the answer carries beside it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **details: object,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": {**details, "message": message}}
        self.headers = dict(headers or {})


def bad_value(field: str, value: object, allowed: str) -> RefusedError:
    """Refuse a value: 400, naming the field, the value (shortened) and what is allowed."""
    # Half a surrogate pair is a text in Python and none in UTF-8.
    shown = None if value is None else str(value)[:SHOWN_VALUE].encode(errors="backslashreplace").decode()
    told = "missing" if shown is None else repr(shown)
    return RefusedError(
        400, f"{field} is {told}: allowed is {allowed}", field=field, value=shown, allowed=allowed
    )


class Json(Response):
    """A JSON answer; moments are ISO 8601 in UTC."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write it as compact UTF-8."""
        text = json.dumps(content, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  json checks what is in it
    raise TypeError(f"{type(value).__name__} is no JSON")
