"""`socialfleet migrate`: the schema, functions, roles and logins of the fleet's database."""

import argparse
from collections.abc import Generator
from contextlib import contextmanager

from coordination.database import Database
from coordination.errors import FleetError
from coordination.settings import register_settings
from host import logins
from host.cli.fault import UNREACHABLE, USAGE, CliError
from host.cli.person import Person
from host.logins import DsnError, Logins
from host.postgres import EmbeddedPostgres, find_binaries
from host.state_directory import StateError
from migrations import schema
from workers import registry


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--reset-logins",
        action="store_true",
        help="set the roles' passwords to those that DATABASE_URL gives now (after its password changed)",
    )


def run(options: argparse.Namespace, person: Person) -> int:
    """Migrate; start the embedded server for it where no fleet runs."""
    try:
        person.state.make()
        with _logins(person) as found:
            revision = schema.upgrade(
                found.dsns["migrator"], found.passwords, reset_logins=options.reset_logins
            )
            found.keep(person.state)
            _register(found.dsns["maintainer"], person)
    except schema.DatabaseUnreachableError as error:
        raise CliError(str(error), exit_code=UNREACHABLE) from error
    except (StateError, DsnError) as error:
        raise CliError(str(error), exit_code=USAGE) from error
    print(f"schema fleet is at revision {revision}")
    return 0


def _register(dsn: str, person: Person) -> None:
    """Let the database know the program's settings, so that they can be set before a fleet ever ran."""
    database = Database(dsn, name="migrate")
    try:
        register_settings(database, registry.definitions(), registry.flags())
    except FleetError as error:  # such as logins that are out of date: the schema is up to date all the same
        person.warn(f"the program's settings are not known there yet, the fleet's start tells them: {error}")
    finally:
        database.close()


@contextmanager
def _logins(person: Person) -> Generator[Logins]:
    """The logins at a server that runs: DATABASE_URL's, the running fleet's, or one that runs meanwhile."""
    if person.config.database_url is not None:
        yield logins.given(person.config, person.state)
        return
    if person.state.is_running:
        yield logins.derive(person.state.dsn("migrator"), person.state)
        return
    with person.state.locked():
        postgres = EmbeddedPostgres(
            person.config.state_dir, find_binaries(person.config.socialfleet_pg_bin), print
        )
        try:
            postgres.start()
            yield logins.derive(postgres.migrator_dsn, person.state)
        finally:
            postgres.stop()
