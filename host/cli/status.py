"""`socialfleet status`: how every worker is; what this host last knew while the database is away."""

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from coordination.alerts import list_alerts
from coordination.errors import DatabaseUnavailableError
from coordination.hosts import list_hosts
from coordination.kill_switch import get_kill_switch
from coordination.status import list_slots
from host.cli import local
from host.cli.fault import UNHEALTHY, UNREACHABLE, CliError
from host.cli.person import Person
from host.cli.selector import require_host

HEADS = ["SLOT", "STATE", "HEALTHY", "HOST", "PID", "RESTARTS", "CPU", "MEMORY", "LAST RUN", "WHY"]
MEGABYTE = 1 << 20


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--host", metavar="H", help="only what this host has")
    parser.add_argument("--json", action="store_true", help="a JSON list, one object a slot")
    parser.add_argument("--check", action="store_true", help="exit with 3 unless every slot is healthy")


def run(options: argparse.Namespace, person: Person) -> int:
    """Print the slots."""
    try:
        slots = [slot.as_json() for slot in list_slots(person.database)]
    except DatabaseUnavailableError as error:
        return _stale(error, options, person)
    if options.host is not None:
        require_host(options.host, person)
    slots = _on(options.host, slots)
    lost = {host.name: host for host in list_hosts(person.database) if host.state == "lost"}
    if options.json:
        person.print_json(slots)
    else:
        for host in lost.values():
            person.say(
                f"host {host.name} is silent for {host.silent_s:.0f} s: how its slots are is not known",
                "error",
            )
        _print(slots, person)
        _print_troubles(person)
    is_well = all(
        slot["healthy"] and (slot["state"] == "STOPPED" or slot.get("host") not in lost) for slot in slots
    )
    return UNHEALTHY if options.check and not is_well else 0


def _stale(error: DatabaseUnavailableError, options: argparse.Namespace, person: Person) -> int:
    """The database is away: what this host's manager knows, if there is one, and 4."""
    try:
        view = local.view(person)
    except CliError as silence:
        raise CliError(f"{error}; {silence}", exit_code=UNREACHABLE) from error
    person.warn(str(error))
    slots = _on(options.host, view.slots)
    if options.json:
        person.print_json([{**slot, "staleSince": view.stale_since} for slot in slots])
    else:
        if not view.runs:
            person.say(f"no fleet runs on this host since {local.when(view.stale_since)} or soon after")
            _print(slots, person)
            return UNREACHABLE
        since = f"stale since {local.when(view.stale_since)}" if view.stale_since else "not from the database"
        person.say(f"{since}: what this host's manager knows")
        _print(slots, person)
    return UNREACHABLE


def _on(host: str | None, slots: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [slot for slot in slots if host is None or slot.get("host") == host]


def _print(slots: Sequence[Mapping[str, Any]], person: Person) -> None:
    person.print_table(
        HEADS,
        [_cells(slot) for slot in slots],
        ["" if slot.get("healthy", True) else "error" for slot in slots],
    )


def _cells(slot: Mapping[str, Any]) -> list[object]:
    """A line of the table; a manager's own view may lack what only the database knows."""
    cpu, memory, healthy = slot.get("cpuPercent"), slot.get("memoryBytes"), slot.get("healthy")
    return [
        f"{slot['name']}/{slot.get('slot', 1)}",
        slot.get("state"),
        None if healthy is None else "yes" if healthy else "no",
        slot.get("host"),
        slot.get("pid"),
        slot.get("restartCount"),
        None if cpu is None else f"{cpu:.1f}%",
        None if memory is None else f"{memory // MEGABYTE} MB",
        _time(slot.get("lastRun")),
        slot.get("reason") or slot.get("step"),
    ]


def _print_troubles(person: Person) -> None:
    switch = get_kill_switch(person.database)
    if switch["on"]:
        person.say(f"the kill switch is on since {switch['changed_at']}: {switch['reason']}", "error")
    alerts = list_alerts(person.database)
    if alerts:
        more = f", and {len(alerts) - 1} more" if len(alerts) > 1 else ""
        person.say(f"alert: {alerts[0]['message']}{more} (socialfleet alerts list)", "warning")


def _time(text: object) -> str | None:
    try:
        return f"{datetime.fromisoformat(str(text)).astimezone():%H:%M:%S}"
    except ValueError:
        return None
