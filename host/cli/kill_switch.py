"""`socialfleet kill-switch`: no send begins any more from the moment that the answer is there."""

import argparse

from coordination.kill_switch import get_kill_switch, set_kill_switch
from host.cli.person import Person
from host.cli.reason import add_reason

ANSWER = ("on", "scope", "acknowledged_at", "in_flight")


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    for action, summary in (("on", "stop all sending"), ("off", "let the fleet send again")):
        setting = actions.add_parser(action, help=summary)
        add_reason(setting, default=None)
        setting.add_argument("--json", action="store_true", help="for programs")
    status = actions.add_parser("status", help="whether it is on, since when and why")
    status.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace, person: Person) -> int:
    """Throw, lift or show it."""
    if options.action == "status":
        switch = get_kill_switch(person.database)
        if options.json:
            person.print_json(switch)
        elif switch["changed_at"]:
            print(
                f"the kill switch is {'on' if switch['on'] else 'off'} since {switch['changed_at']} "
                f"({switch['changed_by']}: {switch['reason']})"
            )
        else:
            print("the kill switch is off, and never was on")
        return 0
    answer = set_kill_switch(
        person.database, on=options.action == "on", actor=person.actor, reason=options.reason
    )
    if options.json:
        person.print_json({name: answer[name] for name in ANSWER})
        return 0
    print(f"the kill switch is {options.action} (acknowledged at {answer['acknowledged_at']})")
    for sending in answer["in_flight"] if answer["on"] else ():
        print(f"in flight already: post {sending['intent']}, attempt {sending['attempt']}")
    return 0
