"""What a person sees, and what outside text can't do to the terminal."""

import io
from datetime import UTC, datetime

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


def test_an_event_is_one_line_without_control_characters() -> None:
    out = io.StringIO()
    Terminal(out).event(EVENT)
    line = out.getvalue()
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "poster/1" in line
    assert "error: rejected: " in line
    assert "gone second line" in line


def test_text_from_outside_feigns_no_lines_of_its_own() -> None:
    out = io.StringIO()
    Terminal(out).say("refused: hello\nready: all is well")
    Terminal(out).step(1, 6, "one\n[2/6] two")
    assert out.getvalue() == "refused: hello\\nready: all is well\n[1/6] one\\n[2/6] two\n"


def test_colour_is_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen, pipe = Screen(), io.StringIO()
    for out in (screen, pipe):
        Terminal(out).step(1, 6, "console")
    assert "\x1b[36m[1/6]\x1b[0m console" in screen.getvalue()
    assert pipe.getvalue() == "[1/6] console\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Screen()
    Terminal(plain).event(EVENT)
    assert "\x1b" not in plain.getvalue()


def test_a_colour_terminal_shows_no_escape_of_a_posts_own() -> None:
    screen = Screen()
    Terminal(screen).event(EVENT)
    assert "\x1b[2J" not in screen.getvalue()


def test_a_reader_that_left_ends_nothing() -> None:
    out = io.StringIO()
    terminal = Terminal(out)
    out.close()
    terminal.say("still here")
