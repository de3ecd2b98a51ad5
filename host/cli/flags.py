"""`socialfleet flags`: switches such as `poster_enabled`; one that nobody has set is on."""

import argparse

from coordination.flags import flag_history, revert_flag, set_flag
from host.cli.listing import add_json, add_limit, add_list
from host.cli.parser import require_known
from host.cli.person import Person
from host.cli.reason import add_reason
from host.cli.settings import add_version, print_history, version_of

WORDS = {True: "on", False: "off"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "what was set, by whom and why")
    setting = actions.add_parser("set", help="switch one")
    setting.add_argument("name", metavar="NAME", help="such as poster_enabled")
    setting.add_argument("value", choices=("on", "off"))
    add_reason(setting, default=None)
    setting.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    history = actions.add_parser("history", help="what one was, by whom and why, newest first")
    history.add_argument("name", metavar="NAME", help="such as poster_enabled")
    add_limit(history)
    revert = actions.add_parser("revert", help="set one back to what it was in a version")
    revert.add_argument("name", metavar="NAME", help="such as poster_enabled")
    add_version(revert)
    add_reason(revert, default=None)
    add_json(listing, setting, history, revert)


def run(options: argparse.Namespace, person: Person) -> int:
    """List, set, or go back."""
    if options.action in {"history", "revert"}:
        _past(options, person)
        return 0
    rows = person.database.rows("list_flags")
    if options.action == "list":
        if options.json:
            person.print_json(rows)
        else:
            person.print_table(
                ["NAME", "VALUE", "BY", "WHY"],
                [[row["name"], WORDS[row["enabled"]], row["changed_by"], row["reason"]] for row in rows],
            )
        return 0
    # A mistyped flag would look like a brake that holds.
    known = [row["name"] for row in person.database.rows("list_flag_names")]
    require_known("flag", options.name, known)
    enabled = options.value == "on"
    before = {row["name"]: bool(row["enabled"]) for row in rows}.get(options.name, True)
    if not options.dry_run:
        set_flag(person.database, options.name, enabled=enabled, actor=person.actor, reason=options.reason)
    if options.json:
        person.print_json(
            {"name": options.name, "enabled": enabled, "before": before, "changed": not options.dry_run}
        )
    elif options.dry_run:
        person.say(f"{options.name} would be {options.value}; it is {WORDS[before]}")
    else:
        person.say(f"{options.name} is {options.value}")
    return 0


def _past(options: argparse.Namespace, person: Person) -> None:
    if options.action == "history":
        changes = flag_history(person.database, options.name, n=options.limit)
        print_history(options, person, changes, WORDS)
        return
    version = version_of(options, options.name, flag_history(person.database, options.name, n=2))
    enabled = revert_flag(person.database, options.name, version, actor=person.actor, reason=options.reason)
    if options.json:
        person.print_json({"name": options.name, "enabled": enabled, "version": version})
    else:
        person.say(f"{options.name} is {WORDS[enabled]} again, as in version {version}")
