"""Shared state: values that processes share, each with a version to compare before it is set.

A version is never given twice, also not to a key that was deleted and set anew: who compares it can't take
another value for the one that was read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from coordination.answers import with_moments
from coordination.database import Json
from coordination.errors import DatabaseBusyError
from coordination.session import Session

ABSENT: Final = 0
"""The version that a value has which is not there."""
TRIES: Final = 50
"""Of an update against others: each that fails means that another one succeeded."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """One value.

    Attributes:
        version: rises with every change.
        changed_by: worker and slot.
        changed_at: fleet time.
    """

    namespace: str
    key: str
    value: Any
    version: int
    changed_by: str
    changed_at: datetime


class State:
    """The fleet's shared values, by namespace and key. Every method is one round trip, but for `update`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, namespace: str, key: str) -> Shared | None:
        """Give a value; None when there is none."""
        return _shared(self._session.call("get_state", namespace=namespace, key=key))

    def set(self, namespace: str, key: str, value: object) -> Shared:
        """Set a value, whatever it was.

        Raises:
            InvalidValueError: a bad name, or JSON of more than 262144 bytes.
        """
        answer = self._session.call("set_state", namespace=namespace, key=key, value=Json(value))
        return Shared(**with_moments(answer, "changed_at"))

    def compare_and_set(
        self, namespace: str, key: str, expected_version: int, value: object
    ) -> Shared | None:
        """Set a value if it is the one that was read; None when it is not any more, and nothing was changed.

        Args:
            namespace: of the key.
            key: of the value.
            expected_version: as read; `ABSENT` expects that there is no value.
            value: the new one.
        """
        answer = self._session.call(
            "compare_and_set_state",
            namespace=namespace,
            key=key,
            expected_version=expected_version,
            value=Json(value),
        )
        return _shared(answer["state"]) if answer["changed"] else None

    def update(self, namespace: str, key: str, change: Callable[[Any], object]) -> Shared:
        """Change a value by what it is: `change` is given it (None when there is none), again if it is late.

        Two round trips where nobody else changes it.

        Raises:
            DatabaseBusyError: others were faster each time.
        """
        for _ in range(TRIES):
            known = self.get(namespace, key)
            version, value = (known.version, known.value) if known else (ABSENT, None)
            if changed := self.compare_and_set(namespace, key, version, change(value)):
                return changed
        raise DatabaseBusyError(f"{namespace}/{key}: others changed it {TRIES} times meanwhile; try again")

    def delete(self, namespace: str, key: str, expected_version: int | None = None) -> bool:
        """Delete a value, if it is still the one that was read where a version is given; whether it did."""
        return bool(
            self._session.call(
                "delete_state", namespace=namespace, key=key, expected_version=expected_version
            )
        )

    def list(
        self, namespace: str, prefix: str = "", *, after_key: str | None = None, n: int = 100
    ) -> list[Shared]:
        """Give the values whose keys begin with `prefix`, in key order: up to `n` behind `after_key`."""
        rows = self._session.call("list_state", namespace=namespace, prefix=prefix, after_key=after_key, n=n)
        return [Shared(**with_moments(row, "changed_at")) for row in rows]


def _shared(answer: dict[str, Any] | None) -> Shared | None:
    return None if answer is None else Shared(**with_moments(answer, "changed_at"))
