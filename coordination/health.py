"""Health: the whole fleet at one moment, and the reports that are kept of it."""

from collections.abc import Mapping
from typing import Any, Literal

from coordination.database import Database, Json
from coordination.session import Session

Status = Literal["healthy", "warning", "critical"]


class HealthReports:
    """The monitor's reading and writing. One round trip a call."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def gather(self, *, window_s: float) -> dict[str, Any]:
        """Give workers, runs of the last `window_s` seconds of fleet time, limits, queues and database."""
        return dict(self._session.call("gather_health", window_s=float(window_s)))

    def keep(self, status: Status, report: Mapping[str, Any]) -> int:
        """Keep a report; give its number."""
        return int(self._session.call("take_snapshot", status=status, report=Json(dict(report))))


def get_responsiveness(database: Database, hours: float = 1) -> dict[str, Any]:
    """Give how soon the whole fleet takes up what is due. One round trip; locks nothing.

    `percent` of `all` messages, jobs and engagement locks of these hours of fleet time were taken up
    `promptly`: within `within_s` real seconds. What has waited longer than that counts too; None: there was
    nothing.
    """
    return dict(database.call("get_responsiveness", hours=float(hours)))


def latest_reports(database: Database, n: int = 1) -> list[dict[str, Any]]:
    """Give the newest reports, newest first: `id`, `taken_at`, `status`, `report`."""
    return database.rows("list_health_snapshots", n=n)
