"""A client of the limits' fault suite: a process and an incarnation that asks, requests, settles and waits.

It keeps to what the limiter says: it asks again when it was told to, and makes no request without a grant.
Each grant stands in its log before the request leaves, so that a killed client hides none.
"""

import contextlib
import http.client
import json
import multiprocessing
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import oauthlib.oauth1

from coordination import Fleet, connect
from coordination.engagement import Priority
from coordination.errors import DatabaseBusyError, DatabaseUnavailableError

PROCESSES = multiprocessing.get_context("forkserver")
# A life then is a fork, not a second start of everything.
PROCESSES.set_forkserver_preload([__name__])
SHORTEST_PAUSE_S = 0.01
BUSY_PAUSE_S = (0.02, 0.2)
HTTP_TIMEOUT_S = 13.0
CONNECTS = 6
ACCOUNT = "sandbox"
Signer: Any = oauthlib.oauth1.Client
"""Without types of its own."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a client wants of one endpoint.

    Attributes:
        endpoint: the endpoint's name.
        method: of its request, with `path`.
        path: path and query.
        priority: with which it asks.
        every_s: fleet seconds from one request to the next; 0 for as many as it gets.
    """

    endpoint: str
    method: str
    path: str
    priority: Priority = "medium"
    every_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Fleet time from this machine's: seconds since 1970."""

    real0_s: float
    fleet0_s: float
    rate: float

    def now_s(self) -> float:
        return self.fleet0_s + (time.time() - self.real0_s) * self.rate


@dataclass(frozen=True, kw_only=True)
class Order:
    """One client's life.

    Attributes:
        dsn: the worker role's.
        url: the sandbox's.
        keys: the account's credentials there.
        clock: fleet time.
        worker: its name, `slot` its number.
        label: under which it asks; several may ask under one.
        demands: what it wants.
        log: where it writes what it does.
        wanted_s: of each endpoint, when the life before it wanted a request for the last time (fleet time).
    """

    dsn: str
    url: str
    keys: Mapping[str, str]
    clock: Clock
    worker: str
    slot: int
    label: str
    demands: tuple[Demand, ...]
    log: Path
    wanted_s: Mapping[str, float] = field(default_factory=dict[str, float])


def live(order: Order, pipe: Any) -> None:
    """Connect, say so, begin when told, and ask until told to stop."""
    with _joined(order) as fleet, order.log.open("a") as log:
        pipe.send("ready")
        pipe.recv()
        client = _Client(order=order, fleet=fleet, log=log)
        while not pipe.poll(client.pause_s()):
            client.turn()


def _joined(order: Order) -> Fleet:
    """Connect; where many log in at once, one may wait for too long, and tries again."""
    for _ in range(CONNECTS - 1):
        with contextlib.suppress(DatabaseUnavailableError):
            return connect(order.dsn, order.worker, slot=order.slot, listens=False)
    return connect(order.dsn, order.worker, slot=order.slot, listens=False)


@dataclass(kw_only=True)
class _Wish:
    """A demand, and how it stands with it.

    Attributes:
        demand: what is wanted.
        due_s: when it asks next (monotonic).
        paced_s: when it wanted the present one (monotonic).
        asked_s: since when it waits for it (fleet time); 0 where it doesn't yet.
        refused_s: when it was told to wait for the first time; 0 where it was not.
        told_s: when to come again, as it was told last (fleet time); 0 where it was not.
        refusals: how often it was refused meanwhile.
    """

    demand: Demand
    due_s: float
    paced_s: float = 0.0
    asked_s: float = 0.0
    refused_s: float = 0.0
    told_s: float = 0.0
    refusals: int = 0


