"""`socialfleet settings`: live values; workers take them up within a heartbeat."""

import argparse
import json

from coordination.settings import set_setting
from host.cli.fault import USAGE, CliError
from host.cli.listing import add_json, add_list
from host.cli.person import Person
from host.cli.reason import add_reason
from workers import registry


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "what was set, by whom and why")
    setting = actions.add_parser("set", help="set one")
    setting.add_argument("key", metavar="KEY", help="such as poster_interval_s")
    setting.add_argument("value", metavar="VALUE", help="JSON, or a plain word")
    add_reason(setting, default=None)
    setting.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add_json(listing, setting)


def run(options: argparse.Namespace, person: Person) -> int:
    """List or set."""
    if options.action == "list":
        rows = person.database.rows("list_settings")
        if options.json:
            person.print_json(rows)
        else:
            person.print_table(
                ["KEY", "VALUE", "BY", "WHY"],
                [[row["key"], json.dumps(row["value"]), row["changed_by"], row["reason"]] for row in rows],
            )
        return 0
    value = _value(options.value)
    try:
        registry.check_setting(options.key, value)
    except ValueError as error:
        raise CliError(str(error), exit_code=USAGE) from error
    before = {row["key"]: row["value"] for row in person.database.rows("list_settings")}.get(options.key)
    if not options.dry_run:
        set_setting(person.database, options.key, value, actor=person.actor, reason=options.reason)
    if options.json:
        person.print_json(
            {"key": options.key, "value": value, "before": before, "changed": not options.dry_run}
        )
    elif options.dry_run:
        now = "it was never set" if before is None else f"it is {json.dumps(before)}"
        person.say(f"{options.key} would be {json.dumps(value)}; {now}")
    else:
        person.say(f"{options.key} is {json.dumps(value)}")
    return 0


def _value(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> object:
    """NaN and Infinity are no JSON, though Python reads them."""
    raise CliError(f"VALUE is {name}: allowed is JSON, or a plain word", exit_code=USAGE)
