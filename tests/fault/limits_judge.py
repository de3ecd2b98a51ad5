"""What the limits' fault suite judges by: the clients' own logs beside the sandbox's count. Pure functions.

All times are fleet seconds since 1970. What was broken comes in sentences, one a breach.
"""

import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

RANKS = {"critical": 4, "high": 3, "medium": 2, "low": 1}
"""The order of priorities, and the weights of shares."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """One grant as its client saw it.

    Attributes:
        worker: who asked.
        endpoint: for what.
        priority: with which priority.
        asked_s: when it first asked for this one.
        refused_s: when it was told to wait for the first time; 0 where it was granted at once.
        told_s: when it was told to come again, the last time.
        called_s: when it made the call that granted it.
        granted_s: when it had the yes.
        settled_s: when it had settled it; None where it was killed before.
        status: of the answer, 0 for a broken connection; None where it was killed before.
        remaining: as the answer's header said; None where it said nothing usable.
        reset_s: the same for the reset.
    """

    worker: str
    endpoint: str
    priority: str
    asked_s: float
    refused_s: float = 0.0
    told_s: float = 0.0
    called_s: float
    granted_s: float
    settled_s: float | None = None
    status: int | None = None
    remaining: int | None = None
    reset_s: float | None = None


def read_uses(logs: Iterable[Path]) -> list[Use]:
    """Every grant of every client, in the order of granting."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for log in logs:
        for entry in read_log(log):
            if "grant" in entry:
                found[str(entry["grant"])] |= entry
    uses = [
        Use(
            worker=one["worker"],
            endpoint=one["endpoint"],
            priority=one["priority"],
            asked_s=one["asked_s"],
            refused_s=one["refused_s"],
            told_s=one["told_s"],
            called_s=one["called_s"],
            granted_s=one["granted_s"],
            settled_s=one.get("settled_s"),
            status=one.get("status"),
            remaining=_whole(one.get("remaining")),
            reset_s=_whole(one.get("reset")),
        )
        for one in found.values()
    ]
    return sorted(uses, key=lambda use: use.granted_s)


def read_log(log: Path) -> Iterator[dict[str, Any]]:
    """What a client wrote: its refusals, with what it was told, its grants, and their settling."""
    for line in log.read_text().splitlines():
        if line.endswith("}"):  # a killed writer's last line may be half a line
            yield json.loads(line)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def above_the_limit(counts: Iterable[Mapping[str, Any]]) -> list[str]:
    """I9: a rolling window of the sandbox's that held more than its limit, or a request that it refused."""
    found: list[str] = []
    for one in counts:
        name = f"{one['endpoint']}, {one['limit']} in {one['window_s']} s"
        if one["rolling_max"] > one["limit"]:
            found.append(f"{name}: {one['rolling_max']} in a rolling window")
        if one["refused"]:
            found.append(f"{name}: {one['refused']} requests were refused")
    return found


