"""The heartbeat's thread against a busy database."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from time import monotonic
from typing import Any

import pytest

from coordination import Fleet
from coordination.heartbeats import Standing
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import planted
from tests.integration.workers.waiting import eventually
from workers.progress import Progress
from workers.pulse import Pulse

BUSY = "RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200';"
BEGINNING = "life := fleet.require_incarnation(incarnation);"


@contextmanager
def busy(fleet_database: FleetDatabase, condition: str) -> Generator[None]:
    """No beat of which that is true has an answer but that the database is busy."""
    with (
        fleet_database.owner() as owner,
        planted(owner, "beat", (BEGINNING, f"{BEGINNING} IF {condition} THEN {BUSY} END IF;")),
    ):
        yield


class Beats:
    """When a life's beats were asked."""

    def __init__(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked_at: list[float] = []
        ask = fleet.heartbeats.beat

        def beat(**told: Any) -> Standing:
            self.asked_at.append(monotonic())
            return ask(**told)

        monkeypatch.setattr(fleet.heartbeats, "beat", beat)

    def number(self, least: int) -> bool:
        return len(self.asked_at) >= least


@pytest.fixture
def fleet(fleet_database: FleetDatabase) -> Generator[Fleet]:
    with fleet_database.connect("tester") as fleet:
        yield fleet


def test_the_first_news_of_a_life_are_told_again_only_after_a_pause(
    fleet_database: FleetDatabase, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats, progress = Beats(fleet, monkeypatch), Progress()
    pulse = Pulse(fleet, progress, Event())
    pulse.begin(Event())
    try:
        with busy(fleet_database, "beat.state <> 'STARTING'"):
            progress.enter("READY")
            eventually(lambda: beats.number(3), what="the first news, again")
            _, first, again = beats.asked_at[:3]
            assert again - first >= 1
        answered_at = pulse.standing.answered_at
        eventually(lambda: pulse.standing.answered_at > answered_at, what="an answer")
        assert not pulse.lost.is_set()
    finally:
        pulse.end()


def test_a_busy_database_at_the_first_beat_ends_no_life(
    fleet_database: FleetDatabase, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats, pulse = Beats(fleet, monkeypatch), Pulse(fleet, Progress(), Event())
    with ThreadPoolExecutor(1) as threads:
        with busy(fleet_database, "true"):
            begun = threads.submit(pulse.begin, Event())
            eventually(lambda: begun.done() or beats.number(2), what="two tries")
        begun.result(30)
    pulse.end()
    assert pulse.standing.enabled
