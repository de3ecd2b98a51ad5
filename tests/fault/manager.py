"""`make faults SUITE=manager`: a host whose processes and database are killed and stopped at random.

The short form is some 60 operations, the long one 2,000, in chapters: each has a host of its own, and ends
with the questions whether the desired state was reached, nothing leaked and every death was proven. The last
one takes the database away. How it is run: tests/fault/suite.py.
"""

import sys
from collections.abc import Mapping
from typing import Any

from tests.fault import manager_away, manager_chapter, suite
from tests.fault.manager_faults import KILLS
from tests.fault.suite import Chapter, Outcome, Suite

CHAPTERS = {"short": 3, "long": 25}
OPERATIONS = {"short": 32, "long": 100}
"""In each chapter but the last."""
AWAY_S = {"short": 15.0, "long": 60.0}
HUNG_S = {"short": 0.0, "long": 60.0}
LONGEST_S = {"short": 120.0, "long": 300.0}


def chapter(one: Chapter) -> Outcome:
    """One chapter; each fault is an operation."""
    if one.number == CHAPTERS[one.form] - 1:
        outcome = manager_away.run(AWAY_S[one.form], suite.tell, hung_s=HUNG_S[one.form])
    else:
        outcome = manager_chapter.run(one.seed, one.number, OPERATIONS[one.form], suite.tell)
    outcome.operations += outcome.faults
    return outcome


def also(outcome: Outcome) -> Mapping[str, Any]:
    """How long after the last fault each chapter's desired state was reached."""
    return {"orphan_parts": outcome.violations["orphans"], "settled_s": outcome.measures}


SUITE = Suite(
    name="manager",
    about="kill, stop and continue a host",
    promises=("I19", "database away", "desired state", "orphans", "proof of death"),
    chapters={form: [LONGEST_S[form]] * number for form, number in CHAPTERS.items()},
    run=chapter,
    kills=KILLS,
    also=also,
)

if __name__ == "__main__":
    sys.exit(suite.main(SUITE))
