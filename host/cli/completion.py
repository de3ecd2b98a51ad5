"""`socialfleet completion`: what makes bash, zsh or fish complete commands, options and workers' names.

The script is made from the parsers and holds all words; no process of ours runs when somebody presses Tab.
"""

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from host.cli.parser import actions_of, parts_of
from host.cli.person import Person
from workers import registry
from workers.errors import RegistryError

NAMES = frozenset({"NAME"})
"""Metavars behind which the names of workers are suggested."""
NOT_A_WORKER = frozenset({"hosts", "flags", "settings", "account", "messages", "schedules"})
"""Commands whose NAME is something else."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What may be typed behind some words.

    Attributes:
        words: the command, and its part where it has parts; none at the very beginning.
        next: the words that may follow, each with its summary or "".
        ends: whether any number of them may follow; else exactly one does.
    """

    words: tuple[str, ...]
    next: Mapping[str, str]
    ends: bool


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "shell", choices=tuple(SCRIPTS), help="load it with: source <(socialfleet completion bash)"
    )


def run(options: argparse.Namespace, person: Person) -> int:
    """Print the script."""
    del person  # nothing of the fleet is needed
    print(SCRIPTS[options.shell](list(places())))
    return 0


def places() -> Iterator[Place]:
    """Every place of the command line, the beginning first."""
    from host.cli import COMMANDS, parser_of  # noqa: PLC0415  they import this module by its name

    yield Place(words=(), next={name: group.summary for name, group in COMMANDS.items()}, ends=False)
    try:
        workers = list(registry.find())
    except RegistryError:
        workers = []
    for name in COMMANDS:
        _, parser = parser_of(name)
        known = [] if name in NOT_A_WORKER else workers
        parts = list(parts_of(parser))
        if parts:
            yield Place(words=(name,), next={word: summary for word, summary, _ in parts}, ends=False)
        else:
            yield Place(words=(name,), next=_words(parser, known), ends=True)
        for word, _, part in parts:
            yield Place(words=(name, word), next=_words(part, known), ends=True)


def _words(parser: argparse.ArgumentParser, workers: Sequence[str]) -> dict[str, str]:
    """What may follow a command: its long options, fixed words, and names of workers."""
    found: dict[str, str] = {}
    for action in actions_of(parser):
        if not action.option_strings:
            found |= dict.fromkeys(map(str, action.choices or ()), "")
            if action.metavar in NAMES:
                found |= dict.fromkeys(workers, "")
        found |= {flag: action.help or "" for flag in action.option_strings if flag.startswith("--")}
    return found


def _pattern(place: Place) -> str:
    """What the words before the cursor look like there; `case` takes the first that fits."""
    line = shlex.quote(" ".join(place.words))
    return f"{line}|{shlex.quote(' '.join(place.words) + ' ')}*" if place.ends else line


def bash(known: Sequence[Place]) -> str:
    """For bash 4 and later."""
    cases = "\n".join(
        f"        {_pattern(place)}) words={shlex.quote(' '.join(place.next))} ;;" for place in known
    )
    return f"""\
_socialfleet() {{
    local words=
    case "${{COMP_WORDS[*]:1:COMP_CWORD-1}}" in
{cases}
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -o default -F _socialfleet socialfleet"""


def zsh(known: Sequence[Place]) -> str:
    """For zsh with its completion system on."""
    cases = "\n".join(
        f"        {_pattern(place)}) found=({' '.join(map(shlex.quote, place.next))}) ;;" for place in known
    )
    return f"""\
#compdef socialfleet
_socialfleet() {{
    local -a found
    case "${{(j: :)words[2,CURRENT-1]}}" in
{cases}
    esac
    compadd -a found
}}
compdef _socialfleet socialfleet"""


def fish(known: Sequence[Place]) -> str:
    """For fish."""
    lines: list[str] = []
    for place in known:
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in place.words)
        if not place.words:
            seen = "__fish_use_subcommand"
        elif not place.ends:
            seen += f"; and not __fish_seen_subcommand_from {' '.join(place.next)}"
        for word, summary in place.next.items():
            what = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            about = f" -d {shlex.quote(summary)}" if summary else ""
            lines.append(f"complete -c socialfleet -f -n '{seen}' {what}{about}")
    return "\n".join(lines)


SCRIPTS: Mapping[str, Callable[[Sequence[Place]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
