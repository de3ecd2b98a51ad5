"""The selector: which workers and slots a command is for, as a person says it."""

import argparse
import re
import sys
from dataclasses import dataclass

from coordination.hosts import list_hosts
from host.cli.fault import USAGE, CliError
from host.cli.parser import require_known
from host.cli.person import Person

SLOT = re.compile("[1-9][0-9]{0,3}")
EVERYTHING = "*"


@dataclass(frozen=True, kw_only=True)
class Selector:
    """What is meant.

    Attributes:
        text: as `coordination.commands` takes it: names with commas between them, `*`, or None with a host.
        host: only what this host has; None for all hosts.
    """

    text: str | None
    host: str | None = None

    @property
    def names(self) -> list[str]:
        """The workers and slots that were named."""
        return [] if self.text in {None, EVERYTHING} else str(self.text).split(",")

    def __str__(self) -> str:
        named = ", ".join(self.names) or "every worker"
        return f"{named} on {self.host}" if self.host else named


def add_selector(parser: argparse.ArgumentParser) -> None:
    """Declare how workers and slots are named."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        type=slot_name,
        help="a worker (poster), or a slot of it (poster/1)",
    )
    parser.add_argument("--host", metavar="H", help="only what this host has")
    parser.add_argument("--all", action="store_true", help="every worker; asks, or needs --yes")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def read_selector(options: argparse.Namespace, person: Person) -> Selector:
    """What the person selected, and confirmed where it is everything.

    Raises:
        CliError: nothing, or two things that don't go together, or not confirmed.
    """
    if options.names and options.all:
        raise CliError(f"--all and {options.names[0]}: give one of them", exit_code=USAGE)
    if not (options.names or options.all or options.host):
        raise CliError(
            f"name is missing: name workers or slots (poster, poster/1), or give --host H or --all "
            f"(see socialfleet {person.command} --help)",
            exit_code=USAGE,
        )
    if options.all and not options.yes and not options.dry_run:
        confirm(f"{person.command} every worker{f' on {options.host}' if options.host else ''}")
    text = EVERYTHING if options.all else ",".join(options.names) or None
    return Selector(text=text, host=options.host)


def require_there(selector: Selector, person: Person) -> None:
    """Refuse names that the fleet does not know, and suggest the nearest. One round trip, two with a host."""
    known = [row["name"] for row in person.database.rows("list_worker_names")]
    for name in selector.names:
        require_known("worker", name.partition("/")[0], known)
    if selector.host is not None:
        require_host(selector.host, person)


def require_host(name: str, person: Person) -> None:
    """Refuse a host that the fleet does not know."""
    require_known("host", name, [host.name for host in list_hosts(person.database)])


def confirm(what: str) -> None:
    """Ask at the terminal.

    Raises:
        CliError: nobody is there to answer, or the answer is not yes.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CliError(f"{what}: give --yes where nobody can be asked", exit_code=USAGE)
    print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CliError("nothing was done")


def worker_name(text: str) -> str:
    """Read the name of a whole worker."""
    if "/" in text:
        raise argparse.ArgumentTypeError(f"is '{text}': allowed is a whole worker, such as poster")
    return slot_name(text)


def slot_name(text: str) -> str:
    """Read the name of a worker, or of a slot of one."""
    worker, stroke, slot = text.partition("/")
    if not worker or "," in text or worker == EVERYTHING:
        raise argparse.ArgumentTypeError(f"is '{text}': allowed is a worker, or a slot such as poster/1")
    if stroke and not SLOT.fullmatch(slot):
        raise argparse.ArgumentTypeError(
            f"is '{text}', slot is '{slot}': allowed is a number from 1 on, such as {worker}/1"
        )
    return text
