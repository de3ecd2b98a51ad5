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
from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import Any

from tests.fault import limits_judge as judge
from tests.fault.limits_judge import Use
from tests.fault.limits_place import Client, Place
from tests.fault.limits_scenarios import HOUR_S, Scenario, Want, tightest, want
from tests.fault.suite import Outcome

Absences = list[tuple[float, str]]
"""When somebody was killed, and under which label another took its place at once."""
PROMISES = ("I9", "I10", "I12", "I14", "efficiency", "convergence", "clients")
NAME = "asker"
LOGINS = 6
"""At once: a login costs both sides some milliseconds of a core."""
WHOLLY_USED = ("post_tweet", "search_tweets")
"""Of these every priority wants as much as it can get."""
PASSED_OVER = 2
"""Requests of a lower rank that may be granted while a critical one waits for its time to come again."""
PACES = 1000
"""Settings whose pace is looked at."""
STARVED = 3
"""Intervals of its share, after a window's end, in which who always wants must have had one."""
TOO_HIGH = {"x-rate-limit-limit": "5000", "x-rate-limit-remaining": "4999"}


def run(scenario: Scenario, here: Place, seed: int, told: Callable[[str], None]) -> Outcome:
    """Let it happen, and judge."""
    outcome = Outcome()
    here.setting("quiet_time_s", 1)
    heard_s = {windows[0][1] for windows in scenario.windows.values()}
    assert len(heard_s) < 2, "the platform's headers speak of one span"
    for span_s in heard_s:
        here.setting("header_window_s", span_s)
    here.setting("request_delay_s", scenario.delay_s)
    here.setting("rate_limit_patience_s", scenario.patience_s)
    for endpoint, windows in scenario.windows.items():
        here.limit(endpoint, windows, heard=scenario.heard)
    _arm(scenario, here, seed)
    outcome.broken("I9", judge.loose_paces(here.paces(PACES, seed)))
    clients = _enter(scenario, here)
    for client in clients:
        client.wait()
    began_s = here.clock.now_s()
    for client in clients:
        client.begin()
    began = monotonic()
    told(f"{scenario.name}: {len(clients)} clients for {scenario.seconds:g} s at rate {scenario.rate:g}")
    killed = _happen(scenario, here, seed, until=began + scenario.seconds)
    outcome.faults["kill"] += len(killed)
    ended_s = here.clock.now_s()
    outcome.broken("clients", here.leave())
    for fault in here.own("faults"):
        outcome.faults[fault["fault"]] += fault["fired"]
    uses = judge.read_uses(sorted(here.logs.iterdir()))
    _judge(scenario, here, uses, (began_s, ended_s), killed, outcome)
    for measure in outcome.measures:
        told(f"{scenario.name}: {measure}")
    return outcome


def _enter(scenario: Scenario, here: Place) -> list[Client]:
    """Each client wants something of one endpoint."""
    endpoints = list(scenario.windows)
    clients: list[Client] = []
    for number in range(scenario.clients):
        endpoint = endpoints[number % len(endpoints)]
        wanted = _want(scenario, number)
        demand = here.demand(endpoint, priority=wanted.priority, every_s=wanted.every_s)
        clients.append(here.enter(NAME, number + 1, wanted.label, demand))
        if number >= LOGINS:
            clients[number - LOGINS].wait()
    return clients


