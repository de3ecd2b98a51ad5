"""One process of the coordination core's fault suite: it asks, and writes down what it is told.

    python -m tests.fault.coordination_life '{"dsn": ..., "seed": ...}'

It lives one life after the other until SIGTERM. It gives leases back late, writes under those that are over,
and goes on with what it holds until it notices that its session is lost: as a process that was stopped would.
"""

import json
import random
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Event
from time import monotonic
from types import FrameType
from typing import Any, LiteralString

from coordination import Fleet
from coordination.database import Database
from coordination.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseUnavailableError,
    FleetError,
    IncarnationLostError,
    InvalidValueError,
    LockLostError,
)
from coordination.incarnation import Incarnation
from tests.fault.history import Recorder

HOT, COLD = 4, 3000
"""Contents that everybody wants, and others."""
KINDS = ("hot", "cold")
"""Jobs' kinds: many ask for the first."""
ENDPOINTS: Mapping[str, Sequence[tuple[int, int]]] = {
    "fault_few": [(12, 2)],
    "fault_many": [(100, 3)],
    "fault_most": [(1200, 6)],
}
EVENT = {"kind": "tried"}
NAMES = ("anna", "ben", "cleo", "dora")
"""The workers' names: several processes have each."""
RANKS = ("low", "medium", "high", "critical")
LEASE_S = (0.1, 1.2)
BEAT_S = 0.12
GIVES_UP_S = 2.5
"""A call that is not answered for so long is given up: what became of it is not known."""
MOST_HELD = 3
POOLS: Mapping[str, int] = {"narrow": 2, "wide": 9}
"""Each pool's capacity."""
WAIT_S = (0.1, 1.2)
"""In line for a lock."""
TAKE = frozenset(
    {"request_lock", "poll_lock", "claim_jobs", "claim_messages", "reserve_resource", "poll_reservation"}
)
"""What decides a taking; it may give back or fall asleep before, and leave a line or wake somebody after."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What the process is told at its birth.

    Attributes:
        dsn: for its work.
        direct_dsn: for its incarnation; None: the same.
        history: where it writes.
        process: its name in the history.
        worker: its worker's name.
        slot: which of those it is.
        seed: decides all that it does.
        pause_s: between two operations.
    """

    dsn: str
    direct_dsn: str | None
    history: str
    process: str
    worker: str
    slot: int
    seed: int
    pause_s: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One call of a function: the database's time before and after it, in seconds."""

    function: str
    began: float
    ended: float


class TimedDatabase(Database):
    """Calls as ever, and the database's time before and after in the same statement.

    Attributes:
        moments: of each call since it was emptied.
        result: what the last function gave that asks for a lock or for units.
    """

    def __init__(self, dsn: str, *, name: str, reconnect: bool = True, pooled: bool = False) -> None:
        super().__init__(dsn, name=name, reconnect=reconnect, pooled=pooled)
        self.moments: list[Moment] = []
        self.result: Any = None

    def call(self, function: LiteralString, *, acknowledged: bool = False, **arguments: object) -> Any:
        """Call `fleet.<function>`; one round trip."""
        del acknowledged
        began = monotonic()
        self.while_waiting = lambda _waited: _give_up(began)
        named = ", ".join(f"{name} => %({name})s" for name in arguments)
        what = f"fleet.real_now() AS began, fleet.{function}({named}) AS result, fleet.real_now() AS ended"
        row = self._run(f"SELECT {what}".encode(), arguments)[0]
        self.moments.append(
            Moment(function=function, began=row["began"].timestamp(), ended=row["ended"].timestamp())
        )
        if function in {"request_lock", "reserve_resource"}:
            self.result = row["result"]
        return row["result"]


def _give_up(began: float) -> None:
    if monotonic() - began > GIVES_UP_S:
        raise DatabaseUnavailableError("no answer: given up")


