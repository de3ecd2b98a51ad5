"""`socialfleet schedules`: what comes round when, and how well its slots are kept."""

import argparse
from datetime import datetime

from coordination.schedules import get_schedule_status, pause_schedule
from host.cli.listing import add_json, add_list, moment
from host.cli.person import Person
from host.cli.reason import add_reason


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "every schedule, its next slot, and how many were fired and missed")
    pause = actions.add_parser("pause", help="fire none of its slots until it is resumed")
    resume = actions.add_parser("resume", help="let it go on with its next slot")
    for action in (pause, resume):
        action.add_argument("name", metavar="NAME")
        add_reason(action)
    add_json(listing, pause, resume)


def run(options: argparse.Namespace, person: Person) -> int:
    """List, pause or resume."""
    if options.action == "list":
        _list(options, person)
        return 0
    paused = options.action == "pause"
    changed = pause_schedule(
        person.database, options.name, paused=paused, actor=person.actor, reason=options.reason
    )
    if options.json:
        person.print_json(changed)
    else:
        person.say(f"schedule {options.name} {'fires nothing from now on' if paused else 'goes on'}")
    return 0


def _list(options: argparse.Namespace, person: Person) -> None:
    schedules = get_schedule_status(person.database)
    if options.json:
        person.print_json(schedules)
        return
    person.print_table(
        ["NAME", "LINE", "POLICY", "NEXT", "FIRED", "MISSED", "LATEST BY", "STATE"],
        [
            [
                one["name"],
                one["line"],
                one["policy"],
                moment(_moment(one["next_slot_at"])),
                str(one["fired"]),
                str(one["skipped"]),
                f"{one['latest_s']:.1f} s",
                f"paused by {one['paused_reason']}"
                if one["paused"]
                else ("stands still" if one["stands_still"] else "runs"),
            ]
            for one in schedules
        ],
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
