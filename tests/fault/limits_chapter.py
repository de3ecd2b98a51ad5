"""A chapter of the limits' fault suite: 64 processes want more than there is, and the sandbox counts.

plain     three endpoints, every priority: how much is used, by whom, who waits
headers   answers are lost or late, their headers wrong, missing or those of another answer
resets    windows end before their time, or are said to
shared    another app of the same user takes from the same windows
killed    clients are killed at random, and others take their place
days      the window of a day, told by a header of its own
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from threading import Event
from time import monotonic
from typing import Any

from coordination.engagement import Priority
from tests.fault import limits_judge as judge
from tests.fault.limits_judge import Use
from tests.fault.limits_place import Client, Place, Windows

CLIENTS = 64
PRIORITIES: tuple[Priority, ...] = ("critical", "high", "medium", "low")
PROMISES = ("I9", "I10", "I12", "I14", "efficiency", "convergence", "clients")
QUARTER_S, HOUR_S, DAY_S = 900, 3600, 86_400
SEARCH = "/2/tweets/search/recent"


@dataclass(kw_only=True)
class Outcome:
    """What chapters came to; they add up.

    Attributes:
        operations: requests that the sandbox counted, by endpoint.
        faults: how often each fault struck, kills among them.
        violations: how often each promise was broken.
        details: in sentences.
        measures: what each chapter measured of each endpoint.
    """

    operations: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    violations: Counter[str] = field(default_factory=Counter[str])
    details: list[str] = field(default_factory=list[str])
    measures: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def broken(self, promise: str, sentences: list[str]) -> None:
        """Take down what was found."""
        self.violations[promise] += len(sentences)
        self.details += [f"{promise}: {sentence}" for sentence in sentences]

    def add(self, other: "Outcome") -> None:
        """Count another chapter in."""
        self.operations += other.operations
        self.faults += other.faults
        self.violations.update(other.violations)
        self.details += other.details
        self.measures += other.measures


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a chapter does.

    Attributes:
        name: of `SCENARIOS`.
        rate: fleet seconds in a real one.
        seconds: how long it takes, real.
        windows: each endpoint's.
        warm_up_s: fleet seconds at the beginning that say nothing about how much is used.
        least_used: how much of the tightest window is used at least; None where nothing is promised.
        heard: the header that tells of the last window.
        pause_s: real seconds between two kills.
    """

    name: str
    rate: float
    seconds: float
    windows: Mapping[str, Windows]
    warm_up_s: float = 0.0
    least_used: float | None = None
    heard: str | None = None
    pause_s: float = 1.0


def run(scenario: Scenario, here: Place, seed: int, told: Callable[[str], None]) -> Outcome:
    """Let it happen, and judge."""
    outcome = Outcome()
    here.setting("quiet_time_s", 1)
    for endpoint, windows in scenario.windows.items():
        here.limit(endpoint, windows, heard=scenario.heard)
    _arm(scenario, here, seed)
    clients = _enter(scenario, here)
    for client in clients:
        client.begin()
    began_s, began = here.clock.now_s(), monotonic()
    told(f"{scenario.name}: {len(clients)} clients for {scenario.seconds:g} s at rate {scenario.rate:g}")
    _happen(scenario, here, seed, until=began + scenario.seconds, outcome=outcome)
    ended_s = here.clock.now_s()
    outcome.broken("clients", here.leave())
    for fault in here.own("faults"):
        outcome.faults[fault["fault"]] += fault["fired"]
    uses = judge.read_uses(sorted(here.logs.iterdir()))
    _judge(scenario, here, uses, (began_s, ended_s), outcome)
    for measure in outcome.measures:
        told(f"{scenario.name}: {measure}")
    return outcome


def _enter(scenario: Scenario, here: Place) -> list[Client]:
    """Each client wants all of one endpoint; a few want little, of each priority there is somebody."""
    endpoints = list(scenario.windows)
    clients: list[Client] = []
    for number in range(CLIENTS):
        endpoint = endpoints[number % len(endpoints)]
        place = number // len(endpoints)
        priority = PRIORITIES[place % len(PRIORITIES)] if endpoint != "fetch_mentions" else "medium"
        clients.append(here.enter("asker", number + 1, here.demand(endpoint, priority=priority)))
    return clients


