"""Black boxes: what was seen of a process before it was killed."""

from collections.abc import Mapping
from typing import Any

from coordination.database import Database, Json
from coordination.ids import number_of
from coordination.plain import plain


def look_into(database: Database, worker: str, slot: int, incarnation: str | None) -> dict[str, Any]:
    """Give the database's part: {"sessions", "locks", "intents", "leases"}, each a list. Reads only."""
    return dict(database.call("look_into", worker=worker, slot=slot, incarnation=incarnation))


def keep_black_box(
    database: Database,
    host: str,
    *,
    worker: str,
    slot: int,
    incarnation: str | None,
    pid: int | None,
    reason: str,
    report: Mapping[str, object],
) -> str:
    """Keep one; give its id. Of a report above 1 MB only its size is kept."""
    return str(
        database.call(
            "keep_black_box",
            host=host,
            worker=worker,
            slot=slot,
            incarnation=incarnation,
            pid=pid,
            reason=plain(reason),
            report=Json(plain(dict(report))),
        )
    )


def list_black_boxes(database: Database, *, worker: str | None = None, n: int = 50) -> list[dict[str, Any]]:
    """Give the newest, without their reports: id, at, host, worker, slot, pid, reason."""
    return database.rows("list_black_boxes", worker=worker, n=n)


def get_black_box(database: Database, black_box: str) -> dict[str, Any] | None:
    """Give one with its report; None where there is none."""
    found = database.rows("get_black_box", id=number_of(black_box, "black box"))
    return found[0] if found else None
