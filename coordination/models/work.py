"""What could not be done."""

from sqlalchemy import Column, Integer, Table, Text

from coordination.models.schema import MOMENT, metadata

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
