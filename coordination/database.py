"""The one door to PostgreSQL: a connection in autocommit; a call is one round trip."""

import json
import re
import reprlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from importlib.resources import files
from time import monotonic
from typing import Any, LiteralString, TypeVar, cast

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row, scalar_row
from psycopg.types.json import Jsonb

from coordination import errors

_JSON = json.JSONEncoder(allow_nan=False)


class Json(Jsonb):
    """Marks a value that a function takes as jsonb; what JSON has no word for, such as NaN, is refused."""

    __slots__ = ()

    def __init__(self, value: object) -> None:
        super().__init__(value, _JSON.encode)


SESSION: Mapping[str, str] = {
    "client_connection_check_interval": "250ms",  # a backend notices that its process is gone
    # A lost host's sessions, and with them its locks, end 8 + 2 x 3 s after their last packet. A worker
    # beats every 5 s, so that is 9 to 14 s after the network went: not before its manager, after 8 s, has
    # ended what still acts there (docs/adr/0030).
    "tcp_keepalives_idle": "8",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "2",
    "idle_in_transaction_session_timeout": "1s",  # a worker never thinks inside a transaction
    # No statement of ours takes as long; one that never ended would hold its rows, and the table's dead ones.
    "statement_timeout": "60s",
}
PREPARED_FROM = 5
"""As psycopg has it: from so many runs on a statement is prepared in its session."""
NOWHERE = "postgresql://nobody:nothing@/nothing?host=/dev/null/nowhere&hostaddr="
UNTIL_SETTLED = 8
"""Calls after which CPython has chosen its fast instructions."""
_BUSY = {"55P03", "40P01", "40001", "57014", "53200"}
_MISSING = {"42883", "42P01", "3F000"}
_GONE = {"57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006"}
_MISFIT = re.compile('(?=.*"(?P<value>[^"]*)").*for type (?P<type>[a-z ]+)')

Found = TypeVar("Found")
WhileWaiting = Callable[[float], None]


class _Connection(psycopg.Connection[dict[str, Any]]):
    """Asks `while_waiting`, about ten times a second, whether to go on waiting for an answer."""

    while_waiting: WhileWaiting | None = None

    @cached_property
    def caller(self) -> psycopg.Cursor[Any]:
        """The cursor of all calls: to make one for each takes as long as the call itself."""
        return self.cursor(row_factory=scalar_row)

    def wait(self, gen: PQGen[Found], interval: float = 0.1, timeout: float | None = None) -> Found:
        bounded = _asking(gen, self.while_waiting) if self.while_waiting else gen
        return super().wait(bounded, interval, timeout)


def _asking(
    gen: PQGen[Found], while_waiting: WhileWaiting
) -> Generator[Any, Any, Found]:  # what PQGen is, without psycopg's own names
    began = monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready:
                while_waiting(monotonic() - began)
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


class _Number(Dumper):
    """Sends a number without a type, so that the function's parameter decides.

    With psycopg's own choice a number out of a parameter's range names a function that does not exist.
    """

    def dump(self, obj: float) -> bytes:
        return str(obj).encode()


def _adapters() -> AdaptersMap:
    """What values become: made once, each connection's own would be a copy of all that psycopg knows."""
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(int, _Number)
    adapters.register_dumper(float, _Number)
    return adapters


_ADAPTERS = _adapters()
_OPTIONS = " ".join(f"-c {key}={value}" for key, value in SESSION.items())


