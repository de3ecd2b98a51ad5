"""One worker's process: `run` in a fork, `python -m host.keeper.worker` as an interpreter of its own."""

import os
import sys
from importlib import import_module
from typing import Any

ENTRY = "host.keeper.worker:run"
"""What a worker's process runs: `module:function`, called with the worker's name and slot."""
NEEDS_A_PERSON = 78
"""EX_CONFIG of sysexits.h: starting again changes nothing until a person does."""


def run(name: str, slot: int) -> int:
    """Run one of the program's workers until it is asked to end; give the process's exit code."""
    config = import_module("config")  # here: a fresh interpreter imports what its own worker needs
    try:
        settings = config.load()
    except config.ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201  the log's last words
        return NEEDS_A_PERSON
    return int(import_module("workers.process").run(name, slot=slot, config=settings))


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
