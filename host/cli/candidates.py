"""`socialfleet candidates`: the pool of posts worth engaging with, and why each is worth what it is."""

import argparse
from typing import Any

from coordination.candidates import CANDIDATE_STATES, get_candidate, list_candidates
from host.cli.fault import FAILED, CliError
from host.cli.listing import add_json, add_limit, add_list, number_of, print_fields
from host.cli.person import Person

TEXT_SHOWN = 60
ID = number_of("a post's id", longest=19)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(
        actions, "those that wait, the best first, then the decided ones", states=CANDIDATE_STATES
    )
    add_limit(listing)
    show = actions.add_parser("show", help="one with every part of its score")
    show.add_argument("id", type=ID, metavar="ID", help="the post's id on the platform")
    add_json(listing, show)


def run(options: argparse.Namespace, person: Person) -> int:
    """List or show."""
    if options.action == "list":
        _list(options, person)
    else:
        _show(options, person)
    return 0


def _list(options: argparse.Namespace, person: Person) -> None:
    states = [options.state] if options.state else []
    rows = list_candidates(person.database, states=states, n=options.limit)
    if options.json:
        person.print_json(rows)
        return
    person.print_table(
        ["ID", "STATE", "SCORE", "TOPIC", "AUTHOR", "POSTED", "TEXT", "WHY"],
        [
            [
                row["platform_id"],
                row["state"],
                f"{row['score']:.1f}",
                row["topic"],
                f"@{row['handle']}",
                f"{row['posted_at'].astimezone():%Y-%m-%d %H:%M}",
                row["text"][:TEXT_SHOWN],
                row["reason"],
            ]
            for row in rows
        ],
    )


def _show(options: argparse.Namespace, person: Person) -> None:
    rows = get_candidate(person.database, options.id)
    if not rows:
        raise CliError(
            f"there is no candidate {options.id}: see socialfleet candidates list", exit_code=FAILED
        )
    if options.json:
        person.print_json(rows)
        return
    for row in rows:
        _print(row, person)


def _print(row: dict[str, Any], person: Person) -> None:
    parts = row.pop("parts")
    print_fields(row)
    total = sum(part["weight"] for part in parts.values())
    person.print_table(
        ["PART", "VALUE", "WEIGHT", "POINTS", "FROM"],
        [
            [
                name,
                f"{part['value']:.3f}",
                f"{part['weight']:g}",
                f"{100 * part['value'] * part['weight'] / total if total else 0:.1f}",
                ", ".join(
                    f"{key} {'-' if value is None else value}" for key, value in part["inputs"].items()
                ),
            ]
            for name, part in parts.items()
        ],
    )
