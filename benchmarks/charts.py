"""Charts of a day's figures: a picture for each benchmark, ours beside the peer and the bare statement."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

OTHERS = (("peer", "#d98c3f"), ("raw", "#9a9a9a"))
OURS = "#2f6f9f"
BAR = 0.26
WIDTH_IN = 9.0
ROW_IN = 0.9


def draw(figures: Sequence[Mapping[str, Any]], place: Path, day: str) -> list[Path]:
    """Write DAY-BENCHMARK.svg for each benchmark that has something to compare; give their paths."""
    drawn: list[Path] = []
    for benchmark, found in groupby(sorted(figures, key=_benchmark), key=_benchmark):
        rows = [one for one in found if one["peer"] is not None or one["raw"] is not None]
        if rows:
            path = place / f"{day}-{benchmark}.svg"
            _picture(benchmark, rows).savefig(path, format="svg", metadata={"Date": None})
            drawn.append(path)
    return drawn


def _benchmark(figure: Mapping[str, Any]) -> str:
    return str(figure["name"]).partition(":")[0]


def _picture(benchmark: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    matplotlib: Any = import_module("matplotlib.figure")  # installed by `make bench` only
    picture = matplotlib.Figure(figsize=(WIDTH_IN, 1.0 + ROW_IN * len(rows)), layout="constrained")
    axes = picture.subplots()
    for place, row in enumerate(reversed(rows)):
        bars = [("ours", OURS, "ours"), *((other, colour, row[f"{other}_name"]) for other, colour in OTHERS)]
        for offset, (key, colour, name) in enumerate(bars):
            if row[key] is not None:
                at = place + (1 - offset) * BAR
                axes.barh(at, row[key], height=BAR, color=colour)
                axes.annotate(f" {row[key]:g} {name}", (row[key], at), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_yticks(
        range(len(rows)),
        [f"{row['name'].partition(': ')[2]}\n{row['unit']}, {row['disk']}" for row in reversed(rows)],
    )
    axes.margins(x=0.35)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{benchmark}: medians, logarithmic")
    return picture
