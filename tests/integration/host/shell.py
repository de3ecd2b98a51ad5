"""A person at the shell of one fleet: commands in, exit codes, lines and JSON out."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from host import cli
from host.state_directory import StateDirectory
from tests.integration.conftest import FleetDatabase


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Runs the command line's own entry; `database` is the fleet's where there is one."""

    state: StateDirectory
    database: FleetDatabase
    printed: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> int:
        """Give one command; its exit code."""
        return cli.main(arguments, manage=None)

    def lines(self) -> list[str]:
        """What was printed since, line by line."""
        return self.printed.readouterr().out.splitlines()

    def json(self) -> Any:
        """What was printed since, as a program reads it."""
        return json.loads(self.printed.readouterr().out)

    def complaint(self) -> str:
        """The one sentence on stderr since."""
        (line,) = self.printed.readouterr().err.strip().splitlines()
        assert line.startswith("socialfleet: ")
        return line

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Look into a table."""
        with self.database.owner() as owner:
            return owner.execute(statement.encode()).fetchall()
