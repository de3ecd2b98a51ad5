"""The selector: which workers and slots a command is for, as a person says it."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from coordination.hosts import HostStatus, list_hosts
from host.cli.fault import USAGE, CliError
from host.cli.parser import quoted, require_known, shortened
from host.cli.person import Person
from workers import registry
from workers.errors import RegistryError

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
    parser.add_argument(
        "--host", metavar="H", help="only what this host has; without a name it asks, or needs --yes"
    )
    parser.add_argument("--all", action="store_true", help="every worker; asks, or needs --yes")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def read_selector(options: argparse.Namespace, person: Person) -> Selector:
    """What the person selected, and confirmed where it is everything.

    Raises:
        CliError: nothing, or two things that don't go together, or not confirmed.
    """
    if options.names and options.all:
        raise CliError(f"--all and {options.names[0]}: give one of them", exit_code=USAGE)
    if options.host == "":
        raise CliError(
            "--host is '': allowed is the name of a host (see socialfleet hosts list)", exit_code=USAGE
        )
    if not (options.names or options.all or options.host):
        raise CliError(
            f"name is missing: name workers or slots (poster, poster/1), or give --host H or --all "
            f"(see socialfleet {person.command} --help)",
            exit_code=USAGE,
        )
    if not (options.names or options.yes or options.dry_run):
        # A name that was left out beside --host must not widen an order to everything there.
        confirm(f"{person.command} every worker{f' on {options.host}' if options.host else ''}")
    text = EVERYTHING if options.all else ",".join(options.names) or None
    return Selector(text=text, host=options.host)


def require_there(selector: Selector, person: Person) -> None:
    """Refuse what the fleet does not know, and suggest the nearest; say what keeps an order from its effect.

    One round trip, two with a host.
    """
    slots = {row["name"]: row["replicas"] for row in person.database.rows("list_worker_names")}
    for name in selector.names:
        require_worker(name, list(slots), person)
        _require_slot(name, slots[name.partition("/")[0]], person)
    if selector.host is not None:
        host = require_host(selector.host, person)
        if host.state != "live":
            person.warn(silence(host))


def require_worker(name: str, known: Sequence[str], person: Person) -> None:
    """Refuse a worker, or a slot of one, that the running fleet does not know.

    Raises:
        CliError: says what is near, or, of one that only this program has, what makes the fleet know it.
    """
    worker = name.partition("/")[0]
    if worker not in known and worker in program_workers():
        running = (
            "the running fleet doesn't know it yet" if person.state.is_running else "no fleet knows it yet"
        )
        raise CliError(
            f"worker {worker} is in this program, but {running}: socialfleet up makes it known "
            "when it starts (end the one that runs here, then start it again)",
            exit_code=USAGE,
        )
    require_known("worker", worker, known)


def program_workers() -> Sequence[str]:
    """The workers that this program has; none where one of their files can't be loaded."""
    try:
        return list(registry.find())
    except RegistryError:
        return ()


def _require_slot(name: str, slots: int, person: Person) -> None:
    """Say of a worker without slots how it gets some; a slot of it can't be meant."""
    worker, _, slot = name.partition("/")
    if slots or person.command in {"scale", "worker"}:
        return
    hint = f"{worker} has no slots: give it some with socialfleet scale {worker} 1"
    if slot:
        raise CliError(hint, exit_code=USAGE)
    person.warn(hint)


def require_host(name: str, person: Person) -> HostStatus:
    """The host of that name; refuses one that the fleet does not know."""
    hosts = {host.name: host for host in list_hosts(person.database)}
    require_known("host", name, list(hosts))
    return hosts[name]


def silence(host: HostStatus) -> str:
    """What it means that a host is not live: nobody there does what is asked for."""
    since = f"silent for {host.silent_s:.0f} s"
    return {
        "lost": f"host {host.name} is lost ({since}): nobody there does what is asked for until it is back",
        "left": f"host {host.name} has left: its manager was stopped, and runs nothing until it is started",
        "gone": f"host {host.name} is gone: somebody said that nothing of it runs any more ({host.reason})",
    }.get(host.state, f"host {host.name} is {host.state}")


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
        raise argparse.ArgumentTypeError(f"is {quoted(text)}: allowed is a whole worker, such as poster")
    return slot_name(text)


def slot_name(text: str) -> str:
    """Read the name of a worker, or of a slot of one."""
    worker, stroke, slot = text.partition("/")
    if not worker or "," in text or worker == EVERYTHING:
        raise argparse.ArgumentTypeError(
            f"is {quoted(text)}: allowed is a worker, or a slot such as poster/1"
        )
    if stroke and not SLOT.fullmatch(slot):
        raise argparse.ArgumentTypeError(
            f"is {quoted(text)}, slot is {quoted(slot)}: "
            f"allowed is a number from 1 on, such as {shortened(worker)}/1"
        )
    return text
