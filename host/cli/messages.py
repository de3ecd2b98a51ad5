"""`socialfleet messages`: what the workers tell each other, and the dead letters to send once more."""

import argparse

from coordination.messages import STATES, get_message, list_messages, replay
from host.cli.fault import FAILED, CliError
from host.cli.listing import add_limit
from host.cli.person import Person, require_known
from host.terminal import printable

LONGEST_ID = 18


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the newest messages", allow_abbrev=False)
    listing.add_argument("--state", metavar="STATE", help=f"only these: {', '.join(STATES)}")
    listing.add_argument("--to", metavar="NAME", help="only those to this worker or role")
    add_limit(listing)
    show = actions.add_parser("show", help="one message with its payload and errors", allow_abbrev=False)
    show.add_argument("id", type=_id, metavar="ID")
    again = actions.add_parser("replay", help="send a dead letter once more", allow_abbrev=False)
    again.add_argument("id", type=_id, metavar="ID")
    again.add_argument("--reason", default="asked for at the shell", help="why; it is kept in the audit")
    for action in (listing, show, again):
        action.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace, person: Person) -> int:
    """List, show or replay."""
    if options.action == "list":
        _list(options, person)
    elif options.action == "show":
        _show(options, person)
    else:
        replayed = replay(person.database, options.id, actor=person.actor, reason=options.reason)
        if options.json:
            person.print_json(replayed)
        else:
            print(f"message {replayed['id']} waits again for {_addressee(replayed)}")
    return 0


def _list(options: argparse.Namespace, person: Person) -> None:
    if options.state is not None:
        require_known("--state", options.state, list(STATES))
    rows = list_messages(person.database, state=options.state, recipient=options.to, n=max(0, options.limit))
    if options.json:
        person.print_json(rows)
        return
    person.print_table(
        ["ID", "STATE", "TYPE", "FROM", "TO", "AT", "PRIORITY", "TRIES", "SENT", "LAST ERROR"],
        [
            [
                row["id"],
                row["state"],
                row["type"],
                row["sender"],
                _addressee(row),
                row["routed_to"],
                row["priority"],
                f"{row['attempts']}/{row['max_attempts']}",
                f"{row['sent_at'].astimezone():%Y-%m-%d %H:%M:%S}",
                row["error"],
            ]
            for row in rows
        ],
    )


def _show(options: argparse.Namespace, person: Person) -> None:
    message = get_message(person.database, options.id)
    if message is None:
        raise CliError(f"there is no message {options.id}: see socialfleet messages list", exit_code=FAILED)
    if options.json:
        person.print_json(message)
        return
    errors = message.pop("errors")
    for name, value in message.items():
        if value not in (None, ""):
            print(f"{name:<16} {printable(str(value))}")
    if errors:
        person.print_table(
            ["ATTEMPT", "AT", "BY", "ERROR"],
            [[one["attempt"], one["at"], one["by"], one["error"]] for one in errors],
        )


def _addressee(message: dict[str, str]) -> str:
    kind, recipient = message["recipient_kind"], message["recipient"]
    return f"role {recipient}" if kind == "role" else recipient


def _id(text: str) -> str:
    if not (text.isascii() and text.isdecimal()) or len(text) > LONGEST_ID:
        raise argparse.ArgumentTypeError(f"is '{text}': allowed is a message's number: 1 to 18 digits")
    return text
