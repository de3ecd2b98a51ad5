"""The calls that workers make all day, each ready to be made again and again on any database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count, product
from typing import Any

from coordination.database import Database, Json
from coordination.session import Session

ACCOUNT = "busy"
OTHER_ACCOUNTS = ("second", "third")
WORKER = "engagement"
OTHER = "poster"
SMALL = ((5000, 900),)
LARGE = ((1_000_000, 900), (4_000_000, 3600), (96_000_000, 86_400))
POOL = ("content", "content_pipeline")
BUDGETS = (
    ("total", ""),
    ("endpoint", "search_tweets"),
    ("endpoint", "post_tweet"),
    ("model", "small"),
    ("model", "large"),
)
LEASE_S = 60.0
BATCH = 10

_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Station:
    """Where calls are made from.

    Attributes:
        me: the life that calls, of the worker `WORKER`.
        other: another living one, of the worker `OTHER`.
        admin: a superuser's connection.
    """

    me: Session
    other: Session
    admin: Database

    def prepare(self) -> None:
        """Make what all calls deal with: the accounts, their limits, a budget, the two workers."""
        for account in (ACCOUNT, *OTHER_ACCOUNTS):
            self.admin.call(
                "ensure_account",
                name=account,
                platform="x",
                api_url="http://127.0.0.1:1",
                sandbox=True,
                topics=["gardens"],
            )
        for worker in (WORKER, OTHER):
            self.admin.call("ensure_worker", name=worker, description="measured")
        for endpoint, windows in (
            *(("api_requests", LARGE), ("api_tweets", LARGE), ("post_tweet", LARGE)),
            *(("get_tweets", LARGE), ("search_tweets", SMALL)),
        ):
            self.admin.call(
                "configure_rate_windows",
                account=ACCOUNT,
                endpoint=endpoint,
                windows=Json([list(window) for window in windows]),
            )
        for (kind, name), period in product(BUDGETS, ("day", "month")):
            self.admin.call(
                "set_budget",
                account=ACCOUNT,
                period=period,
                limit_usd=1_000_000,
                actor="a person",
                reason="all",
                kind=kind,
                name=name,
            )
        self.admin.call("accept_cluster", actor="a person")


Call = Callable[[], object]


def _expect(fine: object, answer: object = None) -> None:
    """What went another way is not what shall be measured."""
    if not fine:
        raise RuntimeError(f"the call went another way: {answer}")


def _lock(at: Station) -> Call:
    def call() -> None:
        content = f"content {next(_numbers)}"
        lease = at.me.call(
            "request_lock", tweet_id=content, worker_id="w", lock_type="reply", account=ACCOUNT
        )
        _expect(lease["granted"], lease)
        at.me.call("release_lock", content=content, token=lease["fencing_token"])

    return call


def _refused_lock(at: Station) -> Call:
    asked = _locked(at)
    return lambda: at.me.call("request_lock", **asked)


def _poll(at: Station) -> Call:
    waiter = at.me.call("request_lock", **_locked(at), wait_s=86_400)["waiter"]

    def call() -> None:
        answer = at.me.call("poll_lock", waiter=waiter)
        _expect(not answer["over"], answer)

    return call


def _locked(at: Station) -> Mapping[str, Any]:
    """A request that another's lock is in the way of, all day long."""
    content = f"content {next(_numbers)}"
    asked: Mapping[str, Any] = {
        "tweet_id": content,
        "worker_id": "w",
        "lock_type": "reply",
        "duration_minutes": 1440,
    }
    _expect(at.other.call("request_lock", **asked)["granted"])
    return asked


def _history(at: Station) -> Call:
    return lambda: at.me.call(
        "has_recent_engagement", tweet_id=str(1_600_000_000_000_000_000 + next(_numbers) * 7919)
    )


def _grant(at: Station, endpoint: str) -> Call:
    def call() -> None:
        grant = at.me.call("can_make_request", endpoint=endpoint, worker_id="w", account=ACCOUNT)
        _expect(grant["allowed"], grant)
        at.me.call("record_usage", grant_id=grant["grant_id"], success=True)

    return call


def _lease(at: Station) -> Call:
    def call() -> None:
        lease = at.me.call(
            "lease_requests", endpoint="get_tweets", worker_id="w", most=BATCH, account=ACCOUNT
        )
        _expect(lease["allowed"], lease)
        at.me.call("end_lease", grant_id=lease["grant_id"], used=1)

    return call


def _reservation(at: Station) -> Call:
    def call() -> None:
        held = at.me.call("reserve_resource", resource_type=POOL[0], resource_id=POOL[1], worker_id="w")
        _expect(held["granted"], held)
        at.me.call("release_resource", reservation_id=held["reservation_id"])

    return call