def join(orders: Orders) -> Fleet:
    """Become an incarnation whose every call is timed."""
    direct = orders.direct_dsn or orders.dsn
    incarnation = Incarnation(direct, worker=orders.worker, slot=orders.slot, listens=False)
    incarnation.database = TimedDatabase(
        direct, name=f"{orders.worker}/{orders.slot} incarnation", reconnect=False
    )
    try:
        incarnation.open()
    except BaseException:
        incarnation.database.close()
        raise
    pooled = orders.direct_dsn is not None
    fleet = Fleet(orders.dsn, incarnation, pooled=pooled)
    fleet.database = TimedDatabase(orders.dsn, name=f"{orders.worker}/{orders.slot}", pooled=pooled)
    fleet.session.database = fleet.database
    return fleet


class Voice:
    """Asks on a fleet's behalf, and writes both sides down."""

    def __init__(self, fleet: Fleet, recorder: Recorder) -> None:
        self.fleet = fleet
        self._recorder = recorder
        self._life = str(fleet.incarnation.id)

    def ask(
        self,
        kind: str,
        thing: str,
        given: Mapping[str, Any],
        call: Callable[[], Any],
        tell: Callable[[Any], tuple[bool, Mapping[str, Any]]],
        database: Database | None = None,
        *,
        waits: bool = False,
    ) -> Any:
        """Write down that it asks, ask, write down what it is told; give that, None where it was refused.

        `tell` says of what the call gave whether it is a yes, and what of it matters. The last call
        that takes decides a taking, since the first where it `waits`; else the first: others only wake.
        """
        number = self._recorder.asks(kind, thing, self._life, given)
        door = database or self.fleet.database
        assert isinstance(door, TimedDatabase)
        door.moments = []
        try:
            answer = call()
        except (LockLostError, InvalidValueError, DatabaseBusyError) as error:
            # A lock's release that met a busy content is made again later.
            is_owed = isinstance(error, DatabaseBusyError) and kind == "give" and thing.startswith("lock:")
            self._recorder.told(
                number, "unknown" if is_owed else "refused", None, {"error": str(error)[:200]}
            )
            return None
        except IncarnationLostError:
            self._recorder.told(number, "refused", None, {"error": "incarnation"})
            raise
        except DatabaseUnavailableError as error:
            self._recorder.told(number, "unknown", None, {"error": str(error)[:200]})
            return None
        except DatabaseError as error:  # what nobody expected
            self._recorder.told(number, "unknown", None, {"fault": str(error)[:300]})
            return None
        is_yes, what = tell(answer)
        decided = (
            [one for one in door.moments if one.function in TAKE] if kind == "take" else door.moments[:1]
        )
        if waits:
            what = {**what, "polls": [one.began for one in decided], "in_line": decided[0].ended}
        times = (decided[0 if waits else -1].began, decided[-1].ended)
        self._recorder.told(number, "ok" if is_yes else "refused", times, what)
        return answer if is_yes else None


