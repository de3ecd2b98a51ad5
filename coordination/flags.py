"""Feature flags: `<worker>_enabled` and others; a flag that nobody has set is on."""

from typing import Any

from coordination.database import Database
from coordination.session import Session


class Flags:
    """What workers ask before each step. One round trip."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def enabled(self, name: str) -> bool:
        """Whether the flag is on; absent means on."""
        return bool(self._session.database.call("flag_enabled", name=name))


def set_flag(database: Database, name: str, *, enabled: bool, actor: str, reason: str) -> None:
    """A person switches a flag; audited, and kept in its history.

    Raises:
        InvalidValueError: a flag that no worker has and nobody defined: names those like it.
    """
    database.call("set_flag", name=name, enabled=enabled, actor=actor, reason=reason)


def revert_flag(database: Database, name: str, version: int, *, actor: str, reason: str) -> bool:
    """A person sets a flag back to what it was in a version; audited. Whether it is on then.

    Raises:
        InvalidValueError: it never had that version: names those that it had.
    """
    answer = database.call("revert_flag", name=name, version=version, actor=actor, reason=reason)
    return bool(answer["enabled"])


def flag_history(database: Database, name: str, *, n: int = 50) -> list[dict[str, Any]]:
    """Give the newest changes of a flag, newest first: version, value, who, why, when."""
    return database.rows("list_configuration_history", kind="flag", name=name, n=n)
