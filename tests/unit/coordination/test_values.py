"""What coordination reads and writes without a database."""

import re
from datetime import UTC, datetime
from pathlib import Path

from coordination import errors
from coordination.answers import with_moments
from coordination.database import queries
from coordination.incarnation import ProcessIdentity
from coordination.rate_limits import limit_headers

SQL = Path(errors.__file__).with_name("sql")


def test_of_an_answer_only_the_headers_that_speak_of_limits_are_kept_in_lower_case() -> None:
    kept = limit_headers(
        {
            "Date": "Sat, 21 Nov 2026 12:00:00 GMT",
            "X-Rate-Limit-Reset": "9" * 300,
            "x-user-limit-24hour-remaining": "3",
            "Set-Cookie": "secret",
            "Authorization": "secret",
        }
    )
    assert kept == {
        "date": "Sat, 21 Nov 2026 12:00:00 GMT",
        "x-rate-limit-reset": "9" * 200,
        "x-user-limit-24hour-remaining": "3",
    }
    assert limit_headers(None) == {}


def test_times_in_answers_become_aware_moments() -> None:
    answer = with_moments({"at": "2026-11-21T12:00:00+00:00", "none": None, "n": 1}, "at", "none")
    assert answer == {"at": datetime(2026, 11, 21, 12, tzinfo=UTC), "none": None, "n": 1}


def test_a_process_is_told_apart_by_more_than_its_pid() -> None:
    first, second = ProcessIdentity.of_this_process(), ProcessIdentity.of_this_process()
    assert first == second
    assert first.host
    assert first.pid_started


def test_every_named_query_says_what_it_costs() -> None:
    for name, query in queries().items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name)
        assert query.startswith("-- "), name


def test_every_refusal_of_the_database_has_an_error_of_its_own() -> None:
    raised = set(
        re.findall(r"ERRCODE = '(FL\d{3})'", "".join(file.read_text() for file in SQL.glob("*.sql")))
    )
    mirrored = set(re.findall(r'"(FL\d{3})"', Path(errors.__file__).with_name("database.py").read_text()))
    assert raised - mirrored == {"FL006"}  # a caller's own transaction: no state of the fleet
