"""Limit settings: the windows that an endpoint shall have in place of the published ones.

They live in the process alone: a sandbox that was killed or stopped starts with the published ones.

LimitError       a setting can't be used; the text names field, value and what is allowed
"""

import json
from dataclasses import dataclass
from typing import Any

from sandbox.x.control.fault_kinds import is_whole
from sandbox.x.rate_limits import DAY_S, LIMITS, Limit

HEADERS = ("x-rate-limit", "x-user-limit-24hour", "x-app-limit-24hour")
CONTEXTS = ("user", "app")
MAX_LIMIT = 1_000_000
MAX_WINDOW_S = 31 * DAY_S
MAX_WINDOWS = 8
_FIELDS = ("endpoint", "context", "windows")
_WINDOW_FIELDS = ("limit", "window_s", "header")


class LimitError(ValueError):
    """A limit's setting can't be used."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field} is {json.dumps(value, default=str)[:120]}: expected {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


@dataclass(frozen=True, kw_only=True)
class LimitSetting:
    """The windows of an endpoint for callers of one context, `user` or `app`."""

    endpoint: str
    context: str
    windows: tuple[Limit, ...]

    def view(self) -> dict[str, Any]:
        """The setting as JSON."""
        return {
            "endpoint": self.endpoint,
            "context": self.context,
            "windows": [vars(window) for window in self.windows],
        }


def read_limits(given: object) -> LimitSetting:
    """What {"endpoint": "post_tweet", "windows": [{"limit": 50, "window_s": 900}]} sets.

    The first window speaks in `x-rate-limit-*`, the others in nothing, unless `header` says otherwise.

    Raises:
        LimitError: a field is missing, unknown or out of range, or two windows are of one length or header.
    """
    if not isinstance(given, dict):
        raise LimitError("body", given, 'an object such as {"endpoint": "post_tweet", "windows": [...]}')
    values: dict[Any, Any] = given  # pyright: ignore[reportUnknownVariableType] - JSON
    _only(values, _FIELDS)
    endpoint, context = values.get("endpoint"), values.get("context", "user")
    if context not in CONTEXTS:
        raise LimitError("context", context, f"one of {', '.join(CONTEXTS)}")
    known = sorted(name for name, its_context in LIMITS if its_context == context)
    if endpoint not in known:
        raise LimitError("endpoint", endpoint, f"one of {', '.join(known)}")
    return LimitSetting(endpoint=endpoint, context=context, windows=_windows(values.get("windows")))


def _windows(given: object) -> tuple[Limit, ...]:
    shown = given  # as it came: what the check makes of it has no type
    items: list[object] = list(given) if isinstance(given, list) else []  # pyright: ignore[reportUnknownArgumentType] - JSON
    if not 1 <= len(items) <= MAX_WINDOWS:
        raise LimitError("windows", shown, f"a list of 1 to {MAX_WINDOWS} windows")
    windows = tuple(_window(item, first=place == 0) for place, item in enumerate(items))
    lengths = [window.window_s for window in windows]
    if len(set(lengths)) < len(lengths):
        raise LimitError("windows", shown, "windows of different lengths")
    headers = [window.header for window in windows if window.header]
    if len(set(headers)) < len(headers):
        raise LimitError("windows", shown, "windows of different headers")
    return windows


def _window(given: object, *, first: bool) -> Limit:
    if not isinstance(given, dict):
        raise LimitError("windows", given, 'objects such as {"limit": 50, "window_s": 900}')
    values: dict[Any, Any] = given  # pyright: ignore[reportUnknownVariableType] - JSON
    _only(values, _WINDOW_FIELDS)
    for name, most in (("limit", MAX_LIMIT), ("window_s", MAX_WINDOW_S)):
        if not is_whole(1, most)(values.get(name)):
            raise LimitError(name, values.get(name), f"a whole number from 1 to {most}")
    header = values.get("header", HEADERS[0] if first else None)
    if header not in (*HEADERS, None):
        raise LimitError("header", header, f"one of {', '.join(HEADERS)}, or null")
    return Limit(limit=values["limit"], window_s=values["window_s"], header=header)


def _only(values: dict[Any, Any], names: tuple[str, ...]) -> None:
    for name, value in values.items():
        if name not in names:
            raise LimitError(str(name), value, f"no such field: it has {', '.join(names)}")
