"""The terminal: what `socialfleet up` tells the person who started it, a line at a time."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, TextIO

COLOURS: Mapping[str, str] = {"error": "31", "warning": "33", "debug": "2", "step": "36", "ready": "32"}
KEPT = "\t\N{ZERO WIDTH JOINER}"  # the joiner holds emoji together
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Terminal:
    """Lines on stdout, in colour where a terminal shows it; a closed one ends nothing. For any thread."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._lock = Lock()

    def step(self, number: int, of: int, text: str) -> None:
        """Tell that a step begins, or how it goes on."""
        self._line(f"{self._paint(f'[{number}/{of}]', 'step')} {printable(text)}")

    def say(self, text: str, kind: str = "") -> None:
        """Tell something; `kind` is a severity or `ready`."""
        self._line(self._paint(printable(text), kind))

    def event(self, event: Mapping[str, Any]) -> None:
        """Tell one of the fleet's events: local time, source, message."""
        severity = str(event["severity"])
        mark = f"{severity}: " if severity in {"warning", "error"} else ""
        message = printable(" ".join(str(event["message"]).split()))
        source = printable(str(event["source"]))
        self._line(
            f"{event['at'].astimezone():%H:%M:%S}  {source:<14} {self._paint(mark + message, severity)}"
        )

    def _paint(self, text: str, kind: str) -> str:
        return painted(text, kind, self._out)

    def _line(self, text: str) -> None:
        # The person may close the terminal, or the pipe's reader end, while the fleet drains.
        with self._lock, suppress(OSError, ValueError):
            print(text, file=self._out, flush=True)


def painted(text: str, kind: str, out: TextIO) -> str:
    """The text in its kind's colour where `out` shows it and NO_COLOR does not forbid it."""
    code = COLOURS.get(kind)
    shows = bool(code) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{code}m{text}\x1b[0m" if shows and out.isatty() else text


def printable(text: str) -> str:
    r"""The text on one line without control characters: a post from outside must not steer the terminal.

    A line feed is shown as `\n`, or the text could feign lines of its own.
    """
    shown = text.replace("\n", r"\n")
    return "".join(letter if letter.isprintable() or letter in KEPT else REPLACEMENT for letter in shown)
