"""A figure: one measured quantity, its runs, its peer and its targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

Measure = Literal["ours", "ratio_peer", "ratio_raw"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a figure shall reach: a bound on our own number, or on its ratio to the peer's or the raw one.

    Attributes:
        of: what is bounded.
        most: it must not be above this; None: there is no such bound.
        least: it must not be below this.
    """

    of: Measure = "ours"
    most: float | None = None
    least: float | None = None

    def met_by(self, measured: float | None) -> bool:
        """Whether that number reaches it; one that was not measured does not."""
        if measured is None:
            return False
        return (self.most is None or measured <= self.most) and (self.least is None or measured >= self.least)

    def __str__(self) -> str:
        words = {"ours": "", "ratio_peer": "x peer ", "ratio_raw": "x raw "}[self.of]
        bounds = [f"<= {self.most:g}"] if self.most is not None else []
        bounds += [f">= {self.least:g}"] if self.least is not None else []
        return f"{words}{' and '.join(bounds)}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One quantity.

    Attributes:
        name: what was measured, the benchmark's name first: "workers: 24 ready".
        unit: of every number here.
        runs: ours, one a run.
        peer_runs: the peer's, one a run; empty where nothing compares.
        peer_name: the peer.
        raw: the same by the least that could do it (plain processes, the bare statement).
        raw_name: what that was.
        targets: what must be reached, all of it; none for a figure that is only printed.
        disk: what is under the database.
        note: what a reader must know to trust it.
    """

    name: str
    unit: str
    runs: Sequence[float]
    peer_runs: Sequence[float] = ()
    peer_name: str = ""
    raw: Sequence[float] = ()
    raw_name: str = ""
    targets: Sequence[Target] = ()
    disk: str = ""
    note: str = ""

    @property
    def ours(self) -> float:
        """The median of our runs."""
        return median(self.runs)

    @property
    def ratio_peer(self) -> float | None:
        """Ours to the peer's; None without one."""
        return ratio(self.runs, self.peer_runs)

    @property
    def ratio_raw(self) -> float | None:
        """Ours to the least that could do it; None without it."""
        return ratio(self.runs, self.raw)

    @property
    def met(self) -> bool | None:
        """Whether every target was met; None without one."""
        measured = {"ours": self.ours, "ratio_peer": self.ratio_peer, "ratio_raw": self.ratio_raw}
        return all(target.met_by(measured[target.of]) for target in self.targets) if self.targets else None

    def as_json(self) -> dict[str, Any]:
        """The figure as benchmarks/results/DATE.json has it; medians, rounded to four digits."""
        return {
            "name": self.name,
            "disk": self.disk,
            "unit": self.unit,
            "runs": [short(run) for run in self.runs],
            "ours": short(self.ours),
            "peer": short(median(self.peer_runs)) if self.peer_runs else None,
            "peer_name": self.peer_name or None,
            "raw": short(median(self.raw)) if self.raw else None,
            "raw_name": self.raw_name or None,
            "ratio_peer": short(self.ratio_peer),
            "ratio_raw": short(self.ratio_raw),
            "target": ", ".join(str(target) for target in self.targets) or None,
            "met": self.met,
            "note": self.note or None,
        }


def ratio(ours: Sequence[float], others: Sequence[float]) -> float | None:
    """Ours to others: the median over the runs, each to the other of the same run; None without others.

    A machine's mood lasts for longer than a run: both of a pair were in the same.
    """
    if not others or not all(others):
        return None
    if len(ours) != len(others):
        return median(ours) / median(others)
    return median(one / other for one, other in zip(ours, others, strict=True))


def short(number: float | None) -> float | None:
    """Four significant digits: more would be noise."""
    return None if number is None else float(f"{number:.4g}")
