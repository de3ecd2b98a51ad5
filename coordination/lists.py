"""Lists that a person filters: SQLAlchemy Core builds the SELECT, `Database.select` runs it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import ARRAY, BigInteger, Text, any_, literal, select, tuple_
from sqlalchemy.dialects.postgresql import psycopg

from coordination.database import Database
from coordination.models import MOMENT, intents

MAX_ITEMS = 500

_DIALECT = psycopg.dialect()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ITEM = (
    "id",
    "account",
    "action",
    "target",
    "state",
    "text",
    "platform_id",
    "attempt",
    "reason",
    "updated_at",
)


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """The last item of a page: the next page begins behind it. Its text form is opaque to callers."""

    updated_at: datetime
    id: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` wrote; None when it is something else."""
        parts = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", text, re.ASCII)
        try:
            return cls(updated_at=_EPOCH + int(parts[1]) * _MICROSECOND, id=int(parts[2])) if parts else None
        except OverflowError:
            return None

    def __str__(self) -> str:
        return f"{(self.updated_at - _EPOCH) // _MICROSECOND}-{self.id}"


@dataclass(frozen=True, kw_only=True)
class IntentFilter:
    """Which intents.

    Attributes:
        states: any of `coordination.intents.INTENT_STATES`; none given means all.
        actions: any of `coordination.intents.ACTIONS`; none given means all.
        since: updated at this fleet time or later.
        until: updated before this fleet time.
        limit: items a page, 1 to `MAX_ITEMS`.
        after: where the page before ended.
    """

    states: Sequence[str] = ()
    actions: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100
    after: Cursor | None = None


@dataclass(frozen=True, kw_only=True)
class IntentPage:
    """Items as `GET /api/intents` gives them, and where the next page begins (None: this is the last)."""

    items: list[dict[str, Any]]
    next: Cursor | None


def list_intents(database: Database, wanted: IntentFilter) -> IntentPage:
    """The intents that changed last come first. One round trip along the index `intents_updated`.

    An intent that changes while somebody pages moves to the front: it may be met twice, and is not lost
    to a reader who begins again.
    """
    statement, parameters = compile_intents(wanted)
    rows = database.select(statement, parameters)
    items, rest = rows[: wanted.limit], rows[wanted.limit :]
    last = Cursor(updated_at=items[-1]["updated_at"], id=items[-1]["id"]) if rest else None
    return IntentPage(items=[{**row, "id": str(row["id"])} for row in items], next=last)


def compile_intents(wanted: IntentFilter) -> tuple[str, dict[str, Any]]:
    """The SELECT and its parameters; it asks for one row more than the page holds."""
    columns = intents.c
    query = select(*(columns[name] for name in _ITEM))
    if wanted.states:
        query = query.where(columns.state == any_(literal(list(wanted.states), ARRAY(Text))))
    if wanted.actions:
        query = query.where(columns.action == any_(literal(list(wanted.actions), ARRAY(Text))))
    if wanted.since:
        query = query.where(columns.updated_at >= wanted.since)
    if wanted.until:
        query = query.where(columns.updated_at < wanted.until)
    if wanted.after:
        place = tuple_(literal(wanted.after.updated_at, MOMENT), literal(wanted.after.id, BigInteger))
        query = query.where(tuple_(columns.updated_at, columns.id) < place)
    query = query.order_by(columns.updated_at.desc(), columns.id.desc()).limit(wanted.limit + 1)
    compiled = query.compile(dialect=_DIALECT)
    return str(compiled), dict(compiled.params)
