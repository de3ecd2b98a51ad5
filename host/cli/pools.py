"""`socialfleet pools`: shared things with a capacity, how full they are, who waits."""

import argparse
from typing import Any, get_args

from coordination.pools import Strategy, configure_pool, list_pools
from host.cli.listing import add_json, add_list
from host.cli.person import Person
from host.cli.reason import add_reason

NUMBERS = {
    "capacity": ("N", "units that it has, from now on", int),
    "min_capacity": ("N", "down to which its load may take it", int),
    "max_capacity": ("N", "up to which its load may take it", int),
    "queue_bound": ("N", "waiters beyond it are refused at once", int),
    "ageing_s": ("S", "seconds of waiting that are worth one step of priority", float),
    "escalate_after_s": ("S", "seconds of waiting after which a request is raised", float),
    "alert_after_s": ("S", "seconds of waiting after which a person is told", float),
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "each pool, the rate limiter's too: capacity, use, queue, waits")
    listing.add_argument("--all", action="store_true", help="also those that were made at first use")
    setting = actions.add_parser("set", help="make or change one; nobody loses what they hold")
    setting.add_argument(
        "type", metavar="TYPE", help="content, conversation, db_connection, memory, cpu or storage"
    )
    setting.add_argument("id", metavar="ID", help="which one, such as content_pipeline")
    for name, (metavar, text, kind) in NUMBERS.items():
        setting.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text, type=kind)
    setting.add_argument("--strategy", choices=get_args(Strategy), help="who is next where several want it")
    setting.add_argument("--kind", metavar="KIND", help="what its units are, one of the type's kinds")
    add_reason(setting)
    add_json(listing, setting)


def run(options: argparse.Namespace, person: Person) -> int:
    """List or set."""
    if options.action == "set":
        given = {name: getattr(options, name) for name in (*NUMBERS, "strategy", "kind")}
        made = configure_pool(
            person.database, options.type, options.id, actor=person.actor, reason=options.reason, **given
        )
        if options.json:
            person.print_json(made)
        else:
            person.say(
                f"{options.type} {options.id} has {made['total_capacity']} units "
                f"({made['min_capacity']} to {made['max_capacity']} by load), shared by {made['strategy']}"
            )
        return 0
    pools = list_pools(person.database, standing=not options.all)
    if options.json:
        person.print_json(pools)
        return 0
    person.print_table(
        ["TYPE", "ID", "ACCOUNT", "CAPACITY", "FREE", "USED", "WAITING", "CONFLICTS", "LONGEST WAIT"],
        [_line(pool) for pool in pools],
        [{"warning": "warning", "critical": "error"}.get(pool["health"], "") for pool in pools],
    )
    return 0


def _line(pool: dict[str, Any]) -> list[object]:
    longest = pool.get("longest_wait_s")
    return [
        pool["resource_type"],
        pool["resource_id"],
        pool.get("account"),
        pool["total_capacity"],
        pool["available_capacity"],
        f"{pool['utilization_percent']}%",
        pool["waiting_queue"],
        pool.get("conflicts"),
        f"{longest:.1f} s" if longest else None,
    ]