class Life:
    """One incarnation, until it notices that it is over."""

    def __init__(self, fleet: Fleet, recorder: Recorder, chance: random.Random, process: str) -> None:
        self.fleet = fleet
        self.voice = Voice(fleet, recorder)
        self.chance = chance
        self.process = process
        self.me = f"{fleet.incarnation.worker}/{fleet.incarnation.slot}"
        self.leases: list[Any] = []
        self.jobs: list[Any] = []
        self.messages: list[Any] = []
        self.grants: list[tuple[str, str]] = []
        self.units: list[Any] = []
        self._beaten_at = 0.0
        self._acts: dict[Callable[[], None], int] = {
            self._lock: 30,
            self._hand_back: 14,
            self._renew: 12,
            self._enqueue: 12,
            self._claim_one_or_two: 12,
            self._report: 16,
            self._send: 8,
            self._receive_one: 8,
            self._answer: 10,
            self._request: 16,
            self._settle: 16,
            self._wait_for_lock: 5,
            self._reserve: 12,
            self._give_units_back: 12,
            self._sweep: 1,
        }

    def inherit(self, former: "Life") -> None:
        """Try what a former life of this process had: it must be refused."""
        self.leases += former.leases[:1]
        self.jobs += former.jobs[:1]
        self.messages += former.messages[:1]
        self.units += former.units[:1]

    def act(self) -> None:
        """Do one thing; a beat when it is due.

        Raises:
            DatabaseUnavailableError: the incarnation's own session is lost.
            IncarnationLostError: this life was ended.
        """
        if monotonic() - self._beaten_at > BEAT_S:
            self._beat()
        self.chance.choices(list(self._acts), list(self._acts.values()))[0]()

    def drain(self, kinds: Sequence[str]) -> None:
        """Take and finish all that is due now."""
        self._beat()
        for kind in kinds:
            self._claim(kind, 100)
        self._receive(100)
        while self.jobs:
            self._report(always=True)
        while self.messages:
            self._answer(always=True)

    def _beat(self) -> None:
        session = self.fleet.incarnation.database
        told = self.voice.ask(
            "alive",
            "",
            {},
            lambda: self.fleet.heartbeats.beat(state="BUSY", progress=1),
            lambda _answer: (True, {}),
            session,
        )
        if told is None:
            raise DatabaseUnavailableError("the incarnation's session is lost")
        self._beaten_at = monotonic()

    # Locks

    def _lock(self) -> None:
        if len(self.leases) >= MOST_HELD:
            return
        is_hot = self.chance.random() < 0.7
        content = f"hot-{self.chance.randrange(HOT)}" if is_hot else f"cold-{self.chance.randrange(COLD)}"
        seconds = self.chance.uniform(*LEASE_S)
        lease = self.voice.ask(
            "take",
            f"lock:{content}",
            {"seconds": seconds},
            lambda: self.fleet.engagement.request_lock(content, self.me, "analysis", seconds / 60),
            lambda lease: (lease is not None, self._told_lock(content, lease)),
        )
        if lease is not None:
            self.leases.append(lease)

    def _wait_for_lock(self) -> None:
        if len(self.leases) >= MOST_HELD:
            return
        content, rank = f"hot-{self.chance.randrange(HOT)}", self.chance.randrange(len(RANKS))
        seconds, wait_s = self.chance.uniform(*LEASE_S), self.chance.uniform(*WAIT_S)
        lease = self.voice.ask(
            "take",
            f"lock:{content}",
            {"seconds": seconds, "rank": rank, "wait_s": wait_s},
            lambda: self.fleet.engagement.request_lock(
                content, self.me, "analysis", seconds / 60, priority=RANKS[rank], wait_s=wait_s
            ),
            lambda lease: (lease is not None, self._told_wait(content, lease)),
            waits=True,
        )
        if lease is not None:
            self.leases.append(lease)

    def _told_wait(self, content: str, lease: Any) -> Mapping[str, Any]:
        return {"reason": "waited"} if lease is None else self._told_lock(content, lease)

    def _told_lock(self, content: str, lease: Any) -> Mapping[str, Any]:
        if lease is None:
            return self._why_not()
        expires = lease.lease_expires_at.timestamp()
        return {"holds": [{"thing": f"lock:{content}", "token": lease.fencing_token, "expires": expires}]}

    def _why_not(self) -> Mapping[str, Any]:
        door = self.fleet.database
        assert isinstance(door, TimedDatabase)
        return {"reason": door.result.get("reason")}

    def _renew(self) -> None:
        if not self.leases:
            return
        number = self.chance.randrange(len(self.leases))
        lease, seconds = self.leases[number], self.chance.uniform(*LEASE_S)
        renewed = self.voice.ask(
            "keep",
            f"lock:{lease.content}",
            {"token": lease.fencing_token, "seconds": seconds},
            lambda: self.fleet.engagement.renew_lock(lease, seconds / 60),
            lambda renewed: (True, {"expires": renewed.lease_expires_at.timestamp()}),
        )
        if renewed is not None:
            self.leases[number] = renewed
        elif self.chance.random() < 0.5:
            self.leases.pop(number)

    def _hand_back(self) -> None:
        if not self.leases:
            return
        lease = self.leases.pop(self.chance.randrange(len(self.leases)))
        self.voice.ask(
            "give",
            f"lock:{lease.content}",
            {"token": lease.fencing_token},
            lambda: self.fleet.engagement.release_lock(lease),
            lambda _answer: (True, {}),
        )

    # Jobs

    def _enqueue(self) -> None:
        kind, rank = self.chance.choice(KINDS), self.chance.randrange(len(RANKS))
        self.voice.ask(
            "put",
            f"job:{kind}",
            {"rank": rank},
            lambda: self.fleet.jobs.enqueue(kind, priority=RANKS[rank], max_attempts=1000),  # type: ignore[arg-type]
            lambda job: (True, {"thing": f"job:{kind}:{job.id}", "created": job.created}),
        )

    def _claim_one_or_two(self) -> None:
        if len(self.jobs) < MOST_HELD:
            self._claim(self.chance.choice(KINDS), self.chance.randint(1, 2))

    def _claim(self, kind: str, n: int) -> None:
        lease_s = self.chance.uniform(*LEASE_S)
        claimed = self.voice.ask(
            "take",
            f"job:{kind}",
            {"source": f"job:{kind}", "n": n},
            lambda: self.fleet.jobs.claim(kind, n, max(1.0, lease_s)),
            lambda jobs: (True, {"holds": [_held_job(kind, job) for job in jobs]}),
        )
        jobs: list[Any] = claimed or []
        self.jobs += [(kind, job) for job in jobs]

    def _report(self, *, always: bool = False) -> None:
        if not self.jobs:
            return
        kind, job = self.jobs.pop(self.chance.randrange(len(self.jobs)))
        how = 0.0 if always else self.chance.random()
        jobs = self.fleet.jobs
        reports: Callable[[], object] = lambda: jobs.complete(job)  # noqa: E731  one of three
        if how > 0.9:
            reports = lambda: jobs.fail(job, "by chance", 0)  # noqa: E731
        elif how > 0.8:
            reports = lambda: jobs.snooze(job, 0.05)  # noqa: E731
        self.voice.ask(
            "give",
            f"job:{kind}:{job.id}",
            {"token": job.lease, "final": how <= 0.8},
            reports,
            lambda _answer: (True, {}),
        )

    # Messages

    def _send(self) -> None:
        to, rank = self.chance.choice(NAMES), self.chance.randrange(len(RANKS))
        self.voice.ask(
            "put",
            f"message:{to}",
            {"rank": rank},
            lambda: self.fleet.messages.send(
                "SYSTEM_EVENT", to, EVENT, priority=RANKS[rank], max_attempts=1000
            ),
            lambda sent: (True, {"thing": f"message:{to}:{sent}"}),
        )

    def _receive_one(self) -> None:
        if len(self.messages) < MOST_HELD:
            self._receive(1)

    def _receive(self, n: int) -> None:
        name, lease_s = self.fleet.incarnation.worker, self.chance.uniform(1.0, 1.5)
        claimed = self.voice.ask(
            "take",
            f"message:{name}",
            {"source": f"message:{name}", "n": n},
            lambda: self.fleet.messages.claim(n, lease_s),
            lambda messages: (True, {"holds": [self._held_message(one, lease_s) for one in messages]}),
        )
        self.messages += claimed or []

    def _held_message(self, message: Any, lease_s: float) -> Mapping[str, Any]:
        door = self.fleet.database
        assert isinstance(door, TimedDatabase)
        claimed = door.moments[-1]
        return {
            "thing": f"message:{self.fleet.incarnation.worker}:{message.id}",
            "token": message.lease,
            "expires": claimed.began + lease_s,
            "latest_expires": claimed.ended + lease_s,
            "attempt": message.attempt,
        }

    def _answer(self, *, always: bool = False) -> None:
        if not self.messages:
            return
        message = self.messages.pop(self.chance.randrange(len(self.messages)))
        is_done = always or self.chance.random() < 0.85
        messages = self.fleet.messages
        self.voice.ask(
            "give",
            f"message:{self.fleet.incarnation.worker}:{message.id}",
            {"token": message.lease, "final": is_done},
            (lambda: messages.acknowledge(message))
            if is_done
            else (lambda: messages.reject(message, "by chance", 0)),
            lambda _answer: (True, {}),
        )

    # Limits

    def _request(self) -> None:
        if len(self.grants) >= MOST_HELD:
            return
        endpoint = self.chance.choice(list(ENDPOINTS))
        grant = self.voice.ask(
            "grant",
            endpoint,
            {"worker": self.process},
            lambda: self.fleet.rate_limits.can_make_request(endpoint, self.me),
            lambda grant: (grant.allowed, {"grant": grant.grant_id, "reason": grant.reason}),
        )
        if grant is not None:
            self.grants.append((endpoint, grant.grant_id))

    def _settle(self) -> None:
        if not self.grants:
            return
        endpoint, grant = self.grants.pop(self.chance.randrange(len(self.grants)))
        self.voice.ask(
            "settle",
            endpoint,
            {"grant": grant},
            lambda: self.fleet.rate_limits.record_usage(grant, True),
            lambda _answer: (True, {}),
        )

    # Pools

    def _reserve(self) -> None:
        if len(self.units) >= MOST_HELD:
            return
        pool, units = self.chance.choice(list(POOLS)), self.chance.randint(1, 2)
        seconds, wait_s = self.chance.uniform(*LEASE_S), self.chance.choice((0.0, 0.0, 0.4))
        rank = self.chance.choice(RANKS)
        found = self.voice.ask(
            "take",
            f"pool:{pool}",
            {"seconds": seconds, "units": units},
            lambda: self.fleet.reservations.reserve_resource(
                "memory", pool, self.me, rank, seconds / 60, units=units, wait_s=wait_s
            ),
            lambda found: (found is not None, self._told_units(pool, found)),
            waits=True,
        )
        if found is not None:
            self.units.append(found)

    def _give_units_back(self) -> None:
        if not self.units:
            return
        held = self.units.pop(self.chance.randrange(len(self.units)))
        self.voice.ask(
            "give",
            f"reservation:{held.reservation_id}",
            {"token": held.fencing_token},
            lambda: self.fleet.reservations.release_resource(held),
            lambda _answer: (True, {}),
        )

    def _told_units(self, pool: str, found: Any) -> Mapping[str, Any]:
        if found is None:
            return self._why_not()
        held = {
            "thing": f"reservation:{found.reservation_id}",
            "token": found.fencing_token,
            "units": found.units,
        }
        return {"holds": [{**held, "pool": f"pool:{pool}", "expires": found.lease_expires_at.timestamp()}]}

    def _sweep(self) -> None:
        """What maintenance and the coordinator do, in the midst of it."""
        with suppress(DatabaseError):
            self.fleet.retention.sweep("engagement_locks", keep_s=0)
            self.fleet.retention.close_silent(keep_s=3.0)
            self.fleet.reservations.tidy()


def _held_job(kind: str, job: Any) -> Mapping[str, Any]:
    return {
        "thing": f"job:{kind}:{job.id}",
        "token": job.lease,
        "expires": job.lease_expires_at.timestamp(),
        "attempt": job.attempt,
    }


def main() -> int:
    """Live until SIGTERM."""
    told = json.loads(sys.argv[1])
    orders = Orders(**{field.name: told[field.name] for field in fields(Orders)})
    pause = Event()
    is_over = False

    def leave(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True  # not an event: its lock may be held by the very code that this interrupts

    signal.signal(signal.SIGTERM, leave)
    chance = random.Random(orders.seed)
    former: Life | None = None
    with Recorder(Path(orders.history), orders.process) as recorder:
        while not is_over:
            try:
                fleet = join(orders)
            except FleetError:
                pause.wait(chance.uniform(0.02, 0.2))
                continue
            life = Life(fleet, recorder, chance, orders.process)
            if former:
                life.inherit(former)
            former = life
            try:
                while not is_over:
                    life.act()
                    pause.wait(orders.pause_s)
            except (DatabaseError, IncarnationLostError):
                pass
            finally:
                with suppress(FleetError):
                    fleet.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
