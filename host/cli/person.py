"""The person at the shell: configuration, name, and a way to the fleet's database as the console's role."""

import getpass
import json
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import Self

from config import Config
from coordination.database import Database
from coordination.errors import DatabaseUnavailableError
from host.cli.fault import CliError
from host.state_directory import StateDirectory
from host.terminal import painted, printable
from migrations import revisions

WHATEVER_SCHEMA = frozenset({"kill-switch"})
"""Commands that try in any database: a stop is not refused because the program at hand is an old one."""

ANSWER_S = 15.0
"""Above the time that any function waits for a lock (5 s): then the server will not answer any more."""


def _impatient(waited_s: float) -> None:
    if waited_s > ANSWER_S:
        raise DatabaseUnavailableError(f"PostgreSQL did not answer within {ANSWER_S:g} s")


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
            database = Database(self.state.dsn("console"), name=f"cli {self.command}")
            database.while_waiting = _impatient
            try:
                if self.command not in WHATEVER_SCHEMA:
                    self._require_known_schema(database)
            except BaseException:
                database.close()
                raise
            self._database = database
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
        return f"{user}@{self.host}"

    @property
    def host(self) -> str:
        """The name that this host's manager has in the fleet."""
        return self.config.host

    @property
    def watches(self) -> bool:
        """Whether somebody sees stderr."""
        return sys.stderr.isatty()

    def print_json(self, value: object) -> None:
        """Print a value for programs; what a terminal would act on is written as an escape of JSON."""
        text = json.dumps(value, ensure_ascii=False, default=str)
        if not text.isprintable():
            text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
        print(text, flush=True)

    def say(self, text: str, kind: str = "") -> None:
        """Print one line for people; `kind` is a severity."""
        print(painted(printable(text), kind, sys.stdout), flush=True)

    def warn(self, text: str) -> None:
        """Print one line on stderr: what a person should know beside the result."""
        print(f"socialfleet: {printable(text)}", file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        """Print how it goes on, on stderr, where somebody watches."""
        if self.watches:
            self.warn(text)

    def print_table(self, heads: list[str], rows: list[list[object]], kinds: Sequence[str] = ()) -> None:
        """Print rows in columns for people; `kinds`, a severity a row, colours them on a terminal."""
        cells = [
            heads,
            *[
                ["-" if value in (None, "") else printable(" ".join(str(value).split())) for value in row]
                for row in rows
            ],
        ]
        widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
        for row, kind in zip_longest(cells, ["", *kinds], fillvalue=""):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(painted(line.rstrip(), kind, sys.stdout))
        sys.stdout.flush()  # what follows may take its time
