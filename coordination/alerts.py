"""Alerts: what a person should look at; one open row a key, until what raised it takes it back."""

from collections.abc import Mapping
from typing import Any, Literal

from coordination.database import Database, Json
from coordination.ids import number_of
from coordination.plain import plain
from coordination.session import Session

Severity = Literal["info", "warning", "error", "critical"]


class Alerts:
    """What a worker raises and takes back. One round trip a call."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def raise_alert(
        self,
        key: str,
        *,
        severity: Severity,
        kind: str,
        message: str,
        data: Mapping[str, object] | None = None,
    ) -> bool:
        """Raise it, or say again that it holds; True where it was not open before."""
        return bool(
            self._session.call(
                "report_alert",
                key=key,
                severity=severity,
                kind=kind,
                message=plain(message),
                data=Json(plain(dict(data or {}))),
            )
        )

    def clear_alert(self, key: str) -> bool:
        """Take it back; False where none was open."""
        return bool(self._session.call("withdraw_alert", key=key))


def raise_alert(
    database: Database,
    key: str,
    *,
    severity: Severity,
    kind: str,
    source: str,
    message: str,
    data: Mapping[str, object] | None = None,
) -> bool:
    """A host's manager raises it, or says again that it holds; True where it was not open before."""
    return bool(
        database.call(
            "raise_alert",
            key=key,
            severity=severity,
            kind=kind,
            source=source,
            message=plain(message),
            data=Json(plain(dict(data or {}))),
        )
    )


def clear_alert(database: Database, key: str) -> bool:
    """A host's manager takes it back; False where none was open."""
    return bool(database.call("clear_alert", key=key))


def acknowledge_alert(database: Database, alert: str, *, actor: str, reason: str) -> dict[str, Any]:
    """A person has seen it; audited. It stays open until what raised it takes it back."""
    return dict(
        database.call("acknowledge_alert", alert=number_of(alert, "alert"), actor=actor, reason=reason)
    )


def list_alerts(database: Database, *, open_only: bool = True, n: int = 100) -> list[dict[str, Any]]:
    """Give the open ones, worst first, then (unless `open_only`) those that were cleared, newest first."""
    return database.rows("list_alerts", open_only=open_only, n=n)
