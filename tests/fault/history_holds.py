"""What was held by whom, and whether two held it at once: I1, I2, I3, I11, I13 of what is held, I15.

Two views of each hold. It was *surely* held from the time its taking had ended to the earliest of: the
lease's end, the asking to give it up, and the last moment at which its holder is known to have been alive; a
takeover before that was wrong. It was *possibly* held from the time its taking began to the latest of all
ends; a refusal outside that was wrong.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate

from tests.fault.history import FOREVER, History, Operation, Violation

FULL = frozenset({"held", "no_room"})
"""Refusals that say that others have it."""


@dataclass(kw_only=True)
class Hold:
    """One holding of one thing under one token; times as in `history.Operation`."""

    thing: str
    token: int
    life: str
    pool: str
    units: int
    taken_from: float
    taken_by: float
    expires: float
    latest_expires: float
    kept_at: float = 0.0
    given_from: float = FOREVER
    given_by: float = FOREVER

    def surely_until(self, alive: float) -> float:
        """The end of the time in which nobody else may have had it."""
        return min(self.expires, self.given_from, max(alive, self.kept_at))

    @property
    def possibly_until(self) -> float:
        """The end of the time in which others may have been refused it."""
        return min(self.given_by, self.latest_expires)


@dataclass(frozen=True, kw_only=True)
class Holds:
    """All holds of a history, by thing and token, and how long each life is known to have lived."""

    by_key: dict[tuple[str, int], Hold]
    alive: dict[str, float]
    twice: list[tuple[str, int]]

    @classmethod
    def of(cls, history: History) -> "Holds":
        """Collect them."""
        by_key: dict[tuple[str, int], Hold] = {}
        alive: dict[str, float] = defaultdict(float)
        twice: list[tuple[str, int]] = []
        for one in history.operations:
            if one.kind == "alive" and one.outcome == "ok":
                alive[one.life] = max(alive[one.life], one.began)
            if one.kind == "take" and one.outcome == "ok":
                for hold in _taken(one):
                    key = (hold.thing, hold.token)
                    if key in by_key:
                        twice.append(key)
                    by_key[key] = hold
        for one in history.operations:
            if one.kind in {"keep", "give"} and (hold := by_key.get((one.thing, one.given["token"]))):
                _apply(one, hold, history.undecided_s)
        return cls(by_key=by_key, alive=dict(alive), twice=twice)

    def surely_until(self, hold: Hold) -> float:
        """The end of the time in which nobody else may have had it."""
        return hold.surely_until(self.alive.get(hold.life, 0.0))

    def by_thing(self) -> dict[str, list[Hold]]:
        """Each thing's holds in the order in which they were taken."""
        found: dict[str, list[Hold]] = defaultdict(list)
        for hold in self.by_key.values():
            found[hold.thing].append(hold)
        for holds in found.values():
            holds.sort(key=lambda hold: hold.taken_by)
        return found


def _taken(one: Operation) -> Iterator[Hold]:
    for held in one.answer["holds"]:
        yield Hold(
            thing=held["thing"],
            token=held["token"],
            life=one.life,
            pool=held.get("pool", ""),
            units=held.get("units", 1),
            taken_from=one.began,
            taken_by=one.ended,
            expires=held["expires"],
            latest_expires=held.get("latest_expires", held["expires"]),
        )


def _apply(one: Operation, hold: Hold, undecided_s: float) -> None:
    if one.kind == "give" and one.outcome != "refused":
        hold.given_from = min(hold.given_from, one.began)
        if one.outcome == "ok":
            hold.given_by = min(hold.given_by, one.after)
            hold.kept_at = max(hold.kept_at, one.began)
    elif one.kind == "keep" and one.outcome == "ok":
        hold.kept_at = max(hold.kept_at, one.began)
        hold.expires = one.answer["expires"]  # it may be sooner than before
        hold.latest_expires = max(hold.latest_expires, hold.expires)
    elif one.kind == "keep" and one.outcome == "unknown":
        hold.expires = min(hold.expires, one.began + one.given["seconds"])
        hold.latest_expires = max(hold.latest_expires, one.began + undecided_s + one.given["seconds"])


