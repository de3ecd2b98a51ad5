"""The fault suite finds a broken rule: versions of the functions that each break one.

A handful here, all with `make faults SUITE=coordination MUTANT=name`.
"""

from pathlib import Path

import pytest

from tests.fault import coordination_chapter as chapters
from tests.fault.coordination_chapter import Place, Plan
from tests.fault.coordination_faults import CALM
from tests.fault.mutants import MUTANTS, OPERATIONS, Mutant
from tests.integration.conftest import FleetDatabase
from tests.postgres_servers import LocalServer

FEW = (
    "lease-ignored",
    "token-of-the-content",
    "release-by-anybody",
    "job-claimed-unlocked",
    "pool-units-lost",
    "limiter-unlocked",
)
MEMBERS, SECONDS = 8, 2.0


def _place(fleet_database: FleetDatabase) -> Place:
    server = fleet_database.server
    if not isinstance(server, LocalServer):
        pytest.skip("the proxy and the pooler need the server's own address")
    return Place(
        server=server, admin_dsn=fleet_database.superuser_dsn, migrator_dsn=fleet_database.migrator_dsn
    )


@pytest.mark.parametrize("name", FEW)
def test_a_broken_rule_is_found(name: str, fleet_database: FleetDatabase, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    plan = Plan(
        seed=1,
        number=0,
        members=MEMBERS,
        seconds=SECONDS,
        least=OPERATIONS,
        drained_s=1,
        pause_s=0.001,
        faults=CALM,
        mutant=mutant,
    )
    outcome = chapters.run(_place(fleet_database), plan, tmp_path / "histories")
    assert mutant.breaks & set(+outcome.violations), outcome


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_still_fits_the_functions(name: str, fleet_database: FleetDatabase) -> None:
    MUTANTS[name].plant(fleet_database.superuser_dsn)


def test_a_mutant_that_fits_no_more_says_so(fleet_database: FleetDatabase) -> None:
    gone = Mutant(ways=[[("grant_lock", "no such words", "")]], breaks=frozenset())
    with pytest.raises(AssertionError, match="the functions hold none of"):
        gone.plant(fleet_database.superuser_dsn)