class Database:
    """One connection for one thread; opened at first use and again after it was lost.

    Raises the errors of `coordination.errors`, never psycopg's own.

    Attributes:
        while_waiting: called about ten times a second with the seconds for which an answer is outstanding.
            A `FleetError` that it raises ends the wait and the connection: what became of the call is not
            known.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        reconnect: bool = True,
        connect_timeout_s: int = 5,
        pooled: bool = False,
    ) -> None:
        """Name the server; nothing is opened.

        Args:
            dsn: a connection string.
            name: what the server's list of sessions shows after the word socialfleet.
            reconnect: whether a lost connection is made anew at the next call.
            connect_timeout_s: how long a login may take.
            pooled: a pooler may lend another session for each transaction: nothing is left in one, neither
                a setting nor a prepared statement.
        """
        self._dsn = dsn
        self._pooled = pooled
        self._name = name
        self._reconnect = reconnect
        self._connect_timeout_s = connect_timeout_s
        self._connection: _Connection | None = None
        self.while_waiting: WhileWaiting | None = None
        self._opened = False
        self._warned = False

    def open(self) -> None:
        """Connect now instead of at first use; two round trips (the login, the session's settings)."""
        self._connect()

    def close(self) -> None:
        """Close the connection; safe at any time, any number of times."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def call(self, function: LiteralString, *, acknowledged: bool = False, **arguments: object) -> Any:
        """Call `fleet.<function>` with named arguments and give what it returns. One round trip.

        With `acknowledged`, a commit that came with a warning (a standby that did not confirm) raises
        `NotAcknowledgedError`.
        """
        statement = _call_statement(function, tuple(arguments))
        self._warned = False
        result = self._do(
            lambda connection: connection.caller.execute(statement, arguments).fetchone(), arguments
        )
        if acknowledged and self._warned:
            raise errors.NotAcknowledgedError(f"{function}: the commit came with a warning")
        return result

    def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """Run a named query of `coordination/queries` and give all its rows. One round trip."""
        return self._run(queries()[query].encode(), parameters)

    def select(self, statement: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        """Run a SELECT that SQLAlchemy built (see `coordination.lists`) and give all its rows."""
        return self._run(statement.encode(), parameters)

    def listen(self, channel: str) -> None:
        """Ask for wake-ups on this connection."""
        self._run(b"LISTEN " + _identifier(channel).encode(), {})

    def unlisten(self, channel: str) -> None:
        """Ask for them no more."""
        self._run(b"UNLISTEN " + _identifier(channel).encode(), {})

    def notifications(self, timeout_s: float) -> Iterator[str]:
        """Give the payloads that arrive within `timeout_s`, ending early after the first burst of them."""
        connection = self._connect()
        try:
            for note in connection.notifies(timeout=timeout_s, stop_after=1):
                yield note.payload
        except psycopg.Error as error:
            raise self._translated(error) from None

    def fileno(self) -> int:
        """The connection's socket: readable when a notification came, or the connection is lost."""
        return self._connect().fileno()

    def told_pid(self) -> int:
        """The server process, as the login told it."""
        return self._connect().info.backend_pid

    def seen_pid(self) -> int:
        """The server process, as one transaction sees it: another one than was told is behind a pooler."""
        return int(self._run(b"SELECT pg_backend_pid() AS pid", {})[0]["pid"])

    def _connect(self) -> _Connection:
        if self._connection is not None and not self._connection.closed:
            self._connection.while_waiting = self.while_waiting
            return self._connection
        # Also after close(): a session whose locks mean something must not come back as another session.
        if self._opened and not self._reconnect:
            raise errors.DatabaseUnavailableError("the connection was lost")
        try:
            connection = _Connection.connect(
                self._dsn,
                autocommit=True,
                context=_ADAPTERS,
                row_factory=dict_row,
                application_name=f"socialfleet {self._name}"[:63],
                connect_timeout=self._connect_timeout_s,
                options="" if self._pooled else _OPTIONS,
                prepare_threshold=None if self._pooled else PREPARED_FROM,
                keepalives_idle=5,  # this side too notices within 5 + 3 x 2 s that the server's host is gone
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=10_000,
            )
        except psycopg.ProgrammingError:
            # libpq's words about a string that it can't parse hold pieces of it.
            raise errors.DatabaseUnavailableError(
                "the connection string can't be read: look at DATABASE_URL, or let `socialfleet migrate` "
                "write the state directory's dsn files anew"
            ) from None
        except psycopg.Error as error:
            raise self._translated(error) from None
        connection.add_notice_handler(self._notice)
        connection.while_waiting = self.while_waiting
        self._connection = connection
        self._opened = True
        return connection

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warned = True

    def _run(self, statement: bytes, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return self._do(
            lambda connection: _rows(connection.execute(statement, parameters or None)), parameters
        )

    def _do(self, work: Callable[[_Connection], Found], parameters: Mapping[str, object]) -> Found:
        connection = self._connect()
        try:
            return work(connection)
        except psycopg.Error as error:
            raise _named(self._translated(error), parameters) from None
        except errors.FleetError:  # `while_waiting` gave up: an answer may still come, to nobody
            connection.close()
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise _unsendable(parameters, error) from None

    def _translated(self, error: psycopg.Error) -> errors.FleetError:  # noqa: C901, PLR0912  one line a kind
        """Say in the fleet's words what PostgreSQL said."""
        diagnostic = error.diag
        state = error.sqlstate or ""
        message = diagnostic.message_primary or str(error).strip().split("\n", 1)[0]
        if state.startswith("FL") and diagnostic.message_hint:
            message = f"{message}: {diagnostic.message_hint}"  # what to do next
        detail = _detail(diagnostic.message_detail)
        gone = self._connection is None or self._connection.closed or state in _GONE
        translated: errors.FleetError
        if state == "FL001":
            translated = errors.InvalidValueError(
                message,
                field=str(detail.get("field", "")),
                value=detail.get("value"),
                allowed=str(detail.get("allowed", "")),
            )
        elif state == "FL002":
            translated = errors.LockLostError(message)
        elif state == "FL003":
            translated = errors.IncarnationLostError(message)
        elif state == "FL004":
            translated = errors.HostTakenError(message)
        elif state == "FL005":
            translated = errors.TransitionRefusedError(message, state=str(detail.get("state", "")))
        elif state == "42501":
            translated = errors.PermissionRefusedError(f"{message}: this login's role may not do that")
        elif state.startswith("28") or "authentication failed" in message:  # a refused login has no SQLSTATE
            translated = errors.PermissionRefusedError(
                f"{message}: where the passwords are out of date, run: socialfleet migrate --reset-logins"
            )
        elif state in _MISSING:
            translated = errors.SchemaMismatchError(f"{message}: run: socialfleet migrate")
        elif state in _BUSY:
            translated = errors.DatabaseBusyError(f"{message}: nothing was changed; try again")
        elif state.startswith(("22", "23")) or isinstance(error, psycopg.DataError):
            # What no function refuses itself, the column's type and the table's own rules do.
            translated = errors.InvalidValueError(
                message, field=diagnostic.column_name or diagnostic.constraint_name or ""
            )
        elif "unsupported startup parameter" in message:  # PgBouncer's words; PostgreSQL knows them all
            translated = errors.PoolerInBetweenError(errors.PoolerInBetweenError.WHAT_TO_DO)
        elif gone:  # a live connection's failed statement is nobody's outage: the next one may go through
            translated = errors.DatabaseUnavailableError(f"PostgreSQL can't be reached: {message}")
        else:
            translated = errors.DatabaseError(message)
        return translated


def _rows(cursor: psycopg.Cursor[dict[str, Any]]) -> list[dict[str, Any]]:
    return cursor.fetchall() if cursor.description else []


def _unsendable(parameters: Mapping[str, object], error: Exception) -> errors.InvalidValueError:
    """Name the value that could not be written down for PostgreSQL, where it is one of its own."""
    for field, value in parameters.items():
        is_json = isinstance(value, Json)
        given: object = value.obj if is_json else value
        try:
            _ = _JSON.encode(given) if is_json else str(given).encode()
        except (TypeError, ValueError, RecursionError) as fault:
            shown, allowed = reprlib.repr(given), "JSON" if is_json else "a text that UTF-8 can hold"
            return errors.InvalidValueError(
                f"{field} is {shown}: allowed is {allowed} ({fault})",
                field=field,
                value=shown,
                allowed=allowed,
            )
    return errors.InvalidValueError(f"a value can't be sent: {error}")


def _named(error: errors.FleetError, parameters: Mapping[str, object]) -> errors.FleetError:
    """Name the parameter whose value doesn't fit its type: PostgreSQL tells the value alone."""
    if not isinstance(error, errors.InvalidValueError) or error.field:
        return error
    misfit = _MISFIT.search(str(error))
    for field, value in parameters.items():
        if misfit and str(value) == misfit["value"]:
            allowed = f"what fits the type {misfit['type']}"
            return errors.InvalidValueError(
                f"{field} is {value}: allowed is {allowed}", field=field, value=str(value), allowed=allowed
            )
    return error


def at_place_of(dsn: str, place: str) -> str:
    """Give the login of one connection string at the server, and in the database, of another.

    Raises:
        DatabaseUnavailableError: one of them can't be read.
    """
    try:
        login, there = conninfo_to_dict(dsn), conninfo_to_dict(place)
        own = {name: login.get(name) for name in ("user", "password")}
        return make_conninfo("", **{"dbname": login.get("dbname"), **there, **own})
    except psycopg.ProgrammingError:
        raise errors.DatabaseUnavailableError(
            "a connection string can't be read: look at DATABASE_URL and SOCIALFLEET_DIRECT_DATABASE_URL"
        ) from None


def rehearse_login() -> None:
    """Ask for a server that isn't there, as often as Python needs to settle how: each login begins so."""
    for _ in range(UNTIL_SETTLED):
        with suppress(errors.FleetError):
            Database(NOWHERE, name="rehearsal").open()


@cache
def _call_statement(function: LiteralString, names: tuple[str, ...]) -> bytes:
    """Write the call; psycopg's own composing of it would be a hundred objects, walked anew at each call."""
    arguments = ", ".join(f"{_identifier(name)} => %({name})s" for name in names)
    return f"SELECT fleet.{_identifier(function)}({arguments}) AS result".encode()


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@cache
def queries() -> dict[str, str]:
    """Every query of `coordination/queries/*.sql`: `-- name: verb_noun`, then what it reads and costs."""
    found: dict[str, str] = {}
    for entry in (files("coordination") / "queries").iterdir():
        if entry.name.endswith(".sql"):
            for part in re.split(r"^-- name: ", entry.read_text("utf-8"), flags=re.MULTILINE)[1:]:
                name, _, body = part.partition("\n")
                found[name.strip()] = body.strip()
    return found


def _detail(text: str | None) -> dict[str, Any]:
    if not text or not text.startswith("{"):
        return {}
    try:
        parsed: object = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