def _hold(at: Station) -> Call:
    def call() -> None:
        hold = at.me.call(
            "hold_budget", account=ACCOUNT, amount_usd=0.01, purpose="a search", endpoint="search_tweets"
        )
        _expect(hold["held"], hold)
        at.me.call("settle_hold", hold=hold["hold_id"], actual_usd=0.01)

    return call


def _enqueue(at: Station) -> Call:
    return lambda: at.me.call("enqueue_job", kind="kept", payload=Json({"n": 1}))


def _jobs(at: Station) -> Call:
    jobs = Json([{"kind": "done", "payload": {"n": 1}}] * BATCH)

    def call() -> None:
        at.me.call("enqueue_jobs", jobs=jobs)
        claimed = at.me.call("claim_jobs", kind="done", n=BATCH)
        _expect(len(claimed) == BATCH, claimed)
        done = at.me.call(
            "complete_jobs", jobs=[job["id"] for job in claimed], leases=[job["lease"] for job in claimed]
        )
        _expect(not done["lost"], done)

    return call


def _turn(at: Station) -> Call:
    jobs = Json([{"kind": "turned", "payload": {"n": 1}}] * BATCH)
    at.me.call("enqueue_jobs", jobs=jobs)
    claimed = at.me.call("claim_jobs", kind="turned", n=BATCH)

    def call() -> None:
        nonlocal claimed
        at.me.call("enqueue_jobs", jobs=jobs)
        turned = at.me.call(
            "turn_jobs",
            jobs=[job["id"] for job in claimed],
            leases=[job["lease"] for job in claimed],
            kind="turned",
            n=BATCH,
        )
        claimed = turned["jobs"]
        _expect(len(claimed) == BATCH and not turned["lost"], turned)

    return call


def _renewals(at: Station) -> Call:
    at.me.call("enqueue_job", kind="renewed", payload=Json({"n": 1}))
    (job,) = at.me.call("claim_jobs", kind="renewed", n=1, lease_s=86_400)
    content = f"content {next(_numbers)}"
    lock = at.me.call("request_lock", tweet_id=content, worker_id="w", lock_type="reply", account=ACCOUNT)
    held = at.me.call("reserve_resource", resource_type=POOL[0], resource_id=POOL[1], worker_id="w")

    def call() -> None:
        renewed = at.me.call("renew_jobs", jobs=[job["id"]], leases=[job["lease"]])
        _expect(not renewed["lost"], renewed)
        at.me.call("renew_lock", content=content, token=lock["fencing_token"])
        at.me.call("renew_reservation", reservation_id=held["reservation_id"])

    return call


def _no_jobs(at: Station) -> Call:
    return lambda: at.me.call("claim_jobs", kind="never", n=BATCH)


def _message(at: Station) -> Call:
    payload = Json({"kind": "system_issue", "subject": "nothing"})

    def call() -> None:
        at.other.call("send_message", type="SYSTEM_EVENT", recipient=WORKER, payload=payload)
        (claimed,) = at.me.call("claim_messages", n=BATCH)
        at.me.call("acknowledge_message", message=claimed["id"], lease=claimed["lease"])

    return call


def _no_message(at: Station) -> Call:
    return lambda: at.me.call("claim_messages", n=BATCH)


def _beat(at: Station) -> Call:
    version = 0

    def call() -> None:
        nonlocal version
        told = at.me.call(
            "beat",
            state="READY",
            reason=None,
            step=None,
            progress=next(_numbers),
            healthy=True,
            health=Json({}),
            memory_bytes=1,
            known_version=version,
        )
        version = told["version"]

    return call


def _run(at: Station) -> Call:
    def call() -> None:
        run = at.me.call("start_run", step="step", trace_id="trace")
        at.me.call(
            "finish_run", run=run, outcome="done", items=1, item_errors=0, error_class=None, error=None
        )

    return call


def _state(at: Station) -> Call:
    def call() -> None:
        at.me.call("set_state", namespace="fleet", key="key 7", value=Json({"n": 1}))
        at.me.call("get_state", namespace="fleet", key="key 7")

    return call


def _cache(at: Station) -> Call:
    def call() -> None:
        at.me.call("put_cached", namespace="posts", key="post 7", value=Json({"n": 1}), ttl_s=60)
        at.me.call("get_cached", namespace="posts", key="post 7")

    return call


def _breaker(at: Station) -> Call:
    def call() -> None:
        _expect(at.me.call("ask_breaker", account=ACCOUNT, service="posting")["allowed"])
        at.me.call("record_call", account=ACCOUNT, service="posting", succeeded=True, status=200)

    return call


def _propose(at: Station) -> Call:
    return lambda: _proposed(at, "2999-01-01T00:00:00Z")  # no sender's yet


