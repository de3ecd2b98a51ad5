"""A figure: one measured quantity, its runs, its peer and its target."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One quantity; less is better.

    Attributes:
        name: what was measured, the benchmark's name first: "workers: 24 ready".
        unit: of every number here.
        runs: ours, one a run.
        peer_runs: the peer's, one a run; empty where nothing compares.
        peer_name: the peer.
        raw: the same by the least that could do it (plain processes, the bare statement).
        raw_name: what that was.
        target: what ours must not exceed; None for a figure that is only printed.
        disk: the filesystem under the database.
        note: what a reader must know to trust it.
    """

    name: str
    unit: str
    runs: Sequence[float]
    peer_runs: Sequence[float] = ()
    peer_name: str = ""
    raw: Sequence[float] = ()
    raw_name: str = ""
    target: float | None = None
    disk: str = ""
    note: str = ""

    @property
    def ours(self) -> float:
        """The median of our runs."""
        return median(self.runs)

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without one."""
        return None if self.target is None else self.ours <= self.target

    def as_json(self) -> dict[str, Any]:
        """The figure as benchmarks/results/DATE.json has it; medians, rounded to four digits."""
        peer = median(self.peer_runs) if self.peer_runs else None
        raw = median(self.raw) if self.raw else None
        return {
            "name": self.name,
            "disk": self.disk,
            "unit": self.unit,
            "runs": [short(run) for run in self.runs],
            "ours": short(self.ours),
            "peer": short(peer),
            "peer_name": self.peer_name or None,
            "raw": short(raw),
            "raw_name": self.raw_name or None,
            "ratio_peer": short(self.ours / peer) if peer else None,
            "ratio_raw": short(self.ours / raw) if raw else None,
            "target": self.target,
            "met": self.met,
            "note": self.note or None,
        }


def short(number: float | None) -> float | None:
    """Four significant digits: more would be noise."""
    return None if number is None else float(f"{number:.4g}")
