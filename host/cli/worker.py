"""`socialfleet worker`: the program's workers, and running one in this process."""

import argparse

from host.cli.fault import USAGE, CliError
from host.cli.person import Person
from workers import process, registry
from workers.errors import RegistryError


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    run_parser = actions.add_parser("run", help="run one worker here until Ctrl-C", allow_abbrev=False)
    run_parser.add_argument("name", metavar="NAME")
    run_parser.add_argument("--slot", type=_slot, default=1, metavar="N", help="which replica (default: 1)")
    actions.add_parser("list", help="list the workers that this program has", allow_abbrev=False)


def run(options: argparse.Namespace, person: Person) -> int:
    """Run or list."""
    if options.action == "run":
        return process.run(options.name, slot=options.slot, config=person.config)
    try:
        kinds = registry.find()
    except RegistryError as error:
        raise CliError(str(error), exit_code=USAGE) from error
    person.print_table(
        ["NAME", "DESCRIPTION"], [[name, registry.description(kind)] for name, kind in kinds.items()]
    )
    return 0


def _slot(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:  # noqa: PLR2004  far above what one host runs
        raise argparse.ArgumentTypeError(f"is '{text}': allowed is a number from 1 to 1000")
    return int(text)
