"""`socialfleet hosts`: where the fleet runs, and which host takes no work or is gone."""

import argparse

from coordination.hosts import HostStatus, declare_host_gone, drain_host, list_hosts
from host.cli.listing import add_json, add_list, moment
from host.cli.person import Person
from host.cli.reason import add_reason
from host.cli.selector import confirm, require_host, silence

KINDS = {"lost": "error", "gone": "debug", "left": "debug"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = add_list(actions, "every host that was ever part of the fleet")
    gone = actions.add_parser("gone", help="vouch that nothing of a silent host runs any more")
    add_reason(gone, default=None, summary="why you are sure; it is kept in the audit")
    gone.add_argument("--yes", action="store_true", help="don't ask")
    drain = actions.add_parser("drain", help="let a host finish what it does and take no more work")
    undrain = actions.add_parser("undrain", help="let a host take work again")
    for action in (gone, drain, undrain):
        action.add_argument("name", metavar="NAME")
        action.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    for action in (drain, undrain):
        add_reason(action)
    add_json(listing, gone, drain, undrain)


def run(options: argparse.Namespace, person: Person) -> int:
    """List, or change one."""
    if options.action == "list":
        _list(options, person)
        return 0
    host = require_host(options.name, person)
    if options.dry_run:
        if options.json:
            person.print_json({"host": options.name, "action": options.action, "changed": False})
        else:
            person.say(f"would say: {_said(options.action, host)}")
        return 0
    if options.action == "gone":
        if not options.yes:
            confirm(f"nothing of {options.name} runs any more, and what it held may be given to others")
        answer = declare_host_gone(person.database, options.name, actor=person.actor, reason=options.reason)
    else:
        answer = drain_host(
            person.database,
            options.name,
            draining=options.action == "drain",
            actor=person.actor,
            reason=options.reason,
        )
    if options.json:
        person.print_json(answer)
    else:
        person.say(_said(options.action, host))
    return 0


def _said(action: str, host: HostStatus) -> str:
    """What came of it, as far as a host can do its part that may not be there."""
    if action == "gone":
        return f"{host.name} is gone: its lives are closed, its slots go to others"
    if host.state != "live":
        later = "takes no work" if action == "drain" else "takes work again"
        return f"{host.name} {later} when it is back; {silence(host)}"
    if action == "drain":
        return f"{host.name} drains: it takes no more work, and its slots move"
    return f"{host.name} takes work again"


def _list(options: argparse.Namespace, person: Person) -> None:
    hosts = list_hosts(person.database)
    if options.json:
        person.print_json(
            [{**vars(host), "here": host.name == person.host} for host in hosts],
        )
        return
    person.print_table(
        ["HOST", "STATE", "SLOTS", "SEEN", "SINCE", "LABELS", "WAKE-UPS", "VERSION", "WHY"],
        [
            [
                f"{host.name} (here)" if host.name == person.host else host.name,
                _state(host),
                host.slots,
                f"{host.silent_s:.0f} s ago",
                moment(host.started_at),
                ", ".join(f"{name}={value}" for name, value in sorted(host.labels.items())),
                host.wake_channel,
                host.version,
                host.reason,
            ]
            for host in hosts
        ],
        [KINDS.get(host.state, "") for host in hosts],
    )


def _state(host: HostStatus) -> str:
    return f"{host.state}, draining" if host.draining else host.state
