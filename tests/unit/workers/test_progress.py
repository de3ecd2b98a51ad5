"""Progress: what the loop has done, told as it happens, and by nobody else."""

import json
import os
from collections.abc import Callable, Iterator
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from workers.progress import TICK_S, Progress
from workers.progress_pipe import ProgressPipe


class Heard:
    """A progress and every line that came through its pipe."""

    def __init__(self, reading: int, writing: int) -> None:
        os.set_blocking(reading, False)
        self._reading = reading
        self.progress = Progress(ProgressPipe(writing))

    def words(self) -> list[dict[str, Any]]:
        """What was told since the last call."""
        try:
            return [json.loads(line) for line in os.read(self._reading, 65536).splitlines()]
        except BlockingIOError:
            return []


@pytest.fixture
def heard() -> Iterator[Heard]:
    reading, writing = os.pipe()
    yield Heard(reading, writing)
    os.close(reading)
    os.close(writing)


def test_every_change_of_state_is_told_at_once_and_in_order(heard: Heard) -> None:
    heard.progress.enter("READY")
    heard.progress.enter("BUSY", step="step")
    heard.progress.enter("READY")
    heard.progress.enter("PAUSED", reason="a person said so")
    told = heard.words()
    assert [(word["state"], word["step"], word["reason"]) for word in told] == [
        ("READY", None, ""),
        ("BUSY", "step", ""),
        ("READY", None, ""),
        ("PAUSED", None, "a person said so"),
    ]
    assert [word["ticks"] for word in told] == [1, 2, 3, 4]


@pytest.mark.timed
def test_ticks_are_told_five_times_a_second_at_most(heard: Heard) -> None:
    began = monotonic()
    while monotonic() - began < 4.5 * TICK_S:
        heard.progress.tick()
    told = [word["ticks"] for word in heard.words()]
    assert len(told) == 5
    assert told == sorted(set(told))


def test_who_repeats_the_position_vouches_for_no_tick(heard: Heard) -> None:
    heard.progress.enter("BUSY", step="step")
    before = heard.progress.snapshot.ticks

    def elsewhere(act: Callable[[], None]) -> None:
        thread = Thread(target=act)
        thread.start()
        thread.join()

    elsewhere(heard.progress.repeat)
    elsewhere(lambda: heard.progress.wait_for_database(waits=True))
    elsewhere(heard.progress.repeat)
    told = heard.words()
    assert {word["ticks"] for word in told} == {before}
    assert [word["waits_for_database"] for word in told] == [False, False, True, True]


def test_only_a_step_under_an_incarnation_is_acting(heard: Heard) -> None:
    heard.progress.enter("BUSY", step="step")
    heard.progress.begin_life("8c9e6679")
    heard.progress.enter("READY")
    heard.progress.enter("BUSY", step="step")
    heard.progress.lose_life("the database is away")
    assert [word["acting"] for word in heard.words()] == [False, True, False, True, False]


def test_between_two_lives_it_starts_and_waits_for_the_database(heard: Heard) -> None:
    heard.progress.begin_life("8c9e6679")
    heard.progress.lose_life("the database is away")
    heard.progress.begin_life("9d0f7780")
    told = [
        (word["state"], word["incarnation"], word["waits_for_database"], word["reason"])
        for word in heard.words()
    ]
    assert told == [
        ("STARTING", "8c9e6679", False, ""),
        ("STARTING", None, True, "the database is away"),
        ("STARTING", "9d0f7780", False, ""),
    ]


def test_without_a_pipe_nothing_is_told_and_all_is_kept() -> None:
    progress = Progress()
    progress.enter("BUSY", step="step")
    progress.item_done()
    progress.item_failed()
    at = progress.snapshot
    assert (at.state, at.items, at.item_errors, at.ticks) == ("BUSY", 2, 1, 3)


def test_an_answer_within_a_step_counts_only_in_an_unbroken_row(heard: Heard) -> None:
    progress = heard.progress

    def told(asked_at_s: float) -> float | None:
        heard.words()
        progress.answered(asked_at_s)
        (word,) = heard.words()
        return word["answered_at_s"]

    assert told(100.0) == 100.0
    progress.enter("BUSY", step="step")
    assert told(105.0) == 105.0
    assert told(113.0) == 113.0
    assert told(121.1) is None  # what it held may be another's since
    assert told(122.0) is None
    progress.enter("READY")
    assert told(130.0) == 130.0  # it holds nothing
    progress.enter("BUSY", step="step")
    assert told(135.0) == 135.0
    progress.lose_life("the database is away")
    assert heard.words()[-1]["answered_at_s"] is None
