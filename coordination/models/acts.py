"""The ledger of outside acts, and how they did."""

from sqlalchemy import BigInteger, Boolean, Column, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from coordination.models.schema import MOMENT, metadata

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
    Index("intents_created", "account", "created_at"),
    Index(
        "intents_due",
        "account",
        "not_before",
        "id",
        postgresql_where=text(
            "(state = ANY (ARRAY['draft'::text, 'awaiting_approval'::text, 'ready'::text, 'claimed'::text, "
            "'retry_at'::text]))"
        ),
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
        postgresql_where=text("((platform_id IS NOT NULL) AND (action <> 'like'::text))"),
    ),
    Index("intents_act", "account", "action", "target"),
    Index(
        "intents_unsettled",
        "content",
        postgresql_where=text("(state = ANY (ARRAY['sending'::text, 'unknown'::text, 'parked'::text]))"),
    ),
    Index(
        "intents_undecided",
        "account",
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
    Index("attempts_open", "grant_id", postgresql_where=text("(settled_at IS NULL)")),
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
