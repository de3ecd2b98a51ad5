"""The order in which waiting things are handed out, and that none waits while somebody asks: I12, I13.

Only what was surely there counts: committed before the asking began, never handed out before, and not handed
out before the asking had ended. While an asking's end is unknown its rows may be locked, and are passed over.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate

from tests.fault.history import FOREVER, History, Operation, Violation


@dataclass(kw_only=True)
class Item:
    """One job or message: when it was put, and first handed out.

    Attributes:
        is_first: whoever was handed it then was told that nobody had it before.
    """

    thing: str
    rank: int
    put_from: float
    put_by: float
    there_from: float
    taken_from: float = FOREVER
    is_first: bool = False

    def comes_before(self, other: "Item") -> bool:
        """Whether it surely goes first: more urgent, or as urgent and surely older."""
        return self.rank > other.rank or (self.rank == other.rank and self.put_by < other.put_from)


def order(history: History) -> Iterator[Violation]:
    """I12: more urgent first, then first come; I13: who asks gets what is there."""
    items = _items(history)
    takes: dict[str, list[Operation]] = defaultdict(list)
    locked: dict[str, list[tuple[float, float]]] = defaultdict(list)
    lost: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in history.operations:
        if one.kind != "take" or "source" not in one.given:
            continue
        source = one.given["source"]
        if one.outcome == "ok":
            takes[source].append(one)
            for held in one.answer["holds"]:
                if (item := items.get(held["thing"])) and one.began < item.taken_from:
                    item.taken_from = one.began
                    item.is_first = held.get("attempt") == 1
        else:
            until = min(one.after, one.began + history.undecided_s)
            locked[source].append((one.began, until))
            if one.outcome == "unknown":
                lost[source].append((one.began, until))
    by_source: dict[str, list[Item]] = defaultdict(list)
    for item in items.values():
        by_source[item.thing.rpartition(":")[0]].append(item)
    for source, asked in takes.items():
        doubt = _Doubt(locked=_Times(locked[source]), lost=_Times(lost[source]))
        yield from _judge(source, asked, by_source[source], items, doubt)


class _Times:
    """Stretches of time, and whether one of them touches another."""

    def __init__(self, intervals: Sequence[tuple[float, float]]) -> None:
        ordered = sorted(intervals)
        self._starts = [start for start, _ in ordered]
        self._ends = list(accumulate((end for _, end in ordered), max))

    def touch(self, began: float, ended: float) -> bool:
        before = bisect_right(self._starts, ended)
        return bool(before) and self._ends[before - 1] >= began


@dataclass(frozen=True, kw_only=True)
class _Doubt:
    """When rows may have been locked by who never had what it asked for.

    Attributes:
        locked: rows may be locked: they are passed over.
        lost: rows may have been handed out, and nobody was told.
    """

    locked: _Times
    lost: _Times

    def may_have_had(self, item: Item, until: float) -> bool:
        """Whether it may have been handed out by then to one who was never told."""
        return not item.is_first and self.lost.touch(item.put_from, until)


def _items(history: History) -> dict[str, Item]:
    return {
        one.answer["thing"]: Item(
            thing=one.answer["thing"],
            rank=one.given["rank"],
            put_from=one.began,
            put_by=one.ended,
            there_from=one.after,
        )
        for one in history.operations
        if one.kind == "put" and one.outcome == "ok" and one.answer.get("created", True)
    }


def _judge(
    source: str, asked: list[Operation], waiting: list[Item], items: dict[str, Item], doubt: _Doubt
) -> Iterator[Violation]:
    coming = sorted(waiting, key=lambda item: item.there_from)
    there: list[tuple[float, str, Item]] = []  # by the time at which each is handed out
    next_one = 0
    for take in sorted(asked, key=lambda one: one.began):
        while next_one < len(coming) and coming[next_one].there_from <= take.began:
            item = coming[next_one]
            heappush(there, (item.taken_from, item.thing, item))
            next_one += 1
        while there and there[0][0] <= take.began:
            heappop(there)
        if doubt.locked.touch(take.began, take.ended):
            continue
        left = [
            item
            for taken_from, _, item in there
            if taken_from > take.ended and not doubt.may_have_had(item, take.ended)
        ]
        if not left:
            continue
        if len(take.answer["holds"]) < take.given["n"]:
            yield Violation(
                invariant="I13",
                what=f"{source}: {len(take.answer['holds'])} of {take.given['n']} given at {take.began:.6f} "
                f"while {left[0].thing} was there",
            )
        for held in take.answer["holds"]:
            given = items.get(held["thing"])
            # One that was handed out before has a new place in the order, which only the table knows.
            if given is None or given.taken_from < take.began or doubt.may_have_had(given, take.ended):
                continue
            if first := next((item for item in left if item.comes_before(given)), None):
                yield Violation(invariant="I12", what=f"{source}: {given.thing} went before {first.thing}")
