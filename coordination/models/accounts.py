"""On whose behalf the fleet acts, and whom it met."""

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Double, Index, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from coordination.models.schema import MOMENT, metadata

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
    Column("tier", Text, nullable=False, server_default=text("'pay_per_use'")),
    Column("engagement_spacing_s", Double),
)

policy_rules = Table(
    "policy_rules",
    metadata,
    Column("platform", Text, primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("action", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

opt_outs = Table(
    "opt_outs",
    metadata,
    Column("platform", Text, primary_key=True),
    Column("author_id", Text, primary_key=True),
    Column("handle", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("platform_id", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("opted_out_at", MOMENT, nullable=False),
)

cursors = Table(
    "cursors",
    metadata,
    Column("account", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("position", Text, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("ceiling", Text),
    Column("reached", Text),
    Column("moved_at", MOMENT, nullable=False),
)

interactions = Table(
    "interactions",
    metadata,
    Column("account", Text, primary_key=True),
    Column("platform_id", Text, primary_key=True),
    Column("author_id", Text, nullable=False),
    Column("handle", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("conversation_id", Text),
    Column("kind", Text, nullable=False),
    Column("summons", Boolean, nullable=False),
    Column("request", Text, nullable=False),
    Column("subject", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("posted_at", MOMENT, nullable=False),
    Column("seen_at", MOMENT, nullable=False),
    Column("due_at", MOMENT, nullable=False),
    Column("intent", BigInteger),
    Column("message", BigInteger),
    Column("finding", JSONB),
    Column("settled_at", MOMENT),
    Column("taken_by", UUID),
    Column("taken_until", MOMENT),
    Index("interactions_seen", text("seen_at DESC"), text("platform_id DESC")),
    Index("interactions_open", "account", "due_at", postgresql_where=text("state IN ('seen', 'delegated')")),
    Index(
        "interactions_answered",
        "account",
        "author_id",
        "settled_at",
        postgresql_where=text("state = 'answered'"),
    ),
    Index(
        "interactions_conversation",
        "account",
        "conversation_id",
        postgresql_where=text("state = 'answered'"),
    ),
)

candidates = Table(
    "candidates",
    metadata,
    Column("account", Text, primary_key=True),
    Column("platform_id", Text, primary_key=True),
    Column("author_id", Text, nullable=False),
    Column("handle", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("posted_at", MOMENT, nullable=False),
    Column("found_at", MOMENT, nullable=False),
    Column("scored_at", MOMENT, nullable=False),
    Column("metrics", JSONB, nullable=False),
    Column("score", Double, nullable=False),
    Column("parts", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("taken_by", UUID),
    Column("taken_until", MOMENT),
    Column("intent", BigInteger),
    Column("decided_at", MOMENT),
    Index(
        "candidates_best",
        "account",
        text("score DESC"),
        "platform_id",
        postgresql_where=text("state = 'waiting'"),
    ),
    Index("candidates_found", "found_at"),
    Index("candidates_taken", "account", postgresql_where=text("state = 'taken'")),
)
