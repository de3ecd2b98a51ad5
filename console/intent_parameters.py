"""Intent parameters: the query of `GET /api/intents`, checked into a filter."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from console.answers import bad_value
from coordination.intents import ACTIONS, INTENT_STATES
from coordination.lists import MAX_ITEMS, Cursor, IntentFilter

MOMENT = "a time as 2026-08-01T09:30:00Z (UTC without a zone; write + as %2B)"


def parse(query: Sequence[tuple[str, str]]) -> IntentFilter:
    """Read name and value pairs; raise `RefusedError` for a name or value that can't be used.

    `state` and `action` take several, separated by commas or given again; everything else stands once.
    """
    given: dict[str, Any] = {}
    several: dict[str, list[str]] = {name: [] for name in _SEVERAL}
    for name, value in query:
        if name in several:
            several[name] += _words(name, value)
        elif name not in _READERS:
            raise bad_value("parameter", name, f"one of {', '.join([*_SEVERAL, *_READERS])}")
        elif name in given:
            raise bad_value(name, value, "one value")
        else:
            given[name] = _READERS[name](name, value)
    names = {"from": "since", "to": "until"}
    return IntentFilter(
        states=tuple(several["state"]),
        actions=tuple(several["action"]),
        **{names.get(name, name): value for name, value in given.items()},
    )


def _words(name: str, value: str) -> list[str]:
    found = value.split(",")
    for word in found:
        if word not in _SEVERAL[name]:
            raise bad_value(name, word, f"one or more of {', '.join(_SEVERAL[name])}")
    return found


def _moment(name: str, value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise bad_value(name, value, MOMENT) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _limit(name: str, value: str) -> int:
    # A number of few digits: int() of thousands of them takes its time, or raises.
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(MAX_ITEMS)) else 0
    if not 1 <= number <= MAX_ITEMS:
        raise bad_value(name, value, f"a whole number from 1 to {MAX_ITEMS}")
    return number


def _cursor(name: str, value: str) -> Cursor:
    cursor = Cursor.parse(value)
    if cursor is None:
        raise bad_value(name, value, "the `next` of an earlier answer")
    return cursor


_SEVERAL: dict[str, tuple[str, ...]] = {"state": INTENT_STATES, "action": ACTIONS}
_READERS: dict[str, Callable[[str, str], Any]] = {
    "from": _moment,
    "to": _moment,
    "limit": _limit,
    "after": _cursor,
}
