"""This host's own line: what its manager does and says while the database is away.

The manager listens on `manager.sock` in the state directory and keeps `status.json` beside it. What is asked
for here is written into the audit when the database answers again.
"""

import argparse
import contextlib
import json
import os
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from coordination.errors import DatabaseUnavailableError
from host.cli.fault import FAILED, TIMED_OUT, UNREACHABLE, CliError
from host.cli.parser import require_known
from host.cli.person import Person
from host.cli.selector import EVERYTHING, Selector
from host.state_directory import MANAGER_SOCKET, SNAPSHOT

ORDERS = frozenset({"start", "stop", "restart"})
ANSWER_S = 30.0
POLL_S = 0.1
BLOCK_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class LocalView:
    """What this host's manager last knew.

    Attributes:
        stale_since: when the database last answered it; None where it answers. Where no fleet runs: when the
            manager last said anything.
        slots: as `socialfleet status --json` has them, with the processes as they are here.
        runs: whether a fleet runs on this host.
    """

    stale_since: str | None
    slots: list[dict[str, Any]]
    runs: bool = True


def is_needed(person: Person) -> bool:
    """Whether no connection to the database can be opened; then nothing was sent over one either."""
    try:
        person.database.open()
    except DatabaseUnavailableError:
        return True
    return False


def give(action: str, selector: Selector, options: argparse.Namespace, person: Person) -> int:
    """Let this host's manager do it now, and wait until it is done.

    Raises:
        CliError: another host is meant, no manager listens, it has no such worker, or it took too long.
    """
    if selector.host not in {None, person.host}:
        raise CliError(
            f"host is '{selector.host}', and the database is away: only this host's manager can be reached, "
            f"which is {person.host}",
            exit_code=UNREACHABLE,
        )
    before = _named(selector, view(person).slots)
    if options.dry_run:
        if options.json:
            person.print_json({"parts": list(before.values()), "changes": []})
        else:
            for name in before:
                person.say(f"would {action} {name} on this host (the database is away)")
        return 0
    asked = {"do": action, "actor": person.actor, "reason": options.reason}
    answers = [
        _exchange(person.state.path, {**asked, "name": name}) for name in selector.names or [EVERYTHING]
    ]
    person.warn("the database is away: this host's manager does it, and it will be audited afterwards")
    if refused := [str(answer["text"]) for answer in answers if not answer["ok"]]:
        raise CliError("\n".join(refused), exit_code=FAILED)
    if options.wait:
        slots = _wait(action, selector, before, person, options.timeout or ANSWER_S)
    else:
        slots = _named(selector, view(person).slots)
    if options.json:
        person.print_json(list(slots.values()))
    else:
        for name, slot in slots.items():
            why = f": {slot['reason']}" if slot.get("reason") else ""
            person.say(f"{name} is {slot.get('state')}{why}")
    return 0


def _named(selector: Selector, slots: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The slots that are meant, by name.

    Raises:
        CliError: this host has none of that name.
    """
    known = {f"{slot['name']}/{slot['slot']}": slot for slot in slots}
    workers = sorted({str(slot["name"]) for slot in slots})
    for name in selector.names:
        require_known("worker", name, [*workers, *known])
    chosen = selector.names or workers
    return {name: slot for name, slot in known.items() if {name, slot["name"]} & set(chosen)}


def _wait(
    action: str,
    selector: Selector,
    before: Mapping[str, Mapping[str, Any]],
    person: Person,
    timeout_s: float,
) -> dict[str, Mapping[str, Any]]:
    """Until each process has ended, or another one is there; ready it is no sooner than the database."""
    deadline = time.monotonic() + timeout_s
    while True:
        now = _named(selector, view(person).slots)
        late = [name for name, slot in now.items() if not _is_done(action, before.get(name, {}), slot)]
        if not late:
            return now
        if time.monotonic() > deadline:
            raise CliError(
                f"{action} {late[0]} was not done within {timeout_s:g} s; it goes on: see socialfleet status",
                exit_code=TIMED_OUT,
            )
        time.sleep(POLL_S)


def _is_done(action: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    pid = now.get("pid")
    if action == "stop":
        return pid is None
    if action == "restart" and now.get("enabled") is False:
        return True  # one that is stopped stays so
    return pid is not None and (action == "start" or pid != before.get("pid"))


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
            return LocalView(stale_since=answer.get("stale_since"), slots=_slots(answer.get("slots"), person))
    try:
        told = _object((person.state.path / SNAPSHOT).read_bytes())
        slots = _slots(told["slots"], person)
        if person.state.is_running:
            return LocalView(stale_since=told.get("stale_since") or told["at"], slots=slots)
        return LocalView(stale_since=told["at"], slots=[_ended(slot) for slot in slots], runs=False)
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
            f"PostgreSQL can't be reached, and no manager answers at {state / MANAGER_SOCKET} "
            f"({getattr(error, 'strerror', None) or 'it broke off'}): is a fleet running here?",
            exit_code=UNREACHABLE,
        ) from error
    return {"text": "", "ok": False, **told}


@contextlib.contextmanager
def _connected(state: Path) -> Generator[socket.socket]:
    directory = os.open(state, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            # Through the directory's descriptor: a path may be longer than a socket's address can be.
            line.connect(f"/proc/self/fd/{directory}/{MANAGER_SOCKET}")
            yield line
    finally:
        os.close(directory)


def _object(text: bytes) -> dict[str, Any]:
    told: object = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004  what came is malformed, like broken JSON
    return cast("dict[str, Any]", told)


def _ended(slot: Mapping[str, Any]) -> dict[str, Any]:
    """A slot of a fleet that runs no more, whatever was last said of it: with the keeper everything ended."""
    state, pid = slot.get("state"), slot.get("pid")
    living = {"pid": None, "step": None, "incarnation": None, "memoryBytes": None, "cpuPercent": None}
    was = slot.get("reason") if state == "STOPPED" else f"it was {state}" + (f" (pid {pid})" if pid else "")
    return {**slot, **living, "state": "STOPPED", "reason": was, "healthy": slot.get("enabled") is False}


def _slots(value: object, person: Person) -> list[dict[str, Any]]:
    """The slots of an answer; the host goes without saying there."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    named = [cast("dict[str, Any]", item) for item in items if isinstance(item, dict) and "name" in item]
    return [{"slot": 1, "host": person.host, **item} for item in named]
