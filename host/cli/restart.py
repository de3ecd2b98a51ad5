"""`socialfleet restart`: at once, one slot after the other, or first one slot that is watched."""

import argparse

from host.cli import local
from host.cli.fault import UNREACHABLE, USAGE, CliError
from host.cli.listing import LONGEST_S, number_between
from host.cli.order import TIMEOUT_S, Order, add_order, give
from host.cli.person import Person
from host.cli.selector import add_selector, read_selector

WATCH_S = 60
ROLLING_TIMEOUT_S = 600.0


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_selector(parser)
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--rolling",
        action="store_true",
        help="slot after slot, each old process until its replacement is ready",
    )
    one.add_argument(
        "--canary",
        action="store_true",
        help="one slot first, compared with the others for a while, then the rest",
    )
    parser.add_argument(
        "--watch",
        type=number_between(1, LONGEST_S),
        metavar="S",
        help=f"how long the canary is watched (default: {WATCH_S:g})",
    )
    add_order(parser, timeout=f"default: {TIMEOUT_S:g}; rolling, or beside the watch, {ROLLING_TIMEOUT_S:g}")


def run(options: argparse.Namespace, person: Person) -> int:
    """Ask, wait, and say what came of it."""
    if options.watch is not None and not options.canary:
        raise CliError("--watch is for --canary: give both, or neither", exit_code=USAGE)
    selector = read_selector(options, person)
    if local.is_needed(person):
        if options.rolling or options.canary:
            raise CliError("--rolling and --canary need the database, which is away", exit_code=UNREACHABLE)
        return local.give("restart", selector, options, person)
    args: dict[str, object] = {"strategy": "at_once"}
    watch_s = 0
    if options.rolling:
        args = {"strategy": "rolling"}
    elif options.canary:
        watch_s = options.watch or WATCH_S
        args = {"strategy": "canary", "watch_s": watch_s}
    order = Order(
        action="restart",
        selector=selector,
        args=args,
        timeout_s=options.timeout or (ROLLING_TIMEOUT_S if options.rolling or options.canary else TIMEOUT_S),
        watch_s=watch_s,
    )
    return give(order, options, person)
