"""Events and audit: what happened, and what persons changed."""

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, Literal

from coordination.database import Database, Json
from coordination.plain import plain
from coordination.session import Session

Severity = Literal["debug", "info", "warning", "error"]
LATE_S: Final = 30.0
"""So long an event may come after a newer one; longer than any transaction that tells one lasts."""
MOST_MISSING: Final = 1000
"""More in a row were never drawn: the database is another one, or a restored one."""


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


class EventTail:
    """Follows the events from an id on, and leaves none out.

    An id is drawn before its transaction commits: one that is missing between two others may still come, as
    long as a transaction may last, and is asked for again until then.

    Attributes:
        last_id: the newest that was given.
    """

    def __init__(self, last_id: int) -> None:
        self.last_id = last_id
        self._missing: dict[int, float] = {}

    @property
    def is_whole(self) -> bool:
        """Whether nothing older than `last_id` may still come."""
        return not self._missing

    def new(self, database: Database) -> list[dict[str, Any]]:
        """Those that came since, oldest first, 200 at most; one round trip."""
        now = monotonic()
        self._missing = {id_: until for id_, until in self._missing.items() if until > now}
        found = database.rows("list_events_after", last_id=self.last_id, missing=list(self._missing))
        for event in found:
            id_ = int(event["id"])
            self._missing.pop(id_, None)
            first = max(self.last_id + 1, id_ - MOST_MISSING)
            self._missing.update((gap, now + LATE_S) for gap in range(first, id_))
            self.last_id = max(self.last_id, id_)
        return found


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
