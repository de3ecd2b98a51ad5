"""The look at a host's logs: no file grows far beyond its bound, however fast it is written."""

import json
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host.slots import log_file
from host.slots.log_file import LogFile, Rotation
from host.slots.log_rotation import LOOK_S, SOONEST_S, LogRotation

MEGABYTE = 1 << 20
BOUND = Rotation(max_bytes=4 * MEGABYTE, kept=100)
WHOLE = 24 * MEGABYTE
LINE_BYTES = 4096
WRITER = """
import os, sys, time
from workers import logs
path, lines, logged = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "logged"
os.environ["SOCIALFLEET_LOG"] = path
file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.dup2(file, 1); os.dup2(file, 2)
logs.set_up(debug=False, secrets=[])
log = logs.Log("flood")
began, filler = time.monotonic(), "x" * 4000
for number in range(lines):
    if logged:
        log.info(filler, number=number)
    else:
        print(f"{filler} {number}", flush=True)
    if number % 64 == 0:  # its bound in a second, as a worker may well write
        time.sleep(max(0.0, number * 4096 / (4 << 20) - (time.monotonic() - began)))
"""


@contextmanager
def rotating(logs: Path, rotation: Rotation) -> Generator[LogRotation]:
    looking = LogRotation(logs, rotation)
    looking.start()
    try:
        yield looking
    finally:
        looking.stop()


def flood(path: Path, how: str) -> None:
    subprocess.run(
        [sys.executable, "-c", WRITER, path, str(WHOLE // LINE_BYTES), how],
        cwd=Path(__file__).parents[3],
        check=True,
        timeout=120,
    )


def sizes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in directory.iterdir()}


def test_a_flood_of_log_lines_is_kept_whole_in_files_near_their_bound(tmp_path: Path) -> None:
    with rotating(tmp_path, BOUND):
        flood(tmp_path / "poster-1.jsonl", "logged")
    found = sizes(tmp_path)
    assert max(found.values()) < 3 * BOUND.max_bytes
    lines = [line for name in found for line in (tmp_path / name).read_text().splitlines()]
    assert sorted(json.loads(line)["number"] for line in lines) == list(range(WHOLE // LINE_BYTES))


def test_a_flood_that_is_printed_past_the_logger_is_bounded_too(tmp_path: Path) -> None:
    with rotating(tmp_path, Rotation(max_bytes=BOUND.max_bytes, kept=2)):
        flood(tmp_path / "poster-1.jsonl", "printed")
    assert max(sizes(tmp_path).values()) < 3 * BOUND.max_bytes


def test_the_logs_of_console_and_sandbox_are_bounded_too(tmp_path: Path) -> None:
    with rotating(tmp_path, Rotation(max_bytes=BOUND.max_bytes, kept=2)):
        flood(tmp_path / "console.log", "printed")
    found = sizes(tmp_path)
    assert max(found.values()) < 3 * BOUND.max_bytes
    assert found.keys() == {"console.log", "console.log.1", "console.log.2"}
    text = "".join((tmp_path / name).read_text() for name in sorted(found, reverse=True))
    kept = [int(line.rpartition(" ")[2]) for line in text.splitlines()[1:] if line.startswith("xxxx")]
    assert kept[-1] == WHOLE // LINE_BYTES - 1
    assert kept == list(range(kept[0], kept[-1] + 1))  # none is lost, though its writer looks at nothing


def test_where_blocks_cannot_be_taken_out_a_log_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "COLLAPSE_RANGE", 0x80)  # no file system knows it
    log = tmp_path / "console.log"
    log.write_text("line\n" * 2000)
    assert LogFile(log, Rotation(max_bytes=9000), writer_follows=False).rotate_if_due()
    assert log.read_text() == ""
    assert (tmp_path / "console.log.1").read_text() == "line\n" * 2000


def test_the_faster_a_log_grows_the_sooner_is_the_next_look(tmp_path: Path) -> None:
    log = tmp_path / "poster-1.jsonl"
    log.touch()
    looking = LogRotation(tmp_path, Rotation(max_bytes=10 * MEGABYTE))
    assert looking.look() == LOOK_S
    began = time.monotonic()
    with log.open("a") as file:
        file.write("x" * 9 * MEGABYTE)
    assert looking.look() < max(SOONEST_S * 2, time.monotonic() - began)
    assert [looking.look() for _ in range(30)][-1] == LOOK_S


def test_a_directory_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    assert LogRotation(tmp_path / "none").look() == LOOK_S
