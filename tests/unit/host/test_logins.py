"""Every role's connection string, from the migrator's."""

import hashlib
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from host.logins import LOGINS, DsnError, derive, parse
from host.state_directory import ROLES, StateDirectory
from migrations import schema


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    return directory


def test_every_role_of_the_schema_has_a_login_and_a_file() -> None:
    assert set(LOGINS) == set(schema.ROLES)
    assert {*LOGINS.values(), "migrator"} == set(ROLES)


def test_passwords_are_derived_from_the_migrators_slowly_and_differ_by_role(state: StateDirectory) -> None:
    found = derive("postgresql://me:s3cret@db/fleet", state)
    expected = hashlib.scrypt(b"s3cret", salt=b"fleet_worker", n=2**14, r=8, p=1, dklen=20).hex()
    assert found.passwords["fleet_worker"] == expected
    assert found.dsns["worker"] == f"postgresql://fleet_worker:{expected}@db/fleet"
    assert len(set(found.passwords.values())) == len(LOGINS)


def test_the_migrators_own_connection_string_stays_as_given(state: StateDirectory) -> None:
    given = "postgres://me:a%40b@db:5433/fleet?sslmode=require"
    assert derive(given, state).dsns["migrator"] == given


def test_around_a_pooler_goes_all_but_the_workers_work(state: StateDirectory) -> None:
    through, around = "postgresql://me:s3cret@pooler:6432/fleet", "postgresql://db:5432/fleet?sslmode=require"
    found = derive(through, state, around)
    hosts = {role: conninfo_to_dict(dsn)["host"] for role, dsn in found.dsns.items()}
    assert hosts.pop("worker") == "pooler"
    assert set(hosts.values()) == {"db"}
    assert found.dsns["migrator"] == "postgresql://me:s3cret@db:5432/fleet?sslmode=require"
    assert found.passwords == derive(through, state).passwords


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (
            "postgresql://u:p@/fleet?host=/run/pg&port=5433",
            {"host": "/run/pg", "port": "5433", "dbname": "fleet"},
        ),
        ("postgresql://u:p@h1:5432,h2:5433/fleet", {"host": "h1,h2", "port": "5432,5433", "dbname": "fleet"}),
        ("postgresql://u:p@[::1]:5432/fleet", {"host": "::1", "port": "5432", "dbname": "fleet"}),
        (
            "postgresql://u:p@h/fleet?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            {"host": "h", "sslmode": "verify-full", "sslrootcert": "/etc/ca.pem"},
        ),
        ("postgresql:///fleet?user=u&password=p&host=h", {"host": "h", "dbname": "fleet"}),
    ],
)
def test_the_place_is_kept_whatever_form_it_has(
    state: StateDirectory, given: str, kept: dict[str, str]
) -> None:
    found = derive(given, state)
    read = conninfo_to_dict(found.dsns["reader"])
    assert read["user"] == "fleet_reader"
    assert read["password"] == hashlib.scrypt(b"p", salt=b"fleet_reader", n=2**14, r=8, p=1, dklen=20).hex()
    assert {name: read.get(name) for name in kept} == kept


@pytest.mark.parametrize("password", ["a@b", "a:b", "a/b?c#d", "ü %41", "'\""])
def test_a_quoted_password_is_read_as_libpq_reads_it(password: str) -> None:
    from urllib.parse import quote  # noqa: PLC0415  only this test quotes

    dsn = f"postgresql://me:{quote(password, safe='')}@db/fleet"
    assert parse(dsn).password == password == conninfo_to_dict(dsn)["password"]


def test_without_a_password_random_ones_are_kept_from_start_to_start(state: StateDirectory) -> None:
    first = derive("postgresql://me@db/fleet", state)
    first.keep(state)
    again = derive("postgresql://me@db2/fleet", state)
    assert again.passwords == first.passwords
    assert "@db2/" in again.dsns["worker"]
    assert (
        derive("postgresql://me@db/fleet", StateDirectory(state.path / "other")).passwords != first.passwords
    )


def test_the_files_are_for_this_user_only(state: StateDirectory) -> None:
    derive("postgresql://me:p@db/fleet", state).keep(state)
    for role in ROLES:
        assert state.dsn_file(role).stat().st_mode & 0o777 == 0o600
        assert state.dsn(role).startswith("postgresql://")
    assert (state.path / "dsn").stat().st_mode & 0o777 == 0o700


def test_what_is_no_url_is_refused_without_being_shown() -> None:
    with pytest.raises(DsnError) as refused:
        parse("host=db password=s3cret")
    assert "s3cret" not in str(refused.value)
    assert "DATABASE_URL must be" in str(refused.value)
