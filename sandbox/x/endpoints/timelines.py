"""Timelines: a user's posts, mentions, home timeline, and the search."""

from collections.abc import Callable
from typing import Any

from sandbox.x import parameters, search, views
from sandbox.x.answers import not_found
from sandbox.x.call import Call, Endpoint
from sandbox.x.posts import Post, User
from sandbox.x.search import QueryError
from sandbox.x.store import Span, Store

Reader = Callable[[Store, User, Span, int], list[Post]]


def user_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/tweets: a user's posts, newest first."""
    return _timeline(store, call, _posts_of)


def fetch_mentions(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/mentions: other people's posts that name the user, newest first."""
    return _timeline(store, call, _mentions_of)


def home_timeline(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/timelines/reverse_chronological: whom the account follows, newest first."""
    return _timeline(store, call, _home_of)


def _posts_of(store: Store, user: User, span: Span, count: int) -> list[Post]:
    return store.posts_of(user.id, span, count)


def _mentions_of(store: Store, user: User, span: Span, count: int) -> list[Post]:
    match = f"({search.mark(f'at_{user.username}')}) NOT ({search.mark(f'from_{user.username}')})"
    return store.search(match, span, count)


def _home_of(store: Store, user: User, span: Span, count: int) -> list[Post]:
    return store.home_timeline(user.id, span, count)


def _timeline(store: Store, call: Call, read: Reader) -> dict[str, Any]:
    query = call.query
    query.allow(*parameters.LISTING, *parameters.FIELDS)
    user_id = call.path_id()
    span = call.span("pagination_token")
    count = query.max_results(least=5, most=100)
    fields = query.fields()
    query.check()
    user = store.user(user_id)
    if user is None:
        return {"errors": [not_found("user", "id", call.path["id"])]}
    posts = read(store, user, span, count + 1)
    return views.page(store, posts[:count], len(posts) > count, fields, call.now_ms)


def search_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/search/recent: the whole world, newest first (X: the last 7 days)."""
    query = call.query
    query.allow("query", "next_token", "sort_order", *parameters.LISTING, *parameters.FIELDS)
    match = ""
    if asked := query.required("query"):
        try:
            match = search.expression(asked)
        except QueryError as error:
            query.fault("query", f"The `query` query parameter value [{asked}] {error}")
    query.one_of("sort_order", ("recency",))
    span = call.span("pagination_token", "next_token")
    count = query.max_results(least=10, most=100)
    fields = query.fields()
    query.check()
    posts = store.search(match, span, count + 1)
    return views.page(store, posts[:count], len(posts) > count, fields, call.now_ms)


ENDPOINTS = (
    Endpoint(name="search_tweets", method="GET", path="/2/tweets/search/recent", answer=search_tweets),
    Endpoint(name="user_tweets", method="GET", path="/2/users/{id}/tweets", answer=user_tweets),
    Endpoint(name="fetch_mentions", method="GET", path="/2/users/{id}/mentions", answer=fetch_mentions),
    Endpoint(
        name="home_timeline",
        method="GET",
        path="/2/users/{id}/timelines/reverse_chronological",
        answer=home_timeline,
        who="user",
    ),
)
