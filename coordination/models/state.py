"""What processes share: values, a cache, breakers."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, Sequence, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from coordination.models.schema import MOMENT, metadata

state_version = Sequence("state_version", metadata=metadata, cache=1)
cache_token = Sequence("cache_token", metadata=metadata, cache=1)

state = Table(
    "state",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("incarnation", UUID, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

cache = Table(
    "cache",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", JSONB),
    Column("bytes", Integer, nullable=False),
    Column("stored_at", MOMENT),
    Column("expires_at", MOMENT, nullable=False),
    Column("stale_until", MOMENT, nullable=False),
    Column("computing_by", UUID),
    Column("computing_token", BigInteger),
    Column("computing_until", MOMENT),
    Index("cache_stale", "stale_until"),
    prefixes=["UNLOGGED"],
)

cache_counts = Table(
    "cache_counts",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("stripe", Integer, primary_key=True),
    Column("hits", BigInteger, nullable=False, server_default=text("0")),
    Column("stale_hits", BigInteger, nullable=False, server_default=text("0")),
    Column("misses", BigInteger, nullable=False, server_default=text("0")),
    Column("stores", BigInteger, nullable=False, server_default=text("0")),
    Column("evictions", BigInteger, nullable=False, server_default=text("0")),
    prefixes=["UNLOGGED"],
)

breaker_rules = Table(
    "breaker_rules",
    metadata,
    Column("account", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("opens_after", Integer, nullable=False),
    Column("first_backoff_s", Float(53), nullable=False),
    Column("longest_backoff_s", Float(53), nullable=False),
    Column("probe_lease_s", Float(53), nullable=False),
    Column("stuck_after_s", Float(53), nullable=False),
)

breakers = Table(
    "breakers",
    metadata,
    Column("account", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("opens", Integer, nullable=False, server_default=text("0")),
    Column("opened_at", MOMENT),
    Column("next_probe_at", MOMENT),
    Column("changed_at", MOMENT, nullable=False),
    Column("probe", BigInteger, nullable=False, server_default=text("0")),
    Column("probe_incarnation", UUID),
    Column("probe_expires_at", MOMENT),
    Column("last_failed_at", MOMENT),
    Column("last_error", Text),
    Column("last_status", Integer),
    Column("is_stuck", Boolean, nullable=False, server_default=text("false")),
    Column("failures_total", BigInteger, nullable=False, server_default=text("0")),
    Column("opens_total", BigInteger, nullable=False, server_default=text("0")),
    Column("reset_attempts", BigInteger, nullable=False, server_default=text("0")),
)
