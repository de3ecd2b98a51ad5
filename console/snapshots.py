"""Snapshots: what page, metrics and readiness show, read together and kept while the database is away."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from console.connection import Connection
from console.lock_metrics import WINDOW_H
from coordination.alerts import list_alerts
from coordination.black_boxes import list_black_boxes
from coordination.breakers import BreakerStatus, get_breaker_status
from coordination.budgets import BudgetStatus, get_budget_status
from coordination.cache import CacheStatus, get_cache_status
from coordination.database import Database
from coordination.errors import FleetError
from coordination.health import get_responsiveness
from coordination.hosts import list_hosts
from coordination.jobs import get_job_status
from coordination.kill_switch import get_kill_switch
from coordination.messages import get_message_status
from coordination.pools import list_pools
from coordination.schedules import get_schedule_status
from coordination.status import SlotStatus, list_slots

# Pages ask every 2 s; several of them share one reading.
FRESH_S = 1.0
# Read also when nobody asks: once the database is away, what is last known is no older than this.
QUIET_S = 5.0
# A page waits no longer than this before it shows what was last known.
PATIENCE_S = 2.0
INTENTS = 15
POSTS = 10
EVENTS = 30
ERRORS = 10
MENTIONS = 8
CANDIDATES = 8
ALERTS = 50
COMMANDS = 12
BLACK_BOXES = 8

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The fleet as the database told it. Rows are those of the named queries.

    Attributes:
        real_now: the server's clock when it was read.
        fleet_now: fleet time at that moment.
        manager_age_s: seconds since a manager reported, None when none ever did.
        alerts: the worst of the open ones.
        alert_counts: open alerts a severity.
        event_counts: events a severity since the first one there is.
        locks: the measures of the engagement locks over the last hour of fleet time.
        responsiveness: how soon what was due was taken up, over the same hour.
    """

    real_now: datetime
    fleet_now: datetime
    server_version: str
    manager_age_s: float | None
    kill_switch: Row
    slots: list[SlotStatus]
    hosts: list[Row]
    alerts: list[Row]
    commands: list[Row]
    black_boxes: list[Row]
    accounts: list[Row]
    intent_counts: list[Row]
    intents: list[Row]
    post_counts: list[Row]
    posts: list[Row]
    limits: list[Row]
    pools: list[Row]
    events: list[Row]
    event_counts: Mapping[str, int]
    errors: list[Row]
    candidate_counts: list[Row]
    mentions: list[Row]
    candidates: list[Row]
    limit_measures: list[Row] = field(default_factory=list[Row])
    locks: Row = field(default_factory=dict[str, Any])
    breakers: list[BreakerStatus] = field(default_factory=list[BreakerStatus])
    budgets: list[BudgetStatus] = field(default_factory=list[BudgetStatus])
    cache: list[CacheStatus] = field(default_factory=list[CacheStatus])
    jobs: list[Row] = field(default_factory=list[Row])
    schedules: list[Row] = field(default_factory=list[Row])
    messages: Row = field(default_factory=dict[str, Any])
    responsiveness: Row = field(default_factory=dict[str, Any])
    alert_counts: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What is known now.

    Attributes:
        snapshot: the last one read; None before the first.
        fault: why there is no newer one; None while the database answers.
        age_s: seconds since it was read.
    """

    snapshot: Snapshot | None
    fault: str | None
    age_s: float


@dataclass
class _EventCounts:
    """Counted on from the newest event seen: a table of events is read in full once a process."""

    last_id: int = 0
    by_severity: Counter[str] = field(default_factory=Counter[str])

    def read(self, database: Database) -> dict[str, int]:
        if database.rows("get_last_event_id")[0]["id"] < self.last_id:
            # Another database, or a restored one: what was counted is not its.
            self.last_id, self.by_severity = 0, Counter[str]()
        for row in database.rows("count_events_after", last_id=self.last_id):
            self.by_severity[row["severity"]] += row["number"]
            self.last_id = max(self.last_id, row["last_id"])
        return dict(self.by_severity)


class Snapshots:
    """Reads a snapshot when somebody asks and the last one isn't fresh; one reading at a time, for all."""

    def __init__(self, connection: Connection, *, quiet_s: float = QUIET_S) -> None:
        """Read over `connection`; `keep_fresh` lets no more than `quiet_s` seconds pass without a reading."""
        self._connection = connection
        self._quiet_s = quiet_s
        self._events = _EventCounts()
        self._reading: asyncio.Task[None] | None = None
        self._last: Snapshot | None = None
        self._fault: str | None = "nothing was read yet"
        self._read_at_s = -FRESH_S
        self._tried_at_s = -FRESH_S

    async def sight(self) -> Sight:
        """Give what is known, at most `FRESH_S` old while the database answers; wait `PATIENCE_S` at most."""
        if time.monotonic() - self._tried_at_s >= FRESH_S and self._reading is None:
            self._reading = asyncio.create_task(self._read())
        if self._reading is not None:
            await asyncio.shield(self._reading)
        return Sight(snapshot=self._last, fault=self._fault, age_s=time.monotonic() - self._read_at_s)

    async def keep_fresh(self) -> None:
        """Read when nobody asked for `quiet_s`, until cancelled; who asks meanwhile shares that reading."""
        while True:
            due_in_s = self._tried_at_s + self._quiet_s - time.monotonic()
            if due_in_s > 0:
                await asyncio.sleep(due_in_s)
            else:
                # Waited for, not awaited: what goes wrong is told to who asks, and the next one is tried.
                await asyncio.wait([asyncio.ensure_future(self.sight())])

    def forget_freshness(self) -> None:
        """After a change of our own the next sight reads anew."""
        self._tried_at_s = -FRESH_S

    async def _read(self) -> None:
        try:
            self._last = await self._connection.run(self._read_snapshot, timeout_s=PATIENCE_S)
            self._fault, self._read_at_s = None, time.monotonic()
        except FleetError as error:
            self._fault = str(error)
        finally:
            self._tried_at_s = time.monotonic()
            self._reading = None

    def _read_snapshot(self, database: Database) -> Snapshot:
        clock = database.rows("get_console_clock")[0]
        return Snapshot(
            real_now=clock["real_now"],
            fleet_now=clock["fleet_now"],
            server_version=clock["server_version"],
            manager_age_s=database.rows("get_manager_age")[0]["age_s"],
            kill_switch=get_kill_switch(database),
            slots=list_slots(database),
            hosts=[asdict(host) for host in list_hosts(database)],
            alerts=[*list_alerts(database, n=ALERTS)],
            alert_counts={row["severity"]: row["number"] for row in database.rows("count_open_alerts")},
            commands=[*database.rows("list_latest_commands", states=None, number=COMMANDS)],
            black_boxes=[*list_black_boxes(database, n=BLACK_BOXES)],
            accounts=[*database.rows("list_accounts")],
            intent_counts=[*database.rows("count_intents")],
            intents=[*database.rows("list_latest_intents", number=INTENTS)],
            post_counts=[*database.rows("count_posts")],
            posts=[*database.rows("list_latest_posts", number=POSTS)],
            limits=[*database.call("get_system_status", incarnation=None)],
            pools=[*list_pools(database, standing=True)],
            events=[*database.rows("list_latest_events", number=EVENTS)],
            event_counts=self._events.read(database),
            errors=[*database.rows("list_latest_errors", number=ERRORS)],
            mentions=[*database.rows("list_latest_mentions", number=MENTIONS)],
            candidate_counts=[*database.rows("count_candidates")],
            candidates=[*database.rows("list_best_candidates", number=CANDIDATES)],
            limit_measures=[*database.call("get_rate_measures", incarnation=None)],
            locks=database.call("get_lock_measures", incarnation=None, hours=WINDOW_H),
            breakers=get_breaker_status(database),
            budgets=get_budget_status(database),
            cache=get_cache_status(database),
            jobs=[*get_job_status(database)],
            schedules=[*get_schedule_status(database)],
            responsiveness=get_responsiveness(database),
            messages=get_message_status(database),
        )
