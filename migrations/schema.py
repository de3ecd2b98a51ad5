"""Bring the schema up to the program's revision, under a lock, so that several hosts may start at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import psycopg
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from coordination.models import SCHEMA
from migrations import functions

ROLES = ("fleet_owner", "fleet_worker", "fleet_console", "fleet_reader", "fleet_maintainer")
OLDEST_POSTGRESQL = 14
FIRST_WITH_INHERIT_OPTION = 160000
# 'fleet' in ASCII: one advisory lock for every migrator, before lock_key exists.
MIGRATION_LOCK = 0x666C656574


class SchemaError(Exception):
    """The schema could not be brought up to date; the text says what to do."""


class DatabaseTooNewError(SchemaError):
    """The database was migrated by a newer program."""


class MigratorTooWeakError(SchemaError):
    """The migrator's login may not do what migrations need."""


class DatabaseUnreachableError(SchemaError):
    """No connection to the database."""


def _alembic(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The program's own revision."""
    revision = ScriptDirectory.from_config(_alembic()).get_current_head()
    if revision is None:
        raise SchemaError("the program holds no migration: install it again")
    return revision


def upgrade(dsn: str, passwords: Mapping[str, str], *, reset_logins: bool = False) -> str:
    """Make or upgrade the schema, its functions, roles and grants; give the revision reached.

    Args:
        dsn: the migrator's `postgresql://` URL.
        passwords: one for each of `ROLES`, for roles that don't exist yet.
        reset_logins: set the passwords of existing roles too.

    Raises:
        DatabaseTooNewError: a newer program was here; nothing was changed.
        MigratorTooWeakError: the login lacks CREATEROLE, or CREATE on the database.
        DatabaseUnreachableError: no connection.
    """
    # libpq reads the URL, also one with several hosts, which SQLAlchemy's own parser would not.
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(dsn, connect_timeout=10, application_name="socialfleet migrate"),
    )
    try:
        with engine.connect() as connection:
            _require_version(connection)
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            with connection.begin():
                return _upgrade(connection, passwords, reset_logins=reset_logins)
    except OperationalError as error:
        raise DatabaseUnreachableError(
            f"no connection to the database ({_first_line(error)}): check DATABASE_URL, and that it runs"
        ) from None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "42501":
            raise MigratorTooWeakError(
                f"the login in DATABASE_URL may not migrate ({_first_line(error)}): it needs CREATEROLE and "
                "CREATE on the database, for example: ALTER ROLE name CREATEROLE"
            ) from None
        raise SchemaError(f"the migration failed and changed nothing: {_first_line(error)}") from error
    finally:
        engine.dispose()


def _upgrade(connection: Connection, passwords: Mapping[str, str], *, reset_logins: bool) -> str:
    known = {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}
    current = _current(connection)
    if current is not None and current not in known:
        raise DatabaseTooNewError(
            f"the database is at revision {current}, this program knows up to {head()}: run a newer program"
        )
    _ensure_roles(connection, passwords, reset=reset_logins)
    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION fleet_owner")
    command.upgrade(_alembic(connection), "head")
    # CREATE OR REPLACE can't change what a function gives; nor may an earlier one's leftovers be called.
    _driver(connection).execute(Path(__file__).with_name("drop_functions.sql").read_bytes())
    for _, source in functions.sources():
        _driver(connection).execute(source.encode())
    _driver(connection).execute(Path(__file__).with_name("ownership.sql").read_bytes())
    connection.execute(
        text("SELECT fleet.accept_cluster('migration') WHERE NOT EXISTS (SELECT FROM fleet.installation)")
    )
    return head()


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    """Psycopg's own connection: whole files of SQL go through it as they are, without placeholders."""
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def _current(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('fleet.schema_revision')")).scalar() is None:
        return None
    return connection.execute(text("SELECT version_num FROM fleet.schema_revision")).scalar()


def _require_version(connection: Connection) -> None:
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if number // 10000 < OLDEST_POSTGRESQL:
        raise SchemaError(f"PostgreSQL {number // 10000} is too old: SocialFleet needs 14 to 18")


def _ensure_roles(connection: Connection, passwords: Mapping[str, str], *, reset: bool) -> None:
    driver = _driver(connection)
    there = set(
        connection.execute(text("SELECT rolname FROM pg_roles WHERE rolname LIKE 'fleet\\_%'")).scalars()
    )
    for role in ROLES:
        if role not in there or reset:
            # Hashed here, so that no password is in a statement that a server may log.
            secret = driver.pgconn.encrypt_password(
                passwords[role].encode(), role.encode(), b"scram-sha-256"
            ).decode()
            verb = "ALTER" if role in there else "CREATE"
            try:
                with connection.begin_nested():
                    connection.exec_driver_sql(f"{verb} ROLE {role} LOGIN PASSWORD '{secret}'")
            except DBAPIError as error:
                # Roles belong to the whole cluster: another database's migration made it at this moment.
                if getattr(error.orig, "sqlstate", None) not in {"42710", "23505"}:
                    raise
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    inherits = " WITH INHERIT TRUE, SET TRUE" if number >= FIRST_WITH_INHERIT_OPTION else ""
    is_member = text(
        "SELECT rolsuper OR pg_has_role(current_user, 'fleet_owner', 'USAGE') FROM pg_roles "
        "WHERE rolname = current_user"
    )
    if not connection.execute(is_member).scalar():
        connection.exec_driver_sql(f"GRANT fleet_owner TO CURRENT_USER{inherits}")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().split("\n", 1)[0]
