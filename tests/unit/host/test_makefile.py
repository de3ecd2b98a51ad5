"""What `make` hands to the fleet."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that counts as made, whose `socialfleet` prints its arguments, a line each."""
    made = tmp_path / "venv"
    (made / "bin").mkdir(parents=True)
    program = made / "bin" / "socialfleet"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    for mark in (".python", ".runtime"):
        (made / mark).touch()
    return made


def arguments(venv: Path, *given: str, **variables: str) -> list[str]:
    """What `socialfleet` got from `make up`."""
    made = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", "up", f"VENV={venv}", *given],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.splitlines()


@pytest.mark.parametrize(
    "path", ["a b.csv", "a\"b'c", "a$HOME b", "a$(shell touch made-by-make)", "`touch it`"]
)
def test_a_world_arrives_as_it_was_typed(venv: Path, path: str) -> None:
    assert arguments(venv, f"WORLD={path}") == ["up", "--world", path]
    assert arguments(venv, WORLD=path) == ["up", "--world", path]
    assert not (ROOT / "made-by-make").exists()


def test_without_a_world_none_is_given(venv: Path) -> None:
    assert arguments(venv) == ["up"]
    assert arguments(venv, "WORLD=") == ["up"]
