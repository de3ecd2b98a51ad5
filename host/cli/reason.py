"""The reason: why a person asks for something, kept in the audit with who asked."""

import argparse
import re

from host.cli.parser import shortened

DEFAULT = "asked for at the shell"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def add_reason(
    *parsers: argparse.ArgumentParser,
    default: str | None = DEFAULT,
    summary: str = "why; it is kept in the audit",
) -> None:
    """Let the person say why; without a default it must be said."""
    for parser in parsers:
        parser.add_argument("--reason", type=_reason, default=default, required=default is None, help=summary)


def _reason(text: str) -> str:
    """Read a reason as the audit takes it, so that `--dry-run` refuses what the order would."""
    if not text.strip() or CONTROL.search(text):
        raise argparse.ArgumentTypeError(
            f"is {shortened(text)!r}: allowed is a sentence that says why, without control characters"
        )
    return text
