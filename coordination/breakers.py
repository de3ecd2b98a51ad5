"""Breakers: a service that fails is left alone for a while, and tried again by exactly one probe at a time.

One for each account and service, shared by all processes: what one of them finds out spares the others.
Closed lets calls through; open refuses them until the time of its next probe; half open is one leased probe
under way.
Answers of 4xx, 429 among them, never open one: a service that answers is there.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from coordination.answers import with_moments
from coordination.database import Database
from coordination.errors import BreakerOpenError, DatabaseError, FleetError
from coordination.plain import plain
from coordination.session import Session

BreakerState = Literal["closed", "open", "half_open"]
SERVER_ERROR: Final = 500
"""HTTP statuses from here on say that the service itself failed."""
STATES: Final[tuple[BreakerState, ...]] = ("closed", "open", "half_open")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A breaker's answer to one call.

    Attributes:
        allowed: whether the call may be made.
        state: the breaker's.
        failures: in a row, before this call.
        probe: the probe's number, when this call is one; hand it back with `record`.
        retry_after_s: seconds of fleet time after which to ask again, when the call is refused.
        reason: why it is refused.
    """

    allowed: bool
    state: BreakerState
    failures: int
    probe: int | None = None
    retry_after_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class BreakerStatus:
    """One breaker that ever counted a failure. Times are fleet time.

    Attributes:
        failures: in a row; at `opens_after` it opens.
        opens: openings in a row, each with a longer wait for the next probe.
        opened_at: since when it is not closed; None while it is.
        probes: how many calls were probes.
        is_stuck: whether it is not closed for so long that an alert was raised.
        reset_attempts: how often a person closed it.
    """

    account: str
    service: str
    state: BreakerState
    failures: int
    opens_after: int
    opens: int
    opened_at: datetime | None
    next_probe_at: datetime | None
    probes: int
    last_failed_at: datetime | None
    last_error: str | None
    last_status: int | None
    is_stuck: bool
    failures_total: int
    opens_total: int
    reset_attempts: int


