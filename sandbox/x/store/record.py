"""Record: what the platform did and saw: accepted writes, answered requests, the limits' windows."""

from typing import Any

from sandbox.x.store.database import Database


class Record:
    """The record's part of the store."""

    _database: Database

    def writes(self) -> list[dict[str, Any]]:
        """Every accepted write in order: the platform's own record."""
        return [dict(row) for row in self._database.run("list_writes")]

    def add_request(
        self, *, at_ms: int, method: str, path: str, account: str | None, endpoint: str | None, status: int
    ) -> None:
        """Logs one answered request."""
        with self._database.without_waiting():
            self._database.run(
                "add_request",
                at_ms=at_ms,
                method=method,
                path=path,
                account=account,
                endpoint=endpoint,
                status=status,
            )

    def requests(self) -> list[dict[str, Any]]:
        """Every answered request in order."""
        return [dict(row) for row in self._database.run("list_requests")]

    def window(self, caller: str, endpoint: str, window_s: int) -> tuple[int, int] | None:
        """When the caller's window on an endpoint began (seconds since 1970) and how much of it is used."""
        row = self._database.run("get_window", caller=caller, endpoint=endpoint, window_s=window_s).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

    def set_window(self, caller: str, endpoint: str, window_s: int, *, started_s: int, used: int) -> None:
        """Keeps what `window` gives."""
        with self._database.without_waiting():
            self._database.run(
                "set_window",
                caller=caller,
                endpoint=endpoint,
                window_s=window_s,
                started_s=started_s,
                used=used,
            )
