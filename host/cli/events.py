"""`socialfleet events`: what happened in the fleet, and what happens."""

import argparse
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from coordination.audits import EventTail
from coordination.errors import DatabaseUnavailableError
from host.cli.listing import add_limit, moment, one_of
from host.cli.person import Person

SEVERITIES = ("debug", "info", "warning", "error")
UNITS: Mapping[str, float] = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
AGE = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)
POLL_S = 0.5
HEADS = ["AT", "SEVERITY", "SOURCE", "KIND", "MESSAGE"]


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens, until Ctrl-C")
    parser.add_argument(
        "--severity",
        type=one_of(SEVERITIES),
        default="debug",
        metavar="S",
        help=f"this and worse: {', '.join(SEVERITIES)}",
    )
    parser.add_argument(
        "--source", metavar="NAME", help="only from a worker, a slot (poster/1) or another source"
    )
    parser.add_argument(
        "--since",
        type=_since,
        metavar="T",
        help="30s, 10m, 2h or 3d ago, or ISO 8601 with a zone; fleet time",
    )
    add_limit(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object a line")


def run(options: argparse.Namespace, person: Person) -> int:
    """Print the newest, oldest of them first, and follow."""
    severities = list(SEVERITIES[SEVERITIES.index(options.severity) :])
    # Before the list, so that what happens in between is told twice rather than never.
    last = int(person.database.rows("get_last_event_id")[0]["id"]) if options.follow else 0
    since, ago_s = options.since or (None, None)
    rows = person.database.rows(
        "list_events",
        severities=severities,
        source=options.source,
        since=since,
        ago_s=ago_s,
        number=options.limit,
    )[::-1]
    if options.json:
        for row in rows:
            person.print_json(row)
    else:
        person.print_table(HEADS, [_cells(row) for row in rows], [row["severity"] for row in rows])
    last = max([last, *(int(row["id"]) for row in rows)])
    tail, is_away = EventTail(last), False
    while options.follow:
        try:
            for event in tail.new(person.database):
                if event["severity"] in severities and _is_from(event["source"], options.source):
                    _tell(event, options, person)
            is_away = False
        except DatabaseUnavailableError as error:
            if not is_away:
                person.warn(f"{error}; events go on when it answers")
            is_away = True
        time.sleep(POLL_S)
    return 0


def _tell(event: dict[str, Any], options: argparse.Namespace, person: Person) -> None:
    if options.json:
        person.print_json({**event, "id": str(event["id"])})
    else:
        cells = " ".join(str(cell) for cell in _cells(event))
        person.say(cells, event["severity"])


def _is_from(source: str, wanted: str | None) -> bool:
    return wanted is None or wanted in {source, source.partition("/")[0]}


def _cells(event: Mapping[str, Any]) -> list[object]:
    return [moment(event["at"]), event["severity"], event["source"], event["kind"], event["message"]]


def _since(text: str) -> tuple[datetime | None, float | None]:
    """Read a time, or an age in seconds."""
    if match := AGE.fullmatch(text):
        return None, int(match[1]) * UNITS[match[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"is '{text}': allowed are 30s, 10m, 2h, 3d, or ISO 8601 with a zone: 2030-01-31T09:00:00+01:00"
        )
    return at, None
