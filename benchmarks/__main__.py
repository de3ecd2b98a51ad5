"""`make bench`: take every figure, or those of the benchmarks that are named.

    python -m benchmarks --only workers --runs 5

A missed target is reported and ends nothing: the exit code is 0. 2: there is no such benchmark.
"""

import argparse
import pkgutil
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from benchmarks import figures, report
from benchmarks.core import flush_ms
from benchmarks.figure import Figure

RUNS = 5


class Benchmark(Protocol):
    """A file in `benchmarks/figures/`."""

    __doc__: str | None

    def measure(self, runs: int) -> Iterable[Figure]:
        """Take its figures; each as soon as it is there."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report."""
    found = discover()
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure the fleet beside its peers.")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of: {', '.join(found)}")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args(arguments)
    wanted = options.only or list(found)
    if unknown := [name for name in wanted if name not in found]:
        parser.error(f"there is no benchmark {unknown[0]!r}: there are {', '.join(found)}")
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, _leave)
    print("\n".join(f"{name}: {value}" for name, value in report.machine().items()))
    missed = 0
    for name in wanted:
        before_ms = flush_ms()
        print(f"\n{name}: {(found[name].__doc__ or '').splitlines()[0]}")
        print(f"flushing 8 kB to this machine's disk takes {before_ms:.2f} ms")
        print(report.HEAD, flush=True)
        told: list[dict[str, Any]] = []
        for figure in found[name].measure(options.runs):
            told.append(figure.as_json() | {"commit": report.commit()})
            print(report.row(told[-1]), flush=True)
            report.write(told[-1:])
            missed += figure.met is False
        after_ms = flush_ms()
        path = report.write([one | {"flush_ms": [round(before_ms, 3), round(after_ms, 3)]} for one in told])
        print(f"flushing 8 kB takes {after_ms:.2f} ms; {path.relative_to(report.ROOT)}", flush=True)
    print(f"{missed} targets missed" if missed else "every target met")
    return 0


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def discover() -> dict[str, Benchmark]:
    """Every benchmark by its file's name."""
    names = sorted(module.name for module in pkgutil.iter_modules(figures.__path__))
    return {name: cast("Benchmark", import_module(f"benchmarks.figures.{name}")) for name in names}


if __name__ == "__main__":
    sys.exit(main())
