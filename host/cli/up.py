"""`socialfleet up`."""

import argparse
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, cast

from coordination.accounts import TIERS
from host.cli.fault import USAGE, CliError
from host.cli.person import Person
from host.keeper import template
from host.keeper.keep import keep
from host.state_directory import StateError

if TYPE_CHECKING:
    from host.manage import Manage

INTERRUPTED = 130


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--world", type=Path, metavar="FILE", help="the sandbox's posts: a CSV, or an X archive's tweets.js"
    )
    parser.add_argument(
        "--tier", choices=TIERS, help="what the sandbox lets its account do (default: enterprise)"
    )
    parser.add_argument(
        "--spawn",
        action="store_true",
        help="start each worker as an interpreter of its own instead of forking a warm one",
    )


def run(options: argparse.Namespace, person: Person) -> int:
    """Keep the fleet's processes until it is asked to stop; the manager process does the rest."""
    if not hasattr(os, "pidfd_open"):
        raise CliError(
            "up needs Linux 5.3 or later, and a Python built for it: it holds its processes by pidfds"
        )
    spawn = options.spawn or person.config.socialfleet_spawn
    try:
        person.state.make()
        with person.state.locked() as crashed:
            return keep(
                lambda channel: _manage(channel, options, person, crashed=crashed),
                template=None if spawn else template.of_the_fleet(),
            )
    except StateError as error:
        raise CliError(str(error), exit_code=USAGE) from error


def _manage(channel: socket.socket, options: argparse.Namespace, person: Person, *, crashed: bool) -> int:
    """Be the manager process; its errors are the command's."""
    try:
        return _up(channel, options, person, crashed=crashed)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the border to the person
        from host.cli import exit_code  # noqa: PLC0415  it imports this module's package
        from host.terminal import Terminal  # noqa: PLC0415  the keeper does without

        terminal = Terminal(sys.stderr)
        for line in traceback.format_exc().splitlines() if person.config.debug else ():
            terminal.say(line)
        for line in (str(error) or repr(error)).splitlines():
            terminal.say(f"socialfleet: {line}")
        terminal.flush()
        return exit_code(error)


def _up(channel: socket.socket, options: argparse.Namespace, person: Person, *, crashed: bool) -> int:
    # Imported here: the keeper, and so every worker, does without.
    from host.keeper.client import Keeper  # noqa: PLC0415
    from host.logins import DsnError  # noqa: PLC0415
    from host.ports import PortError  # noqa: PLC0415
    from host.terminal import Terminal  # noqa: PLC0415
    from host.up import Up, World  # noqa: PLC0415
    from host.x_account import CredentialsMissingError  # noqa: PLC0415

    terminal = Terminal()
    try:
        return Up(
            person.config,
            keeper=Keeper(channel),
            crashed=crashed,
            world=World(file=options.world, tier=options.tier),
            manage=cast("Manage", person.manage),
            terminal=terminal,
        ).run()
    except (StateError, PortError, CredentialsMissingError, DsnError) as error:
        raise CliError(str(error), exit_code=USAGE) from error
    finally:
        terminal.flush()
