"""Feature flags: `<worker>_enabled` and others; a flag that nobody has set is on."""

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
    """A person switches a flag; audited."""
    database.call("set_flag", name=name, enabled=enabled, actor=actor, reason=reason)
