"""The limiter against models: windows against a plain count, its pace against the bound that it rests on."""

import math
from collections import deque
from email.utils import formatdate
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coordination import Fleet
from coordination.database import Database, Json
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, value

ENDPOINT, ACCOUNT = "modelled", "default"
DELAY_S = 15.0
"""Within it the platform counts what nobody answered."""
TRIES = 4
"""Refusals in a row, each waited for as it said, after which a lone client must have its request."""


class Platform:
    """What counts: requests by fleet time, in windows that begin with a request, told by headers."""

    def __init__(self, limit: int, window_s: int) -> None:
        self.limit = limit
        self.window_s = window_s
        self.counted: list[float] = []
        self._started_s = -math.inf
        self._used = 0

    def count(self, at_s: float) -> dict[str, str]:
        """Count a request; give the headers of its answer."""
        self.counted.append(at_s)
        if math.floor(at_s) >= self._started_s + self.window_s:
            self._started_s, self._used = math.floor(at_s), 0
        self._used += 1
        return {
            "date": formatdate(at_s, usegmt=True),
            "x-rate-limit-limit": str(self.limit),
            "x-rate-limit-remaining": str(max(0, self.limit - self._used)),
            "x-rate-limit-reset": str(int(self._started_s + self.window_s)),
        }

    def most(self, window_s: float) -> int:
        """The most that any stretch of that length held."""
        held: deque[float] = deque()
        most = 0
        for at_s in sorted(self.counted):
            held.append(at_s)
            while held[0] <= at_s - window_s:
                held.popleft()
            most = max(most, len(held))
        return most


class Windows(RuleBasedStateMachine):
    """One client that asks, sends late, settles later still, in whatever order; time passes between."""

    def __init__(self, database: FleetDatabase, owner: Owner, console: Database, fleet: Fleet) -> None:
        super().__init__()
        self._database, self._owner, self._console, self._fleet = database, owner, console, fleet
        self._sent: list[tuple[str, dict[str, str]]] = []
        self._unsent: list[str] = []
        self._last: dict[str, str] = {}

    @initialize(
        first=st.tuples(st.integers(1, 4), st.integers(20, 60)),
        more=st.tuples(st.integers(1, 3), st.integers(2, 5)),
    )
    def begin(self, first: tuple[int, int], more: tuple[int, int]) -> None:
        self._owner.execute("DELETE FROM fleet.rate_grants")
        self._owner.execute("DELETE FROM fleet.rate_limits WHERE account <> '*'")
        limit, window_s = first
        self._windows = [first, (limit * more[0] + 1, window_s * more[1])]
        set_setting(self._console, "header_window_s", window_s, actor="me", reason="the model's platform's")
        configure(self._console, self._windows)
        self._platform = Platform(*first)
        self._late: list[float] = []

    @rule(again=st.integers(1, 3))
    def ask(self, again: int) -> None:
        for _ in range(again):
            grant = self._fleet.rate_limits.can_make_request(ENDPOINT, "one/1", "medium", ACCOUNT)
            if grant.grant_id is not None:
                self._unsent.append(grant.grant_id)

    @precondition(lambda self: self._unsent)
    @rule(place=st.integers(0, 9))
    def reach_the_platform(self, place: int) -> None:
        grant_id = self._unsent.pop(place % len(self._unsent))
        self._sent.append((grant_id, self._count(self._now_s())))

    @precondition(lambda self: self._unsent)
    @rule(place=st.integers(0, 9), delay_s=st.floats(0, DELAY_S - 0.5))
    def break_off(self, place: int, delay_s: float) -> None:
        """No answer comes, and the platform counts the request later."""
        self._fleet.rate_limits.record_usage(self._unsent.pop(place % len(self._unsent)), False)
        self._late.append(self._now_s() + delay_s)

    def _count(self, at_s: float) -> dict[str, str]:
        headers = self._platform.count(at_s)
        for limit, window_s in self._windows:
            assert self._platform.most(window_s) <= limit, (limit, window_s, self._platform.counted)
        return headers

    def _pass(self, seconds: float) -> None:
        self._database.advance(seconds)
        now_s = self._now_s()
        for at_s in sorted(late for late in self._late if late <= now_s):
            self._late.remove(at_s)
            self._count(at_s)

    @precondition(lambda self: self._sent)
    @rule(place=st.integers(0, 9), told=st.sampled_from(["true", "none", "of the answer before"]))
    def settle(self, place: int, told: str) -> None:
        grant_id, headers = self._sent.pop(place % len(self._sent))
        given_headers = {"true": headers, "none": {}, "of the answer before": self._last or headers}[told]
        self._fleet.rate_limits.record_usage(grant_id, True, given_headers, status=200)
        self._last = headers

    @precondition(lambda self: self._unsent)
    @rule()
    def give_back(self) -> None:
        assert self._fleet.rate_limits.release(self._unsent.pop())

    @rule(seconds=st.one_of(st.floats(0, 5), st.floats(5, 200)))
    def wait(self, seconds: float) -> None:
        self._pass(seconds)

    @precondition(lambda self: not self._sent and not self._unsent)
    @rule()
    def wait_as_told(self) -> None:
        for _ in range(TRIES):
            grant = self._fleet.rate_limits.can_make_request(ENDPOINT, "one/1", "medium", ACCOUNT)
            if grant.grant_id is not None:
                self._unsent.append(grant.grant_id)
                return
            assert grant.retry_after_seconds is not None
            assert 0 < grant.retry_after_seconds <= self._windows[-1][1] + 60
            self._pass(grant.retry_after_seconds)
        raise AssertionError(f"refused {TRIES} times in a row, each time after the wait that it was told")

    def teardown(self) -> None:
        for grant_id, headers in self._sent:
            self._fleet.rate_limits.record_usage(grant_id, True, headers, status=200)
        for grant_id in self._unsent:
            self._fleet.rate_limits.release(grant_id)

    def _now_s(self) -> float:
        return float(value(self._owner, "SELECT extract(epoch FROM fleet.now())::float8"))


def configure(console: Database, windows: list[tuple[int, int]]) -> None:
    console.call(
        "configure_rate_windows",
        account=ACCOUNT,
        endpoint=ENDPOINT,
        windows=Json([list(window) for window in windows]),
    )


@given(
    rank=st.integers(1, 3),
    newcomer=st.integers(1, 4),
    waited_s=st.integers(0, 10**8).map(lambda milliseconds: milliseconds / 1000),
    tau_s=st.integers(1, 1000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_whoever_waits_long_enough_stands_before_any_newcomer_and_nobody_loses_by_waiting_i12(
    owner: Owner, rank: int, newcomer: int, waited_s: float, tau_s: int
) -> None:
    def key(rank: int, waited_s: float) -> float:
        query = "SELECT fleet.line_key(false, %s, 0, %s::float8, %s::float8, 0, 0)"
        return float(value(owner, query, rank, waited_s, tau_s))

    assert key(rank, waited_s + tau_s) <= key(rank, waited_s)
    # The bound of the wait: the gap of priorities times tau.
    aged_s = max(0, newcomer - rank) * tau_s
    assert key(rank, max(waited_s, aged_s)) <= key(newcomer, 0)


def test_in_whatever_order_things_happen_no_window_holds_more_than_its_limit_i9(
    fleet_database: FleetDatabase, owner: Owner, console: Database, fleet: Fleet
) -> None:
    def machine() -> Windows:
        return Windows(fleet_database, owner, console, fleet)

    bounds: Any = settings(
        max_examples=15,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    factory: Any = machine  # which its type takes for a class
    run_state_machine_as_test(factory, settings=bounds)
