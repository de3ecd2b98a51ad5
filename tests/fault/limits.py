"""`make faults SUITE=limits`: are limits kept, and used, by the platform's own count?

64 processes ask for more than there is, make each request that they are granted at a sandbox that follows
fleet time, and settle it with the answer's headers. A chapter is one kind of trouble
(tests/fault/limits_chapter.py), with a database and a sandbox of its own. The long form counts an hour of
fleet time in each, and 49 hours for the windows of a day. A mutant has a chapter of
its own, in which it is found. How it is run: tests/fault/suite.py.
"""

import sys

from tests.fault import limits_chapter, limits_mutants, suite
from tests.fault.limits_chapter import PROMISES
from tests.fault.limits_place import own_database, place
from tests.fault.limits_scenarios import FORMS
from tests.fault.suite import Chapter, Outcome, Suite

AROUND_S = 30.0
"""What a chapter takes besides: a server, a schema, 64 logins and as many ends."""


def chapter(one: Chapter) -> Outcome:
    """One scenario with a database, a server and a sandbox of its own."""
    scenario = FORMS[one.form][one.number]
    if one.mutant:
        scenario, _ = limits_mutants.SCENARIOS[one.mutant]
    with (
        own_database() as database,
        limits_mutants.planted(database, one.mutant),
        place(database, scenario.rate) as here,
    ):
        return limits_chapter.run(scenario, here, one.seed + one.number, suite.tell)


SUITE = Suite(
    name="limits",
    about="limits against a real window",
    promises=PROMISES,
    chapters={form: [one.seconds + AROUND_S for one in chapters] for form, chapters in FORMS.items()},
    run=chapter,
    kills=("kill",),
    mutants={mutant: promises for mutant, (_, promises) in limits_mutants.SCENARIOS.items()},
    also=lambda outcome: {"limits": outcome.measures},
)

if __name__ == "__main__":
    sys.exit(suite.main(SUITE))
