"""What persons say about messages: routes, conflicts that wait for them, and how all of it stands."""

import argparse
from dataclasses import asdict
from typing import Final, get_args

from coordination.conflicts import decide_conflict, list_conflicts
from coordination.messages import MessageType, get_message_status
from coordination.routes import POLICIES, Route, list_routes, remove_route, set_route
from host.cli.listing import add_choice, add_json, add_limit, moment, number_of, one_of, print_fields
from host.cli.person import Person
from host.cli.reason import add_reason

TYPES: Final = get_args(MessageType)
PRIORITIES: Final = ("low", "medium", "high", "critical")
CONFLICT: Final = number_of("a conflict's number")


def declare(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage]  its name
) -> None:
    """Declare the actions."""
    status = actions.add_parser("status", help="what waits, for how long, how fast it is taken, what failed")
    routes = actions.add_parser("routes", help="which role gets what names no recipient")
    route = actions.add_parser("route", help="say which role gets a type and kind")
    unroute = actions.add_parser("unroute", help="take a route away")
    for one in (route, unroute):
        one.add_argument("type", type=one_of(TYPES), metavar="TYPE", help=", ".join(TYPES))
        one.add_argument("kind", metavar="KIND", help="the payload's kind; * for any")
    route.add_argument("role", metavar="ROLE", help="whose workers get it")
    route.add_argument(
        "--priority",
        type=one_of(PRIORITIES),
        metavar="PRIORITY",
        help=f"of what is sent without one: {', '.join(PRIORITIES)} (default: the type's)",
    )
    route.add_argument(
        "--policy",
        type=one_of(POLICIES),
        default=POLICIES[0],
        metavar="POLICY",
        help=f"which of them: {', '.join(POLICIES)} (default: {POLICIES[0]})",
    )
    conflicts = actions.add_parser("conflicts", help="what workers contended for, and how it was settled")
    add_choice(conflicts, "--state", ("open", "decided"))
    add_limit(conflicts)
    decide = actions.add_parser("decide", help="decide a conflict that waits for a person")
    decide.add_argument("id", type=CONFLICT, metavar="ID")
    decide.add_argument("winner", metavar="WORKER", help="who gets it")
    add_reason(route, unroute, decide)
    add_json(status, routes, route, unroute, conflicts, decide)


def run(options: argparse.Namespace, person: Person) -> None:
    """Show or change it."""
    {
        "status": _status,
        "routes": _routes,
        "route": _route,
        "unroute": _unroute,
        "conflicts": _conflicts,
        "decide": _decide,
    }[options.action](options, person)


def _status(options: argparse.Namespace, person: Person) -> None:
    status = get_message_status(person.database)
    if options.json:
        person.print_json(status)
        return
    for name in ("recipients", "conflicts_by_strategy"):
        status[name] = (
            ", ".join(f"{what}: {number}" for what, number in sorted(status[name].items())) or "none"
        )
    print_fields(status, width=22)


def _routes(options: argparse.Namespace, person: Person) -> None:
    found = list_routes(person.database)
    if options.json:
        person.print_json([asdict(route) for route in found])
        return
    person.print_table(
        ["TYPE", "KIND", "ROLE", "PRIORITY", "POLICY", "BY", "WHY"],
        [
            [one.type, one.kind, one.role, one.priority, one.policy, one.changed_by, one.reason]
            for one in found
        ],
    )


def _route(options: argparse.Namespace, person: Person) -> None:
    route = set_route(
        person.database,
        options.type,
        options.kind,
        options.role,
        priority=options.priority,
        policy=options.policy,
        actor=person.actor,
        reason=options.reason,
    )
    _say(options, person, route, f"{route.type} of kind {route.kind} goes to role {route.role}")


def _unroute(options: argparse.Namespace, person: Person) -> None:
    route = remove_route(
        person.database, options.type, options.kind, actor=person.actor, reason=options.reason
    )
    _say(options, person, route, f"{route.type} of kind {route.kind} has no route any more")


def _say(options: argparse.Namespace, person: Person, route: Route, told: str) -> None:
    if options.json:
        person.print_json(asdict(route))
    else:
        person.say(told)


def _conflicts(options: argparse.Namespace, person: Person) -> None:
    found = list_conflicts(person.database, state=options.state, n=options.limit)
    if options.json:
        person.print_json(found)
        return
    person.print_table(
        ["ID", "STATE", "KIND", "OVER", "CONTENDERS", "WINNER", "BY", "ASKED", "WHY"],
        [
            [
                one["id"],
                one["state"],
                one["kind"],
                one["thing"],
                ", ".join(contender["worker"] for contender in one["contenders"]),
                one["winner"],
                one["decided_by"],
                moment(one["asked_at"]),
                one["reason"],
            ]
            for one in found
        ],
    )


def _decide(options: argparse.Namespace, person: Person) -> None:
    settled = decide_conflict(
        person.database, options.id, options.winner, actor=person.actor, reason=options.reason
    )
    if options.json:
        person.print_json(asdict(settled))
    else:
        person.say(f"conflict {settled.id} over {settled.thing}: {settled.winner} gets it")
