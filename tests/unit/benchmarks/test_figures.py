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


def test_a_figure_is_the_median_of_its_runs_beside_its_peer() -> None:
    told = figure().as_json()
    assert set(told) >= KEYS
    assert told["ours"] == 2.0
    assert told["runs"] == [3.0, 1.0, 2.0]
    assert told["ratio_peer"] == 0.5
    assert told["ratio_raw"] is None


@pytest.mark.parametrize(("target", "met"), [(2.0, True), (1.9, False), (None, None)])
def test_a_target_is_met_or_missed_and_said_so(target: float | None, met: bool | None) -> None:
    told = figure(target=target).as_json()
    assert told["met"] is met
    assert ("missed" in report.row(told)) == (met is False)


def test_a_day_keeps_its_other_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "machine", lambda: {"cores": "2", "commit": "abc"})
    report.write(
        [figure(name="one").as_json(), figure(name="two").as_json()], day="2030-01-01", place=tmp_path
    )
    path = report.write([figure(name="one", runs=[9.0]).as_json()], day="2030-01-01", place=tmp_path)
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
