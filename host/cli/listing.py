"""What lists have in common: their options, the ids that `show` takes, and one row shown line by line."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from host.cli.parser import near, quoted
from host.terminal import printable

MOST = 10_000
LONGEST_S = 86_400
NONE = "none"
FOR_PROGRAMS = "for programs"


def add_json(*parsers: argparse.ArgumentParser) -> None:
    """Let a program read it."""
    for parser in parsers:
        parser.add_argument("--json", action="store_true", help=FOR_PROGRAMS)


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Let the person say how many."""
    parser.add_argument(
        "-n",
        "--limit",
        type=number_between(1, MOST),
        default=50,
        metavar="N",
        help="how many, up to 10000 (default: 50)",
    )


def add_list(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage]  its only name
    summary: str,
    *,
    states: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Declare `list`, by state where there are states."""
    listing = actions.add_parser("list", help=summary)
    if states:
        add_choice(listing, "--state", states)
    return listing


def add_choice(parser: argparse.ArgumentParser, flag: str, allowed: Sequence[str], *, dest: str = "") -> None:
    """Let the person narrow a list to one of some words."""
    name = flag.strip("-")
    parser.add_argument(
        flag,
        dest=dest or name,
        type=one_of(allowed),
        metavar=name.upper(),
        help=f"only these: {', '.join(allowed)}",
    )


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """Read one of some words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"is {quoted(text)}: {near(text, allowed)}")
        return text

    return read


def number_of(what: str, *, longest: int = 18) -> Callable[[str], str]:
    """Read the number of a row; it stays text, as the database gives it."""

    def read(text: str) -> str:
        if not (text.isascii() and text.isdecimal()) or len(text) > longest:
            raise argparse.ArgumentTypeError(f"is {quoted(text)}: allowed is {what}: 1 to {longest} digits")
        return text

    return read


def print_fields(row: Mapping[str, object], *, width: int = 12) -> None:
    """Print what a row holds, a line each; what is empty is left out."""
    for name, value in row.items():
        if value not in (None, "", {}, []):
            print(f"{name:<{width}} {printable(str(value))}")


def moment(at: datetime | None) -> str | None:
    """A time as the person's clock shows it."""
    return None if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def number_between(low: int, high: int, *, none: bool = False) -> Callable[[str], int | str]:
    """Read a whole number; with `none` that word too, which says that there is no limit."""

    def read(text: str) -> int | str:
        if none and text == NONE:
            return text
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(high))
        if not (is_number and low <= int(text) <= high):
            also = f", or {NONE}" if none else ""
            raise argparse.ArgumentTypeError(
                f"is {quoted(text)}: allowed is a number from {low} to {high}{also}"
            )
        return int(text)

    return read


def seconds(text: str) -> float:
    """Read a number of seconds above 0, up to a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST_S:  # also refuses NaN
        raise argparse.ArgumentTypeError(
            f"is {quoted(text)}: allowed is a number of seconds, up to {LONGEST_S:g}"
        )
    return value
