"""Budgets: what is held or spent never exceeds a limit, whoever asks and whoever dies."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from coordination import Fleet, budgets, connect
from coordination.alerts import list_alerts
from coordination.budgets import BudgetKind, Hold, Period
from coordination.database import Database
from coordination.errors import IncarnationLostError, InvalidValueError, LockLostError, TransitionRefusedError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

ACCOUNT = "sandbox"
DAY_S = 86_400


def usd(text: str) -> Decimal:
    return Decimal(text)


def limit(
    console: Database, amount: str, period: Period = "day", kind: BudgetKind = "total", name: str = ""
) -> None:
    budgets.set_budget(
        console, ACCOUNT, period, usd(amount), kind=kind, name=name, actor="ann", reason="test"
    )


def hold(fleet: Fleet, amount: str, **options: Any) -> Hold:
    return fleet.budgets.hold(ACCOUNT, usd(amount), "test", **options)


def held(fleet: Fleet, amount: str, **options: Any) -> str:
    answer = hold(fleet, amount, **options)
    assert answer.hold_id is not None, answer
    return answer.hold_id


def totals(console: Database, period: Period = "day", kind: BudgetKind = "total") -> tuple[str, str, str]:
    """Spent, held and left of a budget in its present period."""
    [found] = [one for one in budgets.get_budget_status(console) if (one.period, one.kind) == (period, kind)]
    return str(found.spent_usd.normalize()), str(found.held_usd.normalize()), str(found.left_usd.normalize())


def to_midnight(fleet_database: FleetDatabase, owner: Owner, before_s: float) -> None:
    """Move fleet time to so many seconds before the next UTC midnight that is not a month's."""
    at: datetime = value(owner, "SELECT fleet.now()")
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    while day.day == 1 or (day - at).total_seconds() <= before_s:
        day += timedelta(days=1)
    fleet_database.advance((day - at).total_seconds() - before_s)


def test_without_a_budget_nothing_is_spent(fleet: Fleet) -> None:
    answer = hold(fleet, "0.01")
    assert not answer.held
    assert "no budget" in (answer.reason or "")


def test_what_is_held_is_settled_and_the_rest_is_free_again(fleet: Fleet, console: Database) -> None:
    limit(console, "1")
    one, other = held(fleet, "0.4"), held(fleet, "0.25")
    assert totals(console) == ("0", "0.65", "0.35")
    fleet.budgets.settle(one, usd("0.1"))
    assert totals(console) == ("0.1", "0.25", "0.65")
    fleet.budgets.release(other)
    assert totals(console) == ("0.1", "0", "0.9")


def test_settling_or_releasing_twice_changes_nothing(fleet: Fleet, console: Database) -> None:
    limit(console, "1")
    one, other = held(fleet, "0.4"), held(fleet, "0.2")
    for _ in range(2):
        fleet.budgets.settle(one, usd("0.4"))
        fleet.budgets.release(one)
        fleet.budgets.release(other)
    assert totals(console) == ("0.4", "0", "0.6")


def test_not_a_millionth_more_than_the_limit_is_held_i23(fleet: Fleet, console: Database) -> None:
    limit(console, "0.3")
    for _ in range(3):
        held(fleet, "0.1")
    refused = hold(fleet, "0.000001")
    assert not refused.held
    assert refused.short is not None
    assert (refused.short["limit_usd"], refused.short["left_usd"]) == ("0.300000", "0.000000")
    assert totals(console) == ("0", "0.3", "0")


def test_sums_are_rounded_up_to_a_millionth(fleet: Fleet, console: Database) -> None:
    limit(console, "1")
    answer = hold(fleet, "0.00000015")
    assert answer.amount_usd == usd("0.000001")
    assert totals(console)[1] == "0.000001"


