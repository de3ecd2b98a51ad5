"""Broken versions of the coordination core's functions: the fault suite must find every one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from tests.fault.history import Violation

OPERATIONS = 25_000
"""In which a broken rule shows: some times as many as it ever took."""
Change = tuple[str, str, str]
"""A function, a pattern that its text must hold once, and what takes the place of that."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One rule that is broken.

    Attributes:
        ways: each breaks it, in the functions as they may be; the first one that fits is planted.
        breaks: promises of which at least one must be found broken.
    """

    ways: Sequence[Sequence[Change]]
    breaks: frozenset[str]

    def is_among(self, found: Iterable[Violation]) -> bool:
        """Whether a history shows it."""
        return any(one.invariant in self.breaks for one in found)

    def plant(self, admin_dsn: str) -> None:
        """Replace the functions in the suite's own database."""
        with psycopg.connect(admin_dsn, autocommit=True) as admin:
            sound = {
                str(name): str(text)
                for name, text in admin.execute(
                    "SELECT p.proname, pg_get_functiondef(p.oid) FROM pg_proc p "
                    "WHERE p.pronamespace = 'fleet'::regnamespace"
                ).fetchall()
            }
            broken = next((found for way in self.ways if (found := _broken(sound, way))), None)
            assert broken, f"the functions hold none of {self.ways}"
            for text in broken.values():
                admin.execute(text.encode())


def _broken(sound: Mapping[str, str], way: Sequence[Change]) -> dict[str, str]:
    """The functions that a way changes; none where it does not fit."""
    broken: dict[str, str] = {}
    for name, pattern, other in way:
        text = broken.get(name, sound.get(name, ""))
        broken[name], count = re.subn(pattern, other, text, flags=re.DOTALL)
        if count != 1:
            return {}
    return broken


def _mutant(breaks: str, *ways: Sequence[Change]) -> Mutant:
    return Mutant(ways=ways, breaks=frozenset(breaks.split()))


