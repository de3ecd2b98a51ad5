"""The rehearsal's clock: fleet time moved on or made faster, and the fleet's own sandbox with it.

ClockRefusedError     the sandbox doesn't take the time, or doesn't answer
"""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from coordination.database import Database

TIMEOUT_S = 5.0
TELLING_S = 2.0
"""Real seconds within which the sandbox is told."""
OK = 200


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A clock: at the real time `real0` it is `fleet0`, and from there it runs `rate` times as fast."""

    real0: datetime
    fleet0: datetime
    rate: float

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """Read what the sandbox says of its clock."""
        moments = {name: datetime.fromisoformat(answer[name]) for name in ("real0", "fleet0")}
        return cls(**moments, rate=float(answer["rate"]))

    def at(self, real: datetime) -> datetime:
        """What time it is by this clock."""
        return self.fleet0 + (real - self.real0) * self.rate


class ClockRefusedError(Exception):
    """The sandbox's time could not be set."""


def move(owner: Database, url: str, *, by_s: float, rate: float, actor: str, reason: str) -> None:
    """Move fleet time on by so many seconds and let it run at `rate` from here; audited.

    It ends where the sandbox's time is, or later: neither of the two goes back.

    Raises:
        InvalidValueError: names the field, the value and what is allowed.
        ClockRefusedError: the sandbox doesn't answer.
    """
    sandbox = Setting.read(_ask(url, "GET", "/_sandbox/clock"))
    time = owner.rows("get_fleet_time")[0]
    lead_s = (sandbox.at(time["real_now"]) - time["fleet_now"]).total_seconds()
    # The sandbox hears of it a moment later: a slower clock begins that moment ahead.
    ahead_s = max(0.0, sandbox.rate - rate) * TELLING_S
    target = f"by {by_s:g} s, rate {rate:g}"
    owner.call("write_audit", actor=actor, action="move_clock", target=target, reason=reason)
    owner.call("move_clock", advance=timedelta(seconds=max(by_s, lead_s) + ahead_s), rate=rate)


def is_moved(database: Database) -> bool:
    """Whether fleet time is not the clock's own."""
    return bool(database.rows("get_fleet_clock"))


def tell_sandbox(database: Database, url: str, token_file: Path) -> None:
    """Set the sandbox's time to fleet time; nothing to do while that is the clock's own.

    Raises:
        ClockRefusedError: with the sandbox's own words.
    """
    for row in database.rows("get_fleet_clock"):
        body = {"real0": row["real0"].isoformat(), "fleet0": row["fleet0"].isoformat(), "rate": row["rate"]}
        _ask(url, "POST", "/_sandbox/clock", json.dumps(body), token_file.read_text("utf-8").strip())


def _ask(url: str, method: str, path: str, body: str | None = None, token: str = "") -> dict[str, Any]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    try:
        with closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            said = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise ClockRefusedError(
            f"the sandbox at {url} doesn't answer ({error}): is the fleet running?"
        ) from None
    if response.status != OK:
        raise ClockRefusedError(f"the sandbox doesn't take fleet time ({response.status}): {said[:1000]}")
    return dict(json.loads(said))
