"""What a test of sending needs: an act in hand, what a platform answers, what became of the act."""

from typing import Any

from coordination import Fleet
from coordination.intents import Action, Claim
from tests.integration.platforms.scripted import reply

ACCOUNT = "sandbox"

TARGET = "1900000000000000001"

TOWARDS: tuple[Action, ...] = ("reply", "quote", "like")

DUPLICATE = {
    "detail": "You are not allowed to create a Tweet with duplicate content.",
    "type": "about:blank",
    "title": "Forbidden",
    "status": 403,
}


def claimed(fleet: Fleet, text: str = "Hello, world", target: str = "plan:1") -> Claim:
    fleet.ledger.propose(ACCOUNT, "post", target, text)
    claim = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert claim is not None
    return claim


def claimed_towards(fleet: Fleet, action: Action, text: str = "Well said", target: str = TARGET) -> Claim:
    """A reply, quote or like of another's post."""
    fleet.ledger.propose(
        ACCOUNT, action, target, "" if action == "like" else text, origin={"author_id": "7", "handle": "ada"}
    )
    claim = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert claim is not None
    return claim


def state(fleet: Fleet, claim: Claim) -> dict[str, Any]:
    intent = fleet.ledger.get(claim.intent)
    assert intent is not None
    return intent


def created(post_id: str = "1234567890123456789") -> bytes:
    return reply(201, {"data": {"id": post_id, "text": "Hello, world"}}, "Content-Type: application/json")


def posts_on_timeline(text: str, post_id: str) -> bytes:
    return reply(200, {"data": [{"id": post_id, "text": text}], "meta": {"result_count": 1}})


def snowflake_of_now(fleet: Fleet) -> str:
    row = fleet.database.call("real_now")
    return str((int(row.timestamp() * 1000) - 1288834974657) << 22)


def free_content(fleet: Fleet, claim: Claim) -> bool:
    lease = fleet.engagement.request_lock(claim.content, "other", "analysis")
    if lease:
        fleet.engagement.release_lock(lease)
    return lease is not None


def accepted(action: Action) -> bytes:
    if action == "like":
        return reply(200, {"data": {"liked": True}})
    return created("2000000000000000001")
