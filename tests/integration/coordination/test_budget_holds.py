"""What is told of a hold after it was over, and what the first hold of a day costs."""

from decimal import Decimal

import psycopg
import pytest

from coordination import Fleet, budgets
from coordination.database import Database
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, rows, value

ACCOUNT = "sandbox"


@pytest.fixture(autouse=True)
def limit(console: Database) -> None:
    budgets.set_budget(console, ACCOUNT, "day", Decimal(1), actor="ann", reason="test")


def held(fleet: Fleet, amount: str) -> str:
    answer = fleet.budgets.hold(ACCOUNT, Decimal(amount), "test", kept=True)
    assert answer.hold_id is not None, answer
    return answer.hold_id


def totals(console: Database) -> tuple[Decimal, Decimal]:
    [found] = budgets.get_budget_status(console)
    return found.spent_usd, found.held_usd


def told(owner: Owner) -> list[str]:
    return [
        message for (message,) in rows(owner, "SELECT message FROM fleet.events WHERE kind = 'budget_late'")
    ]


def test_what_was_spent_on_a_released_hold_is_counted_once_and_told(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    one = held(fleet, "0.6")
    fleet.budgets.release(one)
    fleet.budgets.settle(one, Decimal(0))
    assert (totals(console), told(owner)) == ((0, 0), [])
    for _ in range(2):
        fleet.budgets.settle(one, Decimal("0.5"))
        fleet.budgets.release(one)
    assert totals(console) == (Decimal("0.5"), 0)
    [message] = told(owner)
    assert "0.500000 USD" in message
    assert "released" in message


def test_more_than_was_told_before_is_counted_and_told_less_is_not(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    one = held(fleet, "0.6")
    budgets.decide_hold(
        console, one, "spent", actual_usd=Decimal("0.2"), actor="ann", reason="as far as I know"
    )
    fleet.budgets.settle(one, Decimal("0.5"))
    fleet.budgets.settle(one, Decimal("0.1"))
    assert totals(console) == (Decimal("0.5"), 0)
    assert value(owner, "SELECT actual_usd FROM fleet.budget_holds") == Decimal("0.5")
    [message] = told(owner)
    assert "0.300000 USD" in message


def test_a_late_word_counts_in_a_budget_that_was_made_meanwhile(fleet: Fleet, console: Database) -> None:
    one = held(fleet, "0.6")
    fleet.budgets.release(one)
    budgets.set_budget(console, ACCOUNT, "month", Decimal(9), actor="ann", reason="test")
    fleet.budgets.settle(one, Decimal("0.5"))
    assert [found.spent_usd for found in budgets.get_budget_status(console)] == [Decimal("0.5")] * 2


def test_the_first_hold_of_a_day_does_not_read_those_of_the_days_before(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    owner.execute(
        "INSERT INTO fleet.budget_holds (account, amount_usd, actual_usd, purpose, incarnation, worker_id, "
        "state, held_at, expires_at, ended_at) "
        "SELECT %s, 1, 1, 'x', gen_random_uuid(), 'w', 'spent', t, t, t "
        "FROM generate_series(1, 3000) n, "
        "LATERAL (SELECT fleet.now() - interval '1 day' * (2 + n / 50) AS t) s",
        (ACCOUNT,),
    )
    owner.execute("ANALYZE fleet.budget_holds")
    fleet_database.advance(86_400)
    with psycopg.connect(fleet_database.superuser_dsn) as same:  # its transaction counts what it reads
        same.execute("SELECT fleet.hold_budget(%s, %s, 0.1, 'test')", (fleet.incarnation.id, ACCOUNT))
        read = same.execute(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables "
            "WHERE relname = 'budget_holds'"
        ).fetchone()
    assert read is not None
    assert read[0] <= 10
