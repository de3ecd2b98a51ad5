"""Engagement: who holds a content, who waits for it, what became of the requests, what was done."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Double,
    Identity,
    Index,
    Interval,
    Sequence,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from coordination.models.schema import MOMENT, metadata

lock_misses = Sequence("lock_misses", metadata=metadata, cache=1)
late_words = Sequence("late_words", metadata=metadata, cache=1)

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
    Column("scope", Text, primary_key=True, server_default=text("''")),
    Column("account", Text),
    Column("waiter", BigInteger),
    Column("ticket", UUID),
    Index("engagement_locks_account", "account", postgresql_where=text("(account IS NOT NULL)")),
    Index("engagement_locks_waiter", "waiter", postgresql_where=text("(waiter IS NOT NULL)")),
)

lock_waiters = Table(
    "lock_waiters",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("content", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("account", Text),
    Column("lock_type", Text, nullable=False),
    Column("duration", Interval, nullable=False),
    Column("priority", Text, nullable=False),
    Column("score", Double),
    Column("besides", BigInteger),
    Column("ticket", UUID),
    Column("incarnation", UUID, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("waits_since", MOMENT, nullable=False),
    Column("stands_at", MOMENT, nullable=False),
    Column("polled_at", MOMENT, nullable=False),
    Column("poll_by", MOMENT, nullable=False),
    Column("deadline_at", MOMENT, nullable=False),
    Column("escalated_at", MOMENT),
    Index("lock_waiters_line", "content", "stands_at", "id"),
    Index(
        "lock_waiters_account", "account", "stands_at", "id", postgresql_where=text("(account IS NOT NULL)")
    ),
    Index("lock_waiters_deadline", "deadline_at"),
)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _seconds(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default=text("0"))


lock_measures = Table(
    "lock_measures",
    metadata,
    Column("counted_at", MOMENT, primary_key=True),
    Column("incarnation", UUID, primary_key=True),
    _count("granted"),
    _count("granted_after_waiting"),
    _count("refused_held"),
    _count("refused_engaged"),
    _count("refused_interval"),
    _count("taken_over"),
    _count("timed_out"),
    _count("given_up"),
    _count("escalated"),
    _seconds("acquire_s"),
    _seconds("acquire_max_s"),
    Column("acquire_within", ARRAY(BigInteger), nullable=False, server_default=text("'{0,0,0,0,0,0,0,0}'")),
    _count("resolved"),
    _seconds("resolve_s"),
    _seconds("resolve_max_s"),
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
    Index(
        "engagements_account",
        "account",
        text("engaged_at DESC"),
        postgresql_where=text("(account IS NOT NULL)"),
    ),
)
