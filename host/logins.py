"""Logins: the connection string of each role, derived from the migrator's.

Every host of a fleet is given the same DATABASE_URL, so every host finds the same passwords without asking
another: each is scrypt (RFC 7914) of the migrator's password, salted with the role's name, so that whoever
holds one login can't cheaply guess the password that it came from. A DATABASE_URL without a password
(trust, a password file, a client certificate) gives nothing to derive from: then the passwords are random
and kept in this state directory's `dsn/` files only, and a second host needs a copy of those.

Changing the migrator's password changes all others: `socialfleet migrate --reset-logins` sets them.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from config import Config
from host.state_directory import NoFleetError, Role, StateDirectory

PASSWORD_LENGTH = 40
SCRYPT: Mapping[str, int] = {"n": 2**14, "r": 8, "p": 1}
"""16 MB and some 50 ms a guess."""
LOGINS: Mapping[str, Role] = {
    "fleet_owner": "owner",
    "fleet_worker": "worker",
    "fleet_console": "console",
    "fleet_reader": "reader",
    "fleet_maintainer": "maintainer",
}
"""The database's role for each login of the state directory, but the migrator's."""

_URL = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?:(?P<user>[^@/]*)@)?(?P<where>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL
)


class DsnError(ValueError):
    """A connection string that is no `postgresql://` URL; its text is not shown, it may hold a password."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A `postgresql://` URL in its parts, as libpq reads it.

    Attributes:
        user: decoded; empty for the operating system's.
        password: decoded; None where there is none.
        where: hosts, ports and database, as they stand: `h1:5432,h2/db`.
        query: the parameters but user and password, as they stand.
    """

    user: str
    password: str | None
    where: str
    query: str

    def as_login(self, user: str, password: str | None) -> str:
        """The same place as another login."""
        query = f"?{self.query}" if self.query else ""
        login = quote(user, safe="") + ("" if password is None else f":{quote(password, safe='')}")
        return f"postgresql://{login}{'@' if login else ''}{self.where}{query}"


@dataclass(frozen=True, kw_only=True)
class Logins:
    """Every role's connection string and password.

    Attributes:
        dsns: by the state directory's name of the role, the migrator's included.
        passwords: by the database's name of the role, without the migrator's.
    """

    dsns: Mapping[Role, str]
    passwords: Mapping[str, str]

    def keep(self, state: StateDirectory) -> None:
        """Write the state directory's `dsn/` files, each for this user only."""
        for role, dsn in self.dsns.items():
            state.put(f"dsn/{role}", dsn)


def parse(dsn: str) -> Address:
    """Take a URL apart; the first `@` ends the login, as for libpq.

    Raises:
        DsnError: it is none.
    """
    match = _URL.fullmatch(dsn.strip())
    if match is None:
        raise DsnError("DATABASE_URL must be a URL like postgresql://user:password@host:5432/database")
    user, colon, password = (match["user"] or "").partition(":")
    kept: list[str] = []
    given: dict[str, str] = {}
    for parameter in filter(None, (match["query"] or "").split("&")):
        name, _, value = parameter.partition("=")
        if name in {"user", "password"}:
            given[name] = unquote(value)
        else:
            kept.append(parameter)
    return Address(
        user=given.get("user", unquote(user)),
        password=given.get("password", unquote(password) if colon else None) or None,
        where=match["where"],
        query="&".join(kept),
    )


def derive(migrator_dsn: str, state: StateDirectory, direct_url: str | None = None) -> Logins:
    """Every role's login at the migrator's database.

    Args:
        migrator_dsn: DATABASE_URL as given, or the embedded server's.
        state: where random passwords of earlier starts are kept, should there be nothing to derive from.
        direct_url: the way around a pooler that DATABASE_URL leads through. Only the workers' work goes
            through it then: migrations, managers and consoles hold session locks and listen.
    """
    address = parse(migrator_dsn)
    direct = parse(direct_url) if direct_url else None
    passwords = {role: _password(role, address.password, state) for role in LOGINS}
    dsns: dict[Role, str] = {
        name: (address if direct is None or name == "worker" else direct).as_login(role, passwords[role])
        for role, name in LOGINS.items()
    }
    migrator = direct.as_login(address.user, address.password) if direct else migrator_dsn
    return Logins(dsns={**dsns, "migrator": migrator}, passwords=passwords)


def given(config: Config, state: StateDirectory) -> Logins:
    """Every role's login at the server that the configuration names: `database_url`, which must be there."""
    assert config.database_url is not None  # noqa: S101  the caller's choice
    direct = config.socialfleet_direct_database_url
    return derive(
        config.database_url.get_secret_value(), state, direct.get_secret_value() if direct else None
    )


def _password(role: str, key: str | None, state: StateDirectory) -> str:
    if key is not None:
        return hashlib.scrypt(key.encode(), salt=role.encode(), dklen=PASSWORD_LENGTH // 2, **SCRYPT).hex()
    try:
        kept = parse(state.dsn(LOGINS[role])).password
    except (NoFleetError, DsnError):
        kept = None
    return kept or secrets.token_hex(PASSWORD_LENGTH // 2)
