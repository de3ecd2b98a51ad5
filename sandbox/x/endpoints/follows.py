"""Follows and mutes: begun, ended, and listed."""

from typing import Any

from sandbox.x import tiers
from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import own
from sandbox.x.store.store import Store
from sandbox.x.wire.answers import Forbidden

NOT_ONESELF = "You cannot follow or mute yourself."


def follow_user(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/users/:id/following: once more changes nothing."""
    store.follow(_other(store, call), call.now_ms)
    return {"data": {"following": True, "pending_follow": False}}


def unfollow_user(store: Store, call: Call) -> dict[str, Any]:
    """DELETE /2/users/:source_user_id/following/:target_user_id."""
    target = own.target_in_path(call, "target_user_id", own="source_user_id")
    store.unfollow(target, call.now_ms)
    return {"data": {"following": False}}


def followers(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/followers."""
    return own.list_users(store, call, store.people.followers, of="user")


def following(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/following."""
    return own.list_users(store, call, store.people.following, of="user")


def mute_user(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/users/:id/muting: once more changes nothing."""
    store.mute(_other(store, call), call.now_ms)
    return {"data": {"muting": True}}


def unmute_user(store: Store, call: Call) -> dict[str, Any]:
    """DELETE /2/users/:source_user_id/muting/:target_user_id."""
    store.unmute(own.target_in_path(call, "target_user_id", own="source_user_id"), call.now_ms)
    return {"data": {"muting": False}}


def muting(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/muting: whom the account mutes."""
    own.check_path(call)
    return own.list_users(store, call, store.people.muted, of="user")


def _other(store: Store, call: Call) -> int:
    user = own.known_user(store, own.target_in_body(call, "target_user_id"))
    if user.id == call.caller.user_id:
        raise Forbidden(NOT_ONESELF)
    return user.id


FOLLOW = ("follows.write", "tweet.read", "users.read")
READ_FOLLOWS = ("follows.read", "tweet.read", "users.read")
MUTE = ("mute.write", "tweet.read", "users.read")

ENDPOINTS = (
    Endpoint(
        name="follow_user",
        method="POST",
        path="/2/users/{id}/following",
        answer=follow_user,
        who="user",
        scopes=FOLLOW,
        tiers=tiers.ENTERPRISE,
    ),
    Endpoint(
        name="unfollow_user",
        method="DELETE",
        path="/2/users/{source_user_id}/following/{target_user_id}",
        answer=unfollow_user,
        who="user",
        scopes=FOLLOW,
    ),
    Endpoint(
        name="followers",
        method="GET",
        path="/2/users/{id}/followers",
        answer=followers,
        scopes=READ_FOLLOWS,
    ),
    Endpoint(
        name="following",
        method="GET",
        path="/2/users/{id}/following",
        answer=following,
        scopes=READ_FOLLOWS,
    ),
    Endpoint(
        name="mute_user",
        method="POST",
        path="/2/users/{id}/muting",
        answer=mute_user,
        who="user",
        scopes=MUTE,
    ),
    Endpoint(
        name="unmute_user",
        method="DELETE",
        path="/2/users/{source_user_id}/muting/{target_user_id}",
        answer=unmute_user,
        who="user",
        scopes=MUTE,
    ),
    Endpoint(
        name="muting",
        method="GET",
        path="/2/users/{id}/muting",
        answer=muting,
        who="user",
        scopes=("mute.read", "tweet.read", "users.read"),
    ),
)
