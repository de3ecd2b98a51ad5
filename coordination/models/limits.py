"""Quotas."""

from sqlalchemy import BigInteger, Boolean, Column, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import UUID

from coordination.models.schema import MOMENT, metadata

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("account", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("window_s", Integer, nullable=False),
    Column("header_limit", Integer),
    Column("header_used", Integer, nullable=False, server_default=text("0")),
    Column("header_reset", BigInteger),
    Column("header_resets_at", MOMENT),
    Column("blocked_until", MOMENT),
    Column("violations", Integer, nullable=False, server_default=text("0")),
)

rate_grants = Table(
    "rate_grants",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("incarnation", UUID, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("granted_at", MOMENT, nullable=False),
    Column("granted_real_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
    Column("success", Boolean),
    Column("frees_at", MOMENT, nullable=False),
    Index("rate_grants_occupying", "account", "endpoint", "frees_at"),
)
