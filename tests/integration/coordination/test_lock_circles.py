"""Locks, lines and acts of two accounts on few contents, all at once: nobody waits in a circle."""

import random
from collections.abc import Callable, Iterator

import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import together
from tests.integration.coordination.tables import Owner, planted, value

ACCOUNTS = ("sandbox", "default")
CONTENTS = ("1", "2", "3", "4")


def _lock(fleet: Fleet, chance: random.Random) -> None:
    lease = fleet.engagement.request_lock(
        chance.choice(CONTENTS),
        "one",
        chance.choice(("analysis", "quote", "like")),
        1,
        wait_s=chance.choice((0, 0.05)),
        scope=chance.choice(("fleet", "account", "act")),
        account=chance.choice(ACCOUNTS),
    )
    if lease is not None:
        fleet.engagement.release_lock(fleet.engagement.renew_lock(lease))


def _act(fleet: Fleet, chance: random.Random) -> None:
    acts.towards(fleet, chance.choice(("reply", "quote", "like")), chance.choice(CONTENTS))
    claim = fleet.ledger.claim("sandbox", "one")
    if claim is None:
        return
    act = acts.granted(fleet, claim)
    begun = acts.begin(fleet, act)
    if begun.sending:  # what is rejected opens no window, and may be proposed again
        fleet.ledger.settle(claim.intent, begun.attempt, "rejected", "one", reason="no")


def _tidy(fleet: Fleet, chance: random.Random) -> None:
    account = chance.choice(ACCOUNTS)
    fleet.ledger.tidy(account)
    fleet.ledger.park_orphan(account, grace_s=0)
    fleet.retention.sweep("lock_waiters", keep_s=0)


def _do_all(start: Callable[[], int], dsn: str, seed: int, times: int) -> int:
    """So many things of every kind; an error of any of them, such as a deadlock cut, is the test's."""
    chance = random.Random(f"{seed} {start()}")
    with connect(dsn, "contender") as fleet:
        for _ in range(times):
            chance.choice((_lock, _act, _act, _tidy))(fleet, chance)
    return times


@pytest.fixture(autouse=True)
def patient(owner: Owner) -> Iterator[None]:
    """The last gate waits as long as all others: only a circle takes longer, which is cut after a second."""
    own = str(value(owner, "SELECT proconfig[2] FROM pg_proc WHERE proname = 'begin_send'"))
    assert own.startswith("lock_timeout="), own
    owner.execute("ALTER FUNCTION fleet.begin_send SET lock_timeout = '20s'")
    yield
    owner.execute(f"ALTER FUNCTION fleet.begin_send SET lock_timeout = '{own.partition('=')[2]}'".encode())


def run(database: FleetDatabase, console: Database) -> int:
    for account in ACCOUNTS:
        acts.plentiful(console, account)
    set_setting(console, "engagement_spacing_s", 0.001, actor="me", reason="test")
    return sum(together(_do_all, 8, database.dsn("worker"), 5, 40))


def test_locks_lines_and_acts_wait_in_one_order(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    assert run(fleet_database, console) == 8 * 40
    assert value(owner, "SELECT count(*) FROM fleet.intents WHERE state = 'rejected'") > 5
    assert value(owner, "SELECT count(*) FROM fleet.engagement_locks") == 0
    assert value(owner, "SELECT count(*) FROM fleet.lock_waiters") == 0


def test_an_account_taken_before_its_content_would_be_found(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    mutex = "PERFORM pg_advisory_xact_lock(fleet.lock_key('content', candidate.content));"
    first = "PERFORM 1 FROM fleet.accounts a WHERE a.name = claim_intent.account FOR UPDATE;"
    with (
        planted(owner, "claim_intent", (mutex, f"{first} PERFORM pg_sleep(0.01); {mutex}")),
        pytest.raises(AssertionError, match="deadlock detected"),
    ):
        run(fleet_database, console)
