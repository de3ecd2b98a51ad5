"""`socialfleet start`, `stop` and `restart`: a command row, and the wait for what the manager makes of it."""

import argparse
import re
import time
from typing import cast

from coordination.desired import Action, get_command, request_command
from host.cli.fault import FAILED, TIMED_OUT, CliError
from host.cli.person import Person, require_known
from host.control import WOKEN_AS

PATIENCE_S = 30.0
POLL_S = 0.1
SLOT = re.compile("[1-9][0-9]{0,3}")


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name", metavar="NAME", help="the worker; restart also takes one slot of it: poster/1"
    )
    parser.add_argument("--reason", default="asked for at the shell", help="why; it is kept in the audit")


def run(options: argparse.Namespace, person: Person) -> int:
    """Ask, wait up to 30 s, and say what came of it."""
    name, stroke, slot = str(options.name).partition("/")
    if stroke and not SLOT.fullmatch(slot):
        raise CliError(f"slot is '{slot}': allowed is a number from 1 on, such as {name}/1", exit_code=2)
    if slot and person.command != "restart":
        raise CliError(f"{person.command} is for the whole worker: {person.command} {name}", exit_code=2)
    require_known("worker", name, [row["name"] for row in person.database.rows("list_worker_names")])
    command = request_command(
        person.database,
        cast("Action", person.command),
        name,
        int(slot) if slot else None,
        actor=person.actor,
        reason=options.reason,
    )
    person.database.call("wake", worker=WOKEN_AS)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        row = get_command(person.database, command)
        if row["state"] in {"done", "failed"}:
            print(row["result"])
            return 0 if row["state"] == "done" else FAILED
        time.sleep(POLL_S)
    raise CliError(
        f"{person.command} {options.name} was not done within {PATIENCE_S:g} s (it stays asked for): "
        "is a manager running? See: socialfleet status",
        exit_code=TIMED_OUT,
    )