def overlaps(holds: Holds) -> Iterator[Violation]:
    """I1: no thing was surely held by two at one time."""
    for thing, taken in holds.by_thing().items():
        if taken[0].pool:
            continue  # many hold units of it: I11
        last: Hold | None = None
        for hold in taken:
            until = holds.surely_until(hold)
            is_sure = until > hold.taken_by
            # Of whom nothing more is heard was given it all the same, at some time since its asking.
            if (
                last
                and hold.taken_by < holds.surely_until(last)
                and (is_sure or last.taken_by <= hold.taken_from)
            ):
                yield Violation(
                    invariant="I1",
                    what=f"{thing}: token {hold.token} was given at {hold.taken_by:.6f}, token {last.token} "
                    f"was held until {holds.surely_until(last):.6f}",
                )
            if is_sure and (last is None or until > holds.surely_until(last)):
                last = hold


def tokens(holds: Holds) -> Iterator[Violation]:
    """I2: of two grants one after the other the later has the higher token; none is given twice."""
    fenced = list(holds.by_key.values())
    for thing, token in holds.twice:
        yield Violation(invariant="I2", what=f"{thing}: token {token} was given twice")
    owner: dict[int, str] = {}
    for hold in fenced:
        if owner.setdefault(hold.token, hold.thing) != hold.thing:
            yield Violation(
                invariant="I2", what=f"token {hold.token} for {hold.thing} and {owner[hold.token]}"
            )
    by_end = sorted(fenced, key=lambda hold: hold.taken_by)
    highest = [0, *accumulate((hold.token for hold in by_end), max)]
    ends = [hold.taken_by for hold in by_end]
    for hold in fenced:
        before = highest[bisect_left(ends, hold.taken_from)]
        if hold.token <= before:
            yield Violation(
                invariant="I2", what=f"{hold.thing}: token {hold.token} was given after token {before}"
            )


def stale_writes(history: History, holds: Holds) -> Iterator[Violation]:
    """I3: nobody writes under another's token, after a newer grant, or what it gave up or outstayed."""
    newest: dict[str, tuple[list[float], list[int]]] = {}
    for thing, taken in holds.by_thing().items():
        newest[thing] = ([h.taken_by for h in taken], list(accumulate((h.token for h in taken), max)))
    for one in history.operations:
        if one.kind not in {"keep", "give"} or one.outcome != "ok":
            continue
        hold = holds.by_key.get((one.thing, one.given["token"]))
        if why := _stale(one, hold, newest.get(one.thing)):
            what = f"{one.thing}: a {one.kind} under {one.given['token']} committed, {why}"
            yield Violation(invariant="I3", what=what)
    yield from _late_keeps(history)


def _stale(one: Operation, hold: Hold | None, newest: tuple[list[float], list[int]] | None) -> str:
    if hold is None or newest is None:
        return "nobody's token"
    if hold.life != one.life:
        return "another's token"
    if one.began > hold.given_by:
        return "after it was given up"
    ends, highest = newest
    before = bisect_left(ends, one.began)
    return f"after {highest[before - 1]} was granted" if before and highest[before - 1] > hold.token else ""


def _late_keeps(history: History) -> Iterator[Violation]:
    """A lease that was surely over when it was prolonged."""
    by_hold: dict[tuple[str, int], list[Operation]] = defaultdict(list)
    for one in history.operations:
        if one.kind == "keep" and one.outcome != "refused":
            by_hold[one.thing, one.given["token"]].append(one)
    for take in history.operations:
        if take.kind != "take" or take.outcome != "ok":
            continue
        for held in take.answer["holds"]:
            expires = held.get("latest_expires", held["expires"])
            for keep in sorted(by_hold.pop((held["thing"], held["token"]), []), key=lambda one: one.began):
                if keep.outcome == "unknown":
                    expires = FOREVER
                elif keep.began > expires:
                    yield Violation(
                        invariant="I3",
                        what=f"{keep.thing}: token {held['token']} was renewed {keep.began - expires:.3f} s "
                        "after its lease",
                    )
                else:
                    expires = keep.answer["expires"]


