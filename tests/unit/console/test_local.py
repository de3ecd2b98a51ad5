"""What this host's manager wrote, and whether it can be believed."""

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from console.local import SILENT_S, read

SLOT = {"name": "poster", "slot": 1, "state": "READY", "pid": 4}


def write(state: Path, *, age_s: float = 0.0) -> None:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    told = {"at": at.isoformat(), "database": "away", "stale_since": at.isoformat(), "slots": [SLOT]}
    (state / "status.json").write_text(json.dumps(told))


@pytest.mark.timed
def test_a_manager_that_writes_and_has_its_socket_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)  # a socket's path has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("manager.sock")
        word = read(tmp_path)
    assert word
    assert (word.listens, word.slots) == (True, (SLOT,))
    assert word.age_s < 5


def test_without_a_socket_or_after_a_silence_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    word = read(tmp_path)
    assert word
    assert not word.listens
    (tmp_path / "manager.sock").write_text("no socket")
    word = read(tmp_path)
    assert word
    assert not word.listens
    (tmp_path / "manager.sock").unlink()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("manager.sock")
        write(tmp_path, age_s=SILENT_S + 1)
        word = read(tmp_path)
    assert word
    assert not word.listens
    assert word.age_s > SILENT_S


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"at": 5, "slots": []}',
        '{"at": "x", "slots": []}',
        '{"at": "2026-08-01T09:30:00Z"}',
        '{"at": "2026-08-01T09:30:00Z", "stale_since": 5, "slots": []}',
        '{"at": "2026-08-01T09:30:00Z", "slots": 5}',
        "[" * 100_000,
        '{"at": "\xff"}',
    ],
)
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_bytes(text.encode("latin-1"))
    assert read(tmp_path) is None


@pytest.mark.parametrize("change", [{"name": 5}, {"slot": "1"}, {"slot": None}, {"state": None}])
def test_what_is_no_slot_is_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    told = {"at": datetime.now(UTC).isoformat(), "slots": [5, SLOT | change, SLOT]}
    (tmp_path / "status.json").write_text(json.dumps(told))
    word = read(tmp_path)
    assert word
    assert word.slots == (SLOT,)


def test_what_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") is None
