"""What is told, and what could not be done."""

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from coordination.models.schema import MOMENT, metadata

messages = Table(
    "messages",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("type", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("recipient_kind", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("routed_to", Text),
    Column("priority", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("reply_to", BigInteger),
    Column("dedupe_key", Text),
    Column("sent_at", MOMENT, nullable=False),
    Column("expires_at", MOMENT, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False),
    Column("due_at", MOMENT, nullable=False),
    Column("incarnation", UUID),
    Column("lease", BigInteger),
    Column("lease_expires_at", MOMENT),
    Column("errors", JSONB, nullable=False, server_default=text("'[]'")),
    Column("finished_at", MOMENT),
    Index(
        "messages_once",
        "recipient_kind",
        "recipient",
        "dedupe_key",
        unique=True,
        postgresql_where=text("dedupe_key IS NOT NULL"),
    ),
    Index(
        "messages_waiting",
        "routed_to",
        text("rank DESC"),
        "due_at",
        "id",
        postgresql_where=text("state IN ('waiting', 'claimed')"),
    ),
    Index("messages_unrouted", "id", postgresql_where=text("state = 'waiting' AND routed_to IS NULL")),
    Index("messages_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
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
