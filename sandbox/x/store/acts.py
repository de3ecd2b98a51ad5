"""Acts: the lines of the record as a person reads them, newest first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.x.store.database import Database


@dataclass(frozen=True, kw_only=True)
class Act:
    """A line of the record.

    Attributes:
        seq: Its place.
        at_ms: When it was accepted, milliseconds since 1970.
        action: post, reply, quote, like, ...
        target: The post or user that it is about; None for a post of its own.
        made: The post that it made, where it made one.
        text: That post's text as sent.
    """

    seq: int
    at_ms: int
    action: str
    target: int | None
    made: int
    text: str | None


class Acts:
    """The record as a list of acts."""

    def __init__(self, database: Database) -> None:
        """On the store's database."""
        self._database = database

    def latest(self, actions: Sequence[str], *, before: int, count: int) -> list[Act]:
        """The newest acts of these kinds that stand before a place in the record."""
        rows = self._database.run("list_acts", actions=json.dumps(actions), before=before, count=count)
        return [
            Act(
                seq=row["seq"],
                at_ms=row["at_ms"],
                action=row["action"],
                target=None if row["target"] is None else int(row["target"]),
                made=int(row["id"]),
                text=row["text"],
            )
            for row in rows
        ]

    def counts(self) -> dict[str, int]:
        """How many acts of each kind there are."""
        return {row[0]: row[1] for row in self._database.run("count_acts")}
