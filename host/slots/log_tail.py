"""The end of a log: the last lines of a file, and what a process said last."""

import json
import os
import signal
from pathlib import Path
from typing import Any, cast

from coordination.plain import plain

CONFIGURATION_FAULT = 78  # EX_CONFIG of sysexits.h
LAST_WORDS_BYTES = 8192
LAST_WORDS_LENGTH = 300
CHUNK_BYTES = 65536
MOST_BYTES = 4 << 20
"""Of a log with endless lines no more is read."""


def tail(log: Path, lines: int) -> list[str]:
    """The last `lines` of the log, oldest first, with the file rotated last; empty where there is none."""
    found = _tail(log, lines)
    if len(found) < lines:
        found = _tail(log.with_name(f"{log.name}.1"), lines - len(found)) + found
    return found


def last_words(log: Path, since: int = 0) -> str:
    """The last line after byte `since`: a JSON line's message, or the line itself; 300 characters at most."""
    written = _last_lines(log, since)
    if written is None:  # rotated since; what is printed past the logger is in the file that was renamed
        written = _last_lines(log, 0) or _last_lines(log.with_name(f"{log.name}.1"), since)
    return plain(_message(written[-1]))[:LAST_WORDS_LENGTH] if written else ""


def explain(exit_code: int, words: str) -> str:
    """Say how a process ended that should run.

    Args:
        exit_code: negative: the signal that ended it.
        words: what it said last.
    """
    said = f": {words}" if words else ""
    if exit_code < 0:
        return f"killed by {signal_name(-exit_code)}"
    if exit_code == CONFIGURATION_FAULT:
        return words or "its settings or needs are not met (exit code 78)"
    if exit_code == 0:
        return f"ended by itself, though it should run{said}"
    return f"ended with exit code {exit_code}{said}"


def how(exit_code: int) -> str:
    """Say how a process ended, whether it should or not."""
    return f"killed by {signal_name(-exit_code)}" if exit_code < 0 else f"ended with exit code {exit_code}"


def signal_name(number: int) -> str:
    """A signal's name, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(log: Path, lines: int) -> list[str]:
    try:
        with log.open("rb") as file:
            at = file.seek(0, os.SEEK_END)
            text = b""
            while at and text.count(b"\n") <= lines and len(text) < MOST_BYTES:
                step = min(CHUNK_BYTES, at)
                at = file.seek(at - step)
                text = file.read(step) + text
    except OSError:
        return []
    return text.decode(errors="replace").splitlines()[-lines:]


def _last_lines(log: Path, since: int) -> list[str] | None:
    """Those that say something at the end of a file, after byte `since`; None where it is shorter."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            if end < since:
                return None
            file.seek(max(since, end - LAST_WORDS_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.split("\n") if line.strip()]


def _message(line: str) -> str:
    try:
        parsed: object = json.loads(line)
    except ValueError:
        return line
    if not isinstance(parsed, dict):
        return line
    return str(cast("dict[str, Any]", parsed).get("message") or line)
