"""The parser of a command line: a complaint is one sentence that names what was given and what is near."""

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from host.cli.fault import USAGE, CliError

SHOWN = 60
"""Characters of a mistyped word that a complaint repeats."""
ABOUT_ARGUMENT = re.compile(r"argument (?P<name>[^:]+): (?P<said>.*)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations that raises instead of ending the process."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{**options, "allow_abbrev": False})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  argparse's own options

    def error(self, message: str) -> NoReturn:
        """Refuse.

        Raises:
            CliError: always.
        """
        if match := ABOUT_ARGUMENT.fullmatch(message):
            said = match["said"]
            message = f"{match['name']} {said}" if said.startswith("is ") else f"{match['name']}: {said}"
        raise CliError(f"{message} (see {self.prog} --help)", exit_code=USAGE)

    def parse_known_args(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  one form of two
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; what nobody knows is refused where its neighbours are known, with the nearest of them."""
        options, unknown = super().parse_known_args(args, namespace or argparse.Namespace())
        for word in unknown:
            flag = word.partition("=")[0]
            if flag.startswith("-"):
                self.error(f"there is no option {shortened(flag)}: {near(flag, options_of(self))}")
            self.error(f"{quoted(word)} is one word too many")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            allowed = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"is {quoted(str(value))}: {near(str(value), allowed)}")


def shortened(word: str) -> str:
    """What was typed, or its beginning where it is long."""
    return word if len(word) <= SHOWN else f"{word[:SHOWN]}..."


def quoted(word: str) -> str:
    """The same between quotation marks."""
    return f"'{shortened(word)}'"


def near(word: str, known: Iterable[str]) -> str:
    """The nearest of the known words as a question, or all of them."""
    known = list(known)
    found = get_close_matches(word, known, 1)
    return f"did you mean {found[0]}?" if found else f"allowed: {', '.join(known) or '(none yet)'}"


def require_known(what: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that is none of the known ones, and suggest the nearest.

    Raises:
        CliError: names what, name and what is near or allowed.
    """
    if name not in known:
        raise CliError(f"{what} is {quoted(name)}: {near(name, known)}", exit_code=USAGE)


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a parser takes."""
    return parser._actions  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  argparse has no public way


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long options of a parser."""
    return [flag for action in actions_of(parser) for flag in action.option_strings if flag[:2] == "--"]


def parts_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each subcommand: its word, its summary, its parser."""
    nested: list[Any] = [action for action in actions_of(parser) if isinstance(action.choices, dict)]
    for group in nested:
        summaries = {choice.dest: choice.help or "" for choice in group._choices_actions}  # noqa: SLF001  the same
        for word, child in group.choices.items():
            yield word, summaries.get(word, ""), child
