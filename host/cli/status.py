"""`socialfleet status`: how every worker is."""

import argparse

from coordination.kill_switch import get_kill_switch
from coordination.status import SlotStatus, list_slots
from host.cli.fault import FAILED
from host.cli.person import Person


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="a JSON list, one object a slot")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless every slot is healthy")


def run(options: argparse.Namespace, person: Person) -> int:
    """Print the slots."""
    slots = list_slots(person.database)
    if options.json:
        person.print_json([slot.as_json() for slot in slots])
    else:
        _print(slots, person)
    return FAILED if options.check and not all(slot.healthy for slot in slots) else 0


def _print(slots: list[SlotStatus], person: Person) -> None:
    rows: list[list[object]] = [
        [
            f"{slot.name}/{slot.slot}",
            slot.state,
            "yes" if slot.healthy else "no",
            slot.pid,
            slot.restart_count,
            f"{slot.last_run_at.astimezone():%H:%M:%S}" if slot.last_run_at else None,
            slot.reason or slot.step,
        ]
        for slot in slots
    ]
    person.print_table(["SLOT", "STATE", "HEALTHY", "PID", "RESTARTS", "LAST RUN", "WHY"], rows)
    switch = get_kill_switch(person.database)
    if switch["on"]:
        print(f"the kill switch is on since {switch['changed_at']}: {switch['reason']}")