def _want(scenario: Scenario, number: int) -> Want:
    endpoints = list(scenario.windows)
    endpoint = endpoints[number % len(endpoints)]
    among = len(range(number % len(endpoints), scenario.clients, len(endpoints)))
    return want(endpoint, number // len(endpoints), among, scenario.windows[endpoint])


def _happen(scenario: Scenario, here: Place, seed: int, *, until: float) -> Absences:
    """Let time pass; give who was killed when."""
    chance, pause = random.Random(seed), Event()
    killed: Absences = []
    if scenario.name != "killed":
        pause.wait(until - monotonic())
        return killed
    while (left_s := until - monotonic()) > 0:
        pause.wait(min(left_s, scenario.pause_s * chance.uniform(0.5, 1.5)))
        killed.append((here.clock.now_s(), (fallen := chance.choice(here.clients)).order.label))
        successor = here.replace(fallen)
        successor.wait()
        successor.begin()
    return killed


def _arm(scenario: Scenario, here: Place, seed: int) -> None:
    faults: dict[str, list[dict[str, Any]]] = {
        "headers": [
            {"fault": "delay", "probability": scenario.slow, "seconds": scenario.late_s},
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


def _judge(
    scenario: Scenario,
    here: Place,
    uses: list[Use],
    span_s: tuple[float, float],
    killed: Absences,
    outcome: Outcome,
) -> None:
    counts = [one for one in here.own("limits") if one["endpoint"] in scenario.windows]
    shared = scenario.name == "shared"
    if not shared:  # there the windows are not the fleet's alone
        outcome.broken("I9", judge.above_the_limit(counts))
    if scenario.name != "headers":
        outcome.broken("clients", judge.never_arrived(uses))
    for endpoint, windows in scenario.windows.items():
        own = [use for use in uses if use.endpoint == endpoint]
        counted = here.counted(endpoint)
        outcome.operations[endpoint] += len(counted)
        for limit, window_s in windows:
            outcome.broken("I10", judge.outstanding_and_used(own, limit, window_s))
            if shared:
                outcome.broken("I9", judge.own_above_the_limit(counted, limit, window_s))
        limit, window_s = tightest(windows)
        if shared:
            outcome.broken("convergence", judge.against_the_headers(own))
            limit, window_s = windows[0]  # the one of which the headers tell what others take
            used = judge.efficiency_of_windows(own, limit, window_s)
        else:
            used = judge.efficiency(counted, limit, window_s)
        outcome.measures.append(
            {
                "chapter": scenario.name,
                "endpoint": endpoint,
                "limit": limit,
                "window_s": window_s,
                "requests": len(counted),
                "used": round(used, 4),
                "wait_s": judge.waits(own),
                "refused": sum(one["refused"] for one in counts if one["endpoint"] == endpoint),
            }
        )
        if endpoint in WHOLLY_USED and used < scenario.least_used:
            outcome.broken("efficiency", [f"{endpoint}: {used:.1%} of {limit} in {window_s} s"])
        _judge_order(scenario, endpoint, own, span_s, killed, outcome)


def _judge_order(
    scenario: Scenario,
    endpoint: str,
    uses: list[Use],
    span_s: tuple[float, float],
    killed: Absences,
    outcome: Outcome,
) -> None:
    """Who got how much, and who waited for whom."""
    # Shares are those of an hour; in less than that what was had at first counts too.
    until_s = span_s[1]
    from_s = until_s - scenario.counted_s if scenario.counted_s >= HOUR_S else span_s[0]
    endpoints = list(scenario.windows)
    numbers = range(endpoints.index(endpoint), scenario.clients, len(endpoints))
    wanted = {one.label: one for one in (_want(scenario, number) for number in numbers)}
    steady = [use for use in uses if from_s <= use.granted_s < until_s]
    counts = Counter(use.worker for use in steady)
    wants = {
        name: (until_s - from_s) / one.every_s if one.every_s else float("inf")
        for name, one in wanted.items()
    }
    weights = {name: float(judge.RANKS[one.priority]) for name, one in wanted.items()}
    shares = judge.max_min(wants, len(steady), weights)
    smallest_s = min(one for _, one in scenario.windows[endpoint])
    absences = Counter(
        name for at_s, name in killed if name in wanted and from_s - smallest_s < at_s < until_s
    )
    of_a_window = smallest_s / (until_s - from_s)
    wants |= judge.wanted_with_absences(counts, shares, absences, of_a_window, scenario.grants)
    shares = judge.max_min(wants, len(steady), weights)
    outcome.broken(
        "I14",
        [f"{endpoint}, {one}" for one in judge.unfair(counts, shares, scenario.unfair, scenario.grants)],
    )
    if endpoint == "users_me":
        outcome.broken("I12", judge.passed_over(steady, "critical", PASSED_OVER))
    limit, window_s = tightest(scenario.windows[endpoint])
    always = {name: one for name, one in wanted.items() if not one.every_s}
    of_one_s = window_s * sum(weights[name] for name in always) / limit
    longest_s = {name: STARVED * of_one_s / weights[name] + smallest_s for name in always}
    outcome.broken("I12", judge.starved(uses, longest_s, weights, from_s=from_s, until_s=until_s))
