"""The order of a line, for any arrivals: what the database decides against a reading of the rule."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.coordination.tables import Owner, value

RANKS = ("low", "medium", "high", "critical")
AGEING_S = 60.0
"""What a step of priority is worth where nobody set it."""
START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Arrival:
    """Who asks, `at_s` seconds after the start."""

    at_s: int
    rank: int
    score: int

    def importance(self, now_s: float) -> float:
        """Its priority with ageing and score, in steps, at that moment."""
        return self.rank + self.score / 100 + (now_s - self.at_s) / AGEING_S


arrivals = st.lists(
    st.builds(Arrival, at_s=st.integers(0, 600), rank=st.integers(0, 3), score=st.integers(0, 100)),
    min_size=2,
    max_size=8,
    unique=True,
)


def stands_at(owner: Owner, one: Arrival) -> datetime:
    """Where the database puts it."""
    found: datetime = value(
        owner,
        "SELECT (fleet.ask_for_lock('c', gen_random_uuid(), 'w', 'quote', '1 min', %s, score => %s, "
        "stands_since => %s)).stands_at",
        RANKS[one.rank],
        float(one.score),
        START + timedelta(seconds=one.at_s),
    )
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asking=arrivals, now_s=st.integers(600, 5000))
def test_the_line_is_by_priority_waiting_and_score_at_every_moment_i12(
    owner: Owner, asking: list[Arrival], now_s: int
) -> None:
    line = sorted(asking, key=lambda one: stands_at(owner, one))
    for ahead, behind in pairwise(line):
        assert ahead.importance(now_s) >= behind.importance(now_s) - 1e-6
    # And nobody is passed by one who came later than the steps between them are worth.
    for place, one in enumerate(line):
        for ahead in line[:place]:
            steps = (ahead.rank - one.rank) + (ahead.score - one.score) / 100
            assert ahead.at_s - one.at_s <= steps * AGEING_S + 1e-3
