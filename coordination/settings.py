"""Settings: live, versioned values by key; each worker's begin with its name."""

from typing import Any

from coordination.database import Database, Json
from coordination.session import Session


class Settings:
    """What workers read. One round trip."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def under(self, prefix: str) -> dict[str, Any]:
        """Give every setting whose key begins with `prefix`."""
        return dict(self._session.database.call("get_settings", prefix=prefix))


def set_setting(database: Database, key: str, value: object, *, actor: str, reason: str) -> None:
    """A person changes a setting; audited. Raises `InvalidValueError` for a bad key or an empty reason."""
    database.call("set_setting", key=key, value=Json(value), actor=actor, reason=reason)


def unseed_settings(database: Database, *, actor: str, reason: str) -> int:
    """Take back what `actor` seeded and nobody changed since; give how many. For the manager."""
    return int(database.call("unseed_settings", actor=actor, reason=reason))


def seed_setting(database: Database, key: str, value: object, *, actor: str, reason: str) -> bool:
    """Give a setting its first value; leave one that is there alone and say False."""
    return bool(database.call("seed_setting", key=key, value=Json(value), actor=actor, reason=reason))
