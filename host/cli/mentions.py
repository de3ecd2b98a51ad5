"""`socialfleet mentions`: who named the account, and why each was answered or not."""

import argparse
from typing import Any

from host.cli.fault import FAILED, CliError
from host.cli.listing import add_json, add_limit, add_list, moment, number_of, print_fields
from host.cli.person import Person

STATES = ("seen", "delegated", "answered", "ignored")
TEXT_SHOWN = 60
ID = number_of("a post's id", longest=19)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "the newest mentions", states=STATES)
    add_limit(listing)
    show = actions.add_parser("show", help="one mention and why it was answered or not")
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
    rows = person.database.rows("list_interactions", state=options.state, number=options.limit)
    if options.json:
        person.print_json(rows)
        return
    person.print_table(
        ["ID", "STATE", "ANSWER", "AUTHOR", "POSTED", "TEXT", "WHY"],
        [
            [
                row["platform_id"],
                row["state"],
                row["intent_state"],
                _author(row),
                moment(row["posted_at"]),
                row["text"][:TEXT_SHOWN],
                _why(row),
            ]
            for row in rows
        ],
    )


def _show(options: argparse.Namespace, person: Person) -> None:
    rows = person.database.rows("list_interaction", platform_id=options.id)
    if not rows:
        raise CliError(
            f"no mention {options.id} was seen: see socialfleet mentions list, and socialfleet logs mentions",
            exit_code=FAILED,
        )
    if options.json:
        person.print_json(rows if len(rows) > 1 else rows[0])
        return
    for row in rows:
        print_fields({"why": _why(row), **row}, width=15)


def _author(row: dict[str, Any]) -> str:
    return f"@{row['handle']}" if row["handle"] else str(row["author_id"])


def _why(row: dict[str, Any]) -> str:
    """One sentence: what was done about it, and why."""
    reason = row["reason"] or "no reason kept"
    match row["state"]:
        case "answered":
            return f"{reason}; {_answer(row)}"
        case "delegated":
            return (
                f"{reason} by message {row['message']}; answered when a finding comes, or at {row['due_at']}"
            )
        case "seen" if row["reason"]:  # put off
            return f"{reason}; tried again at {row['due_at']}"
        case "seen":
            return "waits for the mentions worker"
        case _:
            return str(reason)


def _answer(row: dict[str, Any]) -> str:
    """What became of the answer since it was proposed: it may be waiting, posted, or lost."""
    told = f"answer {row['intent']} {row['intent_state'] or 'is not in the ledger'}"
    return f"{told}: {row['intent_reason']}" if row["intent_reason"] else told
