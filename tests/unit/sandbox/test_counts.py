"""Counts: the most that a fixed window and any rolling one held, against a plain count."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sandbox.x.store.counts import Counts, Meter
from sandbox.x.store.database import Database

WINDOW_S = 10
TIMES = st.lists(st.integers(0, 60_000), max_size=120).map(sorted)


def fixed_windows(times: list[int]) -> list[int]:
    """When each request's fixed window began, in s: a new one begins with the first after the last's end."""
    starts: list[int] = []
    for at_ms in times:
        second = at_ms // 1000
        starts.append(starts[-1] if starts and second < starts[-1] + WINDOW_S else second)
    return starts


def plain_rolling(times: list[int]) -> int:
    spans = ([at for at in times if first <= at < first + WINDOW_S * 1000] for first in times)
    return max(map(len, spans), default=0)


@given(times=TIMES)
def test_the_greatest_counts_are_those_of_a_plain_count(times: list[int]) -> None:
    meter = Meter(window_s=WINDOW_S)
    starts = fixed_windows(times)
    meter.add(zip(times, starts, strict=True))
    assert meter.rolling_max == plain_rolling(times)
    assert meter.fixed_max == max(map(starts.count, starts), default=0)


def test_requests_a_whole_window_apart_are_in_no_window_together() -> None:
    meter = Meter(window_s=WINDOW_S)
    meter.add([(0, 0), (10_000, 10)])
    assert meter.rolling_max == 1
    meter.add([(19_999, 10)])
    assert meter.rolling_max == 2


def take(counts: Counts, at_ms: int, account: str = "fleet", endpoint: str = "users_me") -> None:
    counts.take(account, endpoint, WINDOW_S, requests=75, at_ms=at_ms, started_s=at_ms // 10_000 * 10)


def test_counts_go_on_after_each_look_and_after_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.sqlite")
    counts = Counts(database)
    assert counts.view() == []
    for number, expected in enumerate((1, 2, 3), 1):
        take(counts, 9_000 + number * 500)
        assert [one["rolling_max"] for one in counts.view()] == [expected]
    assert [one["fixed_max"] for one in counts.view()] == [2]
    again = Counts(database)
    assert again.view() == counts.view()
    take(again, 11_000)
    assert [one["rolling_max"] for one in again.view()] == [4]
    database.close()


def test_callers_and_endpoints_are_counted_apart(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.sqlite")
    counts = Counts(database)
    take(counts, 0)
    take(counts, 1, account="app")
    take(counts, 2, account="app")
    take(counts, 3, endpoint="get_tweets")
    found = {(one["account"], one["endpoint"]): one["rolling_max"] for one in counts.view()}
    assert found == {("fleet", "users_me"): 1, ("app", "users_me"): 2, ("fleet", "get_tweets"): 1}
    database.close()
