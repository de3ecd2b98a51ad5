"""Candidate parameters: the query of `GET /api/candidates`, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

from console.answers import bad_value
from coordination.candidates import CANDIDATE_STATES
from coordination.lists import MAX_ITEMS


@dataclass(frozen=True, kw_only=True)
class CandidateFilter:
    """Which candidates; no states means all."""

    states: tuple[str, ...] = ()
    limit: int = 100


def parse(query: Sequence[tuple[str, str]]) -> CandidateFilter:
    """Read name and value pairs; raise `RefusedError` for a name or value that can't be used."""
    states: list[str] = []
    limit: int | None = None
    for name, value in query:
        if name == "state":
            states += _states(value)
        elif name != "limit":
            raise bad_value("parameter", name, "one of state, limit")
        elif limit is not None:
            raise bad_value(name, value, "one value")
        else:
            limit = _limit(value)
    return CandidateFilter(states=tuple(states), limit=100 if limit is None else limit)


def _states(value: str) -> list[str]:
    found = value.split(",")
    for state in found:
        if state not in CANDIDATE_STATES:
            raise bad_value("state", state, f"one or more of {', '.join(CANDIDATE_STATES)}")
    return found


def _limit(value: str) -> int:
    # A number of few digits: int() of thousands of them takes its time, or raises.
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(MAX_ITEMS)) else 0
    if not 1 <= number <= MAX_ITEMS:
        raise bad_value("limit", value, f"a whole number from 1 to {MAX_ITEMS}")
    return number
