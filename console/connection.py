"""Connection: the console's one way to the database, and a bound on how long anybody waits for it.

UnreachableError     no answer from the database now; the text says why and what to do

One thread owns the connection. A database that hangs holds that thread and nothing else: callers give up
after their time, work that has not begun by then is dropped, and a full queue refuses at once.
"""

import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Full, Queue
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from coordination.database import Database
from coordination.errors import DatabaseError, FleetError, PermissionRefusedError

# More waiting calls than this mean that nobody is served in time anyway.
MAX_WAITING = 32
CONNECT_TIMEOUT_S = 3
_URL = re.compile(r"postgres(ql)?://([^\s@/?#]*@)?[^\s@/?#]*(/[^\s?#@]*)?(\?\S*)?")


T = TypeVar("T")


class UnreachableError(FleetError):
    """The database gave no answer. `begun` says whether the work may have been done all the same."""

    def __init__(self, message: str, *, begun: bool = False) -> None:
        super().__init__(message)
        self.begun = begun


class Connection:
    """Runs work on the database in one thread, which begins at the first call and ends with the process."""

    def __init__(self, dsn_file: Path) -> None:
        self._dsn_file = dsn_file
        self._database: Database | None = None
        self._dsn = ""
        self._work: Queue[tuple[Callable[[Database], Any], Future[Any]]] = Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[Database], T], *, timeout_s: float) -> T:
        """Give what `work` gives, within `timeout_s` seconds.

        Work begins on a connection that has just answered, so what it raises is its own failure.

        Raises:
            UnreachableError: no connection, or no answer in time.
            FleetError: what the work itself raised.
        """
        if self._thread is None:
            # A daemon, so that a database that hangs can't keep the process from ending.
            self._thread = threading.Thread(target=self._loop, name="database", daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        try:
            self._work.put_nowait((work, future))
        except Full:
            raise UnreachableError("the database does not answer: too many calls wait for it") from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
        except TimeoutError:
            raise UnreachableError(
                f"the database does not answer within {timeout_s:g} s", begun=not future.cancel()
            ) from None

    def _loop(self) -> None:
        while True:
            work, future = self._work.get()
            if not future.set_running_or_notify_cancel():
                continue  # its caller gave up before it began
            try:
                result = work(self._answering())
            except BaseException as error:  # noqa: BLE001  it belongs to the caller, and the thread goes on
                if isinstance(error, (DatabaseError, PermissionRefusedError)):
                    self._drop()
                future.set_exception(error)
            else:
                future.set_result(result)

    def _answering(self) -> Database:
        """A connection that answers: the one there is, or a new one with the DSN as it is now."""
        if self._database is not None:
            try:
                self._database.rows("get_console_clock")
            except FleetError:
                self._drop()
            else:
                return self._database
        self._dsn = self._read_dsn()
        database = Database(self._dsn, name="console", connect_timeout_s=CONNECT_TIMEOUT_S)
        try:
            database.rows("get_console_clock")
        except FleetError as error:
            database.close()
            raise UnreachableError(self._without_secrets(str(error))) from None
        self._database = database
        return database

    def _read_dsn(self) -> str:
        try:
            dsn = self._dsn_file.read_text("utf-8").strip()
        except FileNotFoundError:
            raise UnreachableError(
                f"the database is not there yet: {self._dsn_file} is written when the fleet starts"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UnreachableError(f"{self._dsn_file} can't be read: {type(error).__name__}") from None
        if not _URL.fullmatch(dsn):
            # The text itself is not shown: it may hold a password in the wrong place.
            raise UnreachableError(f"{self._dsn_file} holds no postgresql:// URL: start the fleet again")
        return dsn

    def _without_secrets(self, text: str) -> str:
        password = urlsplit(self._dsn).password or ""
        for secret in {self._dsn, password, unquote(password)} - {""}:
            text = text.replace(secret, "***")
        return text

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