@dataclass(kw_only=True)
class _Client:
    order: Order
    fleet: Fleet
    log: TextIO
    wishes: list[_Wish] = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.order.slot)
        self.wishes = [_Wish(demand=one, due_s=self._first_due_s(one)) for one in self.order.demands]
        for wish in self.wishes:
            wish.paced_s = wish.due_s
        names = ("x_consumer_key", "x_consumer_secret", "x_access_token", "x_access_token_secret")
        self._signer = Signer(*(self.order.keys[name] for name in names))

    def _first_due_s(self, demand: Demand) -> float:
        """An interval after the life before it, or a random part of one: not all come at once."""
        now_s, clock = time.monotonic(), self.order.clock
        if (wanted_s := self.order.wanted_s.get(demand.endpoint)) is None:
            return now_s + self._chance.random() * demand.every_s / clock.rate
        return now_s + max(0.0, wanted_s + demand.every_s - clock.now_s()) / clock.rate

    def pause_s(self) -> float:
        return max(0.0, min(wish.due_s for wish in self.wishes) - time.monotonic())

    def turn(self) -> None:
        """Ask for what is due first; where it is granted, make the request and settle."""
        wish = min(self.wishes, key=lambda one: one.due_s)
        rate, now_s = self.order.clock.rate, self.order.clock.now_s
        called_s = now_s()
        wish.asked_s = wish.asked_s or called_s
        try:
            grant = self.fleet.rate_limits.can_make_request(
                wish.demand.endpoint, self.order.label, wish.demand.priority, ACCOUNT
            )
        except DatabaseBusyError:
            wish.due_s = time.monotonic() + self._chance.uniform(*BUSY_PAUSE_S)
            return
        if grant.grant_id is None:
            wish.refusals += 1
            wish.refused_s = wish.refused_s or now_s()
            wish.told_s = now_s() + (grant.retry_after_seconds or 0)
            self._write(
                worker=self.order.label,
                endpoint=wish.demand.endpoint,
                priority=wish.demand.priority,
                refused_s=now_s(),
                reason=grant.reason,
                told_s=wish.told_s,
            )
            wish.due_s = time.monotonic() + max(SHORTEST_PAUSE_S, (grant.retry_after_seconds or 0) / rate)
            return
        granted_s = now_s()
        self._write(
            grant=grant.grant_id,
            worker=self.order.label,
            endpoint=wish.demand.endpoint,
            priority=wish.demand.priority,
            asked_s=wish.asked_s,
            refused_s=wish.refused_s,
            told_s=wish.told_s,
            called_s=called_s,
            granted_s=granted_s,
            refusals=wish.refusals,
            wanted_s=self._wanted_s(wish),
        )
        status, headers = self._request(wish.demand)
        self._settle(grant.grant_id, status, headers)
        self._write(
            grant=grant.grant_id,
            settled_s=now_s(),
            status=status,
            remaining=headers.get("x-rate-limit-remaining"),
            reset=headers.get("x-rate-limit-reset"),
        )
        wish.asked_s, wish.refused_s, wish.told_s, wish.refusals = 0.0, 0.0, 0.0, 0
        # Who had to wait for longer than its pace doesn't catch up.
        wish.paced_s = wish.due_s = max(time.monotonic(), wish.paced_s + wish.demand.every_s / rate)

    def _wanted_s(self, wish: _Wish) -> float:
        return self.order.clock.now_s() + (wish.paced_s - time.monotonic()) * self.order.clock.rate

    def _settle(self, grant_id: str, status: int, headers: Mapping[str, str]) -> None:
        while True:
            try:
                self.fleet.rate_limits.record_usage(
                    grant_id, status not in {0, 429}, headers, status=status or None
                )
            except DatabaseBusyError:
                time.sleep(self._chance.uniform(*BUSY_PAUSE_S))
            else:
                return

    def _request(self, demand: Demand) -> tuple[int, dict[str, str]]:
        """The status, 0 where the connection broke, and the headers in lower case.

        Each has a connection of its own: on one that its server closed meanwhile a request would be lost.
        """
        url = self.order.url + demand.path
        _, signed, _ = self._signer.sign(url, demand.method)
        body = b"{}" if demand.method == "POST" else None
        own: dict[str, str] = {**signed, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=HTTP_TIMEOUT_S)
        with contextlib.closing(connection):
            try:
                connection.request(demand.method, demand.path, body, own)
                answer = connection.getresponse()
                headers = {name.lower(): value for name, value in answer.getheaders()}
                answer.read()
            except (OSError, http.client.HTTPException):
                return 0, {}
            return answer.status, headers

    def _write(self, **line: object) -> None:
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
