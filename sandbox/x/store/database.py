"""Database: the SQLite file behind the store, its named statements, its transactions and its upgrade.

One process and one thread use it; `server.py` locks the state directory.
"""

import importlib.resources
import os
import re
import sqlite3
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CACHE_KIB = 65_536  # holds a world of 100,000 posts: a smaller one writes most pages twice while it loads
SCHEMA = 2  # PRAGMA user_version; a file of the first release has 0


def _read_statements() -> dict[str, str]:
    statements: dict[str, str] = {}
    for file in sorted(importlib.resources.files("sandbox.x.store").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            script = file.read_text(encoding="utf-8")
            parts = re.split(r"^-- name: (\w+)$", script, flags=re.MULTILINE)[1:]
            statements |= dict(zip(parts[::2], parts[1::2], strict=True))
    return statements


_STATEMENTS = _read_statements()


class Database:
    """One open file; `upgraded` tells whether it was an earlier release's, whose words must be indexed."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file, readable by its owner alone; raises sqlite3.Error, OSError."""
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)  # an earlier release left it to the umask; SQLite gives its -wal the same mode
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self.upgraded = self._upgrade()

    def _upgrade(self) -> bool:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA:
            raise sqlite3.DatabaseError(f"a later release made it: schema {version}, expected {SCHEMA}")
        known = self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'posts'").fetchone()
        old = version < SCHEMA and known is not None
        upgrade = _STATEMENTS["upgrade_to_2"] if old else ""
        try:
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {upgrade} {_STATEMENTS['create_tables']} "
                f"PRAGMA user_version = {SCHEMA}; COMMIT"
            )
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return old

    def close(self) -> None:
        """Closes the file; nothing is lost without it."""
        self._connection.close()

    def run(self, statement: str, **values: Any) -> sqlite3.Cursor:
        """Runs a named statement."""
        return self._connection.execute(_STATEMENTS[statement], values)

    def run_many(self, statement: str, rows: Iterable[Mapping[str, Any] | tuple[Any, ...]]) -> None:
        """Runs a named statement once a row: values by name, or by position where it asks with `?`."""
        self._connection.executemany(_STATEMENTS[statement], rows)

    def number(self, statement: str, **values: Any) -> int:
        """The one number that a statement gives; 0 for none."""
        row = self.run(statement, **values).fetchone()
        return 0 if row is None else int(row[0] or 0)

    @contextmanager
    def transaction(self, *, durable: bool) -> Generator[None]:
        """One transaction; a durable one is on the disk when the block ends."""
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def without_waiting(self) -> Generator[None]:
        """Statements that survive a killed process, and needn't survive a power failure."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        yield
