"""Token leases: many requests of one endpoint for a round trip, where there is much room."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from coordination.database import Json
from coordination.errors import DatabaseUnavailableError
from coordination.owed import Owed
from coordination.rate_grants import Grant, limit_headers
from coordination.session import Session

TAKEN = Grant(allowed=True)


@dataclass(kw_only=True)
class _Lease:
    grant_id: int
    tokens: int
    ends_at_s: float
    used: int = 0
    unanswered: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def is_over(self) -> bool:
        return self.used >= self.tokens or monotonic() >= self.ends_at_s

    def settlement(self) -> dict[str, Any]:
        return {
            "used": self.used,
            "answered": self.unanswered == 0,
            "response_headers": Json(limit_headers(self.headers)),
        }


class Tokens:
    """One endpoint's requests for one worker, a lease of them at a time. For one thread; end it by `with`.

    A token is one request, made at once: a lease is over after a second, and what was not used of it is free
    again. A round trip for each lease, which ends the one before. One whose answer is lost goes back before
    the next, as does an end that could not be told.
    """

    def __init__(self, session: Session, owed: Owed, most: int, **request: Any) -> None:
        self._session = session
        self._owed = owed
        self._most = most
        self._request = request
        self._lease: _Lease | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self) -> Grant:
        """Ask for one request: a token where the lease has one, else of a new lease.

        Raises:
            DatabaseUnavailableError: nobody knows whether there is a new lease; it goes back.
        """
        lease = self._lease
        if lease is None or lease.is_over():
            answer = self._renew()
            if isinstance(answer, Grant):
                return answer
            lease = self._lease = answer
        lease.used += 1
        lease.unanswered += 1
        return TAKEN

    def answered(self, response_headers: Mapping[str, str] | None = None) -> None:
        """Tell that a request was answered, with its headers; until then the platform may count it late."""
        if self._lease is not None and self._lease.unanswered:
            self._lease.unanswered -= 1
            self._lease.headers = response_headers or self._lease.headers

    def close(self) -> None:
        """End the lease; one round trip where there is one."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._owed.call("end_lease", grant_id=lease.grant_id, **lease.settlement())

    def _renew(self) -> _Lease | Grant:
        self._owed.pay()
        ticket = uuid4()
        began_s = monotonic()
        lease, self._lease = self._lease, None
        former: dict[str, Any] = {"former": lease.grant_id, **lease.settlement()} if lease else {}
        try:
            answer = dict(
                self._session.call(
                    "lease_requests", most=self._most, ticket=ticket, **former, **self._request
                )
            )
        except DatabaseUnavailableError:
            if lease:
                self._owed.add("end_lease", grant_id=lease.grant_id, **lease.settlement())
            where = {name: self._request[name] for name in ("endpoint", "account")}
            self._owed.add("return_lost_grant", ticket=ticket, **where)
            self._owed.pay()
            raise
        if not answer["allowed"]:
            return Grant(**answer)
        ends_at_s = began_s + answer["valid_s"]  # counted from before it was asked for
        return _Lease(grant_id=int(answer["grant_id"]), tokens=answer["units"], ends_at_s=ends_at_s)
