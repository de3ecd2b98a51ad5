"""`socialfleet ledger`: what the fleet did and means to do, and a person's decisions about it."""

import argparse
from typing import cast

from coordination.intents import ACTIONS, INTENT_STATES, Decision
from coordination.ledger import decide
from host.cli.fault import FAILED, CliError
from host.cli.listing import (
    add_choice,
    add_json,
    add_limit,
    add_list,
    moment,
    number_of,
    print_fields,
)
from host.cli.person import Person
from host.cli.reason import add_reason

DECISIONS = {
    "approve": "let an act that waits for approval be sent",
    "cancel": "never send it",
    "resume": "let a parked act be sent again: it certainly did not happen",
    "mark-posted": "a parked act happened: it is on the platform",
}
ID = number_of("an intent's number")
TEXT_SHOWN = 60


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "the newest intents", states=INTENT_STATES)
    add_choice(listing, "--action", ACTIONS, dest="only")
    add_limit(listing)
    show = actions.add_parser("show", help="one intent with its transitions and attempts")
    show.add_argument("id", type=ID, metavar="ID")
    for action, summary in DECISIONS.items():
        decision = actions.add_parser(action, help=summary)
        decision.add_argument("id", type=ID, metavar="ID")
        add_reason(decision, default="decided at the shell")
        if action == "mark-posted":
            decision.add_argument("--platform-id", required=True, metavar="P", help="the post's id there")
        decision.add_argument("--json", action="store_true", help="print the intent")
    add_json(listing, show)


def run(options: argparse.Namespace, person: Person) -> int:
    """List, show or decide."""
    if options.action == "list":
        return _list(options, person)
    if options.action == "show":
        return _show(options, person)
    intent = decide(
        person.database,
        options.id,
        cast("Decision", options.action.replace("-", "_")),
        actor=person.actor,
        reason=options.reason,
        platform_id=getattr(options, "platform_id", None),
    )
    if options.json:
        person.print_json(intent)
    else:
        print(f"{intent['action']} {intent['id']} is {intent['state']}")
    return 0


def _list(options: argparse.Namespace, person: Person) -> int:
    rows = person.database.rows(
        "list_intents", state=options.state, action=options.only, number=options.limit
    )
    if options.json:
        person.print_json(rows)
        return 0
    person.print_table(
        ["ID", "STATE", "ACCOUNT", "ACT", "FOR", "TEXT", "WHY"],
        [
            [
                row["id"],
                row["state"],
                row["account"],
                act(row["action"], row["target"]),
                moment(row["not_before"]),
                row["text"][:TEXT_SHOWN],
                row["reason"],
            ]
            for row in rows
        ],
    )
    return 0


def act(action: str, target: str) -> str:
    """Say what an intent does, as the ledger's events do: "reply to 1999", "like of 1999"."""
    return action if action == "post" else f"{action} {'to' if action == 'reply' else 'of'} {target}"


def _show(options: argparse.Namespace, person: Person) -> int:
    intent = person.database.call("get_intent", intent=int(options.id))
    if intent is None:
        raise CliError(f"there is no intent {options.id}: see socialfleet ledger list", exit_code=FAILED)
    transitions = person.database.rows("list_transitions", intent=int(options.id))
    attempts = person.database.rows("list_attempts_with_ids", intent=int(options.id))
    if options.json:
        person.print_json({**intent, "transitions": transitions, "attempts": attempts})
        return 0
    print_fields(intent)
    person.print_table(
        ["AT", "FROM", "TO", "BY", "WHY"],
        [
            [
                moment(row["at"]),
                row["from"],
                row["to"],
                row["actor"],
                row["reason"],
            ]
            for row in transitions
        ],
    )
    if attempts:
        person.print_table(
            ["ATTEMPT", "BEGAN", "OUTCOME", "STATUS", "POSTED AS", "WHY"],
            [
                [
                    row["attempt"],
                    moment(row["began_at"]),
                    row["outcome"],
                    row["status"],
                    row["platform_id"],
                    row["reason"],
                ]
                for row in attempts
            ],
        )
    return 0
