"""The sandbox's clock: forward only, kept, joined by what begins where it is."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x.control.clock import LATEST_MS, BackwardsError, Clock, ClockError
from sandbox.x.posts import User
from sandbox.x.store.store import Store

START = datetime(2026, 5, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Hands:
    """Real time in a test's hands; milliseconds since 1970."""

    def __init__(self) -> None:
        self.now_ms = (START - EPOCH).total_seconds() * 1000

    def __call__(self) -> float:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += seconds * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    account = User(id=1, username="fleet", name="Fleet", created_ms=0)
    made = Store(tmp_path / "x.sqlite", account)
    yield made
    made.close()


def at(seconds: float) -> str:
    """A time so many seconds after the start."""
    return (START + timedelta(seconds=seconds)).isoformat()


def seconds(clock: Clock) -> float:
    """The clock's time in seconds after the start."""
    return clock.now_ms() / 1000 - (START - EPOCH).total_seconds()


def test_it_is_real_time_until_it_is_set(store: Store) -> None:
    hands = Hands()
    clock = Clock(store, hands)
    hands.advance(12.5)
    assert seconds(clock) == 12.5
    assert clock.view()["rate"] == 1


def test_it_jumps_and_runs_at_its_rate(store: Store) -> None:
    hands = Hands()
    clock = Clock(store, hands)
    clock.set({"real0": at(0), "fleet0": at(3600), "rate": 60})
    hands.advance(10)
    assert seconds(clock) == 3600 + 600
    assert seconds(Clock(store, hands)) == 3600 + 600


def test_real_time_that_steps_back_does_not_take_it_along(store: Store) -> None:
    hands = Hands()
    clock = Clock(store, hands)
    hands.advance(10)
    assert seconds(clock) == 10
    hands.advance(-5)
    assert seconds(clock) == 10
    hands.advance(6)
    assert seconds(clock) == 11


def test_a_setting_behind_is_refused_and_changes_nothing(store: Store) -> None:
    hands = Hands()
    clock = Clock(store, hands)
    clock.set({"real0": at(0), "fleet0": at(100), "rate": 2})
    for behind in (at(99), at(-86_400)):
        with pytest.raises(BackwardsError, match="never runs backwards"):
            clock.set({"real0": at(0), "fleet0": behind, "rate": 2})
    hands.advance(5)
    assert seconds(clock) == 110


def test_a_slower_rate_that_arrives_late_lets_time_stand_until_it_joins(store: Store) -> None:
    hands = Hands()
    clock = Clock(store, hands)
    clock.set({"real0": at(0), "fleet0": at(0), "rate": 60})
    hands.advance(10.5)
    assert seconds(clock) == 630
    clock.set({"real0": at(10), "fleet0": at(600), "rate": 1})
    hands.advance(29)
    assert seconds(clock) == 630
    hands.advance(1.5)
    assert seconds(clock) == 631


def test_what_joined_long_ago_is_a_step_back(store: Store) -> None:
    hands = Hands()
    clock = Clock(store, hands)
    clock.set({"real0": at(0), "fleet0": at(0), "rate": 60})
    hands.advance(3600)
    with pytest.raises(BackwardsError):
        clock.set({"real0": at(0), "fleet0": at(0), "rate": 1})


def test_it_stops_where_ids_end(store: Store) -> None:
    hands = Hands()
    clock = Clock(store, hands)
    with pytest.raises(ClockError, match="later posts have no ids"):
        clock.set({"real0": at(0), "fleet0": "2081-01-01T00:00:00Z", "rate": 1})
    clock.set({"real0": at(0), "fleet0": "2080-06-01T00:00:00Z", "rate": 1e6})
    hands.advance(86_400)
    assert clock.now_ms() == LATEST_MS
    assert clock.view()["now"].startswith("2080-")


SETTINGS = st.lists(
    st.tuples(
        st.floats(0, 1000),
        st.floats(-1000, 10_000),
        st.floats(0.001, 1000),
        st.floats(-100, 100),
    ),
    max_size=12,
)


@given(settings=SETTINGS)
def test_no_series_of_settings_takes_it_back(
    tmp_path_factory: pytest.TempPathFactory, settings: list[tuple[float, float, float, float]]
) -> None:
    account = User(id=1, username="fleet", name="Fleet", created_ms=0)
    kept = Store(tmp_path_factory.mktemp("clock") / "x.sqlite", account)
    hands = Hands()
    clock = Clock(kept, hands)
    last = clock.now_ms()
    for wait, fleet0, rate, real0 in settings:
        hands.advance(wait)
        real = hands.now_ms / 1000 - (START - EPOCH).total_seconds()
        with suppress(ClockError):
            clock.set({"real0": at(real + real0), "fleet0": at(real + fleet0), "rate": rate})
        assert clock.now_ms() >= last
        last = clock.now_ms()
    kept.close()
