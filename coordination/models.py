"""The schema as SQLAlchemy sees it: what Alembic compares, and what the console's lists select from.

The rules (checks, transitions, who may do what) live in the migrations and in `coordination/sql`; here are
names and types.
Columns ending in `_at` hold fleet time unless the migration says real time.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

SCHEMA = "fleet"
MOMENT = DateTime(timezone=True)

metadata = MetaData(schema=SCHEMA)

fencing_token = Sequence("fencing_token", metadata=metadata, cache=1)
configuration_version = Sequence("configuration_version", metadata=metadata, cache=1)

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

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

slots = Table(
    "slots",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", MOMENT, nullable=False),
    Column("pid", Integer),
    Column("restart_count", Integer, nullable=False),
    Column("seen_at", MOMENT, nullable=False),
)

commands = Table(
    "commands",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("action", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("slot", Integer),
    Column("requested_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested_at", MOMENT, nullable=False),
    Column("state", Text, nullable=False),
    Column("result", Text),
    Column("taken_at", MOMENT),
    Column("finished_at", MOMENT),
    Index(
        "commands_open",
        "id",
        postgresql_where=text("(state = ANY (ARRAY['pending'::text, 'running'::text]))"),
    ),
)

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
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("platform", Text, nullable=False),
    Column("api_url", Text, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("platform_user_id", Text),
    Column("handle", Text),
    Column("topics", ARRAY(Text), nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

engagement_locks = Table(
    "engagement_locks",
    metadata,
    Column("content", Text, primary_key=True),
    Column("lock_type", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("incarnation", UUID, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("fencing_token", BigInteger, nullable=False),
    Column("acquired_at", MOMENT, nullable=False),
    Column("lease_expires_at", MOMENT, nullable=False),
)

engagements = Table(
    "engagements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("content", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("account", Text),
    Column("worker_id", Text, nullable=False),
    Column("incarnation", UUID),
    Column("intent", BigInteger),
    Column("success", Boolean, nullable=False),
    Column("engaged_at", MOMENT, nullable=False),
    Index("engagements_content", "content", text("engaged_at DESC")),
    Index("engagements_time", "engaged_at"),
)

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

kill_switch = Table(
    "kill_switch",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("is_on", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
)

intents = Table(
    "intents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("not_before", MOMENT, nullable=False),
    Column("deadline", MOMENT),
    Column("retry_at", MOMENT),
    Column("proposed_by", Text, nullable=False),
    Column("by_person", Boolean, nullable=False),
    Column("approved_by", Text),
    Column("origin", JSONB, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("incarnation", UUID),
    Column("fencing_token", BigInteger),
    Column("claimed_until", MOMENT),
    Column("sending_since", MOMENT),
    Column("platform_id", Text),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    Index(
        "intents_due",
        "account",
        "not_before",
        "id",
        postgresql_where=text("(state = ANY (ARRAY['ready'::text, 'claimed'::text, 'retry_at'::text]))"),
    ),
    Index(
        "intents_once",
        "account",
        "action",
        "target",
        unique=True,
        postgresql_where=text(
            "(state <> ALL (ARRAY['rejected'::text, 'expired'::text, 'cancelled'::text, 'dry_run'::text]))"
        ),
    ),
    Index(
        "intents_platform_id",
        "account",
        "platform_id",
        unique=True,
        postgresql_where=text("(platform_id IS NOT NULL)"),
    ),
    Index(
        "intents_unsettled",
        "content",
        postgresql_where=text("(state = ANY (ARRAY['sending'::text, 'unknown'::text, 'parked'::text]))"),
    ),
    Index("intents_updated", text("updated_at DESC"), text("id DESC")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("intent", BigInteger, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("incarnation", UUID, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("fencing_token", BigInteger, nullable=False),
    Column("grant_id", BigInteger, nullable=False),
    Column("began_at", MOMENT, nullable=False),
    Column("began_real_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
    Column("outcome", Text),
    Column("status", Integer),
    Column("reason", Text),
    Column("headers", JSONB),
)

intent_transitions = Table(
    "intent_transitions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("intent", BigInteger, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("real_at", MOMENT, nullable=False),
    Column("incarnation", UUID),
    Column("fencing_token", BigInteger),
    Column("attempt", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Index("intent_transitions_intent", "intent", "id"),
)

tracked_posts = Table(
    "tracked_posts",
    metadata,
    Column("account", Text, primary_key=True),
    Column("platform_id", Text, primary_key=True),
    Column("intent", BigInteger, nullable=False),
    Column("posted_at", MOMENT, nullable=False),
    Column("readings", Integer, nullable=False, server_default=text("0")),
    Column("misses", Integer, nullable=False, server_default=text("0")),
    Column("next_reading_at", MOMENT, nullable=False),
    Column("gone_at", MOMENT),
    Index("tracked_posts_due", "account", "next_reading_at", postgresql_where=text("(gone_at IS NULL)")),
)

readings = Table(
    "readings",
    metadata,
    Column("account", Text, primary_key=True),
    Column("platform_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("read_at", MOMENT, nullable=False),
    Column("metrics", JSONB, nullable=False),
)
