"""`socialfleet mentions`: who named the account, and why each was answered or not."""

import argparse
from typing import Any

from host.cli.fault import FAILED, CliError
from host.cli.listing import add_limit
from host.cli.person import Person, require_known
from host.terminal import printable

STATES = ("seen", "delegated", "answered", "ignored")
TEXT_SHOWN = 60
LONGEST_ID = 19


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the newest mentions", allow_abbrev=False)
    listing.add_argument("--state", metavar="STATE", help=f"only these: {', '.join(STATES)}")
    add_limit(listing)
    show = actions.add_parser("show", help="one mention and why it was answered or not", allow_abbrev=False)
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
        require_known("--state", options.state, list(STATES))
    rows = person.database.rows("list_interactions", state=options.state, number=max(0, options.limit))
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
                f"{row['posted_at'].astimezone():%Y-%m-%d %H:%M:%S}",
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
        print(f"{'why':<15} {printable(_why(row))}")
        for name, value in row.items():
            if value not in (None, "", {}):
                print(f"{name:<15} {printable(str(value))}")


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


def _id(text: str) -> str:
    if not (text.isascii() and text.isdecimal()) or len(text) > LONGEST_ID:
        raise argparse.ArgumentTypeError(f"is '{text}': allowed is a post's id: 1 to 19 digits")
    return text
