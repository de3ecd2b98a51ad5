"""`socialfleet scale`: how many slots a worker has."""

import argparse

from host.cli.listing import number_between
from host.cli.order import TIMEOUT_S, Order, add_order, give
from host.cli.person import Person
from host.cli.selector import Selector, worker_name

MOST = 1000


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", type=worker_name, metavar="NAME", help="the worker")
    parser.add_argument(
        "number", type=number_between(0, MOST), metavar="N", help=f"how many slots, 0 to {MOST}"
    )
    add_order(parser)


def run(options: argparse.Namespace, person: Person) -> int:
    """Ask, wait, and say what came of it."""
    order = Order(
        action="scale",
        selector=Selector(text=options.name),
        args={"replicas": options.number},
        timeout_s=options.timeout or TIMEOUT_S,
    )
    return give(order, options, person)