def _happen(scenario: Scenario, here: Place, seed: int, *, until: float, outcome: Outcome) -> None:
    chance, pause = random.Random(seed), Event()
    if scenario.name != "killed":
        pause.wait(until - monotonic())
        return
    while (left_s := until - monotonic()) > 0:
        pause.wait(min(left_s, scenario.pause_s * chance.uniform(0.5, 1.5)))
        here.replace(chance.choice(here.clients)).begin()
        outcome.faults["kill"] += 1


def _arm(scenario: Scenario, here: Place, seed: int) -> None:
    faults: dict[str, list[dict[str, Any]]] = {
        "headers": [
            {"fault": "delay", "probability": 0.05, "seconds": 0.3},
            {"fault": "drop_after_accepting", "probability": 0.05},
            {"fault": "headers_reordered", "probability": 0.2},
            {"fault": "headers_wrong", "probability": 0.1},
            {"fault": "headers_wrong", "probability": 0.1, "headers": TOO_HIGH},
            {"fault": "headers_missing", "probability": 0.1},
        ],
        "resets": [
            {"fault": "window_ends", "probability": 0.03},
            {"fault": "early_reset", "probability": 0.2, "seconds": 600},
        ],
        "shared": [{"fault": "foreign_app", "probability": 0.2, "requests": 1}],
    }
    for number, fault in enumerate(faults.get(scenario.name, [])):
        here.control("faults", {"path": "/2/*", "seed": seed * 100 + number, **fault})


TOO_HIGH = {"x-rate-limit-limit": "5000", "x-rate-limit-remaining": "4999"}


def _judge(
    scenario: Scenario, here: Place, uses: list[Use], span_s: tuple[float, float], outcome: Outcome
) -> None:
    began_s, ended_s = span_s
    shared = scenario.name == "shared"
    counts = [one for one in here.own("limits") if one["endpoint"] in scenario.windows]
    ended_early = scenario.name == "resets"
    outcome.broken("I9", judge.above_the_limit(counts, refusals=not shared))
    for endpoint, windows in scenario.windows.items():
        own = [use for use in uses if use.endpoint == endpoint]
        counted = here.counted(endpoint)
        outcome.operations[endpoint] += len(counted)
        for limit, window_s in windows:
            outcome.broken("I10", judge.outstanding_and_used(own, limit, window_s))
        limit, window_s = min(windows, key=lambda one: (one[0] / one[1], -one[1]))
        used = judge.efficiency([at for at in counted if at >= began_s + scenario.warm_up_s], limit, window_s)
        waits = {
            priority: _mean([use.granted_s - use.asked_s for use in own if use.priority == priority])
            for priority in PRIORITIES
        }
        outcome.measures.append(
            {
                "chapter": scenario.name,
                "endpoint": endpoint,
                "limit": limit,
                "window_s": window_s,
                "requests": len(counted),
                "used": round(used, 4),
                "wait_s": {name: round(wait_s, 1) for name, wait_s in waits.items() if wait_s is not None},
                "refused": sum(one["refused"] for one in counts if one["endpoint"] == endpoint),
            }
        )
        if scenario.least_used is not None:
            if used < scenario.least_used:
                outcome.broken(
                    "efficiency", [f"{used:.1%} of {limit} in {window_s} s of {endpoint} were used"]
                )
            windows_passed = (ended_s - began_s) / window_s
            if len(counted) < scenario.least_used * limit * (windows_passed - 1):
                outcome.broken(
                    "efficiency", [f"{len(counted)} requests of {endpoint} in {windows_passed:.1f} windows"]
                )
        if shared and not ended_early:
            outcome.broken("convergence", judge.against_the_headers(own))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def described(outcome: Outcome) -> dict[str, Any]:
    """As JSON."""
    return asdict(outcome)
