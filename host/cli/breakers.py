"""`socialfleet breakers`: which services are cut off, and since when."""

import argparse

from coordination.breakers import get_breaker_status, reset_breaker
from host.cli.listing import add_json, add_list, moment
from host.cli.person import Person
from host.cli.reason import add_reason

KINDS = {"open": "error", "half_open": "warning"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "every service that has failed, and whether it is cut off")
    reset = actions.add_parser("reset", help="let a service be called again at once")
    reset.add_argument("account", metavar="ACCOUNT", help="whose breaker")
    reset.add_argument("service", metavar="SERVICE", help="such as posting")
    add_reason(reset, default=None)
    add_json(listing, reset)


def run(options: argparse.Namespace, person: Person) -> int:
    """List or reset."""
    if options.action == "reset":
        answer = reset_breaker(
            person.database, options.account, options.service, actor=person.actor, reason=options.reason
        )
        if options.json:
            person.print_json(answer)
        else:
            was = str(answer["was"]).replace("_", " ")
            person.say(f"the breaker of {options.service} for {options.account} is closed; it was {was}")
        return 0
    breakers = get_breaker_status(person.database)
    if options.json:
        person.print_json([vars(breaker) for breaker in breakers])
        return 0
    person.print_table(
        ["ACCOUNT", "SERVICE", "STATE", "FAILURES", "SINCE", "NEXT PROBE", "OPENED", "RESETS", "LAST ERROR"],
        [
            [
                breaker.account,
                breaker.service,
                breaker.state.replace("_", " ") + (", stuck" if breaker.is_stuck else ""),
                f"{breaker.failures} of {breaker.opens_after}",
                moment(breaker.opened_at),
                moment(breaker.next_probe_at),
                breaker.opens_total,
                breaker.reset_attempts,
                breaker.last_error,
            ]
            for breaker in breakers
        ],
        [KINDS.get(breaker.state, "") for breaker in breakers],
    )
    return 0
