"""A slot's log: rotated by size and age, and never a line less."""

import json
import os
import subprocess
import sys
from pathlib import Path

from host.slots.echo import Echo
from host.slots.log_file import LogFile, Rotation
from host.slots.log_tail import last_words, tail

LINES = 20_000
WRITER = """
import logging, os, sys
from workers import logs
os.environ["SOCIALFLEET_LOG"] = sys.argv[1]
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.dup2(file, 1); os.dup2(file, 2)
logs.set_up(debug=False, secrets=[])
log = logs.Log("flood")
for number in range(int(sys.argv[2])):
    log.info("line", number=number)
"""


def numbers(directory: Path) -> list[int]:
    """Those of all lines of all files, oldest file first."""
    files = sorted(
        directory.glob("poster-1.jsonl*"),
        key=lambda file: -int(file.suffix[1:] if file.suffix[1:].isdigit() else 0),
    )
    return [json.loads(line)["number"] for file in files for line in file.read_text().splitlines()]


def test_a_large_one_is_renamed_and_as_many_stay_as_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "poster-1.jsonl", Rotation(max_bytes=10, kept=2))
    log.make()
    assert not log.rotate_if_due()
    for text in ("first line\n", "second line\n", "third line\n"):
        log.path.write_text(text)
        assert log.rotate_if_due()
    assert sorted(file.name for file in log.path.parent.iterdir()) == [
        "poster-1.jsonl",
        "poster-1.jsonl.1",
        "poster-1.jsonl.2",
    ]
    assert log.path.read_text() == ""
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert (log.path.parent / "poster-1.jsonl.1").read_text() == "third line\n"


def test_an_old_one_is_renamed_too_by_the_time_of_its_first_line(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    log = LogFile(tmp_path / "poster-1.jsonl", Rotation(max_age_s=3600), wall=lambda: now)
    log.path.write_text('{"at": "2027-01-15T07:00:01.000+00:00", "message": "m"}\n')
    assert not log.rotate_if_due()
    log.path.write_text('{"at": "2027-01-15T06:59:59.000+00:00", "message": "m"}\n')
    assert log.rotate_if_due()
    assert not log.rotate_if_due()  # an empty one has no age


def test_a_log_that_is_gone_or_can_not_be_renamed_is_no_fault(tmp_path: Path) -> None:
    assert not LogFile(tmp_path / "none.jsonl").rotate_if_due()


def test_rotated_under_a_flood_no_line_is_lost(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "poster-1.jsonl", Rotation(max_bytes=50_000, kept=1000))
    log.make()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(log.path), str(LINES)], cwd=Path(__file__).parents[3]
    ) as writer:
        rotations = 0
        while writer.poll() is None:
            rotations += log.rotate_if_due()
    assert writer.returncode == 0
    assert rotations > 10
    assert numbers(tmp_path) == list(range(LINES))


def test_the_echo_gives_every_line_of_a_flood_once_through_all_rotations(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "poster-1.jsonl", Rotation(max_bytes=50_000, kept=1000))
    log.make()
    log.path.write_text('{"number": -1}\n')  # from before
    out = tmp_path / "out"
    file = os.open(out, os.O_WRONLY | os.O_CREAT)
    echo = Echo(tmp_path, file, look_s=0.02)
    echo.start()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(log.path), str(LINES)], cwd=Path(__file__).parents[3]
    ) as writer:
        while writer.poll() is None:
            log.rotate_if_due()
    echo.stop(within_s=10)
    os.close(file)
    said = [json.loads(line)["number"] for line in out.read_text().splitlines()]
    assert sorted(said) == list(range(LINES))  # a line written late may come after the next file's first


def test_an_output_that_nobody_takes_holds_the_echo_and_nothing_else(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "poster-1.jsonl")
    log.make()
    reading, writing = os.pipe()
    echo = Echo(tmp_path, writing, look_s=0.01)
    echo.start()
    with log.path.open("a") as file:
        file.write("x" * 99 + "\n")
        file.write(("y" * 99 + "\n") * 5000)  # more than a pipe holds
    echo.stop(within_s=0.3)  # returns although the thread still waits
    assert os.read(reading, 100) == b"x" * 99 + b"\n"
    taken = 100
    while taken < 5001 * 100:
        taken += len(os.read(reading, 1 << 16))
    echo.stop(within_s=10)
    os.close(reading)
    os.close(writing)


def test_a_tail_reaches_into_the_file_rotated_last(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "poster-1.jsonl")
    log.path.write_text("".join(f"{number}\n" for number in range(5)))
    log.rotate()
    log.path.write_text("5\n6\n")
    assert tail(log.path, 4) == ["3", "4", "5", "6"]
    assert tail(log.path, 1) == ["6"]
    assert tail(tmp_path / "none.jsonl", 5) == []


def test_what_ignores_the_name_of_its_log_is_copied_and_emptied(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "console.log", Rotation(max_bytes=10, kept=2), writer_follows=False)
    with log.path.open("a", buffering=1) as console:
        assert not log.rotate_if_due()
        for text in ("first line", "second line", "third line"):
            print(text, file=console)
            assert log.rotate_if_due()
            assert log.path.read_text() == ""
        print("fourth", file=console)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "console.log": "fourth\n",
        "console.log.1": "third line\n",
        "console.log.2": "second line\n",
    }
    assert (tmp_path / "console.log.1").stat().st_mode & 0o777 == 0o600


def test_what_a_worker_prints_past_its_logger_into_the_renamed_file_is_bounded_too(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "poster-1.jsonl", Rotation(max_bytes=100, kept=3))
    with log.path.open("a", buffering=1) as printing:
        for number in range(200):
            print(f"line {number:03}", file=printing)
            log.rotate_if_due()
    files = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert files.keys() == {"poster-1.jsonl", *(f"poster-1.jsonl.{number}" for number in (1, 2, 3))}
    assert max(files.values()) <= 2 * (100 + len("line 000\n"))
    newest = (tmp_path / "poster-1.jsonl.1").read_text() or (tmp_path / "poster-1.jsonl.2").read_text()
    assert newest.splitlines()[-1] == "line 199"


def test_the_last_words_of_one_that_prints_are_found_in_the_file_that_was_renamed(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "poster-1.jsonl", Rotation(max_bytes=10))
    log.path.write_text("from an earlier life: that one was longer\n")
    began = log.path.stat().st_size
    with log.path.open("a", buffering=1) as printing:
        assert log.rotate_if_due()
        assert last_words(log.path, began) == ""
        print("my last words", file=printing)
    assert last_words(log.path, began) == "my last words"
    log.path.write_text('{"message": "logged"}\n')
    assert last_words(log.path, began) == "logged"
