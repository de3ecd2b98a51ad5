"""The progress pipe: words that never wait."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from workers.progress_pipe import LINE_BYTES, VARIABLE, ProgressPipe, Word, WordReader

BUSY = Word(
    ticks=7,
    state="BUSY",
    reason="",
    step="step",
    stall_after_s=30.0,
    incarnation="8c9e6679-7425-40de-944b-e07fc1f90ae7",
    healthy=False,
    acting=True,
    waits_for_database=True,
    answered_at_s=123456.78,
)


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        with suppress(OSError):  # the test closed it
            os.close(fd)


def test_a_word_arrives_as_it_was_said(ends: tuple[int, int]) -> None:
    assert ProgressPipe(ends[1]).tell(BUSY)
    assert WordReader(ends[0]).read() == BUSY


def test_what_a_newer_worker_says_beyond_a_word_is_passed_over(ends: tuple[int, int]) -> None:
    os.write(ends[1], b'{"ticks":3,"state":"READY","mood":"good"}\n')
    assert WordReader(ends[0]).read() == Word(ticks=3, state="READY")


def test_of_many_words_the_newest_counts_and_each_is_given_once(ends: tuple[int, int]) -> None:
    pipe, reader = ProgressPipe(ends[1]), WordReader(ends[0])
    assert reader.read() is None
    for ticks in range(5):
        pipe.tell(replace(BUSY, ticks=ticks))
    assert reader.read() == replace(BUSY, ticks=4)
    assert reader.read() is None


def test_a_full_pipe_drops_words_and_never_waits(ends: tuple[int, int]) -> None:
    pipe, reader = ProgressPipe(ends[1]), WordReader(ends[0])
    told = 0
    while pipe.tell(replace(BUSY, ticks=told)):
        told += 1
    assert told > 100
    assert not pipe.tell(replace(BUSY, ticks=told))
    assert reader.read() == replace(BUSY, ticks=told - 1)  # whole ones, up to the last that had room
    assert pipe.tell(replace(BUSY, ticks=told + 1))
    assert reader.read() == replace(BUSY, ticks=told + 1)


def test_no_word_is_longer_than_a_pipe_takes_in_one_piece(ends: tuple[int, int]) -> None:
    for filling in ("r", '"', "\0", "ü", "\U0001f600"):
        ProgressPipe(ends[1]).tell(replace(BUSY, reason=filling * 5000, step=filling * 5000))
        assert len(os.read(ends[0], 65536)) < LINE_BYTES


def test_half_a_line_and_what_is_no_word_are_passed_over(ends: tuple[int, int]) -> None:
    pipe, reader = ProgressPipe(ends[1]), WordReader(ends[0])
    os.write(ends[1], b'a library said this\n{"ticks": 1}\n[1]\n')
    assert reader.read() is None
    pipe.tell(BUSY)
    os.write(ends[1], b'{"ticks": 9, "sta')
    assert reader.read() == BUSY
    os.write(ends[1], b'te": "READY"}\n')
    assert reader.read() == Word(ticks=9, state="READY")


def test_the_reader_knows_that_the_worker_is_gone_and_still_gives_its_last_word(
    ends: tuple[int, int],
) -> None:
    reader = WordReader(ends[0])
    ProgressPipe(ends[1]).tell(BUSY)
    os.close(ends[1])
    assert reader.read() == BUSY
    assert reader.closed
    assert reader.read() is None


def test_a_worker_whose_manager_is_gone_works_on(ends: tuple[int, int]) -> None:
    pipe = ProgressPipe(ends[1])
    os.close(ends[0])
    assert not pipe.tell(BUSY)
    assert not pipe.tell(BUSY)


def test_the_pipe_is_taken_out_of_the_environment(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.set_inheritable(ends[1], True)
    monkeypatch.setenv(VARIABLE, str(ends[1]))
    assert ProgressPipe.from_environment() is not None
    assert VARIABLE not in os.environ
    assert not os.get_inheritable(ends[1])
    assert ProgressPipe.from_environment() is None


@pytest.mark.parametrize("kind", ["closed", "a file", "nonsense"])
def test_a_variable_that_names_no_pipe_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    with (tmp_path / "file").open("w") as file:
        given = {"closed": "987", "a file": str(file.fileno()), "nonsense": "seven"}[kind]
        monkeypatch.setenv(VARIABLE, given)
        assert ProgressPipe.from_environment() is None
    assert (tmp_path / "file").read_text() == ""


def test_a_word_that_is_no_valid_text_is_made_one(ends: tuple[int, int]) -> None:
    reading, writing = ends
    os.write(writing, b'{"state":"PAUSED","ticks":1,"reason":"half \\udc80 of a pair"}\n')
    word = WordReader(reading).read()
    assert word
    assert word.reason == "half ? of a pair"
