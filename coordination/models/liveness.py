"""Which process lives."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    Sequence,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from coordination.models.schema import MOMENT, metadata

fencing_token = Sequence("fencing_token", metadata=metadata, cache=1)

clock = Table(
    "clock",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("real0", MOMENT, nullable=False),
    Column("fleet0", MOMENT, nullable=False),
    Column("rate", Double, nullable=False),
)

installation = Table(
    "installation",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("system_identifier", Text, nullable=False),
    Column("timeline", Text, nullable=False),
    Column("accepted_at", MOMENT, nullable=False),
    Column("accepted_by", Text, nullable=False),
    Column("fence_seen", BigInteger, nullable=False, server_default=text("0")),
)

incarnations = Table(
    "incarnations",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid_namespace", Text, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("ended_at", MOMENT),
    Column("end_reason", Text),
    Column("died_at", MOMENT),
    Column("death", Text),
    Index("incarnations_undead", "host", "pid", postgresql_where=text("(died_at IS NULL)")),
    Index("incarnations_ended", "ended_at", postgresql_where=text("(ended_at IS NOT NULL)")),
    Index("incarnations_worker", "worker", "slot", text("started_at DESC")),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("incarnation", UUID, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("step", Text),
    Column("progress", BigInteger, nullable=False),
    Column("progressed_at", MOMENT, nullable=False),
    Column("beat_at", MOMENT, nullable=False),
    Column("healthy", Boolean, nullable=False),
    Column("health", JSONB, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
)
