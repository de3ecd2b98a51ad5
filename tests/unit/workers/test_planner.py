from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from coordination.intents import Queue
from workers.fleet.planner import plan_slots

NOW = datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC)


def queue(*, waiting: int = 0, planned_until: datetime | None = None, now: datetime = NOW) -> Queue:
    return Queue(
        waiting=waiting, planned_until=planned_until, last_posted_at=None, now=now, texts=frozenset()
    )


def test_an_empty_queue_is_planned_from_the_next_grid_time_on() -> None:
    slots = plan_slots(queue(), target=3, spacing_s=60)
    assert slots == [NOW.replace(minute=minute, second=0) for minute in (1, 2, 3)]


def test_what_waits_already_is_not_planned_again() -> None:
    assert plan_slots(queue(waiting=3), target=3, spacing_s=60) == []


def test_new_posts_come_after_those_that_are_planned() -> None:
    until = NOW.replace(minute=30, second=0)
    assert plan_slots(queue(waiting=2, planned_until=until), target=3, spacing_s=60) == [
        until + timedelta(seconds=60)
    ]


@given(
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(1, 100_000),
    st.integers(0, 10_000_000_000),
)
def test_a_plan_made_twice_or_cut_off_comes_to_the_same_slots(
    waiting: int, target: int, spacing_s: int, now_ms: int
) -> None:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    whole = plan_slots(queue(waiting=waiting, now=now), target=target, spacing_s=spacing_s)
    assert all(later - sooner == timedelta(seconds=spacing_s) for sooner, later in pairwise(whole))
    assert all(slot > now for slot in whole)
    if len(whole) > 1:
        # Cut off after the first: the rest is what comes next.
        rest = plan_slots(
            queue(waiting=waiting + 1, planned_until=whole[0], now=now),
            target=target,
            spacing_s=spacing_s,
        )
        assert rest == whole[1:]