NOT_ITS_OWN = r"lease\.incarnation = me OR NOT fleet\.is_suspected\(lease\.incarnation\)"
OF_THE_HOLDER = r"l\.incarnation = release_lock\.incarnation AND l\.fencing_token = (?:release_lock\.)?token"
OF_ITS_LEASE = r"j\.lease = r\.lease\s+WHERE j\.incarnation = held_jobs\.incarnation"
UNLOCKED = (
    "SELECT * INTO rate_limit FROM fleet.rate_limits r WHERE r.account = can_make_request.account "
    "AND r.endpoint = can_make_request.endpoint;"
)
OVER = r"held\.lease_expires_at < clock_timestamp\(\)"
NEXT_TOKEN = r"nextval\('fleet\.fencing_token'\)"
MUTANTS: Mapping[str, Mutant] = {
    "lease-ignored": _mutant(
        "I1",
        [("grant_lock", r"IF leased AND lease\.lease_expires_at > real THEN", "IF false THEN")],
        [("lease_before", rf"IF {NOT_ITS_OWN} THEN", "IF false THEN")],
    ),
    "lease-never-over": _mutant(
        "I13",
        [("grant_lock", r"IF leased AND lease\.lease_expires_at > real THEN", "IF leased THEN")],
        [
            (
                "lease_before",
                r"ask\.content AND l\.lease_expires_at > clock_timestamp\(\) AND",
                "ask.content AND",
            )
        ],
    ),
    "everybody-suspected": _mutant("I1", [("is_suspected", r"RETURN free;", "RETURN true;")]),
    "constant-token": _mutant("I2", [("take_lock", NEXT_TOKEN, "1")], [("grant_lock", NEXT_TOKEN, "1")]),
    "token-of-the-content": _mutant(
        "I2",
        [("take_lock", NEXT_TOKEN, "extract(epoch FROM real)::bigint % 7")],
        [("grant_lock", NEXT_TOKEN, "extract(epoch FROM real)::bigint % 7")],
    ),
    "release-by-anybody": _mutant(
        "I3",
        [
            (
                "release_lock",
                rf"AND {OF_THE_HOLDER}",
                "",
            )
        ],
    ),
    "renew-when-over": _mutant(
        "I3", [("renew_lock", r"AND l\.lease_expires_at > (?:clock_timestamp\(\)|real)", "")]
    ),
    "job-lease-ignored": _mutant(
        "I1",
        [("claim_jobs", rf"IF {OVER} OR", "IF true OR")],
        [
            ("take_back_jobs", r"(j\.kind = of_kind) AND j\.lease_expires_at < real", r"\1"),
            ("take_back_jobs", r"AND \(j\.incarnation = ANY\(gone\) OR j\.lease_expires_at < real\)", ""),
        ],
    ),
    "job-claimed-unlocked": _mutant(  # and slowly, so that claims meet
        "I1 I15",
        [
            ("claim_jobs", r"LIMIT n FOR UPDATE SKIP LOCKED", "LIMIT n"),
            (
                "claim_jobs",
                r"SELECT j\.id FROM fleet\.jobs j\s",
                "SELECT j.id FROM fleet.jobs j, pg_sleep(0.01) ",
            ),
        ],
        [
            ("pick_jobs", r"(LIMIT n - cardinality\(picked_keyed\)) FOR NO KEY UPDATE SKIP LOCKED", r"\1"),
            (
                "pick_jobs",
                r"(SELECT j\.id FROM fleet\.jobs j)(\s+WHERE j\.kind = of_kind)",
                r"\1, pg_sleep(0.01)\2",
            ),
        ],
    ),
    "job-report-by-anybody": _mutant(
        "I3 I15",
        [
            (
                "held_job",
                r"AND j\.state = 'running'\s+AND j\.incarnation = .*? AND j\.lease = held_job\.lease",
                "",
            )
        ],
        [
            (
                "held_jobs",
                rf"AND {OF_ITS_LEASE}",
                "",
            )
        ],
    ),
    "job-order-ignored": _mutant(
        "I12",
        [("claim_jobs", r"ORDER BY j\.rank DESC,", "ORDER BY j.rank,")],
        [
            (
                "pick_jobs",
                r"ORDER BY j\.order_at, j\.id LIMIT n - ",
                "ORDER BY j.order_at DESC, j.id LIMIT n - ",
            )
        ],
    ),
    "job-never-rescued": _mutant(
        "lost",
        [("claim_jobs", rf"IF {OVER} OR .*? THEN", "IF false THEN")],
        [("take_back_jobs", r"IF lost = '{}' THEN", "IF true THEN")],
    ),
    "message-report-by-anybody": _mutant(
        "I3 I15",
        [
            (
                "held_message",
                r"AND m\.state = 'claimed'\s+AND m\.incarnation = .*? AND m\.lease = held_message\.lease",
                "",
            )
        ],
    ),
    "message-lease-ignored": _mutant(
        "I1",
        [("claim_messages", rf"IF {OVER} OR", "IF true OR")],
        [("free_messages", r"AND \(m\.incarnation = ANY\(gone\) OR", "AND (true OR")],
    ),
    "line-ignored": _mutant(
        "I12", [("lock_obstacle", r"AND w\.poll_by > real AND w\.deadline_at > real", "AND false")]
    ),
    "pool-without-capacity": _mutant(
        "I11",
        [("grant_reservation", r"pool\.reserved := pool\.reserved \+ asked\.units;", "")],
    ),
    "pool-units-lost": _mutant(
        "I13", [("release_resource", r"pool\.reserved := pool\.reserved - held\.units;", "")]
    ),
    "reservation-ended-by-anybody": _mutant(
        "I3", [("release_resource", r"held\.incarnation <> release_resource\.incarnation OR", "")]
    ),
    "limiter-unlocked": _mutant(  # and slowly, so that grants meet
        "I9 I10",
        [
            (
                "can_make_request",
                r"rate_limit := fleet\.lock_rate_limit\(account, endpoint\);",
                UNLOCKED,
            ),
            ("can_make_request", r"INSERT INTO", "PERFORM pg_sleep(0.01); INSERT INTO"),
        ],
        [
            (
                "lock_rate_rows",
                r"ORDER BY l\.endpoint FOR UPDATE\) r;",
                "ORDER BY l.endpoint) r; PERFORM pg_sleep(0.01);",
            ),
            ("lock_prepaid", r"lock_prepaid\.endpoint FOR UPDATE;", "lock_prepaid.endpoint;"),
        ],
    ),
    "limiter-forgets-early": _mutant(
        "I9 I10",
        [
            (
                "weigh",
                r"left_until := at - make_interval\(secs => one\.windows_s\[i\]\)",
                "left_until := at - make_interval(secs => one.windows_s[i] * 0.5)",
            )
        ],
    ),
}
"""By the name that MUTANT takes."""
