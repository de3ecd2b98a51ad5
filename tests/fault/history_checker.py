"""The independent checker: which promises a history breaks.

It knows none of the functions under test, only what their callers asked and were told. It misses what no
caller could have seen; what it reports, really happened.
"""

from tests.fault import history_holds, history_limits, history_line, history_order
from tests.fault.history import History, Violation

INVARIANTS = ("I1", "I2", "I3", "I9", "I10", "I11", "I12", "I13", "I14", "I15")


def check(history: History) -> list[Violation]:
    """Give every violation found, by invariant."""
    holds = history_holds.Holds.of(history)
    found = [
        *history_holds.overlaps(holds),
        *history_holds.tokens(holds),
        *history_holds.stale_writes(history, holds),
        *history_holds.wrong_refusals(history, holds),
        *history_holds.repeated_effects(history, holds),
        *history_holds.overfull_pools(history, holds),
        *history_limits.exceeded(history),
        *history_limits.outstanding(history),
        *history_limits.shares(history),
        *history_order.order(history),
        *history_line.line(history, holds),
    ]
    return sorted(found)
