"""`socialfleet flags`: switches such as `poster_enabled`; one that nobody has set is on."""

import argparse

from coordination.flags import set_flag
from host.cli.person import Person, require_known


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="what was set, by whom and why", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="for programs")
    setting = actions.add_parser("set", help="switch one", allow_abbrev=False)
    setting.add_argument("name", metavar="NAME", help="such as poster_enabled")
    setting.add_argument("value", choices=("on", "off"))
    setting.add_argument("--reason", required=True, help="why; it is kept in the audit")


def run(options: argparse.Namespace, person: Person) -> int:
    """List or set."""
    if options.action == "list":
        rows = person.database.rows("list_flags")
        if options.json:
            person.print_json(rows)
        else:
            person.print_table(
                ["NAME", "VALUE", "BY", "WHY"],
                [
                    [row["name"], "on" if row["enabled"] else "off", row["changed_by"], row["reason"]]
                    for row in rows
                ],
            )
        return 0
    # A mistyped flag would look like a brake that holds.
    workers = [row["name"] for row in person.database.rows("list_worker_names")]
    require_known("flag", options.name, [f"{name}_enabled" for name in workers])
    set_flag(
        person.database,
        options.name,
        enabled=options.value == "on",
        actor=person.actor,
        reason=options.reason,
    )
    print(f"{options.name} is {options.value}")
    return 0
