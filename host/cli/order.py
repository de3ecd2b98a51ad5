"""An order: a command row as a person gives it, and the wait for what the hosts make of it."""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from coordination import commands
from coordination.desired import Action
from coordination.errors import DatabaseUnavailableError
from coordination.status import list_slots
from host.cli.fault import FAILED, TIMED_OUT, UNREACHABLE, CliError
from host.cli.listing import seconds
from host.cli.person import Person
from host.cli.reason import add_reason
from host.cli.selector import Selector, require_there

TIMEOUT_S = 60.0
POLL_S = 0.1
GRACE_S = 2.0
"""After its time the database says of a command what became of each part; without an answer we go."""
HOMELESS_S = 2.0
"""A slot that no host has for longer isn't on its way to one: a person is told what is missing."""
RETRY_S = 5.0
RETRY_POLL_S = 0.25
CODES: Mapping[str, int] = {"done": 0, "failed": FAILED, "aborted": FAILED}
"""Of a command's last state; every other one is timed out, or done in part."""
MOMENTARY = frozenset({"restart", "logs"})
"""What changes nothing of what should run: after its time nobody does it any more."""
UNDER_WAY = frozenset({"running", "watching"})


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked of whom.

    Attributes:
        timeout_s: for the whole of it, but for the watch; what is not done by then is given up.
        watch_s: how long a canary is watched.
    """

    action: Action
    selector: Selector
    args: Mapping[str, object] = field(default_factory=dict[str, object])
    timeout_s: float = TIMEOUT_S
    watch_s: float = 0.0


def add_order(parser: argparse.ArgumentParser, *, timeout: str = f"default: {TIMEOUT_S:g}") -> None:
    """Declare what every order takes."""
    add_reason(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=True, help="until it is done (the default)"
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help=f"how long it may take, in seconds ({timeout})"
    )
    parser.add_argument("--json", action="store_true", help="print the command with its parts")


def give(order: Order, options: argparse.Namespace, person: Person) -> int:
    """Give it, wait, tell, and say how it ended as an exit code.

    Raises:
        CliError: a name is unknown, or the database did not say whether it took the order.
    """
    require_there(order.selector, person)
    if options.dry_run:
        _preview(order, options, person)
        return 0
    command = ask(order, person, reason=options.reason)
    if not options.wait:
        if options.json:
            person.print_json(command)
        else:
            person.say(f"command {command['id']} is asked for: {order.action} {order.selector}")
        return 0
    command = wait(command, order, person)
    if options.json:
        person.print_json(command)
    else:
        _tell(command, order, person)
    return code_of(command)


def ask(order: Order, person: Person, *, reason: str) -> dict[str, Any]:
    """Write the command row. When the answer is lost, ask again under the same key: it is one command."""
    key, deadline = str(uuid4()), 0.0
    while True:
        try:
            return commands.request_command(
                person.database,
                order.action,
                selector=order.selector.text,
                host=order.selector.host,
                args=order.args,
                actor=person.actor,
                reason=reason,
                idempotency_key=key,
                timeout_s=order.timeout_s,
            )
        except DatabaseUnavailableError as error:
            deadline = deadline or time.monotonic() + RETRY_S
            if time.monotonic() > deadline:
                raise CliError(
                    f"{error}, and whether {order.action} {order.selector} was asked for is not known: "
                    "look at socialfleet events when it answers",
                    exit_code=UNREACHABLE,
                ) from error
            person.tell("the connection was lost: asking again under the same key")
            time.sleep(RETRY_POLL_S)


def wait(command: Mapping[str, Any], order: Order, person: Person) -> dict[str, Any]:
    """Wait until it has ended, and give it; on a terminal, tell how it goes on.

    Of a slot that no host has it is said once why: only a person can change that.

    Raises:
        CliError: nobody carried it out in its time, or the database went away.
    """
    deadline = time.monotonic() + order.timeout_s + order.watch_s + GRACE_S
    homeless_at = time.monotonic() + HOMELESS_S
    told = ""
    away: DatabaseUnavailableError | None = None
    try:
        while True:
            try:
                row = commands.get_command(person.database, command["id"])
                if row["state"] in commands.ENDED:
                    return row
                if person.watches and (now := _progress(row["parts"])) != told:
                    person.tell(told := now)
                if time.monotonic() > homeless_at:
                    homeless_at = math.inf
                    _warn_of_homeless(row["parts"], person)
                away = None
            except DatabaseUnavailableError as error:
                away = error
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        person.tell(f"command {command['id']} goes on: see socialfleet status")
        raise
    if away is not None:
        raise CliError(
            f"{away}, and what came of {order.action} {order.selector} is not known: look at socialfleet "
            "status when it answers",
            exit_code=UNREACHABLE,
        ) from away
    left = "it is given up" if order.action in MOMENTARY else "it stays asked for"
    raise CliError(
        f"{order.action} {order.selector} was not done within {order.timeout_s:g} s ({left}): "
        "is a manager running? See: socialfleet hosts list",
        exit_code=TIMED_OUT,
    )


def _warn_of_homeless(parts: Sequence[Mapping[str, Any]], person: Person) -> None:
    waiting = {
        (part["worker"], part["slot"])
        for part in parts
        if part["state"] == "waiting" and part["host"] is None
    }
    for slot in list_slots(person.database) if waiting else ():
        if (slot.name, slot.slot) in waiting and not slot.assigned and slot.reason:
            person.warn(f"{slot.name}/{slot.slot} is {slot.state}: {slot.reason}")


def code_of(command: Mapping[str, Any]) -> int:
    """The exit code of a command that ended."""
    return CODES.get(command["state"], TIMED_OUT)


def _progress(parts: Sequence[Mapping[str, Any]]) -> str:
    """How far it is: parts done, and what those say that are under way."""
    under_way = [part for part in parts if part["state"] in UNDER_WAY]
    done = sum(part["state"] not in {*UNDER_WAY, "waiting"} for part in parts)
    said = [_line(part) for part in under_way if part["result"]]
    return "; ".join([f"{done} of {len(parts)} done", *said])


def _line(part: Mapping[str, Any]) -> str:
    """What a part says; most results begin with the slot's own name already."""
    slot, said = f"{part['worker']}/{part['slot']}", part["result"] or part["state"]
    return said if said.startswith(slot) else f"{slot}: {said}"


def _tell(command: Mapping[str, Any], order: Order, person: Person) -> None:
    for part in command["parts"]:
        person.say(_line(part) if part["state"] == "done" else f"{_line(part)} ({part['state']})")
    if not command["parts"]:
        person.say(command["result"] or f"{order.action} {order.selector} is {command['state']}")
    elif len(command["parts"]) > 1 and command["state"] != "done":
        ended = command["state"].replace("_", " ")
        done = sum(part["state"] == "done" for part in command["parts"])
        person.say(f"{order.action} {order.selector}: {ended}, {done} of {len(command['parts'])} done")


def _preview(order: Order, options: argparse.Namespace, person: Person) -> None:
    would = commands.preview_command(
        person.database,
        order.action,
        selector=order.selector.text,
        host=order.selector.host,
        args=order.args,
    )
    if options.json:
        person.print_json(would)
        return
    for change in would["changes"]:
        person.say(f"would change: {change}")
    for part in would["parts"]:
        host = f" on {part['host']}" if part.get("host") else ""
        refusal = f", which will fail: {part['refusal']}" if part.get("refusal") else ""
        person.say(f"would {part['action']} {part['worker']}/{part['slot']}{host}{refusal}")
    if not (would["changes"] or would["parts"]):
        person.say("nothing would be done")
