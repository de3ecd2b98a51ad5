"""One act's way through the ledger, up to each of its stations."""

from dataclasses import dataclass
from itertools import count
from typing import Any

from coordination import Fleet, Intent
from coordination.database import Database
from coordination.intents import Action, Claim, Clearance
from tests.integration.coordination.tables import Owner, rows, value

DEADLINE_S = 13.0
AUTHOR = "7"
_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Act:
    """A claimed intent and the grant to send it."""

    claim: Claim
    grant_id: str


def target() -> str:
    return f"plan:{next(_numbers)}"


def plentiful(console: Database, account: str = "sandbox") -> None:
    """No test of the ledger waits for the limiter."""
    for endpoint in ("post_tweet", "like_tweet"):
        console.call(
            "configure_rate_limit", account=account, endpoint=endpoint, requests=1_000_000, window_s=60
        )


def grant(fleet: Fleet, account: str = "sandbox", endpoint: str = "post_tweet") -> str:
    granted = fleet.rate_limits.can_make_request(endpoint, "tester/1", "high", account)
    assert granted.grant_id is not None, granted
    return granted.grant_id


def ready(fleet: Fleet, account: str = "sandbox", **options: Any) -> str:
    return fleet.ledger.propose(account, "post", target(), "Hello", **options).id


def towards(
    fleet: Fleet, action: Action, target: str, account: str = "sandbox", author_id: str = AUTHOR
) -> Intent:
    """Propose a reply, quote or like of another's post."""
    text = "" if action == "like" else "Well said"
    return fleet.ledger.propose(account, action, target, text, origin={"author_id": author_id})


def claimed(fleet: Fleet, account: str = "sandbox", lease_s: float = 60) -> Claim:
    claim = fleet.ledger.claim(account, "tester/1", lease_s)
    assert claim is not None
    return claim


def prepared(fleet: Fleet, account: str = "sandbox", lease_s: float = 60) -> Act:
    if account == "sandbox":
        ready(fleet)
    return granted(fleet, claimed(fleet, account, lease_s))


def granted(fleet: Fleet, claim: Claim) -> Act:
    return Act(claim=claim, grant_id=grant(fleet, claim.account, claim.endpoint))


def prepared_towards(fleet: Fleet, action: Action, target: str) -> Act:
    """A reply, quote or like of the sandbox's, up to the last gate."""
    proposed = towards(fleet, action, target)
    assert proposed.state == "ready", proposed
    claim = claimed(fleet)
    assert claim.intent == proposed.id
    return granted(fleet, claim)


def begin(fleet: Fleet, act: Act, *, http_deadline_s: float = DEADLINE_S, fence_seen: int = 0) -> Clearance:
    return fleet.ledger.begin_send(
        act.claim, act.grant_id, "tester/1", http_deadline_s=http_deadline_s, fence_seen=fence_seen
    )


def sending(fleet: Fleet, lease_s: float = 60) -> Act:
    act = prepared(fleet, lease_s=lease_s)
    assert begin(fleet, act).sending
    return act


def state(fleet: Fleet, intent: str) -> str:
    found = fleet.ledger.get(intent)
    assert found is not None
    return str(found["state"])


def transitions(owner: Owner, intent: str) -> list[str]:
    return [
        to
        for (to,) in rows(
            owner, "SELECT to_state FROM fleet.intent_transitions WHERE intent = %s ORDER BY id", intent
        )
    ]


def is_locked(owner: Owner, act: Act) -> bool:
    return bool(
        value(owner, "SELECT count(*) FROM fleet.engagement_locks WHERE content = %s", act.claim.content)
    )


def open_grants(owner: Owner) -> int:
    return int(value(owner, "SELECT count(*) FROM fleet.rate_grants WHERE settled_at IS NULL"))


def posted(fleet: Fleet, act: Act, platform_id: str | None = None) -> dict[str, Any]:
    """Send it: begun, and reported as done."""
    begun = begin(fleet, act)
    assert begun.sending, begun
    return fleet.ledger.settle(
        act.claim.intent, begun.attempt, "posted", "tester/1", platform_id=platform_id or act.claim.target
    )
