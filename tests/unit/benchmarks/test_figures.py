"""What `make bench` writes down."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import report
from benchmarks.figure import Figure, Target

KEYS = {
    *("name", "disk", "unit", "runs", "ours", "peer", "peer_name", "raw"),
    *("ratio_peer", "ratio_raw", "target", "met"),
}


def figure(**changed: object) -> Figure:
    given = {
        "name": "x: y",
        "unit": "s",
        "runs": [3.0, 1.0, 2.0],
        "peer_runs": [4.0],
        "peer_name": "peer",
        "targets": [Target(most=2.0)],
    }
    return Figure(**{**given, **changed})  # pyright: ignore[reportArgumentType]  given by name in each test


def nothing(*_: object) -> list[Path]:
    """Draw no charts: what draws them is installed by `make bench` only."""
    return []


def test_a_figure_is_the_median_of_its_runs_beside_its_peer() -> None:
    told = figure().as_json()
    assert set(told) >= KEYS
    assert told["ours"] == 2.0
    assert told["runs"] == [3.0, 1.0, 2.0]
    assert told["ratio_peer"] == 0.5
    assert told["ratio_raw"] is None


@pytest.mark.parametrize(
    ("targets", "met"),
    [
        ([Target(most=2.0)], True),
        ([Target(most=1.9)], False),
        ([Target(least=2.0)], True),
        ([Target(least=2.1)], False),
        ([Target(of="ratio_peer", least=0.5)], True),
        ([Target(of="ratio_peer", least=0.6)], False),
        ([Target(of="ratio_raw", least=0.5)], False),  # there is none
        ([Target(most=2.0), Target(of="ratio_peer", most=0.4)], False),
        ([], None),
    ],
)
def test_a_target_is_met_or_missed_and_said_so(targets: list[Target], met: bool | None) -> None:
    told = figure(targets=targets).as_json()
    assert told["met"] is met
    assert ("missed" in report.row(told)) == (met is False)


def test_a_ratio_is_the_median_of_the_runs_own_ratios() -> None:
    told = figure(runs=[1.0, 20.0, 3.0], peer_runs=[2.0, 10.0, 3.0]).as_json()
    assert (told["ours"], told["peer"], told["ratio_peer"]) == (3.0, 3.0, 1.0)


def test_a_target_is_told_in_words() -> None:
    targets = [Target(of="ratio_peer", least=15), Target(of="ratio_raw", least=0.5), Target(most=3)]
    assert figure(targets=targets).as_json()["target"] == "x peer >= 15, x raw >= 0.5, <= 3"


def test_a_day_keeps_its_other_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "machine", lambda: {"cores": "2", "commit": "abc"})
    report.write(
        [figure(name="one").as_json(), figure(name="two").as_json()],
        day="2030-01-01",
        place=tmp_path,
        draw=nothing,
    )
    path = report.write(
        [figure(name="one", runs=[9.0]).as_json()], day="2030-01-01", place=tmp_path, draw=nothing
    )
    kept = {one["name"]: one["ours"] for one in json.loads(path.read_text())}
    assert kept == {"one": 9.0, "two": 2.0}
    page = path.with_suffix(".md").read_text()
    assert "commit: abc" in page
    assert "| two |" in page


def test_every_file_in_its_folder_is_a_benchmark_with_a_line_that_says_what() -> None:
    found = bench.discover()
    assert {"workers", "idle", "restart", "killed", "scale"} <= set(found)
    assert all(callable(one.measure) and one.__doc__ for one in found.values())


def test_an_unknown_benchmark_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--only", "nothing"])
    assert ended.value.code == 2
    assert "there is no benchmark 'nothing'" in capsys.readouterr().err
