"""`make faults SUITE=limits`: are limits kept, and used, by the platform's own count?

    python -m tests.fault.limits --form short|long --seed N [--within S] [--mutant NAME]

64 processes ask for more than there is, make each request that they are granted at a sandbox that follows
fleet time, and settle it with the answer's headers. A chapter is one kind of trouble
(tests/fault/limits_chapter.py), with a database and a sandbox of its own. The long form is three fleet hours
of each, and two days for the windows of a day. After each chapter what it came to is kept; a run that did not
finish in its time goes on with the next chapter when it is run again. With a mutant the limiter is broken
first, and the run is right when it finds that a promise was broken.
The last line, and tests/fault/results/limits-FORM-SEED.json, say what came of it.
Exit codes: 0 clean, 1 a promise was broken, 2 usage, 5 unfinished: run it again.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from tests.fault import limits_chapter, limits_mutants
from tests.fault.limits_chapter import PROMISES, Outcome, Scenario
from tests.fault.limits_place import own_database, place
from tests.fault.limits_scenarios import FORMS

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PROGRESS = ROOT / "build" / "faults"
WITHIN_S = 3600.0
AROUND_S = 30.0
"""What a chapter takes besides: a server, a schema, 64 logins and as many ends."""
CLEAN, BROKEN, UNFINISHED = 0, 1, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one form, or the rest of it; give the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fault.limits", description="limits against a real window")
    parser.add_argument("--form", choices=tuple(FORMS), default="short")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="S", help="end no chapter later")
    parser.add_argument(
        "--mutant",
        choices=tuple(limits_mutants.MUTANTS),
        default=os.environ.get("MUTANT") or None,
        help="break the limiter first",
    )
    options = parser.parse_args(arguments)
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, _leave)
    scenarios = FORMS[options.form]
    name = "-".join(filter(None, ("limits", options.form, str(options.seed), options.mutant)))
    progress = PROGRESS / f"{name}.json"
    done, outcome = resume(progress)
    began = monotonic()
    while done < len(scenarios):
        if monotonic() - began + scenarios[done].seconds + AROUND_S > options.within and done:
            break
        outcome.add(chapter(scenarios[done], options.seed + done, options.mutant))
        done += 1
        keep(progress, done, outcome)
        _tell(f"chapter {done}/{len(scenarios)}: {dict(outcome.violations)}")
    told = report(outcome, finished=done == len(scenarios))
    line = json.dumps(told)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(line + "\n")
    if told["finished"]:
        progress.unlink(missing_ok=True)  # the next run of this seed begins anew
    _tell(line)
    if not told["finished"]:
        return UNFINISHED
    return BROKEN if outcome.violations.total() else CLEAN


def chapter(scenario: Scenario, seed: int, mutant: str | None) -> Outcome:
    """One scenario with a database, a server and a sandbox of its own."""
    with (
        own_database() as database,
        limits_mutants.planted(database, mutant),
        place(database, scenario.rate) as here,
    ):
        return limits_chapter.run(scenario, here, seed, _tell)


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


def report(outcome: Outcome, *, finished: bool) -> dict[str, Any]:
    """What the run came to, under the names that every suite has."""
    operations = outcome.operations.total()
    return {
        "commit": _commit(),
        "operations": operations,
        "kills": outcome.faults["kill"],
        "faults": dict(sorted(outcome.faults.items())),
        "intents": 0,
        "states": {},
        "violations": {promise: outcome.violations[promise] for promise in PROMISES},
        "double": 0,
        "lost": 0,
        "orphan_parts": 0,
        "bound_95": 3 / max(1, operations),
        "limits": outcome.measures,
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
