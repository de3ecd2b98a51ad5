"""`socialfleet candidates`: the pool of posts worth engaging with, and why each is worth what it is."""

import argparse
from typing import Any

from coordination.candidates import CANDIDATE_STATES, get_candidate, list_candidates
from host.cli.fault import FAILED, CliError
from host.cli.listing import add_limit
from host.cli.person import Person, require_known
from host.terminal import printable

TEXT_SHOWN = 60
LONGEST_ID = 19


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser(
        "list", help="those that wait, the best first, then the decided ones", allow_abbrev=False
    )
    listing.add_argument("--state", metavar="STATE", help=f"only these: {', '.join(CANDIDATE_STATES)}")
    add_limit(listing)
    show = actions.add_parser("show", help="one with every part of its score", allow_abbrev=False)
    show.add_argument("id", type=_id, metavar="ID", help="the post's id on the platform")
    for action in (listing, show):
        action.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace, person: Person) -> int:
    """List or show."""
    if options.action == "list":
        _list(options, person)
    else:
        _show(options, person)
    return 0


def _list(options: argparse.Namespace, person: Person) -> None:
    if options.state is not None:
        require_known("--state", options.state, list(CANDIDATE_STATES))
    states = [options.state] if options.state else []
    rows = list_candidates(person.database, states=states, n=max(0, options.limit))
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
    for name, value in row.items():
        if value not in (None, "", {}):
            print(f"{name:<12} {printable(str(value))}")
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


def _id(text: str) -> str:
    if not (text.isascii() and text.isdecimal()) or len(text) > LONGEST_ID:
        raise argparse.ArgumentTypeError(f"is '{text}': allowed is a post's id, 1 to {LONGEST_ID} digits")
    return text
