import ast
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine

from coordination.models import SCHEMA, metadata
from migrations import functions, schema
from tests.postgres_servers import Server

PASSWORDS = {role: f"password-of-{role}" for role in schema.ROLES}


def only_the_fleets(name: str | None, kind: str, _parents: object) -> bool:
    is_partition = (
        kind == "table" and re.fullmatch(r"(runs|jobs_finished)_(rest|\d{8})", name or "") is not None
    )
    return not is_partition and (kind != "schema" or name == SCHEMA)


def test_models_and_migrations_describe_the_same_schema(empty_database: str) -> None:
    schema.upgrade(empty_database, PASSWORDS)
    engine = create_engine(empty_database.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_type": True,
                "compare_server_default": True,
                "version_table": "schema_revision",
                "version_table_schema": SCHEMA,
                "include_name": only_the_fleets,
            },
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_upgrading_again_changes_nothing(empty_database: str) -> None:
    first = schema.upgrade(empty_database, PASSWORDS)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("INSERT INTO fleet.flags VALUES ('kept', true, 1, 'me', 'why', now())")
    assert schema.upgrade(empty_database, PASSWORDS) == first == schema.head()
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT name FROM fleet.flags").fetchall() == [("kept",)]


def test_several_hosts_may_upgrade_at_once(empty_database: str) -> None:
    with ThreadPoolExecutor(4) as hosts:
        upgrades = [hosts.submit(schema.upgrade, empty_database, PASSWORDS) for _ in range(4)]
    assert {upgrade.result() for upgrade in upgrades} == {schema.head()}


def test_a_database_newer_than_the_program_is_refused_and_left_alone(empty_database: str) -> None:
    schema.upgrade(empty_database, PASSWORDS)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("UPDATE fleet.schema_revision SET version_num = '9999'")
        connection.execute("DROP FUNCTION fleet.get_kill_switch()")
    with pytest.raises(schema.DatabaseTooNewError, match=r"9999.*newer program"):
        schema.upgrade(empty_database, PASSWORDS)
    with psycopg.connect(empty_database) as connection:
        found = connection.execute("SELECT to_regprocedure('fleet.get_kill_switch()')").fetchone()
    assert found == (None,)


def test_each_role_logs_in_by_itself_and_owns_nothing_but_the_owner_does(empty_database: str) -> None:
    schema.upgrade(empty_database, PASSWORDS)
    for role in schema.ROLES:
        parts = conninfo_to_dict(empty_database)
        parts.update(user=role, password=PASSWORDS[role])
        with psycopg.connect(**parts) as connection:  # pyright: ignore[reportArgumentType]
            assert connection.execute("SELECT session_user, current_user").fetchone() == (role, role)
    with psycopg.connect(empty_database) as connection:
        owners = connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class "
            "WHERE relnamespace = 'fleet'::regnamespace AND relkind IN ('r', 'S') UNION "
            "SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc "
            "WHERE pronamespace = 'fleet'::regnamespace"
        ).fetchall()
    assert owners == [("fleet_owner",)]


def test_reset_logins_gives_existing_roles_the_new_passwords(empty_database: str) -> None:
    schema.upgrade(empty_database, PASSWORDS)
    parts = conninfo_to_dict(empty_database)
    parts.update(user="fleet_reader", password="another")
    try:
        schema.upgrade(empty_database, {**PASSWORDS, "fleet_reader": "another"}, reset_logins=True)
        with psycopg.connect(**parts) as connection:  # pyright: ignore[reportArgumentType]
            assert connection.execute("SELECT session_user").fetchone() == ("fleet_reader",)
    finally:
        schema.upgrade(empty_database, PASSWORDS, reset_logins=True)


def test_a_login_that_may_not_make_roles_is_told_what_it_needs(postgres: Server, empty_database: str) -> None:
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS weakling")
        admin.execute("CREATE ROLE weakling LOGIN PASSWORD 'weak'")
    weak = empty_database.replace("fleet_migrator:", "weakling:", 1)
    parts = conninfo_to_dict(weak)
    parts["password"] = "weak"
    dsn = f"postgresql://weakling:weak@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    with pytest.raises(schema.MigratorTooWeakError, match="CREATEROLE"):
        schema.upgrade(dsn, PASSWORDS, reset_logins=True)


def test_an_unreachable_database_is_one_sentence() -> None:
    with pytest.raises(schema.DatabaseUnreachableError, match="DATABASE_URL"):
        schema.upgrade("postgresql://nobody:x@127.0.0.1:1/none", PASSWORDS)


def test_the_newest_revision_states_the_functions_digest() -> None:
    """So that no function changes without a revision that an older program doesn't know."""
    scripts = ScriptDirectory(str(Path(schema.__file__).parent))
    newest = scripts.get_revision(schema.head())
    assert newest is not None
    stated = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(Path(newest.path).read_text("utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert stated["functions"] == functions.digest(), (
        f"state functions = {functions.digest()!r} in {newest.path}"
    )