def _proposed(at: Station, due: str | None = None) -> str:
    proposed = at.me.call(
        "propose",
        account=ACCOUNT,
        action="reply",
        target=str(1_700_000_000_000_000_000 + next(_numbers)),
        text="Well said",
        origin=Json({"author_id": "7"}),
        at=due,
    )
    _expect(proposed["created"], proposed)
    return str(proposed["id"])


def _act(at: Station) -> Call:
    def call() -> None:
        proposed = _proposed(at)
        at.me.call("tidy_intents", account=ACCOUNT)
        claim = at.me.call("claim_intent", account=ACCOUNT, worker_id="w", lease_s=LEASE_S)
        _expect(claim["intent"]["id"] == proposed, claim)
        grant = at.me.call("can_make_request", endpoint="post_tweet", worker_id="w", account=ACCOUNT)
        begun = at.me.call(
            "begin_send",
            intent=proposed,
            token=claim["fencing_token"],
            grant_id=grant["grant_id"],
            worker_id="w",
            http_deadline_s=13,
        )
        _expect(begun["sending"], begun)
        at.me.call(
            "settle",
            intent=proposed,
            attempt=begun["attempt"],
            outcome="posted",
            worker_id="w",
            platform_id=str(1_900_000_000_000_000_000 + next(_numbers)),
        )

    return call


def _no_act(at: Station) -> Call:
    def call() -> None:
        at.me.call("tidy_intents", account="third")
        at.me.call("park_orphan", account="third", grace_s=60)
        _expect(at.me.call("claim_intent", account="third", worker_id="w", lease_s=LEASE_S)["intent"] is None)

    return call


def _candidate(at: Station) -> Call:
    def call() -> None:
        find: dict[str, object] = {
            "platform_id": str(1_700_000_000_000_000_000 + next(_numbers)),
            "author_id": "7",
            "handle": "someone",
            "text": "On gardens",
            "topic": "gardens",
            "origin": "search",
            "posted_at": "2026-01-01T00:00:00Z",
            "metrics": {},
            "score": 100,
            "parts": {},
            "replaces": [],
        }
        at.me.call("offer_candidates", account=ACCOUNT, finds=Json([find]), pool_size=1000)
        (taken,) = at.me.call("take_candidates", account=ACCOUNT, n=1)
        at.me.call(
            "decide_candidate",
            account=ACCOUNT,
            platform_id=taken["platform_id"],
            decision="passed",
            reason="measured",
        )

    return call


def _mentions(at: Station) -> Call:
    return lambda: at.me.call("take_interactions", account=ACCOUNT, n=BATCH, lease_s=LEASE_S)


def _readings(at: Station) -> Call:
    return lambda: at.me.call("claim_readings", account=ACCOUNT, n=BATCH, lease_s=LEASE_S)


def _slot(at: Station) -> Call:
    return lambda: at.me.call("fire_slot", name="measured", interval_s=1)


def _settings(at: Station) -> Call:
    return lambda: at.admin.call("get_settings", prefix=f"{WORKER}_")


def _event(at: Station) -> Call:
    return lambda: at.me.call("report_event", severity="info", kind="measured", message="it was measured")


HOT_CALLS: Mapping[str, Callable[[Station], Call]] = {
    "request and release of a lock": _lock,
    "request of a lock that another has": _refused_lock,
    "poll of a waiter": _poll,
    "has_recent_engagement": _history,
    "grant and settling, a small limit": lambda at: _grant(at, "search_tweets"),
    "grant and settling, a large limit": lambda at: _grant(at, "get_tweets"),
    "lease of tokens and its end": _lease,
    "reservation and release": _reservation,
    "hold and settling of money": _hold,
    "enqueue of a job": _enqueue,
    "ten jobs enqueued, claimed and completed": _jobs,
    "ten jobs enqueued, ten completed and ten taken": _turn,
    "renewal of a job, a lock and a reservation": _renewals,
    "claim where no job waits": _no_jobs,
    "message sent, claimed and acknowledged": _message,
    "claim where no message waits": _no_message,
    "beat": _beat,
    "begin and end of a run": _run,
    "set and get of shared state": _state,
    "put and get of the cache": _cache,
    "call through a breaker": _breaker,
    "an act from its proposal to its settling": _act,
    "claim where no act is due": _no_act,
    "candidate offered, taken and decided": _candidate,
    "mentions to answer": _mentions,
    "posts to measure": _readings,
    "slot of a schedule": _slot,
    "settings of a worker": _settings,
    "event": _event,
    "proposal of an act": _propose,  # the last: what it leaves waits, and whoever sends looks at it
}
"""Each by what it does, with how it is made ready."""
