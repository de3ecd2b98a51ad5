"""Limiters that are broken in one way each: the limits' fault suite finds every one of them."""

import pytest

from tests.fault import limits_chapter
from tests.fault.limits_mutants import MUTANTS, SCENARIOS, planted
from tests.fault.limits_place import place
from tests.integration.conftest import FleetDatabase


@pytest.mark.timed
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_limiter_is_found(fleet_database: FleetDatabase, mutant: str) -> None:
    scenario, promises = SCENARIOS[mutant]
    with planted(fleet_database, mutant), place(fleet_database, scenario.rate) as here:
        outcome = limits_chapter.run(scenario, here, 1, lambda _line: None)
    assert any(outcome.violations[promise] for promise in promises), (outcome.measures, outcome.details)
