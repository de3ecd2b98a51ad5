"""Options that every list has."""

import argparse

MOST = 10_000


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Let the person say how many."""
    parser.add_argument(
        "-n", "--limit", type=count, default=50, metavar="N", help="how many, up to 10000 (default: 50)"
    )


def count(text: str) -> int:
    """Read a number of lines or rows."""
    if (
        not (text.isascii() and text.isdecimal())
        or not 1 <= int(text[:6]) <= MOST
        or len(text) > len(str(MOST))
    ):
        raise argparse.ArgumentTypeError(f"is '{text[:40]}': allowed is a number from 1 to {MOST}")
    return int(text)
