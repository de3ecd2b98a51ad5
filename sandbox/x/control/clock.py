"""Clock: the sandbox's own time, which a rehearsal lets run ahead of real time or faster than it.

    time = fleet0 + (real time - real0) * rate

Every time that the sandbox shows or decides by is this one; only OAuth 1.0a timestamps, which a client takes
from its own wall clock, are held against real time. It is kept in the store, so that a restart keeps it.

ClockError       a setting can't be used; the text names field, value and what is allowed
`- BackwardsError  it would make time run backwards
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.x import snowflakes
from sandbox.x.store.store import Store

KEY = "clock"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_MS = snowflakes.time_ms(snowflakes.MAX_ID)  # in 2080, behind which there are no ids
MAX_RATE = 1e6  # a year in half a minute
SLACK_MS = 1  # what the rounding of two times that should be one may differ by
MAX_AGE_MS = 60_000  # how long ago a slower rate may have begun for time to stand still until it joins


class ClockError(ValueError):
    """A clock's setting can't be used."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field} is {json.dumps(value, default=str)[:120]}: expected {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class BackwardsError(ClockError):
    """The setting lies before the time that the sandbox has shown already."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """At the real time `real0_ms` it is `fleet0_ms`, and from there it runs `rate` times as fast.

    Both in milliseconds since 1970, with fractions.
    """

    real0_ms: float
    fleet0_ms: float
    rate: float

    def at(self, real_ms: float) -> float:
        """The time (ms since 1970) at a real time."""
        return self.fleet0_ms + (real_ms - self.real0_ms) * self.rate


REAL_TIME = Setting(real0_ms=0.0, fleet0_ms=0.0, rate=1.0)


def real_ms() -> float:
    """The machine's own time, in milliseconds since 1970."""
    return time.time_ns() / 1e6


class Clock:
    """The sandbox's time. It never runs backwards while the process lives, and stops at `LATEST_MS`."""

    def __init__(self, store: Store, real_ms: Callable[[], float] = real_ms) -> None:
        """The clock that the store remembers; real time at the first start."""
        kept = store.meta(KEY)
        self._store = store
        self._real_ms = real_ms
        self._setting = Setting(**json.loads(kept)) if kept else REAL_TIME
        self._last_ms = 0

    def now_ms(self) -> int:
        """The time in milliseconds since 1970: never less than it gave before."""
        self._last_ms = max(self._last_ms, min(LATEST_MS, int(self._setting.at(self._real_ms()))))
        return self._last_ms

    def set(self, given: object) -> None:
        """Takes a setting such as {"real0": "2026-01-01T00:00:00Z", "fleet0": ..., "rate": 60}.

        A slower rate arrives a moment after it began, when the faster one has already run past it. So a
        setting counts as forward if it joins the present time at its own `real0`; time then stands
        still until the new one has caught up.

        Raises:
            BackwardsError: it begins before the time that was shown.
            ClockError: a field is missing, unknown or has no such form.
        """
        setting = _read(given)
        real_ms, now_ms = self._real_ms(), self.now_ms()
        if setting.at(real_ms) > LATEST_MS:
            allowed = f"a time that makes it {_iso(LATEST_MS)} or earlier now: later posts have no ids"
            raise ClockError("fleet0", _iso(setting.fleet0_ms), allowed)
        joins = (
            -SLACK_MS <= real_ms - setting.real0_ms <= MAX_AGE_MS
            and setting.fleet0_ms >= self._setting.at(setting.real0_ms) - SLACK_MS
        )
        if setting.at(real_ms) < now_ms - SLACK_MS and not joins:
            raise BackwardsError(
                "fleet0",
                _iso(setting.fleet0_ms),
                f"a time that makes it {_iso(now_ms)} or later now: the sandbox's time never runs backwards",
            )
        self._store.set_meta(KEY, json.dumps(vars(setting)))
        self._setting = setting

    def view(self) -> dict[str, Any]:
        """The clock as JSON: the time now, and the setting that gives it."""
        setting = self._setting
        return {
            "now": _iso(self.now_ms()),
            "real0": _iso(setting.real0_ms),
            "fleet0": _iso(setting.fleet0_ms),
            "rate": setting.rate,
        }


class Dated:
    """Every answer's Date header, in the sandbox's time."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._clock.now_ms() / 1000, usegmt=True)
                MutableHeaders(scope=message)["date"] = date
            await send(message)

        await self._app(scope, receive, send_dated)


def _read(given: object) -> Setting:
    if not isinstance(given, dict):
        raise ClockError("body", given, 'an object such as {"real0": TIME, "fleet0": TIME, "rate": 60}')
    values: dict[Any, Any] = given  # pyright: ignore[reportUnknownVariableType] - JSON
    for name, value in values.items():
        if name not in {"real0", "fleet0", "rate"}:
            raise ClockError(str(name), value, "no such field: a clock has real0, fleet0 and rate")
    rate = values.get("rate")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= MAX_RATE:
        raise ClockError("rate", rate, f"a number above 0, at most {MAX_RATE:g}")
    return Setting(
        real0_ms=_time_ms("real0", values.get("real0")),
        fleet0_ms=_time_ms("fleet0", values.get("fleet0")),
        rate=float(rate),
    )


def _time_ms(field: str, value: object) -> float:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and value.isprintable() else None
        if at is not None and at.tzinfo is not None:
            return (at - EPOCH).total_seconds() * 1000
    except (ValueError, OverflowError):
        pass
    raise ClockError(field, value, "an ISO 8601 time with its zone, such as 2026-01-01T00:00:00Z")


def _iso(at_ms: float) -> str:
    at = datetime.fromtimestamp(math.floor(at_ms * 1000) / 1e6, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
