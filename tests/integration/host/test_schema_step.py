"""The schema step's own process: what it brings back, what it says, and that it leaves nobody behind."""

import psutil
import psycopg
import pytest

from host.schema_step import SchemaStep, SchemaStepError
from migrations import revisions
from tests.integration.conftest import PASSWORDS, FleetDatabase

NOWHERE = "postgresql://nobody:x@127.0.0.1:1/none"


def test_it_brings_the_schema_up_to_date_and_ends(fleet_database: FleetDatabase) -> None:
    step = SchemaStep()
    own = {child.pid for child in psutil.Process().children() if "host.schema_step" in child.cmdline()}
    assert len(own) == 1
    assert step.upgrade(fleet_database.dsn("migrator"), PASSWORDS) == revisions.known()[-1]
    step.close()
    step.close()
    assert not any(psutil.pid_exists(pid) for pid in own)


def test_a_database_that_nobody_reaches_has_the_exit_code_of_one() -> None:
    step = SchemaStep()
    with pytest.raises(SchemaStepError, match="DATABASE_URL") as refused:
        step.upgrade(NOWHERE, PASSWORDS)
    assert refused.value.exit_code == 4
    step.close()


def test_a_newer_programs_schema_is_refused_in_its_own_words(fleet_database: FleetDatabase) -> None:
    with psycopg.connect(fleet_database.dsn("owner"), autocommit=True) as owner:
        owner.execute("UPDATE fleet.schema_revision SET version_num = '9999'")
    step = SchemaStep()
    with pytest.raises(SchemaStepError, match=r"9999.*newer program") as refused:
        step.upgrade(fleet_database.dsn("migrator"), PASSWORDS)
    assert refused.value.exit_code == 1
    step.close()


def test_one_that_was_killed_is_told_as_such() -> None:
    step = SchemaStep()
    for child in psutil.Process().children():
        if "host.schema_step" in child.cmdline():
            child.kill()
    with pytest.raises(SchemaStepError, match=r"ended with -9 before it was done"):
        step.upgrade(NOWHERE, PASSWORDS)
    step.close()


def test_one_that_is_asked_for_nothing_ends_with_its_close() -> None:
    step = SchemaStep()
    step.close()
    assert not any("host.schema_step" in child.cmdline() for child in psutil.Process().children())
