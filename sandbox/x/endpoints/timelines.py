"""Timelines: a user's posts, mentions and home timeline."""

from collections.abc import Callable
from typing import Any

from sandbox.x import tiers
from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import own
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Span, Store
from sandbox.x.wire import parameters, search, views
from sandbox.x.wire.answers import not_found

Reader = Callable[[Store, User, Span, int, frozenset[str]], list[Post]]


def user_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/tweets: a user's posts, newest first."""
    if call.tier == "free" and call.path["id"] != str(call.caller.user_id):
        raise tiers.NotEnrolled(call.client.id)
    return _timeline(store, call, _posts_of, excludes=True)


def fetch_mentions(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/mentions: other people's posts that name the user, newest first."""
    return _timeline(store, call, _mentions_of)


def home_timeline(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/timelines/reverse_chronological: whom the account follows, newest first."""
    own.check_path(call)
    return _timeline(store, call, _home_of, excludes=True, least=1, usual=100)


def _posts_of(store: Store, user: User, span: Span, count: int, excluded: frozenset[str]) -> list[Post]:
    if not excluded:
        return store.posts_of(user.id, span, count)
    no_replies, no_reposts = "replies" in excluded, "retweets" in excluded
    return store.chosen_posts_of(user.id, span, count, no_replies=no_replies, no_reposts=no_reposts)


def _mentions_of(store: Store, user: User, span: Span, count: int, _excluded: frozenset[str]) -> list[Post]:
    match = f"({search.mark(f'at_{user.username}')}) NOT ({search.mark(f'from_{user.username}')})"
    return store.search(match, span, count)


def _home_of(store: Store, user: User, span: Span, count: int, excluded: frozenset[str]) -> list[Post]:
    no_replies, no_reposts = "replies" in excluded, "retweets" in excluded
    return store.home_timeline(user.id, span, count, no_replies=no_replies, no_reposts=no_reposts)


def _timeline(
    store: Store, call: Call, read: Reader, *, excludes: bool = False, least: int = 5, usual: int = 10
) -> dict[str, Any]:
    query = call.query
    query.allow(*(("exclude",) if excludes else ()), *parameters.LISTING, *parameters.FIELDS)
    user_id = call.path_id()
    span = call.span("pagination_token")
    count = query.max_results(least=least, most=100, usual=usual)
    excluded = query.one_of("exclude", ("replies", "retweets"))
    fields = query.fields()
    query.check()
    user = store.user(user_id)
    if user is None:
        return {"errors": [not_found("user", "id", call.path["id"])]}
    posts = read(store, user, span, count + 1, excluded)
    return views.page(store, posts[:count], len(posts) > count, fields, call)


ENDPOINTS = (
    Endpoint(
        name="user_tweets", method="GET", path="/2/users/{id}/tweets", answer=user_tweets, tiers=tiers.ALL
    ),
    Endpoint(name="fetch_mentions", method="GET", path="/2/users/{id}/mentions", answer=fetch_mentions),
    Endpoint(
        name="home_timeline",
        method="GET",
        path="/2/users/{id}/timelines/reverse_chronological",
        answer=home_timeline,
        who="user",
    ),
)
