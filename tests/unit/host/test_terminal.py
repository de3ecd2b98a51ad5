"""What a person sees, and what outside text can't do to the terminal."""

import fcntl
import io
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TextIO

import pytest

from host.terminal import Terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


EVENT = {
    "at": datetime(2030, 1, 1, tzinfo=UTC),
    "severity": "error",
    "source": "poster/1",
    "message": "rejected: \x1b[2Jgone\nsecond line",
}


def written(out: io.StringIO, say: Callable[[Terminal], None]) -> None:
    terminal = Terminal(out)
    say(terminal)
    assert terminal.flush()


def test_an_event_is_one_line_without_control_characters() -> None:
    out = io.StringIO()
    written(out, lambda terminal: terminal.event(EVENT))
    line = out.getvalue()
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "poster/1" in line
    assert "error: rejected: " in line
    assert "gone second line" in line


def test_text_from_outside_feigns_no_lines_of_its_own() -> None:
    out = io.StringIO()
    written(out, lambda terminal: terminal.say("refused: hello\nready: all is well"))
    written(out, lambda terminal: terminal.step(1, 6, "one\n[2/6] two"))
    assert out.getvalue() == "refused: hello\\nready: all is well\n[1/6] one\\n[2/6] two\n"


def test_colour_is_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen, pipe = Screen(), io.StringIO()
    for out in (screen, pipe):
        written(out, lambda terminal: terminal.step(1, 6, "console"))
    assert "\x1b[36m[1/6]\x1b[0m console" in screen.getvalue()
    assert pipe.getvalue() == "[1/6] console\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Screen()
    written(plain, lambda terminal: terminal.event(EVENT))
    assert "\x1b" not in plain.getvalue()


def test_a_colour_terminal_shows_no_escape_of_a_posts_own() -> None:
    screen = Screen()
    written(screen, lambda terminal: terminal.event(EVENT))
    assert "\x1b[2J" not in screen.getvalue()


def test_a_reader_that_left_ends_nothing() -> None:
    out = io.StringIO()
    terminal = Terminal(out)
    out.close()
    terminal.say("still here")
    assert terminal.flush()


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe that nobody reads, with one page of room."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w", encoding="utf-8") as out:
        yield reading, out


@pytest.mark.timed
def test_one_that_takes_nothing_holds_nobody_and_is_told_how_many_lines_it_missed(
    pipe: tuple[int, TextIO],
) -> None:
    reading, out = pipe
    terminal = Terminal(out, most_lines=100)
    began = time.monotonic()
    for number in range(2000):
        terminal.say(f"line {number} {'x' * 100}")
    assert time.monotonic() - began < 2
    assert not terminal.flush(0.05)
    shown = b""
    while b"line 1999" not in shown or not shown.endswith(b"\n"):
        shown += os.read(reading, 4096)
    assert terminal.flush()
    lines = shown.decode().splitlines()
    missed = [int(line[1:].split()[0]) for line in lines if line.startswith("(")]
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert numbers == sorted(numbers)
    assert numbers[-100:] == [*range(1900, 2000)]
    assert missed
    assert sum(missed) + len(numbers) == 2000


def test_a_pipe_that_another_program_made_non_blocking_gets_every_line(pipe: tuple[int, TextIO]) -> None:
    reading, out = pipe
    os.set_blocking(out.fileno(), False)
    terminal = Terminal(out)
    for number in range(500):
        terminal.say(f"line {number} {'x' * 50}")
    shown = b""
    while shown.count(b"\n") < 500:
        shown += os.read(reading, 4096)
    assert terminal.flush()
    assert [line.split()[1] for line in shown.decode().splitlines()] == [str(n) for n in range(500)]
