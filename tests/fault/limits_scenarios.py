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
    """What a chapter does, and what is asked of it.

    What is real for the limiter (J, the time from grant to count, and its patience, for which it holds a unit
    for who should come) is at this rate a part of the smallest window, as it is where a window is a real one.

    Attributes:
        name: plain, headers, resets, shared, killed or days.
        rate: fleet seconds in a real one.
        windows: each endpoint's.
        warm_up_s: fleet seconds at the beginning, in which the windows fill.
        counted_s: fleet seconds after them: of these it is asked how much was used, and by whom.
        clients: how many processes.
        slow: the probability that an answer comes late.
        late_s: by how many real seconds.
        least_used: how much of a limit is used at least where every priority wants all that it can get.
        unfair: how far shares may lie from weighted max-min, as a part of a share.
        grants: how far in any case.
        patience: the limiter's, as a part of the smallest window.
        heard: the stem of the headers that tell of the last window.
        pause_s: real seconds from one kill to the next, about.
    """

    name: str
    rate: float
    windows: Mapping[str, Windows]
    warm_up_s: float
    counted_s: float
    clients: int = 64
    slow: float = 0.05
    late_s: float = 0.3
    least_used: float = 0.98
    unfair: float = 0.05
    grants: int = 1
    patience: float = 0.01
    heard: str | None = None
    pause_s: float = 2.0

    @property
    def seconds(self) -> float:
        """How long it takes, real."""
        return (self.warm_up_s + self.counted_s) / self.rate

    @property
    def smallest_s(self) -> float:
        """The smallest window."""
        return min((window_s for one in self.windows.values() for _, window_s in one), default=HOUR_S)

    @property
    def delay_s(self) -> float:
        """J, real: 1% of the smallest window."""
        return 0.01 * self.smallest_s / self.rate

    @property
    def patience_s(self) -> float:
        """The limiter's patience, real."""
        return self.patience * self.smallest_s / self.rate


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
HOUR_WINDOWS: Mapping[str, Windows] = {
    "post_tweet": [(50, QUARTER_S), (200, HOUR_S)],
    "fetch_mentions": [(75, QUARTER_S), (300, HOUR_S)],
    "search_tweets": [(180, QUARTER_S), (720, HOUR_S)],
    "users_me": [(75, QUARTER_S)],
}
DAY_WINDOWS: Mapping[str, Windows] = {
    "post_tweet": [(200, HOUR_S), (2400, DAY_S)],
    "search_tweets": [(720, HOUR_S), (4800, DAY_S)],
}
TROUBLES = ("headers", "resets", "shared", "killed")
SHORT = (
    # What a busy machine adds is real: a tenth of a second is one of a window of 160, or three of 120.
    Scenario(
        name="plain",
        rate=10,
        windows=SHORT_WINDOWS,
        warm_up_s=80,
        counted_s=280,
        clients=32,
        least_used=0.9,
        unfair=0.2,
        grants=2,
        patience=0.05,
    ),
    *[
        Scenario(
            name=name,
            rate=30,
            windows=TROUBLED_WINDOWS,
            warm_up_s=60,
            counted_s=220,
            clients=24,
            least_used=0.85,
            unfair=0.2,
            grants=3,
            patience=0.05,
            pause_s=0.7,
            slow=0.5,
            late_s=0.1,
        )
        for name in TROUBLES
    ],
)
LONG = (
    # J x rate / W, and so the limiter's patience: 0.6 s x 15 / 900 s = 1%, and 0.3 s x 30 / 900 s. An hour's
    # window fills in an hour.
    Scenario(name="plain", rate=15, windows=HOUR_WINDOWS, warm_up_s=HOUR_S, counted_s=HOUR_S),
    *[
        Scenario(name=name, rate=30, windows=HOUR_WINDOWS, warm_up_s=HOUR_S, counted_s=HOUR_S)
        for name in TROUBLES
    ],
    # 49 hours after the first; 0.15 s x 240 / 3600 s = 1%. Two cores make some 20 requests in a real second.
    Scenario(
        name="days",
        rate=240,
        windows=DAY_WINDOWS,
        warm_up_s=HOUR_S,
        counted_s=49 * HOUR_S,
        heard="x-user-limit-24hour",
    ),
)
FORMS: Mapping[str, tuple[Scenario, ...]] = {"short": SHORT, "long": LONG}
