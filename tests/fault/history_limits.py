"""Limits and shares, from the grants: I9, I10, I14.

A grant's request reached the platform at some time from the grant's end to its settling, or to the last
moment at which its holder is known to have been alive: who lost its session sends nothing more.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.fault.history import History, Operation, Violation

SHARE_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One granted request: it was made within [first, last]."""

    first: float
    last: float


def units(history: History) -> dict[str, list[Unit]]:
    """Every endpoint's granted requests, in the order of their grants."""
    alive: dict[str, float] = defaultdict(float)
    settled: dict[str, Operation] = {}
    for one in history.operations:
        if one.kind == "alive" and one.outcome == "ok":
            alive[one.life] = max(alive[one.life], one.began)
        elif one.kind == "settle":  # its request was over when it asked, whatever came of the asking
            settled.setdefault(str(one.given["grant"]), one)
    found: dict[str, list[Unit]] = defaultdict(list)
    for one in history.operations:
        if one.kind == "grant" and one.outcome == "ok":
            last = alive.get(one.life, 0.0)
            if end := settled.get(str(one.answer["grant"])):
                last = min(last, end.began)
            found[one.thing].append(Unit(first=one.ended, last=max(one.ended, last)))
    for granted in found.values():
        granted.sort(key=lambda unit: unit.first)
    return found


def exceeded(history: History) -> Iterator[Violation]:
    """I9: no rolling window has more requests than its limit, were each made the moment it was granted."""
    for endpoint, granted in units(history).items():
        times = [unit.first for unit in granted]
        for limit, window_s in history.limits[endpoint]:
            most = max(
                (number - bisect_right(times, at - window_s) + 1 for number, at in enumerate(times)),
                default=0,
            )
            if most > limit:
                yield Violation(
                    invariant="I9", what=f"{endpoint}: {most} requests in {window_s} s, allowed are {limit}"
                )


def outstanding(history: History) -> Iterator[Violation]:
    """I10: what is outstanding and what a window still counts are together never more than the limit."""
    for endpoint, granted in units(history).items():
        for limit, window_s in history.limits[endpoint]:
            ends: list[float] = []
            most = 0
            for unit in granted:
                # Those that can have been counted within the window that ends with this one.
                del ends[: bisect_right(ends, unit.first - window_s)]
                insort(ends, unit.last)
                most = max(most, len(ends))
            if most > limit:
                yield Violation(
                    invariant="I10",
                    what=f"{endpoint}: {most} granted or used within {window_s} s, allowed are {limit}",
                )


def shares(history: History) -> Iterator[Violation]:
    """I14: within a period of constant demand each worker got its weighted max-min share."""
    granted: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for one in history.operations:
        if one.kind == "grant" and one.outcome == "ok":
            granted[one.thing].append((one.ended, str(one.given["worker"])))
    for period in history.operations:
        if period.kind != "period":
            continue
        got: dict[str, int] = defaultdict(int)
        for at, worker in granted[period.thing]:
            if period.began <= at <= period.ended:
                got[worker] += 1
        wanted: Mapping[str, tuple[float, float]] = period.given["workers"]
        fair = weighted_max_min(sum(got.values()), wanted)
        for worker, share in fair.items():
            if abs(got[worker] - share) > max(SHARE_TOLERANCE * share, 1.0) + 1e-9:
                yield Violation(
                    invariant="I14",
                    what=f"{period.thing}: {worker} got {got[worker]}, its share is {share:.1f}",
                )


def weighted_max_min(total: float, wanted: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Divide `total` among workers that each have (weight, demand).

    Nobody gets more than it wants, and what some leave goes to the others by weight.
    """
    shares: dict[str, float] = {}
    left = dict(wanted)
    while left:
        weights = sum(weight for weight, _ in left.values())
        level = total / weights
        content = {name: demand for name, (weight, demand) in left.items() if demand <= level * weight}
        if not content:
            return shares | {name: level * weight for name, (weight, _) in left.items()}
        shares |= content
        total -= sum(content.values())
        for name in content:
            del left[name]
    return shares
