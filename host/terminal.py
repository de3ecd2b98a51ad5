"""The terminal: what `socialfleet up` tells the person who started it, a line at a time.

A thread of its own writes: a terminal may take nothing for as long as it likes (a person reads on, a pipe is
full), and whoever speaks here also holds the fleet's line to the database, or reaps its processes.
"""

import io
import os
import select
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from threading import Condition, Thread
from typing import Any, TextIO

COLOURS: Mapping[str, str] = {"error": "31", "warning": "33", "debug": "2", "step": "36", "ready": "32"}
KEPT = "\t\N{ZERO WIDTH JOINER}"  # the joiner holds emoji together
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MOST_LINES = 1000
FLUSH_S = 1.0


class Terminal:
    """Lines on stdout, in colour where a terminal shows it. For any thread; nobody waits for it but `flush`.

    They come in the order in which they were said. One that is closed ends nothing; of more lines than one
    that takes none can be kept for, the oldest are left out, and it is said how many.
    """

    def __init__(self, out: TextIO | None = None, *, most_lines: int = MOST_LINES) -> None:
        """Name where the lines go.

        Args:
            out: stdout if None.
            most_lines: so many wait at most.
        """
        self._out = out or sys.stdout
        self._lines: deque[str] = deque(maxlen=most_lines)
        self._dropped = 0
        self._is_writing = False
        self._changed = Condition()
        self._thread: Thread | None = None

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

    def flush(self, within_s: float = FLUSH_S) -> bool:
        """Wait until all that was said is written, so long at most; say whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._is_writing, within_s)

    def _line(self, text: str) -> None:
        with self._changed:
            self._dropped += len(self._lines) == self._lines.maxlen
            self._lines.append(text)
            if self._thread is None:
                # A daemon: a terminal that takes nothing must not keep the process from ending.
                self._thread = Thread(target=self._run, name="terminal", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            text = self._next()
            # The person may close the terminal, or the pipe's reader end, while the fleet drains.
            with suppress(OSError, ValueError):
                _write(self._out, text)

    def _next(self) -> str:
        """Wait for something to write."""
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._lines)
            self._is_writing = True
            dropped, self._dropped = self._dropped, 0
            told = f"({dropped} lines are left out: nobody took them for a while)\n" if dropped else ""
            return f"{told}{self._lines.popleft()}\n"


def _write(out: TextIO, text: str) -> None:
    """Write past the stream's buffer: its lock, held by one who waits here, would make others wait."""
    try:
        file = out.fileno()
    except io.UnsupportedOperation:
        out.write(text)
        return
    left = text.encode(out.encoding or "utf-8", "replace")
    while left:
        try:
            left = left[os.write(file, left) :]
        except BlockingIOError:  # another program made it so
            select.select([], [file], [])


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
