"""Limiters broken in one way each, which the suite must find: pieces of SQL put in others' places."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from tests.integration.conftest import FleetDatabase

Change = tuple[str, str, str]
"""A function, a piece that it holds once, and what stands there instead."""
MUTANTS: Mapping[str, Sequence[Change]] = {}


@contextmanager
def planted(database: FleetDatabase, mutant: str | None) -> Generator[None]:
    """Break the database's limiter for a while; not at all where no mutant is named."""
    if mutant is None:
        yield
        return
    with database.owner() as owner:
        sound: dict[str, str] = {}
        for function, piece, other in MUTANTS[mutant]:
            row = owner.execute(
                "SELECT pg_get_functiondef(p.oid) FROM pg_proc p "
                "WHERE p.proname = %s AND p.pronamespace = 'fleet'::regnamespace",
                (function,),
            ).fetchone()
            assert row, f"there is no function {function}"
            known = str(row[0])
            assert known.count(piece) == 1, f"{function} does not hold once: {piece}"
            sound.setdefault(function, known)
            owner.execute(known.replace(piece, other).encode())
        try:
            yield
        finally:
            for definition in sound.values():
                owner.execute(definition.encode())
