"""Cron lines: which instants they mean, beside a slow reading, over daylight saving in 5 zones."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.coordination.tables import Owner, value

# Days on which clocks change, with the zone: by an hour at 1, 2 or 3, by half an hour, and at midnight.
CHANGES = [
    ("Europe/Paris", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Paris", datetime(2026, 10, 25, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
    ("America/St_Johns", datetime(2026, 3, 8, tzinfo=UTC)),
    ("America/St_Johns", datetime(2026, 11, 1, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2017, 10, 15, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, tzinfo=UTC)),
]
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def slots(
    owner: Owner, line: str, zone: str, after: datetime, until: datetime, n: int = 10_000
) -> list[datetime]:
    found = value(owner, "SELECT fleet.cron_slots(%s, %s, %s, %s, %s)", line, zone, after, until, n)
    return [one.astimezone(UTC) for one in found]


Fields = tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[int], frozenset[int], bool]


def read_slowly(fields: Fields, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Walk through every minute there is, and look which wall times are reached for the first time."""
    minutes, hours, days, months, weekdays, either = fields

    def means(wall: datetime) -> bool:
        in_month, in_week = wall.day in days, wall.isoweekday() % 7 in weekdays
        day = in_month or in_week if either else in_month and in_week
        return wall.minute in minutes and wall.hour in hours and wall.month in months and day

    found: list[datetime] = []
    at = after - 2 * DAY
    reached = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    while at < until:
        at += MINUTE
        wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        is_slot = False
        while reached < wall:
            reached += MINUTE
            is_slot = is_slot or means(reached)
        if is_slot and at > after:
            found.append(at)
    return found


def numbers(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """A field's text and what it means."""
    whole = st.just(("*", frozenset(range(low, high + 1))))
    steps = st.integers(2, 40).map(lambda n: (f"*/{n}", frozenset(range(low, high + 1, n))))
    lists = st.lists(st.integers(low, high), min_size=1, max_size=4).map(
        lambda given: (",".join(map(str, given)), frozenset(given))
    )
    ranges = st.tuples(st.integers(low, high), st.integers(low, high), st.integers(1, 5)).map(
        lambda r: (
            f"{min(r[:2])}-{max(r[:2])}/{r[2]}",
            frozenset(range(min(r[:2]), max(r[:2]) + 1, r[2])),
        )
    )
    return st.one_of(whole, steps, lists, ranges)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    change=st.sampled_from(CHANGES),
    minute=numbers(0, 59),
    hour=numbers(0, 23),
    day=numbers(1, 31),
    month=st.just(("*", frozenset(range(1, 13)))),
    weekday=numbers(0, 6),
    since=st.integers(0, 48 * 60),
)
@example(
    change=CHANGES[0],
    minute=("30", frozenset({30})),
    hour=("2", frozenset({2})),
    day=("*", frozenset(range(1, 32))),
    month=("*", frozenset(range(1, 13))),
    weekday=("*", frozenset(range(7))),
    since=0,
)
def test_a_line_means_what_a_slow_reading_of_it_means_i21(
    owner: Owner,
    change: tuple[str, datetime],
    minute: tuple[str, frozenset[int]],
    hour: tuple[str, frozenset[int]],
    day: tuple[str, frozenset[int]],
    month: tuple[str, frozenset[int]],
    weekday: tuple[str, frozenset[int]],
    since: int,
) -> None:
    zone, changes_on = change
    after = changes_on - DAY + since * MINUTE
    until = changes_on + 2 * DAY
    either = not day[0].startswith("*") and not weekday[0].startswith("*")
    line = " ".join(field[0] for field in (minute, hour, day, month, weekday))
    fields = (minute[1], hour[1], day[1], month[1], weekday[1], either)
    assert slots(owner, line, zone, after, until) == read_slowly(fields, zone, after, until)


@pytest.mark.parametrize(
    ("line", "zone", "after", "expected"),
    [
        # In a gap: the first instant after it. In an overlap: the first of the two, once.
        ("30 2 * * *", "Europe/Paris", "2026-03-29T00:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        ("30 2 * * *", "Europe/Paris", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("15,45 2 29 3 *", "Europe/Paris", "2026-03-01T00:00", ["2026-03-29T01:00", "2027-03-29T00:15"]),
        # A midnight that does not exist.
        ("0 0 15 10 *", "America/Sao_Paulo", "2017-10-01T00:00", ["2017-10-15T03:00", "2018-10-15T03:00"]),
        # A whole day that does not exist.
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00", ["2011-12-30T10:00", "2012-12-29T22:00"]),
        ("0 9 * * mon-fri", "UTC", "2026-11-20T09:00", ["2026-11-23T09:00", "2026-11-24T09:00"]),
        (
            "0 9 1 * sun",
            "UTC",
            "2026-11-20T00:00",
            ["2026-11-22T09:00", "2026-11-29T09:00", "2026-12-01T09:00"],
        ),
        ("0 0 29 feb *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        (
            "5/20 0 * * 7",
            "UTC",
            "2026-11-21T00:00",
            ["2026-11-22T00:05", "2026-11-22T00:25", "2026-11-22T00:45"],
        ),
        ("0 2  * JAN,Jul *", "UTC", "2026-11-21T00:00", ["2027-01-01T02:00", "2027-01-02T02:00"]),
    ],
)
def test_lines_of_which_the_answer_is_known(
    owner: Owner, line: str, zone: str, after: str, expected: list[str]
) -> None:
    start = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = slots(owner, line, zone, start, start + 3650 * DAY, len(expected))
    assert [one.strftime("%Y-%m-%dT%H:%M") for one in found] == expected


@pytest.mark.parametrize(
    "line",
    [
        *("", "* * * *", "* * * * * *", "@daily"),
        *("60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *"),
        *("a * * * *", "* * * foo *", "1,,2 * * * *", "*-5 * * * *", "1- * * * *", "-1 * * * *"),
    ],
)
def test_what_is_no_line_is_refused(owner: Owner, line: str) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        slots(owner, line, "UTC", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    assert refusal.value.sqlstate == "FL001"


# What random() gives.
SHARES = st.integers(0, 2**53 - 1).map(lambda n: n / 2**53)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempt=st.integers(1, 1000), shares=st.tuples(SHARES, SHARES))
def test_the_backoff_grows_is_bounded_and_is_spread(
    owner: Owner, attempt: int, shares: tuple[float, float]
) -> None:
    low, high = sorted(shares)
    ask = "SELECT ARRAY[fleet.backoff_s(%s, %s), fleet.backoff_s(%s, %s), fleet.backoff_s(%s, %s)]"
    first, second, later = value(owner, ask, attempt, low, attempt, high, attempt + 1, low)
    whole = min(3600, 10 * 2 ** min(attempt - 1, 30))
    assert whole / 2 <= first <= second <= whole
    assert later >= first