def test_a_hold_counts_in_every_budget_or_in_none_i23(fleet: Fleet, console: Database, owner: Owner) -> None:
    limit(console, "10")
    limit(console, "100", "month")
    limit(console, "5", kind="endpoint", name="search")
    limit(console, "1", kind="model", name="large")
    held(fleet, "0.9", endpoint="search", model="large")
    before = rows(owner, "SELECT * FROM fleet.budget_periods ORDER BY kind, name, period, starts_at")
    refused = hold(fleet, "0.2", endpoint="search", model="large")
    assert not refused.held
    assert refused.short is not None
    assert (refused.short["kind"], refused.short["name"]) == ("model", "large")
    after = rows(owner, "SELECT * FROM fleet.budget_periods ORDER BY kind, name, period, starts_at")
    assert [row[:8] for row in after] == [row[:8] for row in before]
    held(fleet, "4.1", endpoint="search", model="small")
    assert not hold(fleet, "0.1", endpoint="search").held
    held(fleet, "5")
    for period, kind, sum_held in (
        ("day", "total", "10"),
        ("month", "total", "10"),
        ("day", "endpoint", "5"),
    ):
        assert totals(console, period, kind)[1] in {sum_held, str(usd(sum_held).normalize())}  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_one_that_is_not_kept_in_its_time_is_free_again(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    limit(console, "1")
    late = held(fleet, "1", lease_s=60)
    assert not hold(fleet, "1").held
    fleet_database.advance(61)
    with pytest.raises(LockLostError, match="new hold"):
        fleet.budgets.keep(late)
    held(fleet, "1")
    assert totals(console) == ("0", "1", "0")


def test_what_was_spent_on_an_expired_hold_is_counted_and_told(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    limit(console, "1")
    late = held(fleet, "0.6", lease_s=60)
    fleet_database.advance(61)
    held(fleet, "0.1")  # by now the first one is free
    fleet.budgets.settle(late, usd("0.5"))
    assert totals(console)[0] == "0.5"
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'budget_late'") == 1


def keep_one(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "spender")
    keep(fleet)
    kept = held(fleet, "0.7")
    fleet.budgets.keep(kept)
    held(fleet, "0.2", lease_s=60)
    return kept


def test_a_dead_processs_kept_hold_stays_until_a_person_decides(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    to_midnight(fleet_database, owner, 50_000)
    limit(console, "1")
    with victim(keep_one, fleet_database.dsn("worker")) as spender:
        spender.kill()
    fleet_database.advance(3600)
    assert not hold(fleet, "0.5").held
    assert totals(console) == ("0", "0.7", "0.3")  # the other one had not been kept
    with pytest.raises(InvalidValueError, match="this incarnation"):
        fleet.budgets.release(spender.result)
    budgets.decide_hold(
        console, spender.result, "spent", actual_usd=usd("0.6"), actor="ann", reason="the bill says so"
    )
    assert totals(console) == ("0.6", "0", "0.4")
    with pytest.raises(TransitionRefusedError):
        budgets.decide_hold(console, spender.result, "released", actor="ann", reason="again")
    audits = rows(owner, "SELECT actor, reason FROM fleet.audits WHERE action = 'decide_hold'")
    assert audits == [("ann", "the bill says so")]


def test_a_kept_hold_counts_in_the_days_after_while_nobody_knows(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    limit(console, "1")
    to_midnight(fleet_database, owner, 60)
    unknown = held(fleet, "0.7", kept=True)
    fleet_database.advance(120)
    assert totals(console) == ("0", "0.7", "0.3")
    fleet.budgets.settle(unknown, usd("0.7"))
    assert totals(console) == ("0.7", "0", "0.3")


def test_a_hold_near_midnight_counts_in_both_days_and_one_at_noon_does_not(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    to_midnight(fleet_database, owner, 10_000)
    limit(console, "1")
    fleet.budgets.settle(held(fleet, "0.4", lease_s=60), usd("0.4"))
    to_midnight(fleet_database, owner, 100)
    # It may be spent until 60 s after its lease: 20 s past midnight.
    night = held(fleet, "0.5", lease_s=60)
    assert not hold(fleet, "0.2", lease_s=1).held
    fleet_database.advance(200)
    assert totals(console)[1] == "0" or totals(console)[1] == "0.5"
    fleet.budgets.settle(night, usd("0.5"))
    assert totals(console) == ("0.5", "0", "0.5")
    days = rows(owner, "SELECT spent_usd FROM fleet.budget_periods WHERE period = 'day' ORDER BY starts_at")
    assert [spent for (spent,) in days] == [usd("0.9"), usd("0.5")]


def test_a_new_day_begins_with_nothing_spent_and_a_month_goes_on(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    limit(console, "1")
    limit(console, "1.5", "month")
    to_midnight(fleet_database, owner, 50_000)
    fleet.budgets.settle(held(fleet, "1"), usd("1"))
    assert not hold(fleet, "0.1").held
    fleet_database.advance(60_000)
    fleet.budgets.settle(held(fleet, "0.5"), usd("0.5"))
    refused = hold(fleet, "0.1")
    assert refused.short is not None
    assert refused.short["period"] == "month"
    assert totals(console) == ("0.5", "0", "0.5")


def test_a_budget_made_within_its_period_knows_what_was_spent_before(fleet: Fleet, console: Database) -> None:
    limit(console, "10")
    fleet.budgets.settle(held(fleet, "2", endpoint="search"), usd("1.5"))
    open_one = held(fleet, "1", endpoint="search")
    held(fleet, "3", endpoint="post")
    limit(console, "3", kind="endpoint", name="search")
    assert totals(console, kind="endpoint") == ("1.5", "1", "0.5")
    fleet.budgets.release(open_one)
    assert totals(console, kind="endpoint") == ("1.5", "0", "1.5")


def test_80_and_95_percent_are_told_once_a_period_and_taken_back_with_the_next(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    limit(console, "1")
    to_midnight(fleet_database, owner, 50_000)
    assert hold(fleet, "0.79").warnings == ()
    [warning] = hold(fleet, "0.01").warnings
    assert warning["percent"] == 80
    assert [alert["severity"] for alert in list_alerts(console)] == ["warning"]
    [warning] = hold(fleet, "0.15").warnings
    assert warning["percent"] == 95
    held(fleet, "0.01")
    assert not hold(fleet, "0.1").held
    assert [alert["severity"] for alert in list_alerts(console)] == ["error"]
    told = rows(owner, "SELECT data->>'percent' FROM fleet.events WHERE kind = 'budget' ORDER BY id")
    assert told == [("80",), ("95",), ("100",)]
    fleet_database.advance(60_000)
    held(fleet, "0.1")
    assert list_alerts(console) == []


def test_a_higher_limit_takes_the_alert_back(fleet: Fleet, console: Database) -> None:
    limit(console, "1")
    held(fleet, "0.9")
    assert list_alerts(console)
    limit(console, "10")
    assert list_alerts(console) == []
    assert hold(fleet, "5").held


def test_a_limit_below_what_is_spent_holds_nothing_more(fleet: Fleet, console: Database) -> None:
    limit(console, "10")
    fleet.budgets.settle(held(fleet, "5"), usd("5"))
    limit(console, "1")
    refused = hold(fleet, "0.1")
    assert refused.short is not None
    assert usd(refused.short["left_usd"]) == 0
    assert totals(console)[2] == "0"


def test_an_account_whose_total_is_taken_away_spends_nothing(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    limit(console, "10")
    assert budgets.remove_budget(console, ACCOUNT, "day", actor="ann", reason="over")
    assert not budgets.remove_budget(console, ACCOUNT, "day", actor="ann", reason="over")
    assert not hold(fleet, "0.1").held
    assert value(owner, "SELECT count(*) FROM fleet.audits WHERE action = 'remove_budget'") == 1


def test_accounts_have_budgets_of_their_own(fleet: Fleet, console: Database) -> None:
    limit(console, "1")
    held(fleet, "1")
    budgets.set_budget(console, "default", "day", usd("1"), actor="ann", reason="test")
    assert fleet.budgets.hold("default", usd("1"), "test").held


@pytest.mark.parametrize("bad", ["0", "-1", "NaN", "Infinity", "1000001"])
def test_no_sum_is_refused_by_name(fleet: Fleet, console: Database, bad: str) -> None:
    limit(console, "1")
    with pytest.raises(InvalidValueError) as refusal:
        hold(fleet, bad)
    assert_refused(refusal, "amount_usd", bad)
    one = held(fleet, "0.5")
    if bad != "0":
        with pytest.raises(InvalidValueError) as refusal:
            fleet.budgets.settle(one, usd(bad))
        assert refusal.value.field == "actual_usd"
    assert totals(console) == ("0", "0.5", "0.5")


def test_a_float_is_no_money(fleet: Fleet) -> None:
    with pytest.raises(TypeError, match="Decimal"):
        fleet.budgets.hold(ACCOUNT, 0.1, "test")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_more_than_was_held_can_not_be_settled_i23(fleet: Fleet, console: Database) -> None:
    limit(console, "1")
    one = held(fleet, "0.5")
    with pytest.raises(InvalidValueError) as refusal:
        fleet.budgets.settle(one, usd("0.500001"))
    assert_refused(refusal, "actual_usd", "0.500001")
    assert totals(console) == ("0", "0.5", "0.5")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"purpose": " "}, "purpose"),
        ({"purpose": None}, "purpose"),
        ({"account": ""}, "account"),
        ({"account": None}, "account"),
        ({"lease_s": 0}, "lease_s"),
        ({"lease_s": float("nan")}, "lease_s"),
        ({"lease_s": None}, "lease_s"),
        ({"kept": None}, "kept"),
        ({"amount_usd": None}, "amount_usd"),
    ],
)
def test_bad_holds_are_refused_by_name(fleet: Fleet, change: dict[str, Any], field: str) -> None:
    asked: dict[str, Any] = {"account": ACCOUNT, "amount_usd": usd("1"), "purpose": "test", **change}
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("hold_budget", **asked)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"period": "week"}, "period"),
        ({"period": None}, "period"),
        ({"kind": "planet"}, "kind"),
        ({"kind": "model", "name": ""}, "name"),
        ({"name": "x"}, "name"),
        ({"limit_usd": usd("-1")}, "limit_usd"),
        ({"limit_usd": usd("NaN")}, "limit_usd"),
        ({"account": None}, "account"),
        ({"reason": ""}, "reason"),
    ],
)
def test_bad_limits_are_refused_by_name(
    console: Database, owner: Owner, change: dict[str, Any], field: str
) -> None:
    asked: dict[str, Any] = {
        "account": ACCOUNT,
        "period": "day",
        "limit_usd": usd("1"),
        "actor": "ann",
        "reason": "test",
        **change,
    }
    with pytest.raises(InvalidValueError) as refusal:
        console.call("set_budget", **asked)
    assert refusal.value.field == field
    assert value(owner, "SELECT count(*) FROM fleet.budgets") == 0


