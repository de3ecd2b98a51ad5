"""`make faults SUITE=coordination`: the coordination core under kills, stops, cuts, restarts and exhaustion.

Sixteen processes lock, enqueue, send and ask for quota, on a few hot things and many cold ones; some
through a proxy that fails as networks do, some through PgBouncer where it is installed, some with a clock a
day off where libfaketime is. What each was told is written down, and an independent checker decides whether
the core kept its promises (tests/fault/history_checker.py). The short form is one chapter, the long one 32.
How it is run: tests/fault/suite.py.
"""

import sys
from collections.abc import Mapping
from typing import Any

from tests.fault import coordination_chapter as chapters
from tests.fault import suite
from tests.fault.coordination_chapter import LOST, PROMISES, Plan
from tests.fault.coordination_faults import KILLS
from tests.fault.history_checker import INVARIANTS
from tests.fault.mutants import MUTANTS, OPERATIONS
from tests.fault.suite import Chapter, Outcome, Suite

CHAPTERS = {"short": (1, 20.0), "long": (32, 65.0)}
"""How many, and how many seconds of faults in each."""
LEAST = {"short": 2000, "long": 32_000}
"""Operations in a chapter: a busy machine takes longer for them. The long form is a million."""
AROUND_S = 45.0
"""What a chapter takes besides its faults."""


def chapter(one: Chapter) -> Outcome:
    """Run one chapter on a server of its own."""
    mutant = MUTANTS[one.mutant] if one.mutant else None
    plan = Plan(
        seed=one.seed,
        number=one.number,
        seconds=CHAPTERS[one.form][1],
        least=OPERATIONS if mutant and mutant.breaks & set(INVARIANTS) else LEAST[one.form],
        mutant=mutant,
    )
    server = chapters.fresh_server()
    try:
        return chapters.run(chapters.fresh_place(server, "faults"), plan, one.directory)
    finally:
        server.remove()


def also(outcome: Outcome) -> Mapping[str, Any]:
    """Operations by what came of them, and what each chapter took."""
    return {
        "asked": dict(sorted(outcome.operations.items())),
        "double": outcome.violations["I15"],
        "lost": outcome.violations[LOST],
        "in_chapters": outcome.measures,
    }


SUITE = Suite(
    name="coordination",
    about="break the core, if you can",
    promises=PROMISES,
    chapters={form: [seconds + AROUND_S] * number for form, (number, seconds) in CHAPTERS.items()},
    run=chapter,
    kills=KILLS,
    mutants={name: mutant.breaks for name, mutant in MUTANTS.items()},
    also=also,
)

if __name__ == "__main__":
    sys.exit(suite.main(SUITE))
