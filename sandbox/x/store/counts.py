"""Counts: how many requests each window really took, over the whole record.

A window is a stretch of time that holds its beginning and not its end. Fixed ones are the sandbox's own, by
which it refuses; a client that keeps a limit in *any* stretch of that length keeps it in those too. Refused
requests took nothing, and are counted apart.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sandbox.x.store.database import Database

READ_AT_ONCE = 10_000


@dataclass(kw_only=True)
class Meter:
    """The most that windows of one limit held; requests come in the order of their times."""

    window_s: int
    fixed_max: int = 0
    rolling_max: int = 0
    _started_s: int | None = None
    _in_fixed: int = 0
    _in_rolling: deque[int] = field(default_factory=deque[int])

    def add(self, requests: Iterable[tuple[int, int]]) -> None:
        """Requests as (their time in ms since 1970, when the fixed window that counted them began, in s)."""
        window_ms = self.window_s * 1000
        rolling, rolling_max = self._in_rolling, self.rolling_max
        for at_ms, started_s in requests:
            if started_s != self._started_s:
                self._started_s, self._in_fixed = started_s, 0
            self._in_fixed += 1
            self.fixed_max = max(self.fixed_max, self._in_fixed)
            rolling.append(at_ms)
            while rolling[0] <= at_ms - window_ms:
                rolling.popleft()
            rolling_max = max(rolling_max, len(rolling))
        self.rolling_max = rolling_max


class Counts:
    """The record of counted requests; what was read of it once is remembered."""

    def __init__(self, database: Database) -> None:
        """The record in this database."""
        self._database = database
        self._ids: dict[tuple[str, str, int], int] = {}
        self._meters: dict[int, Meter] = {}
        self._read_to = 0

    def take(
        self, account: str, endpoint: str, window_s: int, *, requests: int, at_ms: int, started_s: int
    ) -> None:
        """Records one counted request.

        Args:
            account: Whose window it is.
            endpoint: The endpoint's name.
            window_s: The window's length.
            requests: The limit.
            at_ms: The request's time, ms since 1970.
            started_s: When the fixed window that counted it began, s since 1970.
        """
        key = (account, endpoint, window_s)
        with self._database.without_waiting():
            if key not in self._ids:
                self._ids[key] = self._database.number(
                    "add_meter", account=account, endpoint=endpoint, window_s=window_s, requests=requests
                )
            self._database.run("add_take", meter_id=self._ids[key], at_ms=at_ms, started_s=started_s)

    def view(self) -> list[dict[str, Any]]:
        """Each limit with the most that its fixed windows and any rolling window held."""
        limits = [dict(row) for row in self._database.run("list_meters")]
        for limit in limits:
            self._meters.setdefault(limit["id"], Meter(window_s=limit["window_s"]))
        self._read_on()
        refused = {(row[0], row[1]): row[2] for row in self._database.run("count_refused")}
        return [
            {
                "account": limit["account"],
                "endpoint": limit["endpoint"],
                "window_s": limit["window_s"],
                "limit": limit["requests"],
                "fixed_max": self._meters[limit["id"]].fixed_max,
                "rolling_max": self._meters[limit["id"]].rolling_max,
                "refused": refused.get((limit["account"], limit["endpoint"]), 0),
            }
            for limit in limits
        ]

    def _read_on(self) -> None:
        """Reads what came since the last time, some at once: a record of a million has no room in memory."""
        takes = self._database.run("list_takes_after", seq=self._read_to)
        while rows := takes.fetchmany(READ_AT_ONCE):
            requests: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for seq, meter_id, at_ms, started_s in rows:
                requests[meter_id].append((at_ms, started_s))
                self._read_to = seq
            for meter_id, some in requests.items():
                self._meters[meter_id].add(some)
