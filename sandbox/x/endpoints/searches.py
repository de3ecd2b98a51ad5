"""Searches: posts that a query finds, and how many there are hour by hour."""

from typing import Any

from sandbox.x.call import Call, Endpoint
from sandbox.x.store.store import Store
from sandbox.x.wire import parameters, search, views
from sandbox.x.wire.moments import time
from sandbox.x.wire.search import QueryError

STEPS_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
WEEK_MS = 7 * 86_400_000
MAX_COUNTS = 7 * 24 * 60 + 1  # steps of one answer: the minutes of a week


def search_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/search/recent: the whole world, newest first (X: the last 7 days)."""
    return _search(store, call, most=100)


def search_all_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/search/all: the same, in longer pages."""
    return _search(store, call, most=500)


def count_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/counts/recent: the posts of the last 7 days that a query finds, hour by hour."""
    return _count(store, call, back_ms=WEEK_MS)


def count_all_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/counts/all: the same over 30 days, unless the times say otherwise."""
    return _count(store, call, back_ms=30 * 86_400_000)


def _search(store: Store, call: Call, *, most: int) -> dict[str, Any]:
    query = call.query
    query.allow("query", "next_token", "sort_order", *parameters.LISTING, *parameters.FIELDS)
    match = _match(call)
    query.one_of("sort_order", ("recency",))
    span = call.span("pagination_token", "next_token")
    count = query.max_results(least=10, most=most)
    fields = query.fields()
    query.check()
    posts = store.search(match, span, count + 1)
    return views.page(store, posts[:count], len(posts) > count, fields, call)


def _count(store: Store, call: Call, *, back_ms: int) -> dict[str, Any]:
    query = call.query
    query.allow("query", "granularity", "since_id", "until_id", "start_time", "end_time")
    match = _match(call)
    step_ms = STEPS_MS.get(next(iter(query.one_of("granularity", tuple(STEPS_MS))), "hour"), 3_600_000)
    end_ms = query.moment("end_time", usual_ms=call.now_ms)
    start_ms = query.moment("start_time", usual_ms=end_ms - back_ms)
    span = call.span()
    if (end_ms - start_ms) // step_ms > MAX_COUNTS:
        query.fault("granularity", f"is too fine for this span: expected at most {MAX_COUNTS} steps")
    query.check()
    counts = store.count_found(match, span, start_ms=start_ms, end_ms=end_ms, step_ms=step_ms)
    data: list[dict[str, Any]] = []
    begin_ms = start_ms
    while begin_ms < end_ms:
        step = begin_ms // step_ms
        next_ms = min(end_ms, (step + 1) * step_ms)
        data.append({"end": time(next_ms), "start": time(begin_ms), "tweet_count": counts.get(step, 0)})
        begin_ms = next_ms
    return {"data": data, "meta": {"total_tweet_count": sum(counts.values())}}


def _match(call: Call) -> str:
    """The expression of the call's query; a fault of its parameters where it can't be read."""
    asked = call.query.required("query")
    if not asked:
        return ""
    try:
        return search.expression(asked)
    except QueryError as error:
        call.query.fault("query", f"The `query` query parameter value [{asked}] {error}")
        return ""


ENDPOINTS = (
    Endpoint(name="search_tweets", method="GET", path="/2/tweets/search/recent", answer=search_tweets),
    Endpoint(name="search_all_tweets", method="GET", path="/2/tweets/search/all", answer=search_all_tweets),
    Endpoint(name="count_tweets", method="GET", path="/2/tweets/counts/recent", answer=count_tweets),
    Endpoint(name="count_all_tweets", method="GET", path="/2/tweets/counts/all", answer=count_all_tweets),
)
