"""`socialfleet logs`: what a process of this host wrote, for people; it needs no database."""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from host.cli.person import Person, require_known
from host.state_directory import NoFleetError
from host.terminal import printable

POLL_S = 0.2
BLOCK_BYTES = 65_536
SLOT_FILE = re.compile(r"(?P<name>.+)-(?P<slot>\d+)\.jsonl")
CONTEXT = ("at", "level", "message", "worker", "slot", "incarnation")
"""Fields of a line that are shown in their own way, or are plain from the file."""
INDENT = "    "
"""Before each line of a traceback: its message may come from outside, and must not look like our own line."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name", metavar="NAME", help="a worker, one slot (poster/1), console, sandbox or postgresql"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is written, until Ctrl-C"
    )
    parser.add_argument(
        "-n", "--lines", type=_count, default=50, metavar="N", help="how many to begin with (50)"
    )
    parser.add_argument("--json", action="store_true", help="the lines as they are")


def run(options: argparse.Namespace, person: Person) -> int:
    """Print the last lines, and follow."""
    known = _files(person.state.logs)
    if not known:
        raise NoFleetError(f"no logs in {person.state.logs} yet: run make up first")
    wanted = {name: path for name, path in known.items() if options.name in {name, name.partition("/")[0]}}
    if not wanted:
        require_known("name", options.name, sorted({*known, *(name.partition("/")[0] for name in known)}))
    tails = [
        _Tail(name, path, mark=len(wanted) > 1, raw=options.json) for name, path in sorted(wanted.items())
    ]
    for tail in tails:
        tail.print_last(options.lines)
    while options.follow:
        for tail in tails:
            tail.print_new()
        time.sleep(POLL_S)
    return 0


class _Tail:
    """One file, printed from its end on."""

    def __init__(self, name: str, path: Path, *, mark: bool, raw: bool) -> None:
        self._name = f"{name:<12} " if mark else ""
        self._path = path
        self._raw = raw
        self._offset = 0
        self._rest = b""

    def print_last(self, count: int) -> None:
        """Print the last `count` whole lines."""
        with self._path.open("rb") as file:
            end = start = file.seek(0, 2)
            data = b""
            while start > 0 and data.count(b"\n") <= count:
                start = max(0, start - BLOCK_BYTES)
                file.seek(start)
                data = file.read(end - start)
        self._offset = end
        *lines, self._rest = data.split(b"\n")
        for line in lines[-count:] if count else []:
            self._print(line)

    def print_new(self) -> None:
        """Print the lines that were finished since; a file made anew is read from its beginning."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._print(line)

    def _print(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        for part in [text] if self._raw else _readable(text):
            sys.stdout.write(f"{self._name}{printable(part)}\n")
        sys.stdout.flush()


def _readable(line: str) -> Iterator[str]:
    """A JSON line as time, level, message and fields; anything else as it is."""
    try:
        parsed: object = json.loads(line)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        yield line
        return
    fields = cast("dict[str, Any]", parsed)
    traceback = str(fields.get("error") or "")
    if "\n" in traceback:
        del fields["error"]
    else:
        traceback = ""
    others = " ".join(f"{key}={value}" for key, value in fields.items() if key not in CONTEXT)
    yield " ".join(
        filter(
            None,
            [
                _time(fields.get("at")),
                f"{fields.get('level', ''):<7}",
                str(fields.get("message", "")),
                others,
            ],
        )
    )
    yield from (INDENT + part for part in traceback.splitlines())


def _time(value: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return ""


def _files(logs: Path) -> dict[str, Path]:
    """Each log by the name that a person gives: poster/1, console, postgresql."""
    found: dict[str, Path] = {}
    for path in logs.glob("*") if logs.is_dir() else ():
        if match := SLOT_FILE.fullmatch(path.name):
            found[f"{match['name']}/{match['slot']}"] = path
        elif path.suffix == ".log":
            found[path.stem] = path
    return found


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"is '{text}': allowed is a number from 0")
    return int(text)
