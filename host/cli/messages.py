"""`socialfleet messages`: what the workers tell each other, and the dead letters to send once more."""

import argparse

from coordination.messages import STATES, get_message, list_messages, replay
from host.cli import message_orders
from host.cli.fault import FAILED, CliError
from host.cli.listing import add_json, add_limit, add_list, moment, number_of, print_fields
from host.cli.person import Person
from host.cli.reason import add_reason

ID = number_of("a message's number")


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "the newest messages", states=STATES)
    listing.add_argument("--to", metavar="NAME", help="only those to this worker or role")
    add_limit(listing)
    show = actions.add_parser("show", help="one message with its payload and errors")
    show.add_argument("id", type=ID, metavar="ID")
    again = actions.add_parser("replay", help="send a dead letter once more")
    again.add_argument("id", type=ID, metavar="ID")
    add_reason(again)
    add_json(listing, show, again)
    message_orders.declare(actions)


def run(options: argparse.Namespace, person: Person) -> int:
    """List, show or replay; or what persons say about them."""
    if options.action == "list":
        _list(options, person)
    elif options.action == "show":
        _show(options, person)
    elif options.action != "replay":
        message_orders.run(options, person)
    else:
        replayed = replay(person.database, options.id, actor=person.actor, reason=options.reason)
        if options.json:
            person.print_json(replayed)
        else:
            person.say(f"message {replayed['id']} waits again for {_addressee(replayed)}")
    return 0


def _list(options: argparse.Namespace, person: Person) -> None:
    rows = list_messages(person.database, state=options.state, recipient=options.to, n=options.limit)
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
                moment(row["sent_at"]),
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
    print_fields(message, width=16)
    if errors:
        person.print_table(
            ["ATTEMPT", "AT", "BY", "ERROR"],
            [[one["attempt"], one["at"], one["by"], one["error"]] for one in errors],
        )


def _addressee(message: dict[str, str]) -> str:
    kind, recipient = message["recipient_kind"], message["recipient"]
    return f"role {recipient}" if kind == "role" else recipient
