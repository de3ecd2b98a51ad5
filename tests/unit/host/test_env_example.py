"""`.env.example` documents every variable, with values that are allowed."""

import re
from pathlib import Path

import pytest

from config import Config, load

EXAMPLE = Path(__file__).parents[3] / ".env.example"
LINE = re.compile(r"^#?([A-Z_]+)=(.*)$", re.MULTILINE)


def test_every_variable_is_there_once_and_no_other() -> None:
    names = [name for name, _ in LINE.findall(EXAMPLE.read_text())]
    assert sorted(names) == sorted(field.upper() for field in Config.model_fields)


def test_its_values_are_allowed_when_the_marks_are_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in Config.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    values = LINE.findall(EXAMPLE.read_text())
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in values))
    config = load()
    assert config.socialfleet_console_port == 8780
    assert not config.has_credentials
