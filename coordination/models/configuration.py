"""What persons set, and what is told to them."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Identity, Index, Sequence, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from coordination.models.schema import MOMENT, metadata

configuration_version = Sequence("configuration_version", metadata=metadata, cache=1)

settings = Table(
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

flags = Table(
    "flags",
    metadata,
    Column("name", Text, primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

setting_definitions = Table(
    "setting_definitions",
    metadata,
    Column("key", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("nullable", Boolean, nullable=False, server_default=text("false")),
    Column("lowest", Float(53)),
    Column("highest", Float(53)),
    Column("choices", JSONB),
    Column("default_value", JSONB, nullable=False, server_default=text("'null'::jsonb")),
    Column("unit", Text, nullable=False, server_default=text("''")),
    Column("description", Text, nullable=False, server_default=text("''")),
)

flag_definitions = Table(
    "flag_definitions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=text("''")),
)

configuration_history = Table(
    "configuration_history",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("value", JSONB),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
    Index("configuration_history_version", "version"),
)

audits = Table(
    "audits",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", MOMENT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("login", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", JSONB, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", MOMENT, nullable=False),
    Column("severity", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Index("events_time", "at"),
)

kill_switch = Table(
    "kill_switch",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("is_on", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

health_snapshots = Table(
    "health_snapshots",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("taken_at", MOMENT, nullable=False),
    Column("status", Text, nullable=False),
    Column("report", JSONB, nullable=False),
    Index("health_snapshots_time", "taken_at"),
)
