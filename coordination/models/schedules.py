"""When is what done, and the record of each time that it was."""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, Sequence, Table, Text, text
from sqlalchemy.dialects.postgresql import UUID

from coordination.models.schema import MOMENT, SCHEMA, metadata

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("interval_s", Double),
    Column("last_slot_at", MOMENT),
    Column("fired", BigInteger, nullable=False, server_default=text("0")),
    Column("skipped", BigInteger, nullable=False, server_default=text("0")),
    Column("cron", Text),
    Column("zone", Text),
    Column("stagger_s", Double, nullable=False, server_default=text("0")),
    Column("policy", Text, nullable=False, server_default=text("'skip'")),
    Column("catch_up", Integer, nullable=False, server_default=text("24")),
    Column("next_slot_at", MOMENT),
    Column("worker", Text),
    Column("registered_by", UUID),
    Column("registered_at", MOMENT),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("paused_reason", Text),
    Column("late_s", Double, nullable=False, server_default=text("0")),
    Column("latest_s", Double, nullable=False, server_default=text("0")),
    Column("told_at", MOMENT),
    Index("schedules_next", "next_slot_at"),
)

schedule_slots = Table(
    "schedule_slots",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot_at", MOMENT, primary_key=True),
    Column("incarnation", UUID, nullable=False),
    Column("fired_at", MOMENT, nullable=False),
    Column("skipped_before", BigInteger, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'fired'")),
)

run_id = Sequence("run_id", metadata=metadata, schema=SCHEMA)

open_runs = Table(
    "open_runs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("worker", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("incarnation", UUID, nullable=False),
    Column("step", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("started_real_at", MOMENT, nullable=False),
    Index("open_runs_worker", "worker", "slot"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("worker", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("incarnation", UUID, nullable=False),
    Column("step", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("started_at", MOMENT, primary_key=True),
    Column("started_real_at", MOMENT, nullable=False),
    Column("ended_real_at", MOMENT),
    Column("outcome", Text, nullable=False),
    Column("items", Integer, nullable=False, server_default=text("0")),
    Column("item_errors", Integer, nullable=False, server_default=text("0")),
    Column("items_per_minute", Double),
    Column("error_class", Text),
    Column("error", Text),
    Column("job", BigInteger),
    Column("attempt", Integer),
    Column("wait_s", Double),
    Index("runs_time", "started_at", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
    Index("runs_worker", "worker", text("id DESC")),
    Index("runs_job", "job", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
    postgresql_partition_by="RANGE (started_at)",
)
