"""List parameters: the query of the lists that take `state`, `worker` and `limit`, checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from console.answers import bad_value
from coordination.lists import MAX_ITEMS


@dataclass(frozen=True, kw_only=True)
class ListFilter:
    """Which items; no states means those that the list shows by itself, no worker means all."""

    states: tuple[str, ...] = ()
    worker: str | None = None
    limit: int = 100


def parse(
    query: Sequence[tuple[str, str]], *, states: Sequence[str] = (), of_a_worker: bool = False
) -> ListFilter:
    """Read name and value pairs; raise `RefusedError` for a name or value that can't be used.

    Args:
        query: as the address has it; `state` takes several, separated by commas or given again.
        states: those that there are; none where the list has no states.
        of_a_worker: whether the list can be of one worker.
    """
    names = (*(["state"] if states else []), *(["worker"] if of_a_worker else []), "limit")
    wanted: list[str] = []
    given: dict[str, str] = {}
    for name, value in query:
        if name not in names:
            raise bad_value("parameter", name, f"one of {', '.join(names)}")
        if name == "state":
            wanted += _states(value, states)
        elif name in given:
            raise bad_value(name, value, "one value")
        else:
            given[name] = value
    return ListFilter(
        states=tuple(wanted),
        worker=_worker(given["worker"]) if "worker" in given else None,
        limit=_limit(given["limit"]) if "limit" in given else 100,
    )


def _states(value: str, allowed: Sequence[str]) -> list[str]:
    found = value.split(",")
    for state in found:
        if state not in allowed:
            raise bad_value("state", state, f"one or more of {', '.join(allowed)}")
    return found


def _worker(value: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,62}", value, re.ASCII):
        raise bad_value("worker", value, "a worker's name: lower-case letters, digits and _")
    return value


def _limit(value: str) -> int:
    # A number of few digits: int() of thousands of them takes its time, or raises.
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(MAX_ITEMS)) else 0
    if not 1 <= number <= MAX_ITEMS:
        raise bad_value("limit", value, f"a whole number from 1 to {MAX_ITEMS}")
    return number
