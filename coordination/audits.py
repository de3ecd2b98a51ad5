"""Events and audit: what happened, and what persons changed."""

from collections.abc import Mapping
from typing import Any, Literal

from coordination.database import Database, Json
from coordination.plain import plain
from coordination.session import Session

Severity = Literal["debug", "info", "warning", "error"]


class Audits:
    """What a worker says happened. One round trip a call, not flushed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def event(
        self, severity: Severity, kind: str, message: str, data: Mapping[str, object] | None = None
    ) -> None:
        """Tell one event; it shows on the page and in `socialfleet up`."""
        self._session.call(
            "report_event",
            severity=severity,
            kind=kind,
            message=plain(message),
            data=Json(plain(dict(data or {}))),
        )


def events_after(database: Database, last_id: int) -> list[dict[str, Any]]:
    """Events newer than `last_id`, oldest first, 200 at most."""
    return database.rows("list_events_after", last_id=last_id)


def report_event(
    database: Database,
    *,
    severity: Severity,
    kind: str,
    source: str,
    message: str,
    data: Mapping[str, object] | None = None,
) -> None:
    """A host's manager tells one event."""
    database.call(
        "report_host_event",
        severity=severity,
        kind=kind,
        source=source,
        message=plain(message),
        data=Json(plain(dict(data or {}))),
    )
