"""`socialfleet clock`: in a rehearsal, let days pass within minutes."""

import argparse

from coordination.database import Database
from host import rehearsal_clock
from host.cli.fault import USAGE, CliError
from host.cli.person import Person
from host.cli.reason import add_reason

FASTEST = 10_000.0
FURTHEST_S = 31_622_400.0


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="what time it is for the fleet")
    show.add_argument("--json", action="store_true", help="for programs")
    move = actions.add_parser("move", help="let time pass, for the fleet and its own sandbox")
    move.add_argument(
        "--by", type=_seconds, default=0.0, metavar="SECONDS", help="how far ahead (default: 0)"
    )
    move.add_argument(
        "--rate", type=_rate, default=1.0, metavar="R", help="how fast it goes on from there (default: 1)"
    )
    add_reason(move)


def run(options: argparse.Namespace, person: Person) -> int:
    """Move or show it."""
    if options.action == "move":
        if not person.config.runs_sandbox:
            raise CliError(
                "fleet time moves only in a rehearsal: this fleet acts on another X, whose time is real",
                exit_code=USAGE,
            )
        owner = Database(person.state.dsn("owner"), name="cli clock")
        try:
            rehearsal_clock.move(
                owner,
                person.config.x_url,
                by_s=options.by,
                rate=options.rate,
                actor=person.actor,
                reason=options.reason,
            )
            rehearsal_clock.tell_sandbox(owner, person.config.x_url, person.state.path / "sandbox.token")
        finally:
            owner.close()
    now = person.database.rows("get_fleet_time")[0]
    if options.action == "show" and options.json:
        person.print_json(now)
        return 0
    moved = f", {now['rate']:g} times as fast as real time" if now["moved"] else ", the clock's own"
    print(f"fleet time is {now['fleet_now']:%Y-%m-%d %H:%M:%S %Z}{moved}")
    return 0


def _seconds(text: str) -> float:
    return _number(text, least=0.0, most=FURTHEST_S)


def _rate(text: str) -> float:
    return _number(text, least=0.001, most=FASTEST)


def _number(text: str, *, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"is '{text[:40]}': allowed is a number from {least:g} to {most:g}")
    return value
