"""The line for a lock: none passes who surely stands before, and none waits beside a free thing: I12, I13.

A place counts only while its owner polls: one that is silent is passed over. So a place is sure where its
owner polled shortly before, and its session is known to have lived.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.fault.history import FOREVER, History, Operation, Violation
from tests.fault.history_holds import Holds

FRESH_S = 0.45
"""A poll is written twice a second and good for one: the place is sure half a second longer."""
LONGEST_PAUSE_S = 0.6
"""Between two polls of who is awake."""
ADMITTED_WITHIN_S = 2.0
"""A free thing goes to the head of its line within a poll; a silent head is passed over after a second."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One that waited in a line.

    Attributes:
        came_from: it did not come before.
        in_line: it stood there by then.
        polls: when each poll began.
        ended: it was granted, or left, after its last poll and by then.
        alive: its session is known to have lived until then.
    """

    thing: str
    rank: int
    came_from: float
    in_line: float
    polls: Sequence[float]
    ended: float
    alive: float
    is_granted: bool

    def stands_by(self, ageing_s: float) -> float:
        """Its place, at worst."""
        return self.in_line - ageing_s * self.rank

    def stands_from(self, ageing_s: float) -> float:
        """Its place, at best."""
        return self.came_from - ageing_s * self.rank

    def surely_waited(self, began: float, ended: float) -> bool:
        """Whether it stood in line, and was not silent, in all of that time."""
        if not (self.in_line < began and self.polls[-1] > ended and self.alive > ended):
            return False
        before = bisect_left(self.polls, began) - 1
        return before >= 0 and self.polls[before] > ended - FRESH_S


def line(history: History, holds: Holds) -> Iterator[Violation]:
    """I12 and I13 of all lines."""
    by_thing: dict[str, list[Place]] = defaultdict(list)
    for one in history.operations:
        if one.kind == "take" and one.outcome != "unknown" and "rank" in one.given and "polls" in one.answer:
            by_thing[one.thing].append(_place(one, holds))
    possible = _possible(history, holds)
    for thing, places in by_thing.items():
        yield from _passed_over(places, history.ageing_s)
        yield from _left_waiting(places, possible[thing])


def _place(one: Operation, holds: Holds) -> Place:
    return Place(
        thing=one.thing,
        rank=one.given["rank"],
        came_from=one.began,
        in_line=one.answer["in_line"],
        polls=one.answer["polls"],
        ended=one.ended,
        alive=holds.alive.get(one.life, 0.0),
        is_granted=one.outcome == "ok",
    )


def _passed_over(places: Sequence[Place], ageing_s: float) -> Iterator[Violation]:
    ordered = sorted(places, key=lambda place: place.in_line)
    longest_s = max((place.ended - place.in_line for place in places), default=0.0)
    starts = [place.in_line for place in ordered]
    for given in places:
        if not given.is_granted:
            continue
        decided_from = given.polls[-1]
        for other in ordered[
            bisect_left(starts, decided_from - longest_s) : bisect_left(starts, decided_from)
        ]:
            if (
                other is not given
                and other.surely_waited(decided_from, given.ended)
                and other.stands_by(ageing_s) < given.stands_from(ageing_s)
            ):
                yield Violation(
                    invariant="I12",
                    what=f"{given.thing}: rank {given.rank} that came at {given.came_from:.6f} went before "
                    f"rank {other.rank} in line since {other.in_line:.6f}",
                )


def _left_waiting(places: Sequence[Place], possible: Sequence[tuple[float, float]]) -> Iterator[Violation]:
    free = [(ended, began) for ended, began in pairwise_gaps(possible) if began - ended > ADMITTED_WITHIN_S]
    for place in places:
        for began, ended in free:
            first, last = max(began, place.in_line), min(ended, place.polls[-1])
            if last - first <= ADMITTED_WITHIN_S:
                continue
            polls = [poll for poll in place.polls if first <= poll <= last]
            if len(polls) > 1 and all(
                later - earlier < LONGEST_PAUSE_S for earlier, later in pairwise(polls)
            ):
                yield Violation(
                    invariant="I13",
                    what=f"{place.thing}: free from {first:.6f} to {last:.6f} while one waited",
                )


def pairwise_gaps(intervals: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The times that none of the intervals covers, from the beginning to the end of time."""
    covered = 0.0
    for began, ended in sorted(intervals):
        if began > covered:
            yield covered, began
        covered = max(covered, ended)
    yield covered, FOREVER


def _possible(history: History, holds: Holds) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for hold in holds.by_key.values():
        found[hold.thing].append((hold.taken_from, hold.possibly_until))
    for one in history.operations:
        if one.kind == "take" and one.outcome == "unknown":
            until = one.began + history.undecided_s + one.given.get("seconds", 0.0)
            found[one.thing].append((one.began, until))
    return found
