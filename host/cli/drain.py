"""`socialfleet drain`: workers, slots or a whole host finish what they do and take no more."""

import argparse

from host.cli.order import TIMEOUT_S, Order, add_order, give
from host.cli.person import Person
from host.cli.selector import add_selector, read_selector


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_selector(parser)
    add_order(parser)


def run(options: argparse.Namespace, person: Person) -> int:
    """Ask, wait, and say what came of it; with --host alone the host takes no more work."""
    selector = read_selector(options, person)
    order = Order(action="drain", selector=selector, timeout_s=options.timeout or TIMEOUT_S)
    return give(order, options, person)
