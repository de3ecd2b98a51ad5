"""What all fault suites share: runs in chapters that go on where they stopped, and results in one form.

    python -m tests.fault.SUITE --form short|long --seed N [--within S] [--mutant NAME]

After each chapter what it came to is kept: a run that was ended goes on with the next chapter when it is run
again. With a mutant a rule is broken first, which the run must find: it ends with the
chapter that does, and then 0 means found. The last line, and
tests/fault/results/SUITE-FORM-SEED.json, say what came of it.
Exit codes: 0 clean, 1 a promise was broken, 2 usage, 5 unfinished: run it again.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PROGRESS = ROOT / "build" / "faults"
CLEAN, BROKEN, UNFINISHED = 0, 1, 5
DETAILS = 100
"""Sentences in a result."""


@dataclass(kw_only=True)
class Outcome:
    """What chapters came to; they add up.

    Attributes:
        operations: how often each thing was done.
        faults: how often each fault struck.
        violations: how often each promise was broken.
        details: in sentences.
        measures: what else each chapter found, as JSON has it.
    """

    operations: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    violations: Counter[str] = field(default_factory=Counter[str])
    details: list[str] = field(default_factory=list[str])
    measures: list[Any] = field(default_factory=list[Any])

    def broken(self, promise: str, sentences: Iterable[str]) -> None:
        """A promise that was not kept, once a sentence."""
        for sentence in sentences:
            self.violations[promise] += 1
            self.details.append(f"{promise}: {sentence}")

    def add(self, other: "Outcome") -> None:
        """Count another chapter in."""
        self.operations += other.operations
        self.faults += other.faults
        self.violations += other.violations
        self.details += other.details
        self.measures += other.measures


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Which part of which run is to be done.

    Attributes:
        form: short or long.
        seed: of the run.
        number: of the chapter, from 0.
        mutant: the rule that is broken first.
        directory: for what it writes; what it leaves there stays.
    """

    form: str
    seed: int
    number: int
    mutant: str | None
    directory: Path


def nothing(_: Outcome) -> Mapping[str, Any]:
    """Nothing else is to be told of a run."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One suite.

    Attributes:
        name: as SUITE has it, and its module.
        about: in a few words.
        promises: those that it judges.
        chapters: how long each chapter of each form takes at most, about, in seconds.
        run: runs one.
        kills: the faults that are kills; None: all are.
        mutants: the rules that can be broken, and the promises of which one must then be found broken.
        also: what else is told of a run.
    """

    name: str
    about: str
    promises: Sequence[str]
    chapters: Mapping[str, Sequence[float]]
    run: Callable[[Chapter], Outcome]
    kills: Collection[str] | None = None
    mutants: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    also: Callable[[Outcome], Mapping[str, Any]] = nothing


def main(suite: Suite, arguments: Sequence[str] | None = None) -> int:
    """Run one form, or the rest of it; give the exit code."""
    parser = argparse.ArgumentParser(prog=f"tests.fault.{suite.name}", description=suite.about)
    parser.add_argument("--form", choices=tuple(suite.chapters), default="short")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--within", type=float, default=float("inf"), metavar="S", help="end no chapter later"
    )
    if suite.mutants:
        parser.add_argument("--mutant", choices=tuple(suite.mutants), help="break a rule first")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)  # ended from outside, it still ends what it started
    mutant: str | None = getattr(options, "mutant", None)
    name = "-".join(filter(None, (suite.name, options.form, str(options.seed), mutant)))
    progress = PROGRESS / f"{name}.json"
    done, outcome = resume(progress)
    lasting = suite.chapters[options.form]
    began, first = monotonic(), done
    while not (finished := done == len(lasting) or _is_found(suite, mutant, outcome)):
        if done > first and monotonic() - began + lasting[done] > options.within:
            break
        directory = PROGRESS / f"{name}-{done}"
        chapter = Chapter(
            form=options.form, seed=options.seed, number=done, mutant=mutant, directory=directory
        )
        outcome.add(suite.run(chapter))
        done += 1
        keep(progress, done, outcome)
        operations, faults = outcome.operations.total(), outcome.faults.total()
        tell(
            f"{done} of {len(lasting)}: {operations} operations, {faults} faults, {dict(outcome.violations)}"
        )
    line = json.dumps(report(suite, outcome, chapters=done, finished=finished))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(line + "\n")
    tell(line)
    if not finished:
        return UNFINISHED
    progress.unlink(missing_ok=True)  # the next run of this seed begins anew
    if mutant:
        return CLEAN if _is_found(suite, mutant, outcome) else BROKEN
    return BROKEN if outcome.violations.total() else CLEAN


def _is_found(suite: Suite, mutant: str | None, outcome: Outcome) -> bool:
    return mutant is not None and any(outcome.violations[one] for one in suite.mutants[mutant])


def resume(progress: Path) -> tuple[int, Outcome]:
    """How many chapters are done, and what they came to."""
    if not progress.exists():
        return 0, Outcome()
    kept: dict[str, Any] = json.loads(progress.read_text())
    return int(kept["chapters"]), Outcome(
        operations=Counter(kept["operations"]),
        faults=Counter(kept["faults"]),
        violations=Counter(kept["violations"]),
        details=kept["details"],
        measures=kept["measures"],
    )


def keep(progress: Path, chapters: int, outcome: Outcome) -> None:
    """Write it down, whole or not at all."""
    progress.parent.mkdir(parents=True, exist_ok=True)
    new = progress.with_suffix(".new")
    new.write_text(json.dumps({"chapters": chapters, **vars(outcome)}))
    new.replace(progress)


def report(suite: Suite, outcome: Outcome, *, chapters: int, finished: bool) -> dict[str, Any]:
    """What the run came to, under the names that every suite has; `bound_95`: three divided by the tries."""
    operations, faults = outcome.operations.total(), outcome.faults.total()
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "chapters": chapters,
        "operations": operations,
        "kills": sum(n for name, n in outcome.faults.items() if suite.kills is None or name in suite.kills),
        "faults": dict(sorted(outcome.faults.items())),
        "intents": 0,
        "states": {},
        "violations": {promise: outcome.violations[promise] for promise in suite.promises},
        "double": 0,
        "lost": 0,
        "orphan_parts": 0,
        "bound_95": 3 / max(1, operations),
        "bound_95_faults": 3 / max(1, faults),
        **suite.also(outcome),
        "details": outcome.details[:DETAILS],
        "finished": finished,
    }


def tell(line: str) -> None:
    """Say it at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