def loose_paces(paces: Iterable[tuple[int, float, float, int, int]]) -> list[str]:
    """I9 by reckoning: settings whose burst and spacing let more into a window than its limit.

    Args:
        paces: (requests, window_s, delay_s, burst, spacing_us) each; what is counted in a window was granted
            in it or in the delay before it. Those without a spacing are counted one by one.
    """
    return [
        f"{requests} in {window_s:g} s, {delay_s:g} s late: bursts of {burst}, then one in {spacing_us} us"
        for requests, window_s, delay_s, burst, spacing_us in paces
        if spacing_us and -(-round((window_s + delay_s) * 1_000_000) // spacing_us) + burst - 1 > requests
    ][:1]


def own_above_the_limit(times: Sequence[float], limit: int, window_s: float) -> list[str]:
    """I9 of the fleet's own requests, where another app takes from the same windows."""
    ordered = sorted(times)
    most = max(
        (place + 1 - bisect_right(ordered, at_s - window_s) for place, at_s in enumerate(ordered)), default=0
    )
    return [f"{most} in a rolling window of {window_s:g} s, {limit} allowed"] if most > limit else []


def outstanding_and_used(uses: Sequence[Use], limit: int, window_s: float) -> list[str]:
    """I10: a moment at which what was granted within the window, or is not settled yet, exceeds the limit.

    The clients read their clocks after the grant was given, so this counts too few rather than too many.
    """
    given = [use.granted_s for use in uses]
    late = sorted(
        (use.granted_s, use.settled_s)
        for use in uses
        if use.settled_s is not None and use.settled_s > use.granted_s + window_s
    )
    for place, at_s in enumerate(given):
        held = place + 1 - bisect_right(given, at_s - window_s)
        held += sum(1 for granted_s, settled_s in late if granted_s <= at_s - window_s and settled_s > at_s)
        if held > limit:
            return [f"{held} of {limit} in {window_s:g} s were out or used at {at_s:.3f}"]
    return []


def efficiency(times: Sequence[float], limit: int, window_s: float) -> float:
    """How much of a limit was used: the window over the mean time from a request to the limit-th after it.

    Bursts and their phase don't matter to it; 0 where there are no more requests than fit into one window.
    """
    if len(times) <= limit:
        return 0.0
    ordered = sorted(times)
    spans = [later - earlier for earlier, later in zip(ordered, ordered[limit:], strict=False)]
    return window_s / (sum(spans) / len(spans))


def efficiency_of_windows(uses: Sequence[Use], limit: int, window_s: float) -> float:
    """How much of a limit was used, by whomever, by what the platform told last of each of its windows.

    What a window left when it ended is lost, and so is the time until the next one began.
    """
    left: dict[float, int] = {}
    for use in uses:
        if use.remaining is not None and use.reset_s is not None:
            left[use.reset_s] = min(use.remaining, left.get(use.reset_s, limit))
    ends = sorted(left)[:-1]  # the last one was not over
    if len(ends) < 2:
        return 0.0
    passed = (ends[-1] - ends[0]) / window_s
    return sum(limit - left[end] for end in ends[1:]) / (limit * passed)


def never_arrived(uses: Iterable[Use]) -> list[str]:
    """Requests that were granted and made, and found nobody."""
    return [f"{use.worker}: a request at {use.granted_s:.3f} broke" for use in uses if use.status == 0]


def max_min(
    wants: Mapping[str, float], capacity: float, weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Weighted max-min shares: who wants less than its part gets it, the others have the rest by weight."""
    heavy = weights or dict.fromkeys(wants, 1.0)
    left, weight, shares = capacity, sum(heavy[name] for name in wants), dict[str, float]()
    for name, want in sorted(wants.items(), key=lambda item: item[1] / heavy[item[0]]):
        shares[name] = min(want, left * heavy[name] / weight)
        left -= shares[name]
        weight -= heavy[name]
    return shares


def unfair(
    counts: Mapping[str, float], shares: Mapping[str, float], tolerance: float, grants: float
) -> list[str]:
    """I14: who is off its max-min share by more than that part of it, and than so many grants."""
    return [
        f"{name} got {counts.get(name, 0):g}, its share is {share:.1f}"
        for name, share in sorted(shares.items())
        if abs(counts.get(name, 0) - share) > max(tolerance * share, grants)
    ]


def wanted_with_absences(
    counts: Mapping[str, float],
    shares: Mapping[str, float],
    absences: Mapping[str, int],
    of_a_window: float,
    grants: float,
) -> dict[str, float]:
    """What those wanted who were away for a moment: what they got, where that explains what they lack.

    What a window gives is given away as soon as it comes: who is not there then wants none of it. So each
    absence may cost what a window gives of a share; to whoever lacks more it is nothing.

    Args:
        counts: what each got.
        shares: of those who are there all the time.
        absences: how often each was away.
        of_a_window: the part of a share that one window gives.
        grants: how far a share may be missed in any case.
    """
    return {
        name: counts.get(name, 0)
        for name, times in absences.items()
        if shares[name] * (1 - times * of_a_window) - grants <= counts.get(name, 0) < shares[name]
    }


def starved(
    uses: Sequence[Use],
    longest_s: Mapping[str, float],
    weights: Mapping[str, float],
    from_s: float,
    until_s: float,
) -> list[str]:
    """I12: who of those that always wanted went without for longer than its longest time.

    Who has had more than its part waits until the others have theirs: what is there at the beginning, when
    nobody is known to wait, goes to whoever comes first. So its time counts from the moment at which no other
    of them has had less by its weight.
    """
    moments: dict[str, list[float]] = {name: [] for name in longest_s}
    for use in uses:
        if use.worker in moments and from_s < use.granted_s < until_s:
            moments[use.worker].append(use.granted_s)
    found: list[str] = []
    for worker, its_s in longest_s.items():
        edges = [from_s, *moments[worker], until_s]
        for had, (earlier, later) in enumerate(pairwise(edges)):
            others = [
                _reached_s(its, had * weights[name] / weights[worker])
                for name, its in moments.items()
                if name != worker
            ]
            waited_s = later - max([earlier, *others])
            if waited_s > its_s:
                found.append(f"{worker} went without for {waited_s:.0f} s")
                break
    return found


def _reached_s(moments: Sequence[float], count: float) -> float:
    """When so many had been had; infinite where they never were."""
    whole = math.ceil(count)
    if not whole:
        return -math.inf
    return moments[whole - 1] if whole <= len(moments) else math.inf


def passed_over(uses: Sequence[Use], priority: str, most: int) -> list[str]:
    """I12: requests of a priority during whose wait more than so many of a lower one were asked and granted.

    It surely waited from its first refusal to the time at which it was told to come again the last time, or
    to the call that was granted, if that was before. By how much it comes late is not the limiter's doing.
    """
    lower = [use for use in uses if RANKS[use.priority] < RANKS[priority]]
    found: list[str] = []
    for use in uses:
        if use.priority != priority or not use.refused_s:
            continue
        until_s = min(use.told_s, use.called_s)
        passed = sum(use.refused_s < one.called_s and one.granted_s < until_s for one in lower)
        if passed > most:
            found.append(
                f"{passed} of a lower priority than {priority} were granted while {use.worker} waited for "
                f"{use.granted_s - use.asked_s:.1f} s"
            )
    return found


def against_the_headers(uses: Sequence[Use]) -> list[str]:
    """Convergence: answers after whose settling, and before whose reset, more was granted than they left."""
    found: list[str] = []
    for use in uses:
        if use.remaining is None or use.reset_s is None or use.settled_s is None:
            continue
        granted = sum(1 for other in uses if use.settled_s < other.called_s and other.granted_s < use.reset_s)
        if granted > use.remaining:
            found.append(f"{granted} were granted after an answer that left {use.remaining}")
    return found


def waits(uses: Sequence[Use]) -> dict[str, float]:
    """How long each priority waited for a grant on average, in fleet seconds."""
    found: dict[str, list[float]] = defaultdict(list)
    for use in uses:
        found[use.priority].append(use.granted_s - use.asked_s)
    return {name: round(sum(found[name]) / len(found[name]), 1) for name in RANKS if name in found}
