"""The person at the shell: configuration, name, and a way to the fleet's database as the console's role."""

import getpass
import json
from difflib import get_close_matches
from typing import Self

from config import Config
from coordination.database import Database
from coordination.incarnation import ProcessIdentity
from host.cli.fault import USAGE, CliError
from host.state_directory import StateDirectory
from host.terminal import printable
from migrations import revisions

WHATEVER_SCHEMA = frozenset({"kill-switch"})
"""Commands that try in any database: a stop is not refused because the program at hand is an old one."""


class Person:
    """Who gives a command, with what a command needs. The database is connected at first use."""

    def __init__(self, config: Config, *, command: str = "", manage: object = None) -> None:
        self.config = config
        self.command = command
        self.manage = manage
        self.state = StateDirectory(config.state_dir)
        self._database: Database | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.close()

    @property
    def database(self) -> Database:
        """The fleet's database, as the role `console`.

        Raises:
            NoFleetError: no fleet was started with this state directory.
            CliError: a newer program migrated it, whose functions may mean something else.
        """
        if self._database is None:
            self._database = Database(self.state.dsn("console"), name=f"cli {self.command}")
            if self.command not in WHATEVER_SCHEMA:
                self._require_known_schema(self._database)
        return self._database

    @staticmethod
    def _require_known_schema(database: Database) -> None:
        for row in database.rows("get_schema_revision"):
            if row["revision"] not in revisions.known():
                raise CliError(
                    f"the database is at revision {row['revision']}, this program knows up to "
                    f"{revisions.known()[-1]}: run the newer program that migrated it"
                )

    @property
    def actor(self) -> str:
        """Who asks, for the audit: user@host."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a uid without a name
            user = "unknown"
        return f"{user}@{ProcessIdentity.of_this_process().host}"

    def print_json(self, value: object) -> None:
        """Print a value for programs."""
        print(json.dumps(value, ensure_ascii=False, default=str))

    def print_table(self, heads: list[str], rows: list[list[object]]) -> None:
        """Print rows in columns for people."""
        cells = [
            heads,
            *[
                ["-" if value in (None, "") else printable(" ".join(str(value).split())) for value in row]
                for row in rows
            ],
        ]
        widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(line.rstrip())


def require_known(what: str, name: str, known: list[str]) -> None:
    """Refuse a name that is none of the known ones, and suggest the nearest."""
    if name in known:
        return
    near = get_close_matches(name, known, 1)
    allowed = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(known) or '(none yet)'}"
    raise CliError(f"{what} is '{name}': {allowed}", exit_code=USAGE)
