"""`socialfleet up`."""

import argparse
from pathlib import Path
from typing import cast

from coordination.accounts import TIERS
from host.cli.fault import UNREACHABLE, USAGE, CliError
from host.cli.person import Person
from host.logins import DsnError
from host.ports import PortError
from host.state_directory import StateError
from host.terminal import Terminal
from host.up import Manage, Up, World
from host.x_account import CredentialsMissingError
from migrations.schema import DatabaseUnreachableError


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--world", type=Path, metavar="FILE", help="the sandbox's posts: a CSV, or an X archive's tweets.js"
    )
    parser.add_argument(
        "--tier", choices=TIERS, help="what the sandbox lets its account do (default: enterprise)"
    )


def run(options: argparse.Namespace, person: Person) -> int:
    """Run the fleet until it is asked to stop."""
    world = World(file=options.world, tier=options.tier)
    manage = cast("Manage", person.manage)
    try:
        return Up(person.config, world=world, manage=manage, terminal=Terminal()).run()
    except (StateError, PortError, CredentialsMissingError, DsnError) as error:
        raise CliError(str(error), exit_code=USAGE) from error
    except DatabaseUnreachableError as error:
        raise CliError(str(error), exit_code=UNREACHABLE) from error
