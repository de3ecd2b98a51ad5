"""`socialfleet settings`: live values; workers take them up within moments."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from coordination.settings import revert_setting, set_setting, setting_history, unset_setting
from host.cli.fault import USAGE, CliError
from host.cli.listing import add_json, add_limit, add_list, moment, number_of
from host.cli.parser import require_known
from host.cli.person import Person
from host.cli.reason import add_reason
from workers import registry


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "what was set, by whom and why")
    listing.add_argument("--all", action="store_true", help="also those that have their default")
    getting = actions.add_parser("get", help="one setting: its value, its default, what is allowed")
    getting.add_argument("key", metavar="KEY", help="such as poster_interval_s")
    setting = actions.add_parser("set", help="set one")
    setting.add_argument("key", metavar="KEY", help="such as poster_interval_s")
    setting.add_argument("value", metavar="VALUE", help="JSON, or a plain word")
    add_reason(setting, default=None)
    setting.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    unsetting = actions.add_parser("unset", help="take one back to its default")
    unsetting.add_argument("key", metavar="KEY", help="such as poster_interval_s")
    add_reason(unsetting, default=None)
    history = actions.add_parser("history", help="what one was, by whom and why, newest first")
    history.add_argument("key", metavar="KEY", help="such as poster_interval_s")
    add_limit(history)
    revert = actions.add_parser("revert", help="set one back to what it was in a version")
    revert.add_argument("key", metavar="KEY", help="such as poster_interval_s")
    add_version(revert)
    add_reason(revert, default=None)
    add_json(listing, getting, setting, unsetting, history, revert)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare which version to go back to."""
    parser.add_argument(
        "version",
        metavar="VERSION",
        nargs="?",
        type=number_of("a version's number"),
        help="of its history (default: the one before the present one)",
    )


def run(options: argparse.Namespace, person: Person) -> int:
    """Do what is asked."""
    acts = {
        "list": _list,
        "get": _get,
        "set": _set,
        "unset": _unset,
        "history": _history,
        "revert": _revert,
    }
    acts[options.action](options, person)
    return 0


def version_of(options: argparse.Namespace, name: str, changes: list[dict[str, Any]]) -> int:
    """The version that was asked for, or the one before the present one.

    Raises:
        CliError: there is none before.
    """
    if options.version is not None:
        return int(options.version)
    if len(changes) < 2:  # noqa: PLR2004  the present one and the one before
        raise CliError(f"{name} has no version before the present one", exit_code=USAGE)
    return int(changes[1]["version"])


def print_history(
    options: argparse.Namespace, person: Person, changes: list[dict[str, Any]], shown: Mapping[Any, str]
) -> None:
    """Print the changes of a setting or flag; `shown` has what some values are printed as."""
    if options.json:
        person.print_json(changes)
        return
    person.print_table(
        ["VERSION", "VALUE", "BY", "WHY", "AT"],
        [
            [
                change["version"],
                shown.get(change["value"]) if _is_plain(change["value"]) else json.dumps(change["value"]),
                change["changed_by"],
                change["reason"],
                moment(change["changed_at"]),
            ]
            for change in changes
        ],
    )


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _list(options: argparse.Namespace, person: Person) -> None:
    if options.all:
        _list_all(options, person)
        return
    rows = person.database.rows("list_settings")
    if options.json:
        person.print_json(rows)
        return
    person.print_table(
        ["KEY", "VALUE", "VERSION", "BY", "WHY"],
        [
            [row["key"], json.dumps(row["value"]), row["version"], row["changed_by"], row["reason"]]
            for row in rows
        ],
    )


def _list_all(options: argparse.Namespace, person: Person) -> None:
    rows = person.database.rows("list_setting_definitions", key=None)
    if options.json:
        person.print_json(rows)
        return
    person.print_table(
        ["KEY", "VALUE", "DEFAULT", "UNIT", "MEANING"],
        [
            [
                row["key"],
                json.dumps(row["value"]) if row["is_set"] else "",
                json.dumps(row["default_value"]),
                row["unit"],
                row["description"],
            ]
            for row in rows
        ],
    )


def _get(options: argparse.Namespace, person: Person) -> None:
    found = {row["key"]: row for row in person.database.rows("list_setting_definitions", key=None)}
    require_known("setting", options.key, list(found))
    row = found[options.key]
    if options.json:
        person.print_json(row)
        return
    value = json.dumps(row["value"] if row["is_set"] else row["default_value"])
    person.say(f"{row['key']} is {value}{_by(row)}")
    person.say(f"{row['type']}{_bounds(row)}: {row['description'] or 'no description'}")


def _by(row: Mapping[str, Any]) -> str:
    if not row["is_set"]:
        return ", its default"
    return f", set by {row['changed_by']}: {row['reason']} (default {json.dumps(row['default_value'])})"


def _bounds(row: Mapping[str, Any]) -> str:
    bounds = [
        f"{word} {row[name]:.15g}"
        for word, name in (("from", "lowest"), ("to", "highest"))
        if row[name] is not None
    ]
    if row["choices"]:
        bounds.append(f"of {', '.join(map(str, row['choices']))}")
    return "".join(f" {bound}" for bound in bounds) + (", or null" if row["nullable"] else "")


def _set(options: argparse.Namespace, person: Person) -> None:
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


def _unset(options: argparse.Namespace, person: Person) -> None:
    was_set = unset_setting(person.database, options.key, actor=person.actor, reason=options.reason)
    if options.json:
        person.print_json({"key": options.key, "changed": was_set})
    else:
        person.say(f"{options.key} {'is back to its default' if was_set else 'had its default already'}")


def _history(options: argparse.Namespace, person: Person) -> None:
    changes = setting_history(person.database, options.key, n=options.limit)
    shown = {None: "(default)", True: "true", False: "false"}
    print_history(options, person, changes, shown)


def _revert(options: argparse.Namespace, person: Person) -> None:
    changes = setting_history(person.database, options.key, n=2)
    version = version_of(options, options.key, changes)
    now = revert_setting(person.database, options.key, version, actor=person.actor, reason=options.reason)
    if options.json:
        person.print_json(now)
    else:
        value = "its default" if now["is_default"] else json.dumps(now["value"])
        person.say(f"{options.key} is {value} again, as in version {version}")


def _value(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> object:
    """NaN and Infinity are no JSON, though Python reads them."""
    raise CliError(f"VALUE is {name}: allowed is JSON, or a plain word", exit_code=USAGE)
