"""Settings: live, versioned values by key; each worker's begin with its name.

What a setting may be is defined by the program that has it, and checked by the database where it is written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from coordination.database import Database, Json
from coordination.session import Session

SettingType = Literal["int", "number", "text", "bool", "list", "json"]
FLEET = "fleet"
"""The owner of what belongs to no worker."""
SETTINGS = "/settings"
"""Behind a worker's name in a wake-up: one of its settings or flags has changed."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a setting may be.

    Attributes:
        key: its name.
        owner: the worker that it belongs to, which is woken when it changes; `FLEET` for none.
        type: int, number, text, bool, list or json.
        nullable: whether null is allowed, which means the worker's own.
        lowest: of a number, of a text's length, of how many items a list has; None: no bound.
        highest: the same.
        choices: what a text, or a list's item, can be; None: anything.
        default_value: what it is where nobody set it.
        unit: of a number, such as s.
        description: what it does, for persons.
    """

    key: str
    owner: str
    type: SettingType
    nullable: bool = False
    lowest: float | None = None
    highest: float | None = None
    choices: Sequence[str] | None = None
    default_value: object = None
    unit: str = ""
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class FlagDefinition:
    """A flag that there is.

    Attributes:
        name: such as poster_enabled.
        owner: the worker that is woken when it changes.
        description: what it does, for persons.
    """

    name: str
    owner: str
    description: str = ""


class Settings:
    """What workers read. One round trip."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def under(self, prefix: str) -> dict[str, Any]:
        """Give every setting whose key begins with `prefix`."""
        return dict(self._session.database.call("get_settings", prefix=prefix))


def set_setting(database: Database, key: str, value: object, *, actor: str, reason: str) -> int:
    """A person changes a setting; audited, and kept in its history. Gives its version.

    Raises:
        InvalidValueError: an unknown key (names those like it), a value that its definition does not allow
            (names key, value and what is allowed), or an empty reason.
    """
    answer = database.call("set_setting", key=key, value=Json(value), actor=actor, reason=reason)
    return int(answer["version"])


def unset_setting(database: Database, key: str, *, actor: str, reason: str) -> bool:
    """A person takes a setting back to its default; audited. False where it had it."""
    return bool(database.call("unset_setting", key=key, actor=actor, reason=reason))


def revert_setting(database: Database, key: str, version: int, *, actor: str, reason: str) -> dict[str, Any]:
    """A person sets a setting back to what it was in a version; audited, as a new version.

    Returns:
        {"key", "value", "is_default"}.

    Raises:
        InvalidValueError: it never had that version (names those that it had), or may not be that any more.
    """
    return dict(database.call("revert_setting", key=key, version=version, actor=actor, reason=reason))


def setting_history(database: Database, key: str, *, n: int = 50) -> list[dict[str, Any]]:
    """Give a setting's newest changes, newest first: version, value (None: the default), by whom, why."""
    return database.rows("list_configuration_history", kind="setting", name=key, n=n)


def register_settings(
    database: Database, definitions: Iterable[Definition], flags: Iterable[FlagDefinition] = ()
) -> int:
    """A program says which settings and flags it has; give how many were new or other than before.

    For the maintainer. What another program has stays.
    """
    return int(
        database.call(
            "register_settings",
            definitions=Json([asdict(definition) for definition in definitions]),
            flags=Json([asdict(flag) for flag in flags]),
        )
    )


def unseed_settings(database: Database, *, actor: str, reason: str) -> int:
    """Take back what `actor` seeded and nobody changed since; give how many. For the manager."""
    return int(database.call("unseed_settings", actor=actor, reason=reason))


def seed_setting(database: Database, key: str, value: object, *, actor: str, reason: str) -> bool:
    """Give a setting its first value; leave one that is there alone and say False."""
    return bool(database.call("seed_setting", key=key, value=Json(value), actor=actor, reason=reason))
