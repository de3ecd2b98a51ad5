"""What a worker with nothing to do costs, and how soon it is there when it starts."""

from pathlib import Path
from time import monotonic

import pytest

from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.wire import Wire, wire
from tests.integration.workers.managed import Birth, Managed, is_idle, managed
from tests.integration.workers.waiting import eventually

pytestmark = pytest.mark.timed

BEATS = 4
MOST_STATEMENTS_PER_S = 0.25
MOST_CPU_SHARE = 0.001


def state_of(tmp_path: Path, dsn: str) -> Path:
    state = tmp_path / "state"
    (state / "dsn").mkdir(parents=True)
    (state / "dsn" / "worker").write_text(dsn)
    return state


def is_settled(one: Managed, fleet_database: FleetDatabase) -> None:
    """Its first run and its first step are over, and what they brought was told."""
    one.until(is_idle, what="ready")
    with fleet_database.owner() as owner:
        eventually(
            lambda: owner.execute(
                "SELECT 1 FROM fleet.runs WHERE step = 'step' AND outcome = 'done'"
            ).fetchall(),
            what="the first step",
        )


def after_answers(between: Wire, number: int, within_s: float = 40) -> float:
    """Wait for more answers of the server; give the seconds that took."""
    began, wanted = monotonic(), between.answers + number
    eventually(lambda: between.answers >= wanted, what=f"{number} answers", within_s=within_s)
    return monotonic() - began


@pytest.mark.parametrize("birth", ["fresh", "forked"])
def test_an_idle_worker_asks_the_database_nothing_but_its_beat_and_hardly_runs(
    fleet_database: FleetDatabase, tmp_path: Path, birth: Birth
) -> None:
    with (
        wire(fleet_database.dsn("worker")) as between,
        managed("maintenance", state=state_of(tmp_path, between.dsn), birth=birth) as one,
    ):
        is_settled(one, fleet_database)
        # What the first step brought is told, and the beat's statement prepared: after that, only beats.
        eventually(lambda: costs_nothing(one, between), what="only beats", within_s=70)


def costs_nothing(one: Managed, between: Wire) -> bool:
    cpu_s, took_s = one.cpu_s(), after_answers(between, BEATS)
    return took_s * MOST_STATEMENTS_PER_S >= BEATS and (one.cpu_s() - cpu_s) / took_s <= MOST_CPU_SHARE
