"""This host's own line: what its manager does and says while the database is away.

The manager listens on `manager.sock` in the state directory and keeps `status.json` beside it. What is asked
for here is written into the audit when the database answers again.
"""

import argparse
import contextlib
import json
import os
import socket
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from coordination.errors import DatabaseUnavailableError
from host.cli.fault import FAILED, UNREACHABLE, USAGE, CliError
from host.cli.person import Person
from host.cli.selector import EVERYTHING, Selector

SOCKET = "manager.sock"
SNAPSHOT = "status.json"
ORDERS = frozenset({"start", "stop", "restart"})
ANSWER_S = 60.0
"""How long a manager may drain before it answers."""
BLOCK_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class LocalView:
    """What this host's manager last knew.

    Attributes:
        stale_since: when the database last answered it; None where it answers.
        slots: as `socialfleet status --json` has them, with the processes as they are here.
    """

    stale_since: str | None
    slots: list[dict[str, Any]]


def is_needed(person: Person) -> bool:
    """Whether no connection to the database can be opened; then nothing was sent over one either."""
    try:
        person.database.open()
    except DatabaseUnavailableError:
        return True
    return False


def give(action: str, selector: Selector, options: argparse.Namespace, person: Person) -> int:
    """Let this host's manager do it now.

    Raises:
        CliError: another host is meant, no manager listens, or it did not answer.
    """
    if selector.host not in {None, person.host}:
        raise CliError(
            f"host is '{selector.host}', and the database is away: only this host's manager can be reached, "
            f"which is {person.host}",
            exit_code=UNREACHABLE,
        )
    names = selector.names or [EVERYTHING]
    if options.dry_run:
        person.say(f"would {action} {', '.join(names)} on this host (the database is away)")
        return 0
    answers = [
        _exchange(
            person.state.path, {"do": action, "name": name, "actor": person.actor, "reason": options.reason}
        )
        for name in names
    ]
    if options.json:
        person.print_json(answers)
    else:
        for answer in answers:
            person.say(str(answer["text"]))
    person.warn("the database is away: this host's manager did it, and it will be audited afterwards")
    return 0 if all(answer["ok"] for answer in answers) else FAILED


def view(person: Person) -> LocalView:
    """What the manager says now, or what it wrote last.

    Raises:
        CliError: neither is there.
    """
    with contextlib.suppress(CliError):
        answer = _exchange(
            person.state.path,
            {"do": "status", "name": EVERYTHING, "actor": person.actor, "reason": "looked at"},
        )
        if answer["ok"]:
            return LocalView(stale_since=answer.get("stale_since"), slots=_slots(answer.get("slots")))
    try:
        told = _object((person.state.path / SNAPSHOT).read_bytes())
        return LocalView(stale_since=told.get("stale_since") or told["at"], slots=_slots(told["slots"]))
    except (OSError, ValueError, KeyError) as error:
        raise CliError(
            f"no manager of this host has said anything ({SNAPSHOT} in {person.state.path} can't be read)",
            exit_code=UNREACHABLE,
        ) from error


def when(stale_since: str | None) -> str:
    """A time of the manager's in words, by the person's clock."""
    try:
        return f"{datetime.fromisoformat(str(stale_since)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return "an unknown time"


def _exchange(state: Path, request: Mapping[str, str]) -> dict[str, Any]:
    """Send one line and read one.

    Raises:
        CliError: nobody listens, or what came is no answer.
    """
    try:
        with _connected(state) as line:
            line.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n") and (block := line.recv(BLOCK_BYTES)):
                answer += block
        told = _object(answer)
    except (OSError, ValueError) as error:
        raise CliError(
            f"PostgreSQL can't be reached, and no manager answers at {state / SOCKET} "
            f"({getattr(error, 'strerror', None) or 'it broke off'}): is a fleet running here?",
            exit_code=UNREACHABLE,
        ) from error
    if not told.get("ok") and told.get("usage"):
        raise CliError(str(told.get("text")), exit_code=USAGE)
    return {"text": "", "ok": False, **told}


@contextlib.contextmanager
def _connected(state: Path) -> Generator[socket.socket]:
    directory = os.open(state, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            # Through the directory's descriptor: a path may be longer than a socket's address can be.
            line.connect(f"/proc/self/fd/{directory}/{SOCKET}")
            yield line
    finally:
        os.close(directory)


def _object(text: bytes) -> dict[str, Any]:
    told: object = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004  what came is malformed, like broken JSON
    return cast("dict[str, Any]", told)


def _slots(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict) and "name" in item]
