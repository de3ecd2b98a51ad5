"""`socialfleet candidates` on a real fleet's database."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.candidates import Find
from host import cli
from host.state_directory import StateDirectory
from tests.integration.conftest import FleetDatabase


def find(number: int, score: float, fleet_database: FleetDatabase) -> Find:
    with fleet_database.connect("clock") as fleet:
        now = fleet.candidates.pool("sandbox").now
    part: dict[str, Any] = {"value": 0.5, "weight": 20.0, "inputs": {"followers": None}}
    return Find(
        platform_id=str(number),
        author_id="5",
        handle="ann",
        text="The garden \x1b[31mis red",
        topic="gardens",
        origin="search",
        posted_at=now - timedelta(hours=2),
        metrics={"likes": 7},
        score=score,
        parts={"reach": part},
    )


@pytest.fixture(autouse=True)
def _pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet_database: FleetDatabase) -> None:
    """Two candidates, and a state directory that names the database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(tmp_path / "state"))
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    directory.put("dsn/console", fleet_database.dsn("console"))
    with fleet_database.connect("discovery") as fleet:
        finds = [find(11, 60, fleet_database), find(12, 80, fleet_database), find(13, 50, fleet_database)]
        fleet.candidates.offer("sandbox", finds, pool_size=10)
        fleet.candidates.take("sandbox", 1)
        fleet.candidates.decide("sandbox", "12", "passed", reason="gone")


def run(*arguments: str) -> int:
    return cli.main(("candidates", *arguments), manage=None)


def test_they_are_listed_the_best_that_wait_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["platform_id"], row["state"]) for row in listed] == [
        ("11", "waiting"),
        ("13", "waiting"),
        ("12", "passed"),
    ]
    assert listed[0]["parts"]["reach"]["value"] == 0.5
    assert run("list", "--state", "passed", "-n", "5") == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2
    assert "gone" in table[1]


def test_one_is_shown_with_every_part_of_its_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "11") == 0
    shown = capsys.readouterr().out
    assert "reach  0.500  20      50.0    followers -" in shown
    assert "\x1b" not in shown
    assert run("show", "12", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["reason"], row["metrics"]) == ("passed", "gone", {"likes": 7})


def test_what_is_not_there_or_not_allowed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "99") == 1
    assert "there is no candidate 99: see socialfleet candidates list" in capsys.readouterr().err
    assert run("list", "--state", "waitin") == 2
    assert "did you mean waiting?" in capsys.readouterr().err
    assert run("show", "1x") == 2
