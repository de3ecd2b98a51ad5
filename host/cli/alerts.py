"""`socialfleet alerts`: what a person should look at."""

import argparse

from coordination.alerts import acknowledge_alert, list_alerts
from host.cli.listing import add_json, add_limit, add_list, moment, number_of
from host.cli.person import Person
from host.cli.reason import add_reason

KINDS = {"critical": "error", "error": "error", "warning": "warning"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "those that are open, the worst first")
    listing.add_argument("--all", action="store_true", help="also those that were cleared")
    add_limit(listing)
    ack = actions.add_parser("ack", help="say that you have seen it; it stays open until its cause is gone")
    ack.add_argument("id", type=number_of("an alert's number"), metavar="ID")
    add_reason(ack)
    add_json(listing, ack)


def run(options: argparse.Namespace, person: Person) -> int:
    """List or acknowledge."""
    if options.action == "ack":
        alert = acknowledge_alert(person.database, options.id, actor=person.actor, reason=options.reason)
        if options.json:
            person.print_json(alert)
        else:
            person.say(f"alert {options.id} is acknowledged by {person.actor}")
        return 0
    rows = list_alerts(person.database, open_only=not options.all, n=options.limit)
    if options.json:
        person.print_json(rows)
        return 0
    person.print_table(
        ["ID", "SEVERITY", "SINCE", "TIMES", "SOURCE", "MESSAGE", "SEEN BY", "CLEARED"],
        [
            [
                row["id"],
                row["severity"],
                moment(row["raised_at"]),
                row["times"],
                row["source"],
                row["message"],
                row["acknowledged_by"],
                moment(row["cleared_at"]),
            ]
            for row in rows
        ],
        [KINDS.get(row["severity"], "") if row["cleared_at"] is None else "debug" for row in rows],
    )
    return 0
