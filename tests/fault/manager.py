"""`make faults SUITE=manager`: a host whose processes and database are killed and stopped at random.

    python -m tests.fault.manager --form short|long --seed N [--within S]

The short form is some 60 operations, the long one 2,000, in chapters: each has a host of its own, and ends
with the questions whether the desired state was reached, nothing leaked and every death was proven. After
each chapter what it came to is kept; a run that did not finish in its time goes on with the next chapter when
it is run again. The last line, and tests/fault/results/manager-FORM-SEED.json, say what came of it.
Exit codes: 0 clean, 1 a promise was broken, 2 usage, 5 unfinished: run it again.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from tests.fault import manager_away, manager_chapter
from tests.fault.manager_chapter import Outcome
from tests.fault.manager_faults import KILLS

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PROGRESS = ROOT / "build" / "faults"
CHAPTERS = {"short": (3, 32), "long": (25, 100)}
"""How many, and of how many operations each; the last one takes the database away."""
AWAY_S = {"short": 15.0, "long": 60.0}
HUNG_S = {"short": 0.0, "long": 60.0}
PROMISES = ("I19", "database away", "desired state", "orphans", "proof of death")
WITHIN_S = 570.0
LONGEST_S = {"short": 120.0, "long": 300.0}
CLEAN, BROKEN, UNFINISHED = 0, 1, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one form, or the rest of it; give the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fault.manager", description="kill, stop and continue a host")
    parser.add_argument("--form", choices=tuple(CHAPTERS), default="short")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="S", help="begin no chapter later")
    options = parser.parse_args(arguments)
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, _leave)
    chapters, operations = CHAPTERS[options.form]
    progress = PROGRESS / f"manager-{options.form}-{options.seed}.json"
    done, outcome = resume(progress)
    began = monotonic()
    while done < chapters:
        if monotonic() - began > max(0.0, options.within - LONGEST_S[options.form]):
            break
        if done == chapters - 1:
            outcome.add(manager_away.run(AWAY_S[options.form], _tell, hung_s=HUNG_S[options.form]))
        else:
            outcome.add(manager_chapter.run(options.seed, done, operations, _tell))
        done += 1
        keep(progress, done, outcome)
        _tell(f"chapter {done}/{chapters}: settled in {outcome.settled_s[-1:]} s, {dict(outcome.violations)}")
    told = report(outcome, finished=done == chapters)
    line = json.dumps(told)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"manager-{options.form}-{options.seed}.json").write_text(line + "\n")
    if not told["finished"]:
        _tell(line)
        return UNFINISHED
    progress.unlink(missing_ok=True)  # the next run of this seed begins anew
    _tell(line)
    return BROKEN if outcome.violations.total() else CLEAN


def resume(progress: Path) -> tuple[int, Outcome]:
    """How many chapters are done, and what they came to."""
    if not progress.exists():
        return 0, Outcome()
    kept: dict[str, Any] = json.loads(progress.read_text())
    return int(kept["chapters"]), Outcome(
        operations=Counter(kept["operations"]),
        violations=Counter(kept["violations"]),
        details=kept["details"],
        settled_s=kept["settled_s"],
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
        "kills": sum(count for name, count in outcome.operations.items() if name in KILLS),
        "faults": dict(sorted(outcome.operations.items())),
        "intents": 0,
        "states": {},
        "violations": {promise: outcome.violations[promise] for promise in PROMISES},
        "double": 0,
        "lost": 0,
        "orphan_parts": outcome.violations["orphans"],
        "bound_95": 3 / max(1, operations),
        "settled_s": outcome.settled_s,
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
