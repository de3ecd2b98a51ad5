"""`socialfleet worker`: the program's workers, where they may run and what they may use; one run here."""

import argparse
from collections.abc import Mapping
from typing import Any

from config import LABEL
from coordination.hosts import list_hosts
from host.cli.fault import USAGE, CliError
from host.cli.listing import NONE, add_json, number_between
from host.cli.order import TIMEOUT_S, Order, add_order, give
from host.cli.person import Person
from host.cli.selector import Selector, require_host, worker_name
from workers import process, registry
from workers.errors import RegistryError

MOST_SLOTS = 1000
LEAST_MEMORY_MB = 16
MOST_MEMORY_MB = 1 << 20
MOST_CPU_PERCENT = 100_000
MOST_NICE = 19


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    run_parser = actions.add_parser("run", help="run one worker here until Ctrl-C")
    run_parser.add_argument("name", metavar="NAME")
    run_parser.add_argument(
        "--slot",
        type=number_between(1, MOST_SLOTS),
        default=1,
        metavar="N",
        help="which replica (default: 1)",
    )
    listing = actions.add_parser("list", help="list the workers that this program has")
    add_json(listing)
    setting = actions.add_parser("set", help="say where a worker may run, and what it may use")
    setting.add_argument("name", type=worker_name, metavar="NAME")
    setting.add_argument(
        "--placement",
        type=_placement,
        metavar="P",
        help="any, host=H, or labels that a host must have: zone=a,gpu=yes",
    )
    setting.add_argument(
        "--memory-limit-mb",
        type=number_between(LEAST_MEMORY_MB, MOST_MEMORY_MB, none=True),
        metavar="N",
        help="of a process and its children together: above it, it drains and restarts; or none",
    )
    setting.add_argument(
        "--cpu-limit-percent",
        type=number_between(1, MOST_CPU_PERCENT, none=True),
        metavar="N",
        help="of one CPU over a minute: above it, it drains and restarts; or none",
    )
    setting.add_argument(
        "--nice",
        type=number_between(0, MOST_NICE),
        metavar="N",
        help="how far it lets others go first, 0 to 19",
    )
    add_order(setting)


def run(options: argparse.Namespace, person: Person) -> int:
    """Run, list or set."""
    if options.action == "run":
        return process.run(options.name, slot=options.slot, config=person.config)
    if options.action == "set":
        return _set(options, person)
    try:
        kinds = registry.find()
    except RegistryError as error:
        raise CliError(str(error), exit_code=USAGE) from error
    described = {name: registry.description(kind) for name, kind in kinds.items()}
    if options.json:
        person.print_json([{"name": name, "description": text} for name, text in described.items()])
    else:
        person.print_table(["NAME", "DESCRIPTION"], [[name, text] for name, text in described.items()])
    return 0


def _set(options: argparse.Namespace, person: Person) -> int:
    given = {
        name: getattr(options, name)
        for name in ("placement", "memory_limit_mb", "cpu_limit_percent", "nice")
        if getattr(options, name) is not None
    }
    if not given:
        raise CliError(
            "nothing to set: give --placement, --memory-limit-mb, --cpu-limit-percent or --nice",
            exit_code=USAGE,
        )
    if placement := given.get("placement"):
        _require_place(placement, options.name, person)
    order = Order(
        action="set",
        selector=Selector(text=options.name),
        args={name: None if value == NONE else value for name, value in given.items()},
        timeout_s=options.timeout or TIMEOUT_S,
    )
    return give(order, options, person)


def _require_place(placement: Mapping[str, Any], worker: str, person: Person) -> None:
    """Refuse a host that the fleet doesn't know; warn where no host has the labels."""
    if "host" in placement:
        require_host(placement["host"], person)
    labels = placement.get("labels", {})
    if labels and not any(labels.items() <= host.labels.items() for host in list_hosts(person.database)):
        wished = ",".join(f"{name}={value}" for name, value in labels.items())
        person.warn(
            f"no host has {wished}: {worker} runs nowhere until one does (see socialfleet hosts list)"
        )


def _placement(text: str) -> dict[str, object]:
    """Read where a worker may run."""
    if text == "any":
        return {}
    parts = text.split(",")
    pairs = [part.partition("=") for part in parts]
    if not all(value and LABEL.fullmatch(part) for part, (_, _, value) in zip(parts, pairs, strict=True)):
        raise argparse.ArgumentTypeError(f"is {text!r}: allowed are any, host=H, or label=value,label=value")
    named = {name: value for name, _, value in pairs}
    if "host" not in named:
        return {"labels": named}
    if len(pairs) > 1:
        raise argparse.ArgumentTypeError(f"is '{text}': a host and labels don't go together")
    return {"host": named["host"]}
