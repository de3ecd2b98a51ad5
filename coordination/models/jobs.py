"""Jobs: those that did not end yet, those that did, and what was counted of them."""

from sqlalchemy import BigInteger, Column, Double, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

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
    Column("created_at", MOMENT, nullable=False),
    Column("order_at", MOMENT, nullable=False),
    Column("expected_s", Double),
    Column("concurrency_key", Text),
    Column("concurrency_limit", Integer),
    Column("put_offs", Integer, nullable=False, server_default=text("0")),
    Column("waits_for", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    Column("claimed_real_at", MOMENT),
    Column("overdue_at", MOMENT),
    Column("claimed_at", MOMENT),
    Index(
        "jobs_ready",
        "kind",
        "order_at",
        "id",
        "run_at",
        postgresql_where=text("state <> 'running' AND waits_for = '{}' AND concurrency_key IS NULL"),
    ),
    Index(
        "jobs_keyed",
        "kind",
        "order_at",
        "id",
        "run_at",
        postgresql_where=text("state <> 'running' AND waits_for = '{}' AND concurrency_key IS NOT NULL"),
    ),
    Index(
        "jobs_heads",
        "kind",
        "concurrency_key",
        "order_at",
        "id",
        "run_at",
        postgresql_where=text("incarnation IS NULL AND waits_for = '{}' AND concurrency_key IS NOT NULL"),
    ),
    Index("jobs_due", "kind", "run_at", postgresql_where=text("state <> 'running' AND waits_for = '{}'")),
    Index("jobs_running", "kind", "lease_expires_at", postgresql_where=text("(state = 'running'::text)")),
    Index(
        "jobs_keys",
        "concurrency_key",
        postgresql_where=text("incarnation IS NOT NULL AND concurrency_key IS NOT NULL"),
    ),
    Index(
        "jobs_waiting",
        "waits_for",
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
        postgresql_where=text("waits_for <> '{}'"),
    ),
    Index(
        "jobs_unique_key", "kind", "unique_key", unique=True, postgresql_where=text("unique_key IS NOT NULL")
    ),
)

jobs_finished = Table(
    "jobs_finished",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("priority", Text, nullable=False),
    Column("run_at", MOMENT, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("unique_key", Text),
    Column("concurrency_key", Text),
    Column("concurrency_limit", Integer),
    Column("expected_s", Double),
    Column("waits_for", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    Column("errors", JSONB, nullable=False),
    Column("result", JSONB),
    Column("created_at", MOMENT, nullable=False),
    Column("finished_at", MOMENT, primary_key=True),
    Index(
        "jobs_finished_kind",
        "kind",
        "state",
        "finished_at",
        postgresql_where=text("state <> 'completed'"),
    ),
    postgresql_partition_by="RANGE (finished_at)",
)

job_limits = Table(
    "job_limits",
    metadata,
    Column("key", Text, primary_key=True),
    Column("capacity", Integer, nullable=False),
)

job_takers = Table(
    "job_takers",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("looked_at", MOMENT),
)

job_counts = Table(
    "job_counts",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("shard", BigInteger, Identity(always=True), primary_key=True),
    *(
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in (
            "completed",
            "given_up",
            "failed",
            "dead",
            "snoozed",
            "rescued",
            "missed",
            "overdue",
        )
    ),
    *(Column(name, Double, nullable=False, server_default=text("0")) for name in ("wait_s", "run_s")),
)
