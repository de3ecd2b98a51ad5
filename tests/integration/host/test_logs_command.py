"""`socialfleet logs` on files that are rotated while somebody reads them."""

import json
from pathlib import Path

import pytest

from host import cli
from host.cli.log_files import LogTail, find_logs
from host.slots.log_file import LogFile, Rotation
from tests.integration.host.shell import following


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of poster/1 in the state directory that the environment names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "state" / "logs" / "poster-1.jsonl"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def write(log: Path, *lines: str) -> None:
    with log.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def rotate(log: Path) -> None:
    LogFile(log, Rotation(kept=3)).rotate()


def text(lines: list[bytes]) -> list[str]:
    return [line.decode() for line in lines]


def test_the_last_lines_are_found_in_rotated_files_too(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(log, "one", "two")
    rotate(log)
    write(log, "three", "four")
    rotate(log)
    write(log, "five")
    assert cli.main(["logs", "poster", "-n", "4"], manage=None) == 0
    assert capsys.readouterr().out.splitlines() == ["two", "three", "four", "five"]
    assert cli.main(["logs", "poster/1", "-n", "1"], manage=None) == 0
    assert capsys.readouterr().out.splitlines() == ["five"]
    assert cli.main(["logs", "poster", "-n", "99"], manage=None) == 0
    assert capsys.readouterr().out.split() == ["one", "two", "three", "four", "five"]


def test_rotated_files_are_no_logs_of_their_own(log: Path) -> None:
    write(log, "one")
    rotate(log)
    assert list(find_logs(log.parent)) == ["poster/1"]


def test_a_line_that_a_killed_process_did_not_finish_is_shown(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write_text("one\ntwo\nthr")
    assert cli.main(["logs", "poster", "-n", "2"], manage=None) == 0
    assert capsys.readouterr().out.splitlines() == ["two", "thr"]


@pytest.mark.parametrize("number", [0, 1, 7, 20_000, 30_000])
def test_a_large_files_end_is_read_whole_lines_only(log: Path, number: int) -> None:
    lines = [f"line {n} {'x' * (n % 200)}" for n in range(20_000)]
    write(log, *lines)
    tail = LogTail(log)
    assert text(tail.last(number)) == (lines[-number:] if number else [])
    write(log, "new")
    assert text(list(tail.new())) == ["new"]
    tail.close()


def test_a_follower_loses_no_line_over_rotations_however_late_it_looks(log: Path) -> None:
    write(log, "one")
    tail = LogTail(log)
    assert text(tail.last(9)) == ["one"]
    write(log, "two")
    rotate(log)
    write(log, "three")
    rotate(log)
    write(log, "four")
    assert text(list(tail.new())) == ["two", "three", "four"]
    rotate(log)
    assert text(list(tail.new())) == []
    write(log, "five")
    assert text(list(tail.new())) == ["five"]
    tail.close()


def test_a_line_written_by_who_had_the_old_file_open_is_followed(log: Path) -> None:
    tail = LogTail(log)
    tail.last(1)
    with log.open("a") as writer:
        rotate(log)
        writer.write("late\n")
    assert text(list(tail.new())) == ["late"]
    tail.close()


def test_a_file_that_was_emptied_is_read_from_its_beginning(log: Path) -> None:
    write(log, "one", "two")
    tail = LogTail(log)
    tail.last(9)
    log.write_text("x\n")
    assert text(list(tail.new())) == ["x"]
    tail.close()


def test_a_log_whose_beginning_is_carried_off_is_followed_line_by_line(log: Path) -> None:
    path = log.with_name("console.log")
    large = Rotation(max_bytes=20_000, kept=3)
    write(path, *(f"early {number}" for number in range(10)))
    tail = LogTail(path)
    assert text(tail.last(1)) == ["early 9"]
    seen, written = list[str](), list[str]()
    with path.open("a") as writer:  # it goes on in the same file, whatever is taken out of it
        for number in range(6_000):
            written.append(f"line {number} {'x' * (number % 40)}")
            writer.write(f"{written[-1]}\n")
            writer.flush()
            if number % 701 == 0:
                LogFile(path, large, writer_follows=False).rotate_if_due()
            if number % 997 == 0:
                seen += text(list(tail.new()))
    seen += text(list(tail.new()))
    assert path.with_name("console.log.1").exists()
    assert seen == written
    tail.close()


def test_following_goes_on_over_a_rotation_until_it_is_interrupted(log: Path) -> None:
    write(log, json.dumps({"level": "info", "message": "one"}))
    with following("logs", "poster", "-f") as lines:
        assert next(lines).endswith("info    one")
        rotate(log)
        write(log, "two \x1b[2J\u202e")
        assert next(lines) == "two \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"
