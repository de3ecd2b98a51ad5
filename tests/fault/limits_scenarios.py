"""What the limits' fault suite does: its scenarios, which clients want what in them, and the two forms.

Of the four endpoints each shows something of its own. Of `post_tweet` and `search_tweets` every priority
wants all that it can get: how much of a limit is used. Of `fetch_mentions` all want the same but a few, who
want little: how it is shared. Of `users_me` somebody critical wants something now and then: who comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordination.engagement import Priority

Windows = Sequence[tuple[int, int]]
QUARTER_S, HOUR_S, DAY_S = 900, 3600, 86_400
PRIORITIES: tuple[Priority, ...] = ("critical", "high", "medium", "low")
LITTLE = 1 / 3
"""Of an equal share: what those want who want little."""
CROWD = 3
"""So many processes ask as one worker, which has one worker's share."""
NOW_AND_THEN = 0.05
"""Of the limit: what is critical where the critical is seldom."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a chapter does.

    Attributes:
        name: plain, full, headers, resets, shared, killed or days.
        rate: fleet seconds in a real one.
        seconds: how long it takes, real.
        windows: each endpoint's.
        clients: how many processes.
        warm_up_s: fleet seconds at the beginning that say nothing about how much is used.
        slow: the probability that an answer comes some tenths of a second late.
        least_used: how much of the tightest window is used at least; None where nothing is promised.
        delay_s: the time from a grant to the count that the limiter is told to reckon with, real.
        unfair: how far shares may lie from max-min, of a share; None where neither they nor the order of
            priorities are judged.
        heard: the stem of the headers that tell of the last window.
        pause_s: real seconds from one kill to the next, about.
    """

    name: str
    rate: float
    seconds: float
    windows: Mapping[str, Windows]
    clients: int = 64
    warm_up_s: float = 0.0
    slow: float = 0.05
    least_used: float | None = None
    delay_s: float = 0.1
    unfair: float | None = None
    heard: str | None = None
    pause_s: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Want:
    """What one client wants of an endpoint.

    Attributes:
        priority: with which it asks.
        every_s: fleet seconds from one request to the next; 0 for as many as it gets.
        label: under which it asks.
    """

    priority: Priority
    label: str
    every_s: float = 0.0


def tightest(windows: Windows) -> tuple[int, int]:
    """The window that allows the least in the long run; of two the longer."""
    return min(windows, key=lambda one: (one[0] / one[1], -one[1]))


def want(endpoint: str, place: int, clients: int, windows: Windows) -> Want:
    """What the client at a place among so many of the endpoint wants."""
    limit, window_s = tightest(windows)
    label = f"{endpoint}/{place}"
    match endpoint:
        case "fetch_mentions":
            if place < CROWD:
                return Want(priority="medium", label=f"{endpoint}/crowd")
            equal_s = window_s * clients / limit  # from one request to the next, were all shares equal
            return Want(priority="medium", label=label, every_s=equal_s / LITTLE if place % 4 == 3 else 0.0)
        case "users_me" if place == 0:
            return Want(priority="critical", label=label, every_s=window_s / (NOW_AND_THEN * limit))
        case "users_me":
            return Want(priority=PRIORITIES[1 + place % 3], label=label)
        case _:
            return Want(priority=PRIORITIES[place % 4], label=label)


SHORT_WINDOWS: Mapping[str, Windows] = {
    "post_tweet": [(24, 160)],
    "fetch_mentions": [(32, 160)],
    "search_tweets": [(48, 160)],
    "users_me": [(32, 160)],
}
TROUBLED_WINDOWS: Mapping[str, Windows] = {
    "post_tweet": [(10, 120)],
    "fetch_mentions": [(20, 120)],
    "search_tweets": [(40, 120)],
}
QUARTER_WINDOWS: Mapping[str, Windows] = {
    "post_tweet": [(50, QUARTER_S)],
    "search_tweets": [(180, QUARTER_S)],
}
LONG_WINDOWS: Mapping[str, Windows] = {
    "post_tweet": [(50, QUARTER_S), (200, HOUR_S)],
    "fetch_mentions": [(75, QUARTER_S), (300, HOUR_S)],
    "search_tweets": [(180, QUARTER_S), (720, HOUR_S)],
    "users_me": [(75, QUARTER_S)],
}
DAY_WINDOWS: Mapping[str, Windows] = {
    "post_tweet": [(200, HOUR_S), (2400, DAY_S)],
    "search_tweets": [(720, HOUR_S), (12_000, DAY_S)],
}
TROUBLES = ("headers", "resets", "shared", "killed")
# The limiter waits three real seconds for who should come next, and looks at shares once a second: at rate r
# that is 3 r seconds of a window. So how much is used is held to 98% only where 3 r is 1% of the window,
# and shares to 5% only over an hour with some requests a second.
SHORT = (
    # Some tens of real seconds say nothing of shares, and on a busy machine little of how much is used.
    Scenario(name="plain", rate=10, seconds=36, windows=SHORT_WINDOWS, warm_up_s=20, least_used=0.4),
    *[
        Scenario(name=name, rate=30, seconds=11, windows=TROUBLED_WINDOWS, clients=24, pause_s=0.7)
        for name in TROUBLES
    ],
)
LONG = (
    Scenario(
        name="full", rate=3, seconds=950, windows=QUARTER_WINDOWS, warm_up_s=QUARTER_S / 3, least_used=0.98
    ),
    Scenario(
        name="plain",
        rate=10,
        seconds=1080,
        windows=LONG_WINDOWS,
        warm_up_s=QUARTER_S,
        least_used=0.9,
        unfair=0.05,
    ),
    *[
        Scenario(name=name, rate=30, seconds=360, windows=LONG_WINDOWS, warm_up_s=QUARTER_S, pause_s=2)
        for name in TROUBLES
    ],
    # 49 hours. Three seconds are a hundredth of a day at this rate, and a third of an hour.
    Scenario(
        name="days",
        rate=360,
        seconds=490,
        windows=DAY_WINDOWS,
        warm_up_s=HOUR_S,
        least_used=0.9,
        heard="x-user-limit-24hour",
    ),
)
FORMS: Mapping[str, tuple[Scenario, ...]] = {"short": SHORT, "long": LONG}
