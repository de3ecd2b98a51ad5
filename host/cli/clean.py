"""`socialfleet clean`: remove the state directory, and PostgreSQL's data wherever it is."""

import argparse

from host import postgres
from host.cli.fault import FAILED, CliError
from host.cli.person import Person
from host.state_directory import FleetRunsError


def declare(parser: argparse.ArgumentParser) -> None:
    """There are no options."""


def run(_options: argparse.Namespace, person: Person) -> int:
    """Remove what a fleet made, and nothing else."""
    state = person.state
    if not state.path.is_dir():
        print(f"there is no state directory {state.path}: nothing to remove")
        return 0
    if state.is_running:
        raise FleetRunsError(f"a fleet runs on {state.path}: stop it first (Ctrl-C where it runs)")
    try:
        postgres.erase(state.path)
        left = state.erase()
    except OSError as error:
        raise CliError(
            f"{error.filename or state.path} can't be removed ({error.strerror}): "
            "be the user that started the fleet",
            exit_code=FAILED,
        ) from error
    if left:
        print(f"removed the fleet's part of {state.path}; left there, not the fleet's: {', '.join(left)}")
    else:
        print(f"removed {state.path}")
    return 0
