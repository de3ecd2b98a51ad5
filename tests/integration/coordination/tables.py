"""The owner's look at the tables, and faults planted into functions."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
import pytest

from coordination.errors import InvalidValueError

Owner = psycopg.Connection[Any]
"""The owner's, or a superuser's, connection in autocommit."""

Refusal = pytest.ExceptionInfo[InvalidValueError]


def value(owner: Owner, query: LiteralString, *parameters: object) -> Any:
    """The one value of the query's one row."""
    row = owner.execute(query, parameters).fetchone()
    assert row is not None, query
    return row[0]


def rows(owner: Owner, query: LiteralString, *parameters: object) -> list[Any]:
    return owner.execute(query, parameters).fetchall()


@contextmanager
def planted(owner: Owner, function: str, *changes: tuple[str, str]) -> Generator[None]:
    """Replace pieces of a function for a while, to see the test of it fail."""
    sound = str(
        value(
            owner,
            "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = %s "
            "AND p.pronamespace = 'fleet'::regnamespace",
            function,
        )
    )
    broken = sound
    for piece, other in changes:
        assert broken.count(piece) == 1, f"{function} does not hold once: {piece}"
        broken = broken.replace(piece, other)
    owner.execute(broken.encode())
    try:
        yield
    finally:
        owner.execute(sound.encode())


def assert_refused(error: Refusal, field: str, given: str | None) -> None:
    """A refusal names the field, the value and what is allowed, in its sentence too."""
    refusal = error.value
    assert (refusal.field, refusal.value) == (field, given)
    assert refusal.allowed
    assert field in str(refusal)
    assert refusal.allowed in str(refusal)


def kill_session(owner: Owner, name: str) -> None:
    """End the server's session of that application name, and wait until it is gone."""
    owner.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = %s AND datname = current_database()",
        (f"socialfleet {name}",),
    )
