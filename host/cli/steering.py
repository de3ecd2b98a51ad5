"""`socialfleet start`, `stop`, `pause` and `resume`: also while the database is away, for the first two."""

import argparse
from collections.abc import Mapping

from coordination.desired import Action
from host.cli import local
from host.cli.order import TIMEOUT_S, Order, add_order, give
from host.cli.person import Person
from host.cli.selector import add_selector, read_selector

ACTIONS: Mapping[str, Action] = {"start": "start", "stop": "stop", "pause": "pause", "resume": "resume"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_selector(parser)
    add_order(parser)


def run(options: argparse.Namespace, person: Person) -> int:
    """Ask, wait, and say what came of it."""
    action = ACTIONS[person.command]
    selector = read_selector(options, person)
    if action in local.ORDERS and local.is_needed(person):
        return local.give(action, selector, options, person)
    timeout_s = options.timeout or TIMEOUT_S
    return give(Order(action=action, selector=selector, timeout_s=timeout_s), options, person)
