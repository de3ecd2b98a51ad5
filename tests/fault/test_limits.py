"""Limits against a real window: the short form of their fault suite, and what it judges by."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fault import limits, limits_chapter
from tests.fault import limits_judge as judge
from tests.fault.limits_judge import Use
from tests.fault.limits_place import place
from tests.fault.limits_scenarios import HOUR_S, LONG, SHORT, Scenario
from tests.integration.conftest import FleetDatabase


@pytest.mark.timed
@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_by_the_platforms_count_limits_are_kept_and_used(
    fleet_database: FleetDatabase, scenario: Scenario
) -> None:
    with place(fleet_database, scenario.rate) as here:
        outcome = limits_chapter.run(scenario, here, 1, lambda _line: None)
    assert outcome.operations.total() > 0
    assert not outcome.violations.total(), outcome.details


def use(at_s: float, **fields: object) -> Use:
    given_fields: dict[str, object] = {
        "worker": "asker/1",
        "endpoint": "users_me",
        "priority": "medium",
        "asked_s": at_s,
        "called_s": at_s,
        "granted_s": at_s,
        "settled_s": at_s,
        **fields,
    }
    return Use(**given_fields)  # type: ignore[arg-type]


def test_a_rolling_window_above_its_limit_and_a_refusal_are_found() -> None:
    count = {"endpoint": "users_me", "limit": 5, "window_s": 60, "rolling_max": 5, "refused": 0}
    assert not judge.above_the_limit([count])
    assert len(judge.above_the_limit([count | {"rolling_max": 6}, count | {"refused": 1}])) == 2


def test_what_is_out_counts_until_it_is_settled() -> None:
    settled = [use(at_s) for at_s in (0.0, 1.0, 61.0, 62.0)]
    assert not judge.outstanding_and_used(settled, 2, 60)
    late = [use(0.0, settled_s=70.0), *settled[1:]]
    assert judge.outstanding_and_used(late, 2, 60)


@given(
    times=st.lists(st.integers(0, 1000), max_size=60).map(sorted),
    limit=st.integers(1, 9),
    window_s=st.integers(1, 200),
)
def test_own_requests_in_a_rolling_window_are_counted_as_by_hand(
    times: list[int], limit: int, window_s: int
) -> None:
    most = max((sum(1 for at in times if first <= at < first + window_s) for first in times), default=0)
    assert bool(judge.own_above_the_limit(times, limit, window_s)) == (most > limit)


@given(phase_s=st.floats(0, 60), limit=st.integers(2, 50), burst=st.booleans())
def test_a_limit_that_is_used_up_in_every_window_is_used_wholly_in_whatever_rhythm(
    phase_s: float, limit: int, burst: bool
) -> None:
    step_s = 0.0 if burst else 60 / limit
    times = [phase_s + window * 60 + number * step_s for window in range(4) for number in range(limit)]
    assert judge.efficiency(times, limit, 60) == pytest.approx(1)
    assert judge.efficiency([at for at in times if at < phase_s + 120], 2 * limit, 60) == 0


def test_a_window_that_ended_with_something_left_was_not_used_wholly_and_neither_was_a_late_one() -> None:
    def told(*windows: tuple[float, int]) -> list[Use]:
        return [use(reset_s - 1, reset_s=reset_s, remaining=left) for reset_s, left in windows]

    full = told((100, 0), (200, 0), (300, 0), (400, 9))
    assert judge.efficiency_of_windows(full, 10, 100) == pytest.approx(1)
    assert judge.efficiency_of_windows(told((100, 0), (200, 1), (300, 1), (400, 0)), 10, 100) == 0.9
    assert judge.efficiency_of_windows(told((100, 0), (300, 0), (500, 0), (600, 0)), 10, 100) == 0.5
    assert judge.efficiency_of_windows(full[:2], 10, 100) == 0


def test_a_request_that_found_nobody_is_named() -> None:
    assert not judge.never_arrived([use(1.0, status=200), use(2.0)])
    assert len(judge.never_arrived([use(1.0, status=0)])) == 1


def test_the_long_form_counts_hours_in_less_than_three_quarters_of_one() -> None:
    assert sum(limits.SUITE.chapters["long"]) <= 45 * 60
    for scenario in LONG:
        assert (
            scenario.patience_s
            == scenario.delay_s
            == pytest.approx(scenario.smallest_s / scenario.rate / 100)
        )
        assert (scenario.least_used, scenario.unfair, scenario.clients) == (0.98, 0.05, 64)
        assert scenario.counted_s >= (49 * HOUR_S if scenario.name == "days" else HOUR_S)


@given(wants=st.lists(st.floats(0, 100), min_size=1, max_size=12), capacity=st.floats(0, 300))
def test_shares_are_max_min(wants: list[float], capacity: float) -> None:
    named = {str(number): want for number, want in enumerate(wants)}
    shares = judge.max_min(named, capacity)
    assert sum(shares.values()) == pytest.approx(min(capacity, sum(wants)))
    largest = max(shares.values())
    for name, want in named.items():  # nobody could have more but from one who has less
        assert shares[name] == pytest.approx(want) or shares[name] == pytest.approx(largest)


def test_shares_are_by_weight() -> None:
    wants = {"much": math.inf, "more": math.inf, "little": 3.0}
    shares = judge.max_min(wants, 33, {"much": 1, "more": 2, "little": 4})
    assert shares == pytest.approx({"much": 10, "more": 20, "little": 3})


def test_who_was_away_while_a_window_was_given_away_wanted_none_of_it_and_the_others_have_it() -> None:
    counts, shares = {"killed": 15, "others": 25}, {"killed": 20.0, "others": 20.0}
    assert judge.unfair(counts, shares, 0.05, 1)
    wants = judge.wanted_with_absences(counts, shares, {"killed": 1}, of_a_window=0.25, grants=1)
    assert wants == {"killed": 15}
    assert not judge.unfair(counts, judge.max_min({"others": math.inf, **wants}, 40), 0.05, 1)
    lacks_more = {"killed": 13, "others": 27}
    assert not judge.wanted_with_absences(lacks_more, shares, {"killed": 1}, of_a_window=0.25, grants=1)
    has_more = {"killed": 22, "others": 18}
    assert not judge.wanted_with_absences(has_more, shares, {"killed": 1}, of_a_window=0.25, grants=1)


def test_who_is_passed_over_and_who_is_starved_are_named() -> None:
    waited = use(20.0, worker="asker/2", priority="critical", asked_s=10.0, refused_s=10.5, told_s=20.0)
    uses = [use(11.0), use(12.0), use(13.0), waited]
    assert judge.passed_over(uses, "critical", 3) == []
    (sentence,) = judge.passed_over(uses, "critical", 2)
    assert "asker/2" in sentence
    assert judge.passed_over([use(11.0, called_s=10.0), *uses[1:]], "critical", 2) == []
    assert judge.passed_over([*uses[:3], replace(waited, told_s=12.5)], "critical", 2) == []
    equal = {"asker/1": 1.0, "asker/2": 1.0}
    enough = {"asker/1": 20.0, "asker/2": 20.0}
    assert judge.starved(uses, enough, equal, from_s=0, until_s=30) == []
    (sentence,) = judge.starved(uses, dict.fromkeys(enough, 15.0), equal, from_s=0, until_s=30)
    assert "asker/2" in sentence


def test_who_came_first_and_had_more_waits_until_the_others_have_theirs() -> None:
    longest_s, first = (
        {"one": 50.0, "other": 50.0},
        [use(at_s, worker="one") for at_s in (1.0, 2.0, 3.0, 4.0)],
    )

    def starved(*others_s: float, weight: float = 1.0, until_s: float = 120.0) -> list[str]:
        uses = [*first, *(use(at_s, worker="other") for at_s in others_s)]
        weights = {"one": 1.0, "other": weight}
        return judge.starved(uses, longest_s, weights, from_s=0, until_s=until_s)

    assert not starved(5.0, 50.0, 80.0, 90.0)
    assert starved(5.0, 30.0, 50.0, 60.0, 110.0) == ["one went without for 60 s"]
    assert not starved(5.0, 30.0, 50.0, 60.0, 70.0, 80.0, 90.0, weight=2.0)
    (sentence,) = starved(5.0)  # the first is ahead; the other is not
    assert sentence == "other went without for 115 s"
    assert not starved(5.0, until_s=55.0)


def test_more_grants_after_an_answer_than_it_left_are_found() -> None:
    told = use(0.0, remaining=1, reset_s=100.0)
    assert not judge.against_the_headers([told, use(1.0), use(101.0)])
    assert judge.against_the_headers([told, use(1.0), use(2.0)])
