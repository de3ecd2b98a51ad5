"""Budgets: what may be spent, and what is."""

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Integer, Numeric, Table, Text, text
from sqlalchemy.dialects.postgresql import UUID

from coordination.models.schema import MOMENT, metadata

USD = Numeric(16, 6)

budgets = Table(
    "budgets",
    metadata,
    Column("account", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("limit_usd", USD, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

budget_periods = Table(
    "budget_periods",
    metadata,
    Column("account", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("starts_at", MOMENT, primary_key=True),
    Column("ends_at", MOMENT, nullable=False),
    Column("spent_usd", USD, nullable=False, server_default=text("0")),
    Column("held_usd", USD, nullable=False, server_default=text("0")),
    Column("told_percent", Integer, nullable=False, server_default=text("0")),
    Index("budget_periods_end", "ends_at"),
)

budget_holds = Table(
    "budget_holds",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", Text, nullable=False),
    Column("endpoint", Text),
    Column("model", Text),
    Column("amount_usd", USD, nullable=False),
    Column("actual_usd", USD),
    Column("purpose", Text, nullable=False),
    Column("incarnation", UUID, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("held_at", MOMENT, nullable=False),
    Column("expires_at", MOMENT, nullable=False),
    Column("ended_at", MOMENT),
    Column("ended_by", Text),
    Column("reason", Text),
    Index(
        "budget_holds_open",
        "account",
        "expires_at",
        postgresql_where=text("state IN ('held', 'kept')"),
    ),
    Index(
        "budget_holds_counted",
        "account",
        "expires_at",
        postgresql_where=text("state IN ('held', 'kept', 'spent')"),
    ),
    Index("budget_holds_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

budget_hold_periods = Table(
    "budget_hold_periods",
    metadata,
    Column("hold", BigInteger, ForeignKey(budget_holds.c.id, ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("starts_at", MOMENT, primary_key=True),
)
