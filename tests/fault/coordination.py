"""`make faults SUITE=coordination`: the coordination core under kills, stops, cuts, restarts and exhaustion.

    python -m tests.fault.coordination --form short|long --seed N [--within S] [--mutant NAME]

Sixteen processes lock, enqueue, send and ask for quota, on a few hot things and many cold ones; some
through a proxy that fails as networks do, some through PgBouncer where it is installed, some with a clock a
day off where libfaketime is. What each was told is written down, and an independent checker decides whether
the core kept its promises (tests/fault/history_checker.py). The short form is one chapter, the long one 32.
A run that did not finish in its time goes on with the next chapter when it is run again. With a mutant a
rule of the functions is broken, which the suite must find: then 0 means found. The last line, and
tests/fault/results/coordination-FORM-SEED.json, say what came of it.
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
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from tests.fault import coordination_chapter as chapters
from tests.fault.coordination_chapter import PROMISES, Outcome, Plan
from tests.fault.coordination_faults import KILLS
from tests.fault.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PROGRESS = ROOT / "build" / "faults"
CHAPTERS = {"short": (1, 20.0), "long": (32, 65.0)}
"""How many, and how many seconds of faults in each."""
LEAST = 2000
"""Operations in a chapter: a busy machine takes longer for them."""
WITHIN_S = 570.0
AROUND_S = 45.0
"""What a chapter takes besides its faults."""
CLEAN, BROKEN, UNFINISHED = 0, 1, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one form, or the rest of it; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="tests.fault.coordination", description="break the core, if you can"
    )
    parser.add_argument("--form", choices=tuple(CHAPTERS), default="short")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="S", help="begin no chapter later")
    parser.add_argument("--mutant", choices=tuple(MUTANTS), default=None)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)  # ended from outside, it still ends what it started
    name = "-".join(["coordination", options.form, str(options.seed), *filter(None, [options.mutant])])
    progress = PROGRESS / f"{name}.json"
    done, outcome = resume(progress)
    number, seconds = CHAPTERS[options.form]
    mutant = MUTANTS[options.mutant] if options.mutant else None
    began = monotonic()
    while done < number and (not done or monotonic() - began + seconds + AROUND_S < options.within):
        plan = Plan(seed=options.seed, number=done, seconds=seconds, least=LEAST, mutant=mutant)
        outcome.add(chapter(plan, PROGRESS / f"{name}-{done}"))
        done += 1
        keep(progress, done, outcome)
        _tell(f"chapter {done}/{number}: {outcome.operations} operations, {dict(outcome.violations)}")
    told = report(outcome, finished=done == number)
    line = json.dumps(told)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(line + "\n")
    _tell(line)
    if done < number:
        return UNFINISHED
    progress.unlink(missing_ok=True)  # the next run of this seed begins anew
    if mutant:
        return CLEAN if mutant.breaks & set(+outcome.violations) else BROKEN
    return BROKEN if outcome.violations.total() else CLEAN


def chapter(plan: Plan, directory: Path) -> Outcome:
    """Run one chapter on a server of its own."""
    server = chapters.fresh_server()
    try:
        return chapters.run(chapters.fresh_place(server, "faults"), plan, directory)
    finally:
        server.remove()


def resume(progress: Path) -> tuple[int, Outcome]:
    """How many chapters are done, and what they came to."""
    if not progress.exists():
        return 0, Outcome()
    kept: dict[str, Any] = json.loads(progress.read_text())
    return int(kept["chapters"]), Outcome(
        operations=kept["operations"],
        asked=Counter(kept["asked"]),
        faults=Counter(kept["faults"]),
        violations=Counter(kept["violations"]),
        details=kept["details"],
    )


def keep(progress: Path, done: int, outcome: Outcome) -> None:
    """Write it down, whole or not at all."""
    progress.parent.mkdir(parents=True, exist_ok=True)
    new = progress.with_suffix(".new")
    new.write_text(json.dumps({"chapters": done, **vars(outcome)}))
    new.replace(progress)


def report(outcome: Outcome, *, finished: bool) -> dict[str, Any]:
    """What the run came to, under the names that every suite has."""
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "operations": outcome.operations,
        "asked": dict(sorted(outcome.asked.items())),
        "kills": sum(count for name, count in outcome.faults.items() if name in KILLS),
        "faults": dict(sorted(outcome.faults.items())),
        "intents": 0,
        "states": {},
        "violations": {promise: outcome.violations[promise] for promise in PROMISES},
        "double": outcome.violations["I15"],
        "lost": outcome.violations["lost"],
        "orphan_parts": 0,
        "bound_95": 3 / max(1, outcome.operations),
        "bound_95_faults": 3 / max(1, outcome.faults.total()),
        "details": outcome.details[:100],
        "finished": finished,
    }


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
