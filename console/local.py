"""Local: what this host's manager says without the database, for the time that the database is away.

The manager writes `status.json` every 5 s and at each change, and listens on `manager.sock`. Both are in the
state directory, so this is one host's own truth and never the fleet's.
"""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

SNAPSHOT = "status.json"
SOCKET = "manager.sock"
SILENT_S = 15.0
"""Three snapshots missed: the manager doesn't write any more, so nobody listens on its socket either."""


@dataclass(frozen=True, kw_only=True)
class LocalWord:
    """What this host's manager said last.

    Attributes:
        at: when it said so, by this host's clock.
        age_s: seconds since.
        listens: it is heard and has its socket: local stop, start and restart work.
        stale_since: when the database last answered it; None where it answers.
        slots: its slots as `/api/workers/status` has them, as far as it knows them by itself.
    """

    at: datetime
    age_s: float
    listens: bool
    stale_since: datetime | None = None
    slots: tuple[Mapping[str, Any], ...]

    @property
    def is_silent(self) -> bool:
        """Whether it should have said something since."""
        return self.age_s >= SILENT_S

    def as_json(self) -> dict[str, Any]:
        """As `GET /api/overview` has it."""
        return {
            "at": self.at,
            "age_s": round(self.age_s, 1),
            "listens": self.listens,
            "stale_since": self.stale_since,
            "slots": [dict(slot) for slot in self.slots],
        }


def read(state: Path) -> LocalWord | None:
    """Give the word of the manager whose state directory it is; None when there is none that can be read."""
    try:
        told: object = json.loads((state / SNAPSHOT).read_bytes())
        if not isinstance(told, dict):
            return None
        word = cast("dict[str, Any]", told)
        at = datetime.fromisoformat(word["at"]).astimezone(UTC)
        since = word.get("stale_since")
        stale_since = None if since is None else datetime.fromisoformat(since).astimezone(UTC)
        slots = tuple(cast("dict[str, Any]", slot) for slot in word["slots"] if _is_slot(slot))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # half a file of another version says nothing
    age_s = max(0.0, (datetime.now(UTC) - at).total_seconds())
    listens = age_s < SILENT_S and _is_socket(state / SOCKET)
    return LocalWord(at=at, age_s=age_s, listens=listens, stale_since=stale_since, slots=slots)


def _is_slot(value: object) -> bool:
    match value:
        case {"name": str(), "slot": int(), "state": str()}:
            return True
        case _:
            return False


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
