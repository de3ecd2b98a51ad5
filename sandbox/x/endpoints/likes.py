"""Likes: given, taken back, and listed."""

from typing import Any

from sandbox.x import tiers
from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import own
from sandbox.x.store.store import Store


def like_tweet(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/users/:id/likes: once more changes nothing."""
    post = own.known_post(store, own.target_in_body(call, "tweet_id"))
    store.like(post.id, call.now_ms)
    return {"data": {"liked": True}}


def unlike_tweet(store: Store, call: Call) -> dict[str, Any]:
    """DELETE /2/users/:id/likes/:tweet_id."""
    store.unlike(own.target_in_path(call, "tweet_id"), call.now_ms)
    return {"data": {"liked": False}}


def liked_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/liked_tweets."""
    return own.list_posts(store, call, store.liked_posts)


def liking_users(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/:id/liking_users."""
    return own.list_users(store, call, store.people.liking_users, of="tweet", most=100)


WRITE = ("like.write", "tweet.read", "users.read")

ENDPOINTS = (
    Endpoint(
        name="like_tweet",
        method="POST",
        path="/2/users/{id}/likes",
        answer=like_tweet,
        who="user",
        scopes=WRITE,
        tiers=tiers.ENTERPRISE,
    ),
    Endpoint(
        name="unlike_tweet",
        method="DELETE",
        path="/2/users/{id}/likes/{tweet_id}",
        answer=unlike_tweet,
        who="user",
        scopes=WRITE,
    ),
    Endpoint(
        name="liked_tweets",
        method="GET",
        path="/2/users/{id}/liked_tweets",
        answer=liked_tweets,
        scopes=("like.read", "tweet.read", "users.read"),
    ),
    Endpoint(
        name="liking_users",
        method="GET",
        path="/2/tweets/{id}/liking_users",
        answer=liking_users,
        scopes=("like.read", "tweet.read", "users.read"),
    ),
)
