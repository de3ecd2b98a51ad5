"""The breaker against a model of it: whatever happens in whatever order, both say the same."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from coordination import Fleet
from coordination.breakers import Passage, configure_breaker, reset_breaker
from coordination.database import Database
from coordination.errors import InvalidValueError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, value

ACCOUNT, SERVICE = "sandbox", "weather"
OPENS_AFTER, FIRST_S, LONGEST_S = 3, 30.0, 100.0


class Breaker(RuleBasedStateMachine):
    """Two processes use one breaker; the model knows state, count and who has the probe."""

    passages = Bundle("passages")
    fleets: tuple[Fleet, Fleet]
    console: Database
    owner: Owner
    database: FleetDatabase

    @initialize()
    def begin(self) -> None:
        self.owner.execute("DELETE FROM fleet.breakers")
        self.state, self.failures, self.opens = "closed", 0, 0
        self.probe: tuple[int, int] | None = None
        self.granted: set[tuple[int, int]] = set()

    @rule(target=passages, who=st.sampled_from([0, 1]))
    def ask(self, who: int) -> tuple[int, Passage]:
        passage = self.fleets[who].breakers.allow(ACCOUNT, SERVICE)
        if self.state == "closed":
            assert passage.allowed
            assert passage.probe is None
            assert passage.failures == self.failures
        elif self.state == "half_open":
            assert not passage.allowed
        elif passage.allowed:
            assert self.is_due()
            assert passage.probe is not None
            assert (who, passage.probe) not in self.granted
            self.granted.add((who, passage.probe))
            self.state, self.probe = "half_open", (who, passage.probe)
        else:
            assert passage.retry_after_s is not None
            assert 1 <= passage.retry_after_s <= LONGEST_S + 1
        return who, passage

    @rule(
        told=passages,
        outcome=st.sampled_from(
            [(True, 200), (False, 503), (False, None), (False, 404), (False, 429), (None, None)]
        ),
    )
    def record(self, told: tuple[int, Passage], outcome: tuple[bool | None, int | None]) -> None:
        who, passage = told
        if not passage.allowed:
            return
        succeeded, status = outcome
        answered = status is not None and 400 <= status < 500
        self.fleets[who].breakers.record(ACCOUNT, SERVICE, passage, succeeded=succeeded, status=status)
        has_probe = passage.probe is not None and (who, passage.probe) == self.probe
        if succeeded is False and not answered:
            if self.state == "closed" and passage.probe is None:
                self.failures += 1
                if self.failures >= OPENS_AFTER:
                    self.state, self.opens = "open", 1
            elif self.state == "half_open" and has_probe:
                self.failures += 1
                self.state, self.opens, self.probe = "open", self.opens + 1, None
        elif self.state == "half_open" and has_probe:
            self.state, self.probe = ("open", None) if succeeded is None else ("closed", None)
            if self.state == "closed":
                self.failures = self.opens = 0
        elif self.state == "closed" and succeeded and passage.failures:
            self.failures = 0

    @rule(seconds=st.sampled_from([1, 20, 60, 200]))
    def wait(self, seconds: int) -> None:
        self.database.advance(seconds)

    @rule()
    def lease_ends(self) -> None:
        """The prober says nothing for longer than its lease: the next one may probe."""
        if self.state != "half_open":
            return
        self.owner.execute("UPDATE fleet.breakers SET probe_expires_at = clock_timestamp()")
        passage = self.fleets[0].breakers.allow(ACCOUNT, SERVICE)
        assert passage.allowed
        assert passage.probe is not None
        self.granted.add((0, passage.probe))
        self.probe = (0, passage.probe)

    @rule()
    def reset(self) -> None:
        try:
            reset_breaker(self.console, ACCOUNT, SERVICE, actor="me", reason="test")
        except InvalidValueError:
            assert self.state == "closed"
        self.state, self.failures, self.opens, self.probe = "closed", 0, 0, None

    def is_due(self) -> bool:
        return bool(value(self.owner, "SELECT probe > 0 FROM fleet.breakers"))

    @invariant()
    def both_say_the_same(self) -> None:
        row: Any = self.owner.execute(
            "SELECT state, failures, opens, probe_incarnation IS NOT NULL, next_probe_at IS NOT NULL, "
            "extract(epoch FROM next_probe_at - changed_at)::float FROM fleet.breakers"
        ).fetchone()
        if row is None:
            assert (self.state, self.failures) == ("closed", 0)
            return
        state, failures, opens, has_prober, has_time, waits_s = row
        assert (state, failures, opens) == (self.state, self.failures, self.opens)
        assert has_prober == (self.state == "half_open")
        assert state != "open" or has_time  # I16's other half: there is always a next probe
        if state == "open" and waits_s > 0:
            longest = min(LONGEST_S, FIRST_S * 2 ** (opens - 1))
            assert longest / 2 - 1 <= waits_s <= longest + 1


def test_whatever_happens_the_breaker_does_as_its_model_i16(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure_breaker(
        console,
        "*",
        SERVICE,
        opens_after=OPENS_AFTER,
        first_backoff_s=FIRST_S,
        longest_backoff_s=LONGEST_S,
        stuck_after_s=604_800,
        actor="me",
        reason="test",
    )
    with fleet_database.connect("other") as other:
        world = {"fleets": (fleet, other), "console": console, "owner": owner, "database": fleet_database}
        machine = type("World", (Breaker,), world)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=40,
                stateful_step_count=40,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
    owner.execute("DELETE FROM fleet.breaker_rules WHERE service = %s", (SERVICE,))


@pytest.mark.parametrize("opens", range(1, 60))
def test_a_backoff_is_within_its_bounds_however_often_it_opened(owner: Owner, opens: int) -> None:
    rule_ = "ROW('*', '*', 10, 30, 900, 60, 3600)::fleet.breaker_rules"
    row = owner.execute(
        f"SELECT ARRAY(SELECT fleet.breaker_backoff_s({rule_}, {opens}) FROM generate_series(1, 50))".encode()
    ).fetchone()
    assert row is not None
    [waits] = row
    longest = min(900, 30 * 2 ** (opens - 1))
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert len(set(waits)) > 1
