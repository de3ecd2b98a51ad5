"""What a person types after `socialfleet post`: times, and when two posts are the same one."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from host.cli.fault import USAGE, CliError
from host.cli.post import moment, target

NOW = datetime(2030, 3, 30, 12, 0, tzinfo=UTC)  # 13:00 in Berlin, on the day before its clocks go forward


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("15:30", datetime(2030, 3, 30, 14, 30, tzinfo=UTC)),
        ("9:05", datetime(2030, 3, 31, 7, 5, tzinfo=UTC)),  # tomorrow, in summer time
        ("13:00", datetime(2030, 3, 31, 11, 0, tzinfo=UTC)),  # this very minute has passed
        ("2031-01-01T00:00:00+01:00", datetime(2030, 12, 31, 23, 0, tzinfo=UTC)),
        ("2031-01-01T00:00:00Z", datetime(2031, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_the_next_local_clock_time_or_iso_8601(text: str, at: datetime) -> None:
    assert moment(text, NOW) == at


@pytest.mark.parametrize("text", ["", "25:00", "12:60", "soon", "2031-01-01T00:00:00", "2031-01-01"])
def test_other_times_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(CliError, match=r"--at is .*allowed are ISO 8601 with a zone") as refused:
        moment(text, NOW)
    assert refused.value.exit_code == USAGE


def test_a_time_that_has_passed_is_refused() -> None:
    with pytest.raises(CliError, match="has passed"):
        moment("2029-01-01T00:00:00Z", NOW)


def test_the_same_post_is_the_same_act() -> None:
    assert target("a", "hello", None) == target("a", " hello\n", None)
    assert target("a", "hello", None).startswith("manual:")
    assert len(target("a", "hello", None)) == len("manual:") + 64
    berlin = datetime.fromisoformat("2031-01-01T01:00:00+01:00")
    assert target("a", "hello", berlin) == target("a", "hello", datetime(2031, 1, 1, tzinfo=UTC))


def test_another_account_text_time_or_nonce_is_another_act() -> None:
    targets = {
        target("a", "hello", None),
        target("b", "hello", None),
        target("a", "hello!", None),
        target("a", "hello", NOW),
        target("a", "hello", None, nonce="1"),
    }
    assert len(targets) == 5
