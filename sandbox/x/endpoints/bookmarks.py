"""Bookmarks: kept, dropped, and listed; with OAuth 2.0 user tokens only, as on X."""

from typing import Any

from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import own
from sandbox.x.store.store import Store


def bookmark_tweet(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/users/:id/bookmarks: once more changes nothing."""
    post = own.known_post(store, own.target_in_body(call, "tweet_id"))
    store.bookmark(post.id, call.now_ms)
    return {"data": {"bookmarked": True}}


def unbookmark_tweet(store: Store, call: Call) -> dict[str, Any]:
    """DELETE /2/users/:id/bookmarks/:tweet_id."""
    store.unbookmark(own.target_in_path(call, "tweet_id"), call.now_ms)
    return {"data": {"bookmarked": False}}


def bookmarks(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/bookmarks: the account's own."""
    return own.list_posts(store, call, store.bookmarked_posts, own=True)


WRITE = ("bookmark.write", "tweet.read", "users.read")

ENDPOINTS = (
    Endpoint(
        name="bookmark_tweet",
        method="POST",
        path="/2/users/{id}/bookmarks",
        answer=bookmark_tweet,
        who="oauth2_user",
        scopes=WRITE,
    ),
    Endpoint(
        name="unbookmark_tweet",
        method="DELETE",
        path="/2/users/{id}/bookmarks/{tweet_id}",
        answer=unbookmark_tweet,
        who="oauth2_user",
        scopes=WRITE,
    ),
    Endpoint(
        name="bookmarks",
        method="GET",
        path="/2/users/{id}/bookmarks",
        answer=bookmarks,
        who="oauth2_user",
        scopes=("bookmark.read", "tweet.read", "users.read"),
    ),
)
