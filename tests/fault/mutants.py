"""Broken versions of the coordination core's functions: the fault suite must find every one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One rule that is broken.

    Attributes:
        functions: for each function patterns that must be there once, and what takes the place of each.
        breaks: invariants of which at least one must be found broken.
    """

    functions: Mapping[str, Sequence[tuple[str, str]]]
    breaks: frozenset[str]

    def plant(self, admin_dsn: str) -> None:
        """Replace the functions in the suite's own database."""
        with psycopg.connect(admin_dsn, autocommit=True) as admin:
            for name, changes in self.functions.items():
                row = admin.execute(
                    "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = %s "
                    "AND p.pronamespace = 'fleet'::regnamespace",
                    (name,),
                ).fetchone()
                assert row, f"there is no function {name}"
                broken = str(row[0])
                for pattern, other in changes:
                    broken, count = re.subn(pattern, other, broken, flags=re.DOTALL)
                    assert count == 1, f"{name} does not hold once: {pattern}"
                admin.execute(broken.encode())


def _mutant(breaks: str, *more: tuple[str, str, str], **functions: tuple[str, str]) -> Mutant:
    """One that changes each function once, and some once more: (function, pattern, what takes its place)."""
    changes = {name: [change] for name, change in functions.items()}
    for name, pattern, other in more:
        changes.setdefault(name, []).append((pattern, other))
    return Mutant(functions=changes, breaks=frozenset(breaks.split()))


MUTANTS: Mapping[str, Mutant] = {
    "lease-ignored": _mutant(
        "I1", grant_lock=(r"IF leased AND lease\.lease_expires_at > real THEN", "IF false THEN")
    ),
    "lease-never-over": _mutant(
        "I13", grant_lock=(r"IF leased AND lease\.lease_expires_at > real THEN", "IF leased THEN")
    ),
    "everybody-suspected": _mutant("I1", is_suspected=(r"RETURN free;", "RETURN true;")),
    "constant-token": _mutant("I2", grant_lock=(r"nextval\('fleet\.fencing_token'\)", "1")),
    "token-of-the-content": _mutant(
        "I2",
        grant_lock=(
            r"nextval\('fleet\.fencing_token'\)",
            (
                "coalesce((SELECT l.fencing_token FROM fleet.engagement_locks l WHERE l.content = "
                "grant_lock.content), 0) + 1"
            ),
        ),
    ),
    "release-by-anybody": _mutant(
        "I3",
        release_lock=(r"AND l\.incarnation = release_lock\.incarnation AND l\.fencing_token = token", ""),
    ),
    "renew-when-over": _mutant("I3", renew_lock=(r"AND l\.lease_expires_at > clock_timestamp\(\)", "")),
    "job-lease-ignored": _mutant(
        "I1", claim_jobs=(r"IF held\.lease_expires_at < clock_timestamp\(\) OR", "IF true OR")
    ),
    "job-claimed-unlocked": _mutant(
        "I1 I15",
        # And slowly, so that claims meet.
        (
            "claim_jobs",
            r"SELECT j\.id FROM fleet\.jobs j\s",
            "SELECT j.id FROM fleet.jobs j, pg_sleep(0.01) ",
        ),
        claim_jobs=(r"LIMIT n FOR UPDATE SKIP LOCKED", "LIMIT n"),
    ),
    "job-report-by-anybody": _mutant(
        "I3 I15",
        held_job=(
            r"AND j\.state = 'running'\s+AND j\.incarnation = .*? AND j\.lease = held_job\.lease",
            "",
        ),
    ),
    "job-order-ignored": _mutant("I12", claim_jobs=(r"ORDER BY j\.rank DESC,", "ORDER BY j.rank,")),
    "job-never-rescued": _mutant(
        "lost", claim_jobs=(r"IF held\.lease_expires_at < clock_timestamp\(\) OR .*? THEN", "IF false THEN")
    ),
    "message-report-by-anybody": _mutant(
        "I3 I15",
        held_message=(
            (
                r"AND m\.state = 'claimed'\s+AND m\.incarnation = held_message\.incarnation "
                r"AND m\.lease = held_message\.lease"
            ),
            "",
        ),
    ),
    "message-lease-ignored": _mutant(
        "I1", claim_messages=(r"IF held\.lease_expires_at < clock_timestamp\(\) OR", "IF true OR")
    ),
    "limiter-unlocked": _mutant(
        "I9 I10",
        ("can_make_request", r"INSERT INTO", "PERFORM pg_sleep(0.01); INSERT INTO"),
        can_make_request=(
            r"rate_limit := fleet\.lock_rate_limit\(account, endpoint\);",
            (
                "SELECT * INTO rate_limit FROM fleet.rate_limits r WHERE r.account = "
                "can_make_request.account AND r.endpoint = can_make_request.endpoint;"
            ),
        ),
    ),
    "limiter-forgets-early": _mutant(
        "I9 I10",
        settle_grant=(
            r"frees_at = at \+ make_interval\(secs => rate_limit\.window_s\)",
            "frees_at = at + make_interval(secs => rate_limit.window_s * 0.5)",
        ),
    ),
}
"""By the name that MUTANT takes."""
