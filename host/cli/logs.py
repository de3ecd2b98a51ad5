"""`socialfleet logs`: what a process wrote, for people; for this host's own no database is needed."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from coordination.errors import FleetError
from coordination.status import list_slots
from host.cli.fault import FAILED, USAGE, CliError
from host.cli.listing import number_between, seconds
from host.cli.log_files import LogTail, find_logs
from host.cli.order import Order, ask, code_of, wait
from host.cli.parser import require_known
from host.cli.person import Person
from host.cli.selector import Selector
from host.state_directory import NoFleetError
from host.terminal import printable

POLL_S = 0.2
ANSWER_S = 20.0
MOST_LINES = 100_000
ASKED_FOR = "to read a log"
CONTEXT = ("at", "level", "message", "worker", "slot", "incarnation")
"""Fields of a line that are shown in their own way, or are plain from the file."""
INDENT = "    "
"""Before each line of a traceback: its message may come from outside, and must not look like our own line."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name", metavar="NAME", help="a worker, one slot (poster/1), console, sandbox or postgresql"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is written here, until Ctrl-C"
    )
    parser.add_argument(
        "-n",
        "--lines",
        type=number_between(0, MOST_LINES),
        default=50,
        metavar="N",
        help="how many to begin with (50)",
    )
    parser.add_argument("--host", metavar="H", help="only what was written on this host")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=ANSWER_S,
        metavar="S",
        help=f"how long another host may take to answer, in seconds (default: {ANSWER_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="the lines as they are")


def run(options: argparse.Namespace, person: Person) -> int:
    """Print the last lines, here or from other hosts, and follow those that are here."""
    known = find_logs(person.state.logs)
    elsewhere = _elsewhere(options, person, known)
    wanted = {} if options.host not in {None, person.host} else _named(options.name, known)
    wanted = {name: path for name, path in wanted.items() if name not in elsewhere}
    if not wanted and not elsewhere:
        _refuse(options, person, known)
    if elsewhere and options.follow:
        raise CliError(
            f"-f follows what is written here, and {min(elsewhere)} runs on {elsewhere[min(elsewhere)]}: "
            "follow it there, or leave -f out",
            exit_code=USAGE,
        )
    code = _fetch(elsewhere, options, person, marked=len(wanted) + len(elsewhere) > 1) if elsewhere else 0
    _print_here(wanted, options, marked=len(wanted) + len(elsewhere) > 1)
    return code


def _print_here(wanted: dict[str, Path], options: argparse.Namespace, *, marked: bool) -> None:
    with ExitStack() as opened:
        tails = {name: opened.enter_context(closing(LogTail(path))) for name, path in sorted(wanted.items())}
        for name, tail in tails.items():
            lines = tail.last(options.lines)
            if tail.unfinished and not options.follow and options.lines:
                lines = [*lines, tail.unfinished][-options.lines :]
            _print(lines, name if marked else "", raw=options.json)
        while options.follow:
            for name, tail in tails.items():
                _print(tail.new(), name if marked else "", raw=options.json)
            time.sleep(POLL_S)


def _elsewhere(options: argparse.Namespace, person: Person, known: dict[str, Path]) -> dict[str, str]:
    """The wanted slots that other hosts have, with their hosts; none where the database can't be asked."""
    if options.name in known and "/" not in options.name and options.host is None:
        return {}  # console, sandbox, postgresql
    slots: dict[str, str] = {}
    with suppress(FleetError, NoFleetError, CliError):
        for slot in list_slots(person.database):
            name = f"{slot.name}/{slot.slot}"
            if options.name in {name, slot.name} and slot.host not in {None, person.host}:
                slots[name] = str(slot.host)
    return {name: host for name, host in slots.items() if options.host in {None, host}}


def _fetch(slots: dict[str, str], options: argparse.Namespace, person: Person, *, marked: bool) -> int:
    """Ask the hosts that have the slots for the ends of their logs, as a command, and print these."""
    order = Order(
        action="logs",
        selector=Selector(text=",".join(sorted(slots)), host=options.host),
        args={"lines": max(1, options.lines)},
        timeout_s=options.timeout,
    )
    command = wait(ask(order, person, reason=ASKED_FOR), order, person)
    for part in command["parts"]:
        name = f"{part['worker']}/{part['slot']}"
        if part["state"] == "done":
            lines = (part["output"] or "").encode().splitlines()
            _print(lines, name if marked else "", raw=options.json)
        else:
            person.warn(f"{name} on {part['host']}: {part['result'] or part['state']}")
    return code_of(command)


def _refuse(options: argparse.Namespace, person: Person, known: dict[str, Path]) -> None:
    names = {*known, *(name.partition("/")[0] for name in known)}
    if options.host is not None:
        raise CliError(f"nothing that is named {options.name} runs on {options.host}", exit_code=FAILED)
    if not known:
        raise NoFleetError(f"no logs in {person.state.logs} yet: run make up first")
    require_known("name", options.name, sorted(names))


def _named(name: str, known: dict[str, Path]) -> dict[str, Path]:
    return {each: path for each, path in known.items() if name in {each, each.partition("/")[0]}}


def _print(lines: Sequence[bytes] | Iterator[bytes], name: str, *, raw: bool) -> None:
    mark = f"{name:<12} " if name else ""
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r")
        for part in [text] if raw else _readable(text):
            print(f"{mark}{printable(part)}", flush=True)


def _readable(line: str) -> Iterator[str]:
    """A JSON line as time, level, message and fields; anything else as it is."""
    try:
        parsed: object = json.loads(line)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        yield line
        return
    fields = cast("dict[str, Any]", parsed)
    traceback = str(fields.get("error") or "")
    if "\n" in traceback:
        del fields["error"]
    else:
        traceback = ""
    others = " ".join(f"{key}={value}" for key, value in fields.items() if key not in CONTEXT)
    yield " ".join(
        filter(
            None,
            [
                _time(fields.get("at")),
                f"{fields.get('level', ''):<7}",
                str(fields.get("message", "")),
                others,
            ],
        )
    )
    yield from (INDENT + part for part in traceback.splitlines())


def _time(value: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return ""
