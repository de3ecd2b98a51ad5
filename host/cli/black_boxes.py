"""`socialfleet black-boxes`: what was seen of a process before it was killed."""

import argparse
from collections.abc import Mapping
from typing import Any, cast

from coordination.black_boxes import get_black_box, list_black_boxes
from host.cli.fault import FAILED, CliError
from host.cli.listing import add_json, add_limit, add_list, moment, number_of, print_fields
from host.cli.parser import require_known
from host.cli.person import Person


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "the newest black boxes")
    listing.add_argument("--worker", metavar="NAME", help="only this worker's")
    add_limit(listing)
    show = actions.add_parser("show", help="one with stacks, queries, locks, intents and last log lines")
    show.add_argument("id", type=number_of("a black box's number"), metavar="ID")
    add_json(listing, show)


def run(options: argparse.Namespace, person: Person) -> int:
    """List or show."""
    if options.action == "show":
        return _show(options, person)
    if options.worker is not None:
        known = [row["name"] for row in person.database.rows("list_worker_names")]
        require_known("worker", options.worker, known)
    rows = list_black_boxes(person.database, worker=options.worker, n=options.limit)
    if options.json:
        person.print_json(rows)
        return 0
    person.print_table(
        ["ID", "AT", "SLOT", "HOST", "PID", "WHY"],
        [
            [
                row["id"],
                moment(row["at"]),
                f"{row['worker']}/{row['slot']}",
                row["host"],
                row["pid"],
                row["reason"],
            ]
            for row in rows
        ],
    )
    return 0


def _show(options: argparse.Namespace, person: Person) -> int:
    found = get_black_box(person.database, options.id)
    if found is None:
        raise CliError(
            f"there is no black box {options.id}: see socialfleet black-boxes list", exit_code=FAILED
        )
    if options.json:
        person.print_json(found)
        return 0
    _print_report(found.pop("report") or {}, found, person)
    return 0


def _print_report(report: Mapping[str, Any], about: Mapping[str, Any], person: Person) -> None:
    print_fields(about)
    for name, value in report.items():
        _print(name, value, person)


def _print(name: str, value: object, person: Person) -> None:
    """One part of the report: a text or a list as an indented block, anything else beside its name."""
    if isinstance(value, str) and "\n" in value:
        value = value.splitlines()
    if isinstance(value, list):
        lines = cast("list[object]", value)
        person.say(f"{name}:" if lines else f"{name:<12} -")
        for line in lines:
            person.say(f"    {line}")
    else:
        print_fields({name: value})
