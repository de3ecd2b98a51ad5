"""Budgets: money is held before it is spent, and what is held or spent never exceeds a limit.

A limit is for a UTC day or month of fleet time: of an account as a whole, of one endpoint, of one model. A
hold counts in all of them or is refused; near the end of a period it counts in the next one too. All sums are
US dollars, exact to a millionth, and by our own price table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from coordination.answers import with_moments
from coordination.database import Database
from coordination.ids import number_of
from coordination.session import Session

BudgetKind = Literal["total", "endpoint", "model"]
Period = Literal["day", "month"]
Decision = Literal["spent", "released"]

LEASE_S: Final = 120.0
"""A hold that is not kept by then is free again."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """The answer to a request for money.

    Attributes:
        held: whether it is held; without it nothing may be spent.
        hold_id: to keep, settle or release it.
        amount_usd: what is held, rounded up to a millionth.
        expires_at: fleet time at which it is free again unless it is kept; None where it is kept.
        warnings: budgets that are used to 80 or 95 percent with it: kind, name, period, percent.
        reason: why it is refused.
        short: the budget that has too little: kind, name, period, limit_usd, left_usd, resets_at.
    """

    held: bool
    hold_id: str | None = None
    amount_usd: Decimal | None = None
    expires_at: datetime | None = None
    warnings: tuple[Mapping[str, Any], ...] = ()
    reason: str | None = None
    short: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class BudgetStatus:
    """One budget in its present period.

    Attributes:
        kind: total, endpoint or model.
        name: of the endpoint or model; empty for the total.
        held_usd: what may still be spent, or was, and nobody knows yet.
        used_percent: of the limit, spent and held together.
        resets_at: when the next period begins, fleet time.
        open_holds: how many are neither settled nor released.
        oldest_hold_at: since when the oldest of them is open.
    """

    account: str
    kind: BudgetKind
    name: str
    period: Period
    limit_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal
    left_usd: Decimal
    used_percent: float
    resets_at: datetime
    open_holds: int
    oldest_hold_at: datetime | None


class Budgets:
    """What a worker holds and spends. Every method is one round trip and takes the account's mutex."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def hold(
        self,
        account: str,
        amount_usd: Decimal,
        purpose: str,
        *,
        endpoint: str | None = None,
        model: str | None = None,
        lease_s: float = LEASE_S,
        kept: bool = False,
    ) -> Hold:
        """Hold money in every budget that counts it, or in none.

        Args:
            account: who pays.
            amount_usd: the most that it can cost.
            purpose: what it is for, for persons.
            endpoint: whose budget counts it too.
            model: whose budget counts it too.
            lease_s: fleet seconds after which it is free again, unless it is kept; at most 3600.
            kept: the money is spent at once: as `hold` and `keep` in one.

        Raises:
            InvalidValueError: no sum from 0.000001 to 1000000, or no purpose.
        """
        answer = self._session.call(
            "hold_budget",
            account=account,
            amount_usd=_exact(amount_usd),
            purpose=purpose,
            endpoint=endpoint,
            model=model,
            lease_s=lease_s,
            kept=kept,
        )
        fields = with_moments(answer, "expires_at")
        fields["amount_usd"] = None if fields["amount_usd"] is None else Decimal(fields["amount_usd"])
        fields["warnings"] = tuple(fields["warnings"])
        return Hold(**fields)

    def keep(self, hold_id: str) -> None:
        """Say that the money may be spent from here on: the hold stays, also when this process dies.

        To be called before what costs is asked for; it must be asked for within a minute.

        Raises:
            LockLostError: the hold's time was over: spend nothing on it.
        """
        self._session.call("keep_hold", hold=number_of(hold_id, "hold"))

    def settle(self, hold_id: str, actual_usd: Decimal) -> None:
        """Say what it came to; the rest is free again. Told twice it changes nothing.

        Raises:
            InvalidValueError: more than was held, or not this incarnation's hold.
        """
        self._session.call("settle_hold", hold=number_of(hold_id, "hold"), actual_usd=_exact(actual_usd))

    def release(self, hold_id: str, reason: str | None = None) -> None:
        """Give it back: it is known that nothing was spent. Told twice it changes nothing."""
        self._session.call("release_hold", hold=number_of(hold_id, "hold"), reason=reason)

    def get_budget_status(self) -> list[BudgetStatus]:
        """Every budget in its present period."""
        return _statuses(self._session.call("get_budget_status"))


def get_budget_status(database: Database) -> list[BudgetStatus]:
    """The same for a person or the console."""
    return _statuses(database.call("get_budget_status"))


def set_budget(
    database: Database,
    account: str,
    period: Period,
    limit_usd: Decimal,
    *,
    kind: BudgetKind = "total",
    name: str = "",
    actor: str,
    reason: str,
) -> None:
    """A person sets a limit; audited. What was spent in the period before counts."""
    database.call(
        "set_budget",
        account=account,
        period=period,
        limit_usd=_exact(limit_usd),
        kind=kind,
        name=name,
        actor=actor,
        reason=reason,
    )


def remove_budget(
    database: Database,
    account: str,
    period: Period,
    *,
    kind: BudgetKind = "total",
    name: str = "",
    actor: str,
    reason: str,
) -> bool:
    """A person takes a limit away; audited. Without one for its total an account can spend nothing."""
    return bool(
        database.call(
            "remove_budget", account=account, period=period, kind=kind, name=name, actor=actor, reason=reason
        )
    )


def decide_hold(
    database: Database,
    hold_id: str,
    decision: Decision,
    *,
    actual_usd: Decimal | None = None,
    actor: str,
    reason: str,
) -> None:
    """A person decides about a hold on which nobody reports any more; audited.

    Args:
        database: the console's.
        hold_id: which one.
        decision: spent or released.
        actual_usd: what was spent; None: all of it.
        actor: who decides.
        reason: why.

    Raises:
        TransitionRefusedError: it is over already.
    """
    database.call(
        "decide_hold",
        hold=number_of(hold_id, "hold"),
        decision=decision,
        actual_usd=None if actual_usd is None else _exact(actual_usd),
        actor=actor,
        reason=reason,
    )


def _exact(usd: Decimal) -> Decimal:
    """Refuse a float, which has lost what it was meant to be: money is a Decimal."""
    if not isinstance(usd, Decimal):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"money is {type(usd).__name__}: allowed is decimal.Decimal")
    return usd


def _statuses(rows: list[dict[str, Any]]) -> list[BudgetStatus]:
    found: list[BudgetStatus] = []
    for row in rows:
        fields = with_moments(row, "resets_at", "oldest_hold_at")
        for name in ("limit_usd", "spent_usd", "held_usd", "left_usd"):
            fields[name] = Decimal(fields[name])
        found.append(BudgetStatus(**fields))
    return found