# Many at once

LIVES = 16


def spend(start: Callable[[], None], dsn: str, seed: int) -> tuple[int, Decimal]:
    """Hold, settle and release at random until refused a few times; give what was spent."""
    chance = random.Random(seed)
    spent, refused, number = Decimal(0), 0, 0
    with connect(dsn, "spender") as fleet:
        start()
        while refused < 5:
            amount = Decimal(chance.randint(1, 30_000)) / 1_000_000
            answer = fleet.budgets.hold(ACCOUNT, amount, "test", endpoint=chance.choice(["search", "post"]))
            if answer.hold_id is None:
                refused += 1
                continue
            number += 1
            if chance.random() < 0.2:
                fleet.budgets.release(answer.hold_id)
            elif chance.random() < 0.9:
                fleet.budgets.keep(answer.hold_id)
                actual = amount * chance.randint(50, 100) / 100
                fleet.budgets.settle(answer.hold_id, actual)
                spent += actual.quantize(Decimal("0.000001"), rounding="ROUND_CEILING")
    return number, spent


def used(console: Database) -> Decimal:
    [total] = [one for one in budgets.get_budget_status(console) if one.kind == "total"]
    return total.spent_usd + total.held_usd


def test_16_processes_never_spend_a_millionth_more_than_the_limit_i23(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    limit(console, "3")
    limit(console, "1.2", kind="endpoint", name="search")
    outcomes = together(spend, LIVES, fleet_database.dsn("worker"), 7)
    for one in budgets.get_budget_status(console):
        assert one.spent_usd + one.held_usd <= one.limit_usd, one
    [total] = [one for one in budgets.get_budget_status(console) if one.kind == "total"]
    assert total.spent_usd == sum(spent for _, spent in outcomes)
    assert total.left_usd < usd("0.1")
    assert total.held_usd == value(
        owner, "SELECT sum(amount_usd) FROM fleet.budget_holds WHERE state IN ('held', 'kept')"
    )


def hold_once(start: Callable[[], None], dsn: str) -> bool:
    with connect(dsn, "spender") as fleet:
        start()
        return hold(fleet, "0.4").held


def test_without_the_mutex_the_test_above_would_fail(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    limit(console, "1")
    assert sum(together(hold_once, 8, fleet_database.dsn("worker"))) == 2
    owner.execute("DELETE FROM fleet.budget_holds; UPDATE fleet.budget_periods SET held_usd = 0")
    without = (
        ("    PERFORM pg_advisory_xact_lock(fleet.lock_key('budget', hold_budget.account));\n", ""),
        ("ORDER BY p.kind, p.name, p.period, p.starts_at FOR UPDATE;", "; PERFORM pg_sleep(0.5);"),
        (
            "    INSERT INTO fleet.budget_holds",
            "    PERFORM pg_sleep(0.5);\n    INSERT INTO fleet.budget_holds",
        ),
    )
    with planted(owner, "hold_budget", *without):
        together(hold_once, 8, fleet_database.dsn("worker"))
    assert used(console) > 1


def test_a_life_that_ended_holds_nothing_more_and_still_settles_what_it_held(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    limit(console, "1")
    with fleet_database.connect("spender") as fleet:
        one = held(fleet, "0.5", kept=True)
        owner.execute("UPDATE fleet.incarnations SET ended_at = clock_timestamp()")
        with pytest.raises(IncarnationLostError):
            hold(fleet, "0.1")
        fleet.budgets.settle(one, usd("0.5"))
    assert totals(console) == ("0.5", "0", "0.5")
