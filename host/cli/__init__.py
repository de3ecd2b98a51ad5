"""The command line `socialfleet`: one module a group of commands, imported only when its command is given.

Exit codes: 0 done, 1 failed, 2 usage, 3 unhealthy where `--check` asked, 4 the database can't be reached,
5 timed out or done in part.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import config
from config import Config, ConfigError
from coordination.errors import (
    DatabaseBusyError,
    DatabaseUnavailableError,
    InvalidValueError,
)
from host.cli.fault import FAILED, UNREACHABLE, USAGE
from host.cli.parser import Parser, near, quoted
from host.cli.person import Person
from host.terminal import printable

INTERRUPTED = 130  # as shells say it: 128 and SIGINT


@dataclass(frozen=True, kw_only=True)
class Group:
    """Where a command is, and its line in the help; `load` reads what it needs of the configuration."""

    module: str
    summary: str
    load: Callable[[], Config] = config.load


COMMANDS: Mapping[str, Group] = {
    "up": Group(module="up", summary="run the fleet in the foreground; Ctrl-C stops it"),
    "status": Group(module="status", summary="how every worker is"),
    "health": Group(module="health", summary="what the monitor found the last time it looked"),
    "events": Group(module="events", summary="what happened, and what happens"),
    "alerts": Group(module="alerts", summary="what a person should look at: list, ack"),
    "start": Group(module="steering", summary="let workers run"),
    "stop": Group(module="steering", summary="let workers drain and not run again"),
    "restart": Group(module="restart", summary="let workers drain and start anew"),
    "pause": Group(module="steering", summary="let workers run and do no work"),
    "resume": Group(module="steering", summary="let paused workers work again"),
    "drain": Group(
        module="drain", summary="let workers, or a whole host, finish what they do and take no more"
    ),
    "scale": Group(module="scale", summary="say how many slots a worker has"),
    "worker": Group(
        module="worker", summary="the program's workers: list, set limits and places, run one here"
    ),
    "hosts": Group(module="hosts", summary="where the fleet runs: list, drain, undrain, gone"),
    "logs": Group(module="logs", summary="what a worker, the console, the sandbox or PostgreSQL logged"),
    "black-boxes": Group(
        module="black_boxes", summary="what was seen of a process before it was killed: list, show"
    ),
    "post": Group(module="post", summary="propose a post by hand"),
    "ledger": Group(module="ledger", summary="list, show, approve, cancel, resume, mark-posted"),
    "messages": Group(
        module="messages",
        summary="what workers tell each other: list, show, replay, status, routes, conflicts",
    ),
    "jobs": Group(
        module="jobs", summary="work that waits, runs or ended: list, status, show, cancel, replay"
    ),
    "schedules": Group(module="schedules", summary="what comes round when: list, pause, resume"),
    "candidates": Group(module="candidates", summary="posts worth engaging with: list, show"),
    "mentions": Group(
        module="mentions", summary="who named the account, and why answered or not: list, show"
    ),
    "kill-switch": Group(module="kill_switch", summary="stop all sending at once: on, off, status"),
    "settings": Group(module="settings", summary="live settings: list, get, set, unset, history, revert"),
    "flags": Group(module="flags", summary="feature flags: list, set, history, revert"),
    "breakers": Group(
        module="breakers", summary="services that fail are left alone for a while: list, reset"
    ),
    "pools": Group(module="pools", summary="shared things with a capacity: list, set"),
    "clock": Group(module="clock", summary="in a rehearsal, let days pass within minutes: show, move"),
    "account": Group(module="account", summary="accounts: list, topics, policy, tier, unblock"),
    "migrate": Group(module="migrate", summary="bring the database's schema up to date"),
    "clean": Group(
        module="clean", summary="remove the state directory of a stopped fleet", load=config.load_place
    ),
    "completion": Group(
        module="completion", summary="what makes a shell complete these commands", load=config.load_place
    ),
}


def main(arguments: Sequence[str], *, manage: object) -> int:
    """Run one command; errors are a sentence on stderr (with DEBUG=true a traceback too).

    Args:
        arguments: what was typed after `socialfleet`.
        manage: how `up` makes its worker manager (see `host.manage.Manage`).
    """
    debug = False
    try:
        name, rest = _command(arguments)
        module, parser = parser_of(name)
        options = parser.parse_args(rest)
        settings = COMMANDS[name].load()
        debug = settings.debug
        with Person(settings, command=name, manage=manage) as person:
            code = int(module.run(options, person))
    except SystemExit as end:  # argparse's
        code = end.code if isinstance(end.code, int) else USAGE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left; Python must not try to flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001  the border to the person
        if debug:
            traceback.print_exc()
        for line in (str(error) or repr(error)).splitlines():
            print(f"socialfleet: {printable(line)}", file=sys.stderr)
        code = exit_code(error)
    return code


def exit_code(error: Exception) -> int:
    """What the shell gets for an error."""
    if isinstance(error, DatabaseUnavailableError | DatabaseBusyError):
        return UNREACHABLE
    if isinstance(error, InvalidValueError | ConfigError):
        return USAGE
    return int(getattr(error, "exit_code", FAILED))


def parser_of(name: str) -> tuple[ModuleType, Parser]:
    """A command's module, and the parser of what follows its name."""
    module = import_module(f"host.cli.{COMMANDS[name].module}")
    parser = Parser(prog=f"socialfleet {name}", description=COMMANDS[name].summary)
    module.declare(parser)
    return module, parser


def _command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Take the command's name; what follows is the command's own."""
    width = max(map(len, COMMANDS)) + 2
    listing = "\n".join(f"  {name:<{width}}{group.summary}" for name, group in COMMANDS.items())
    parser = Parser(
        prog="socialfleet",
        description="A fleet of social-media workers, coordinated only through PostgreSQL.",
        epilog=f"commands:\n{listing}\n\n`socialfleet COMMAND --help` tells a command's own.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    options, rest = parser.parse_args(list(arguments[:1])), list(arguments[1:])
    if options.command not in COMMANDS:
        parser.error(f"command is {quoted(options.command)}: {near(options.command, COMMANDS)}")
    return str(options.command), rest
