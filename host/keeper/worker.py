"""One worker's process: `run` in a fork, `python -m host.keeper.worker` as an interpreter of its own."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config import Config

ENTRY = "host.keeper.worker:run"
"""What a worker's process runs: `module:function`, called with the worker's name and slot."""
NEEDS_A_PERSON = 78
"""EX_CONFIG of sysexits.h: starting again changes nothing until a person does."""


ACCOUNT = "SOCIALFLEET_ACCOUNT"
"""What the manager process chose, and adds to a worker's environment."""
WRITTEN = Path(".env")


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A configuration, and what it was read from."""

    config: "Config"
    environment: dict[str, str]
    written: tuple[int, ...]


_read: _Read | None = None


def prepare(names: Sequence[str]) -> None:
    """Read the configuration for the forks to come, and find what these workers are.

    It writes into some 4 MB of what a fork shares with its template: once here instead of once in each.
    """
    global _read  # noqa: PLW0603  what forks find
    config = import_module("config")
    written = _written()  # before: a file that is changed meanwhile is read again
    try:
        _read = _Read(config=config.load(), environment=_environment(), written=written)
        _ = _read.config.secrets
    except config.ConfigError:
        _read = None  # each worker says so in its own log
        return
    import_module("workers.process").prepare(names, config=_read.config)


def _config() -> "Config":
    """The configuration as `prepare` read it, where reading it again would give the same."""
    if _read is None or (_environment(), _written()) != (_read.environment, _read.written):
        return import_module("config").load()
    return _read.config


def _environment() -> dict[str, str]:
    of_the_keeper = import_module("config").OF_THE_KEEPER
    return {name: value for name, value in os.environ.items() if name not in {ACCOUNT, *of_the_keeper}}


def _written() -> tuple[int, ...]:
    try:
        found = WRITTEN.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def run(name: str, slot: int) -> int:
    """Run one of the program's workers until it is asked to end; give the process's exit code."""
    config = import_module("config")  # here: a fresh interpreter imports what its own worker needs
    try:
        settings = _config()
    except config.ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201  the log's last words
        return NEEDS_A_PERSON
    account = os.environ.get(ACCOUNT)
    return int(import_module("workers.process").run(name, slot=slot, config=settings, account=account))


def function(entry: str) -> Any:
    """What an entry names."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


def argv(entry: str, name: str, slot: int) -> list[str]:
    """The program that is this worker in an interpreter of its own."""
    return [sys.executable, "-m", "host.keeper.worker", entry, name, str(slot)]


def main(entry: str, name: str, slot: str) -> None:
    """Be a worker's interpreter."""
    from host.keeper import newborn  # noqa: PLC0415  `run` is imported by those who need none of it

    def live() -> int:
        newborn.arm(int(os.environ[newborn.STACKS_FD]))
        return int(function(entry)(name, int(slot)))

    newborn.leave(live)


if __name__ == "__main__":
    main(*sys.argv[1:])
