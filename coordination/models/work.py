"""What is to be done, when, and what came of it."""

from sqlalchemy import BigInteger, Column, Double, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from coordination.models.schema import MOMENT, metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("priority", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("run_at", MOMENT, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False),
    Column("unique_key", Text),
    Column("incarnation", UUID),
    Column("lease", BigInteger),
    Column("lease_expires_at", MOMENT),
    Column("errors", JSONB, nullable=False, server_default=text("'[]'")),
    Column("result", JSONB),
    Column("created_at", MOMENT, nullable=False),
    Column("finished_at", MOMENT),
    Index(
        "jobs_ready",
        "kind",
        text("rank DESC"),
        "run_at",
        "id",
        postgresql_where=text("(state = ANY (ARRAY['available'::text, 'retryable'::text]))"),
    ),
    Index("jobs_running", "kind", "lease_expires_at", postgresql_where=text("(state = 'running'::text)")),
    Index(
        "jobs_unique_key",
        "kind",
        "unique_key",
        unique=True,
        postgresql_where=text("unique_key IS NOT NULL AND (state IN ('available', 'running', 'retryable'))"),
    ),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("interval_s", Double, nullable=False),
    Column("last_slot_at", MOMENT),
    Column("fired", BigInteger, nullable=False, server_default=text("0")),
    Column("skipped", BigInteger, nullable=False, server_default=text("0")),
)

schedule_slots = Table(
    "schedule_slots",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot_at", MOMENT, primary_key=True),
    Column("incarnation", UUID, nullable=False),
    Column("fired_at", MOMENT, nullable=False),
    Column("skipped_before", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("worker", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("incarnation", UUID, nullable=False),
    Column("step", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("started_real_at", MOMENT, nullable=False),
    Column("ended_real_at", MOMENT),
    Column("outcome", Text, nullable=False),
    Column("items", Integer, nullable=False, server_default=text("0")),
    Column("item_errors", Integer, nullable=False, server_default=text("0")),
    Column("items_per_minute", Double),
    Column("error_class", Text),
    Column("error", Text),
    Index("runs_open", "worker", "slot", postgresql_where=text("(outcome = 'running'::text)")),
    Index("runs_time", "started_at"),
    Index("runs_worker", "worker", text("id DESC")),
)

failed_items = Table(
    "failed_items",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("error_class", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("first_failed_at", MOMENT, nullable=False),
    Column("last_failed_at", MOMENT, nullable=False),
    Column("dead_at", MOMENT),
)
