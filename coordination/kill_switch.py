"""The kill switch: when its setter has the answer, no send begins any more, and it knows those in flight."""

from typing import Any

from coordination.database import Database


def set_kill_switch(database: Database, *, on: bool, actor: str, reason: str) -> dict[str, Any]:
    """Throw or lift it: {"on", "scope", "acknowledged_at", "in_flight": [{"intent", "attempt"}]}; audited.

    Waits for sends that are being begun (milliseconds). Lifting it also accepts the database as it is now.
    """
    return dict(database.call("set_kill_switch", is_on=on, actor=actor, reason=reason))


def get_kill_switch(database: Database) -> dict[str, Any]:
    """Say whether it is on, since when and why. A hint only: `begin_send` decides."""
    return dict(database.call("get_kill_switch"))
