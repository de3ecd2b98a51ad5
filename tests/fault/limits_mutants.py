"""Limiters broken in one way each, which the suite must find: pieces of SQL put in others' places."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tests.fault.limits_scenarios import SHORT, Scenario
from tests.integration.conftest import FleetDatabase

Change = tuple[str, str, str]
"""A function, a piece that it holds once, and what stands there instead."""
MUTANTS: Mapping[str, Sequence[Change]] = {
    # A token bucket of N, refilled at N/W: 2N-1 in a window.
    "bucket": [
        (
            "pace",
            "burst := 1 + floor(requests * (1 - 0.985 * (window_s + delay_s) / window_s))",
            "burst := requests",
        ),
        ("pace", "(requests - burst + 1)", "requests"),
    ],
    # The count, then the taking, with nothing held between them.
    "unlocked": [
        ("lock_rate_rows", "ORDER BY l.endpoint FOR UPDATE", "ORDER BY l.endpoint"),
        ("lock_prepaid", "lock_prepaid.endpoint FOR UPDATE;", "lock_prepaid.endpoint;"),
        (
            "take_units",
            "INSERT INTO fleet.rate_grants",
            "PERFORM pg_sleep(0.01); INSERT INTO fleet.rate_grants",
        ),
    ],
    # What the platform tells is not looked at.
    "headers": [
        (
            "settle_grant",
            "known := fleet.learn_headers(known, fleet.configured_for(one, told_s), headers,",
            "known := fleet.learn_headers(known, fleet.configured_for(one, told_s), '{}',",
        )
    ],
    # A grant that is not settled within its delay is no grant any more.
    "forgotten": [
        ("weigh", "IF anew AND one.occupied[i] + n > one.limits[i] OR", "IF true OR"),
        (
            "unsettled_units",
            "g.settled_at IS NULL",
            "g.settled_at IS NULL AND g.granted_real_at > clock_timestamp() - interval '0.1 seconds'",
        ),
    ],
    "priority": [("take_units", "rank := fleet.priority_rank(take_units.priority);", "rank := 2;")],
    # First come, first served: whoever asks as many has as many shares.
    "shares": [
        ("find_place", "shares := fleet.is_scarce(own, at)", "shares := false"),
        (
            "count_before",
            "fleet.line_key(own.fair_share, rank, used,",
            "fleet.line_key(own.fair_share, rank, 0,",
        ),
        ("count_before", "d.rank, d.used,", "d.rank, 0,"),
    ],
    # Rounded to nearest instead of up: a microsecond less between requests is one more in a window.
    "nearest": [("pace", "ceil((window_s::numeric", "round((window_s::numeric")],
}

CHAPTERS: Mapping[str, Scenario] = {one.name: one for one in SHORT}
UNPLAYED = Scenario(name="plain", rate=30, windows={}, warm_up_s=0, counted_s=0, clients=0)
SCENARIOS: Mapping[str, tuple[Scenario, tuple[str, ...]]] = {
    "bucket": (CHAPTERS["killed"], ("I9",)),
    "unlocked": (CHAPTERS["killed"], ("I9", "I10")),
    "headers": (CHAPTERS["shared"], ("convergence",)),
    # Its grants are out for longer than it remembers them.
    "forgotten": (replace(CHAPTERS["headers"], slow=1.0, late_s=0.3), ("I9", "I10")),
    "priority": (CHAPTERS["plain"], ("I14", "I12")),
    "shares": (CHAPTERS["plain"], ("I14",)),
    "nearest": (UNPLAYED, ("I9",)),
}
"""A chapter of the short form that finds each, and the promises one of which it breaks.

The sound limiter breaks none of them there: tests/fault/test_limits.py.
"""


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