class Call:
    """One call under a breaker: it succeeded, unless something is raised, or said here.

    Attributes:
        passage: what the breaker said.
        status: the HTTP status of the answer, where there is one; 5xx is a failure.
        error: why it failed, where nothing was raised.
        tried: whether the service was asked at all.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.status: int | None = None
        self.error: str | None = None
        self.tried = True

    def untried(self) -> None:
        """Nothing was asked of the service: neither success nor failure; a probe is given back."""
        self.tried = False

    def failed(self, error: str) -> None:
        """It failed, though nothing is raised."""
        self.error = error

    @property
    def succeeded(self) -> bool | None:
        """What came of it, where nothing was raised; None where nothing was tried."""
        is_broken = self.status is not None and self.status >= SERVER_ERROR
        return None if not self.tried else self.error is None and not is_broken


class Breakers:
    """What a worker asks before it calls a service, and tells afterwards."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def allow(self, account: str, service: str) -> Passage:
        """Ask whether a call may be made; a yes of an open breaker is the probe. One round trip.

        Tell with `record` what came of every call that was allowed.
        """
        return Passage(**self._session.call("ask_breaker", account=account, service=service))

    def record(
        self,
        account: str,
        service: str,
        passage: Passage,
        *,
        succeeded: bool | None,
        status: int | None = None,
        error: str | None = None,
    ) -> BreakerState:
        """Tell what came of a call, and give the breaker's state then.

        No round trip for a success where nothing had failed before, else one.

        Args:
            account: whose breaker.
            service: of which service.
            passage: what `allow` answered.
            succeeded: None where nothing was asked of the service: a probe is given back.
            status: of the answer; 4xx is neither success nor failure.
            error: what went wrong, for persons.
        """
        if succeeded is not False and passage.probe is None and not (succeeded and passage.failures):
            return passage.state
        answer = self._session.call(
            "record_call",
            account=account,
            service=service,
            succeeded=succeeded,
            status=status,
            error=plain(error),
            probe=passage.probe,
        )
        return answer["state"]

    @contextmanager
    def guard(self, account: str, service: str, passage: Passage | None = None) -> Generator[Call]:
        """Make one call under the breaker: what is raised inside is a failure, else it succeeded.

        An exception with a `status` from 400 to 499 is an answer, and no failure. Where the database has no
        time for the count it is not counted: what came of the call is worth more, and a probe's lease ends.

        Args:
            account: whose breaker.
            service: of which service.
            passage: what it said, where it was asked already.

        Raises:
            BreakerOpenError: it is open; nothing was tried.
        """
        passage = passage or self.allow(account, service)
        if not passage.allowed:
            raise BreakerOpenError(passage.reason or "", retry_after_s=passage.retry_after_s or 1.0)
        call = Call(passage)
        try:
            yield call
        except FleetError:
            with suppress(FleetError):  # our own trouble says nothing about the service
                self.record(account, service, passage, succeeded=None)
            raise
        except BaseException as error:
            status = call.status if call.status is not None else getattr(error, "status", None)
            with suppress(FleetError):
                self.record(
                    account,
                    service,
                    passage,
                    # Nor does a worker that is told to end.
                    succeeded=False if call.tried and isinstance(error, Exception) else None,
                    status=status if isinstance(status, int) else None,
                    error=f"{type(error).__name__}: {error}",
                )
            raise
        with suppress(DatabaseError):
            self.record(
                account, service, passage, succeeded=call.succeeded, status=call.status, error=call.error
            )

    def watch(self) -> int:
        """Raise an alert for each breaker that is not closed for too long; give how many. One round trip."""
        return int(self._session.call("watch_breakers"))

    def get_breaker_status(self) -> list[BreakerStatus]:
        """Every breaker that ever counted a failure. One round trip."""
        return _statuses(self._session.call("get_breaker_status"))


def get_breaker_status(database: Database) -> list[BreakerStatus]:
    """The same for a person or the console."""
    return _statuses(database.call("get_breaker_status"))


def reset_breaker(
    database: Database, account: str, service: str, *, actor: str, reason: str
) -> dict[str, Any]:
    """A person closes a breaker; audited and counted.

    Returns:
        {"account", "service", "was", "state", "reset_attempts"}.

    Raises:
        InvalidValueError: it never failed: names those that did.
    """
    return dict(database.call("reset_breaker", account=account, service=service, actor=actor, reason=reason))


def configure_breaker(
    database: Database,
    account: str,
    service: str,
    *,
    opens_after: int,
    first_backoff_s: float = 30,
    longest_backoff_s: float = 900,
    probe_lease_s: float = 60,
    stuck_after_s: float = 3600,
    actor: str,
    reason: str,
) -> None:
    """A person sets when a breaker opens and how it comes back; "*" is all without a rule of their own.

    Args:
        database: the console's.
        account: or "*".
        service: or "*".
        opens_after: failures in a row.
        first_backoff_s: fleet seconds to the first probe; each later one waits twice as long.
        longest_backoff_s: and never longer than this.
        probe_lease_s: real seconds after which another process may probe.
        stuck_after_s: fleet seconds not closed after which an alert is raised.
        actor: who sets it.
        reason: why.

    Raises:
        InvalidValueError: a value is out of its range.
    """
    database.call(
        "configure_breaker",
        account=account,
        service=service,
        opens_after=opens_after,
        first_backoff_s=first_backoff_s,
        longest_backoff_s=longest_backoff_s,
        probe_lease_s=probe_lease_s,
        stuck_after_s=stuck_after_s,
        actor=actor,
        reason=reason,
    )


def _statuses(rows: list[dict[str, Any]]) -> list[BreakerStatus]:
    return [
        BreakerStatus(**with_moments(row, "opened_at", "next_probe_at", "last_failed_at")) for row in rows
    ]
