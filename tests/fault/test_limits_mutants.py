"""Limiters that are broken in one way each: the limits' fault suite finds every one of them."""

import pytest

from tests.fault import limits_chapter
from tests.fault.limits_mutants import MUTANTS, SCENARIOS, planted
from tests.fault.limits_place import place
from tests.integration.conftest import FleetDatabase


def test_every_mutant_can_be_planted_and_is_taken_back(fleet_database: FleetDatabase) -> None:
    def functions() -> str:
        with fleet_database.owner() as owner:
            row = owner.execute(
                "SELECT string_agg(pg_get_functiondef(p.oid), '' ORDER BY p.proname) FROM pg_proc p "
                "WHERE p.pronamespace = 'fleet'::regnamespace AND p.prokind = 'f'"
            ).fetchone()
        assert row
        return str(row[0])

    sound = functions()
    for mutant in MUTANTS:
        with planted(fleet_database, mutant):
            assert functions() != sound, mutant
        assert functions() == sound, mutant


@pytest.mark.timed
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_limiter_is_found(fleet_database: FleetDatabase, mutant: str) -> None:
    scenario, promises = SCENARIOS[mutant]
    with planted(fleet_database, mutant), place(fleet_database, scenario.rate) as here:
        outcome = limits_chapter.run(scenario, here, 1, lambda _line: None)
    assert any(outcome.violations[promise] for promise in promises), (outcome.measures, outcome.details)