def wrong_refusals(history: History, holds: Holds) -> Iterator[Violation]:
    """I13: nobody is told that a thing is held, or a pool used up, while nobody can have it."""
    possible: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for hold in holds.by_key.values():
        possible[hold.pool or hold.thing].append((hold.taken_from, hold.possibly_until, hold.units))
    for one in history.operations:
        if one.kind == "take" and one.outcome == "unknown":
            until = one.began + history.undecided_s + one.given.get("seconds", 0.0)
            possible[one.thing].append((one.began, until, one.given.get("units", 1)))
    known = {thing: _Used(intervals) for thing, intervals in possible.items()}
    for one in history.operations:
        if one.kind != "take" or one.outcome != "refused" or one.answer.get("reason") not in FULL:
            continue
        used = known[one.thing].at_most(one.began, one.ended) if one.thing in known else 0
        if used + one.given.get("units", 1) <= history.capacities.get(one.thing, 1):
            yield Violation(
                invariant="I13",
                what=f"{one.thing}: refused at {one.began:.6f} as full, at most {used} can have been held",
            )


class _Used:
    """How many units can have been held in a stretch of time."""

    def __init__(self, intervals: Sequence[tuple[float, float, int]]) -> None:
        starts = sorted((start, units) for start, _, units in intervals)
        ends = sorted((end, units) for _, end, units in intervals)
        self._starts, self._ends = [at for at, _ in starts], [at for at, _ in ends]
        self._begun = [0, *accumulate(units for _, units in starts)]
        self._over = [0, *accumulate(units for _, units in ends)]

    def at_most(self, began: float, ended: float) -> int:
        begun = self._begun[bisect_right(self._starts, ended)]
        return begun - self._over[bisect_left(self._ends, began)]


def repeated_effects(history: History, holds: Holds) -> Iterator[Violation]:
    """I15: what was done for good is done once, and is never handed out again."""
    done: dict[str, Operation] = {}
    for one in sorted(history.operations, key=lambda one: one.began):
        if one.kind == "give" and one.outcome == "ok" and one.given.get("final"):
            if one.thing in done:
                yield Violation(invariant="I15", what=f"{one.thing}: done twice")
            done.setdefault(one.thing, one)
    for hold in holds.by_key.values():
        end = done.get(hold.thing)
        if end and hold.taken_from > end.after:
            yield Violation(
                invariant="I15", what=f"{hold.thing}: given out under {hold.token} after it was done"
            )


def overfull_pools(history: History, holds: Holds) -> Iterator[Violation]:
    """I11: the units of a pool that are surely held at one time are never more than it has."""
    by_pool: dict[str, list[Hold]] = defaultdict(list)
    for hold in sorted(holds.by_key.values(), key=lambda hold: hold.taken_by):
        if hold.pool:
            by_pool[hold.pool].append(hold)
    for pool, taken in by_pool.items():
        held: list[tuple[float, float, int]] = []  # by the end of the time in which it is sure
        for hold in taken:
            while held and held[0][0] <= hold.taken_by:
                heappop(held)
            until = holds.surely_until(hold)
            is_sure = until > hold.taken_by
            used = hold.units + sum(units for _, by, units in held if is_sure or by <= hold.taken_from)
            if used > history.capacities[pool]:
                what = f"{pool}: {used} of {history.capacities[pool]} units at {hold.taken_by:.6f}"
                yield Violation(invariant="I11", what=what)
                break
            if is_sure:
                heappush(held, (until, hold.taken_by, hold.units))
