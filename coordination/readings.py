"""Readings: public metrics of the account's own posts, appended, never overwritten."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from coordination.answers import with_moments
from coordination.database import Json
from coordination.plain import plain
from coordination.session import Session


@dataclass(frozen=True, kw_only=True)
class TrackedPost:
    """A post whose next reading is due; `readings` is how many there are."""

    platform_id: str
    readings: int
    posted_at: datetime


class Readings:
    """The fleet's readings. One round trip a call."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def claim_due(self, account: str, n: int, lease_s: float = 60) -> list[TrackedPost]:
        """Take up to `n` posts whose reading is due; nobody else gets them within `lease_s`."""
        answer = self._session.call("claim_readings", account=account, n=n, lease_s=float(lease_s))
        return [TrackedPost(**with_moments(row, "posted_at")) for row in answer]

    def append(self, account: str, platform_id: str, metrics: Mapping[str, int], *, next_in_s: float) -> int:
        """Add one reading; give its number, from 1."""
        return int(
            self._session.call(
                "append_reading",
                account=account,
                platform_id=platform_id,
                metrics=Json(dict(metrics)),
                next_in_s=float(next_in_s),
            )
        )

    def miss(self, account: str, platform_id: str, reason: str, *, next_in_s: float) -> bool:
        """Note that the platform didn't show the post; say whether it counts as gone now (3 in a row)."""
        return bool(
            self._session.call(
                "miss_reading",
                account=account,
                platform_id=platform_id,
                reason=plain(reason),
                next_in_s=float(next_in_s),
            )
        )
