"""The query of /api/intents: what is understood, and what is refused in which words."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.answers import RefusedError
from console.intent_parameters import parse
from coordination.lists import Cursor, IntentFilter, compile_intents


def test_nothing_given_means_the_newest_hundred_of_all_states() -> None:
    assert parse([]) == IntentFilter()
    statement, parameters = compile_intents(parse([]))
    assert "WHERE" not in statement
    assert list(parameters.values()) == [101]


def test_every_parameter_reaches_the_statement() -> None:
    wanted = parse(
        [
            ("state", "posted,parked"),
            ("state", "ready"),
            ("action", "reply,like"),
            ("from", "2026-08-01T09:30:00Z"),
            ("to", "2026-08-01T12:00:00+02:00"),
            ("limit", "7"),
            ("after", "1795305043643156-13"),
        ]
    )
    assert wanted.states == ("posted", "parked", "ready")
    assert wanted.since == datetime(2026, 8, 1, 9, 30, tzinfo=UTC)
    assert wanted.until == datetime(2026, 8, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    _, parameters = compile_intents(wanted)
    assert ["posted", "parked", "ready"] in parameters.values()
    assert ["reply", "like"] in parameters.values()
    assert {8, 13} <= {value for value in parameters.values() if isinstance(value, int)}


def test_a_time_without_a_zone_is_utc() -> None:
    assert parse([("from", "2026-08-01")]).since == datetime(2026, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("state", "poste", "state"),
        ("state", "posted,", "state"),
        ("state", "", "state"),
        ("action", "follow", "action"),
        ("from", "yesterday", "from"),
        ("to", "2026-08-01T09:30:00 02:00", "to"),
        ("limit", "0", "limit"),
        ("limit", "501", "limit"),
        ("limit", "-1", "limit"),
        ("limit", "٣", "limit"),
        ("limit", "9" * 5000, "limit"),
        ("after", "13", "after"),
        ("after", "999999999999999999-1", "after"),
        ("after", "1-1'; DROP TABLE intents", "after"),
        ("stat", "posted", "parameter"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, field: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse([(name, value)])
    error = refused.value.body["error"]
    assert refused.value.status == 400
    assert error["field"] == field
    assert error["value"] == (value if name != "stat" else "stat")[:200] or field == "state"
    assert error["allowed"] in error["message"]


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(RefusedError, match="allowed is one value"):
        parse([("limit", "1"), ("limit", "2")])


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  hypothesis adds the zone
    st.integers(min_value=0, max_value=10**18 - 1),
)
def test_a_cursor_is_read_as_it_was_written(moment: datetime, number: int) -> None:
    cursor = Cursor(updated_at=moment, id=number)
    assert Cursor.parse(str(cursor)) == cursor
