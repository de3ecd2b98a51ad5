"""Endpoints: what each served path does, once the caller is known and has a request left."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from sandbox.x import parameters, search, views
from sandbox.x import text as texts
from sandbox.x.answers import Fault, Forbidden, InvalidRequest, not_found
from sandbox.x.parameters import Fields, Query
from sandbox.x.posts import Post, User
from sandbox.x.search import QueryError
from sandbox.x.store import Span, Store

DUPLICATE = "You are not allowed to create a Tweet with duplicate content."
TOO_LONG = (
    "Your Tweet text is too long. For more information on how Twitter determines text length "
    "see https://github.com/twitter/twitter-text."
)

# Fields that X's body has and this sandbox doesn't serve yet.
UNSERVED = (
    "card_uri",
    "community_id",
    "direct_message_deep_link",
    "edit_options",
    "for_super_followers_only",
    "geo",
    "made_with_ai",
    "media",
    "nullcast",
    "paid_partnership",
    "poll",
    "quote_tweet_id",
    "reply",
    "reply_settings",
    "share_with_followers",
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: its parameters, the ids in its path, its body, and the time (ms since 1970)."""

    query: Query
    user_id: str
    body: bytes
    content_type: str
    now_ms: int


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A served path; `users_only` refuses app-only tokens."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    users_only: bool
    answer: Callable[[Store, Call], dict[str, Any]]


def post_tweet(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/tweets: a plain post."""
    call.query.allow()
    call.query.check()
    text = _read_text(call)
    if store.has_recent_text(text, call.now_ms):
        raise Forbidden(DUPLICATE)
    post = store.accept_post(text, lang=texts.language(text), at_ms=call.now_ms)
    return {"data": {"id": str(post.id), "text": post.text}}


def _read_text(call: Call) -> str:
    if call.content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest(
            Fault(message="Requests with bodies must have content-type of application/json.")
        )
    try:
        given = json.loads(call.body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(Fault(message=f"Request body is not valid JSON: {error}")) from error
    if not isinstance(given, dict):
        raise InvalidRequest(Fault(message='$: expected an object such as {"text": "Hello"}'))
    body = cast("dict[str, Any]", given)
    faults = [_refused(name) for name in body if name != "text"]
    text = body.get("text")
    if not isinstance(text, str):
        shown = "missing" if text is None else f"[{json.dumps(text)[:80]}]"
        faults.append(Fault(message=f"$.text: is {shown}, string expected"))
    elif not text.strip():
        faults.append(Fault(message="$.text: is empty: expected a text of 1 to 280 weighted characters"))
    elif texts.has_forbidden_character(text):
        faults.append(Fault(message="$.text: has U+FFFE, U+FEFF, U+FFFF or half a surrogate: not allowed"))
    if faults or not isinstance(text, str):
        raise InvalidRequest(*faults)
    if texts.weight(text) > texts.MAX_WEIGHT:
        raise InvalidRequest(Fault(message=TOO_LONG), detail=TOO_LONG)
    return text


def _refused(name: str) -> Fault:
    name = name.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no UTF-8
    if name in UNSERVED:
        return Fault(message=f"$.{name}: is not served by this sandbox yet: expected text alone")
    return Fault(
        message=f"$.{name}: is not defined in the schema and the schema does not allow additional properties"
    )


def users_me(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/me: the account."""
    call.query.allow("user.fields", "tweet.fields", "post.fields", "expansions")
    user_fields = call.query.one_of("user.fields", parameters.USER_FIELDS)
    for name in ("tweet.fields", "post.fields"):
        call.query.one_of(name, parameters.TWEET_FIELDS)
    call.query.one_of("expansions", ("pinned_tweet_id",))
    call.query.check()
    return {"data": views.user_view(store, store.account, Fields(user=user_fields))}


def user_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/tweets: a user's posts, newest first."""
    return _timeline(store, call, _posts_of)


def _posts_of(store: Store, user: User, span: Span, count: int) -> list[Post]:
    return store.posts_of(user.id, span, count)


def fetch_mentions(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id/mentions: other people's posts that name the user, newest first."""
    return _timeline(store, call, _mentions_of)


def _mentions_of(store: Store, user: User, span: Span, count: int) -> list[Post]:
    match = f"({search.mark(f'at_{user.username}')}) NOT ({search.mark(f'from_{user.username}')})"
    return store.search(match, span, count)


def _timeline(
    store: Store, call: Call, read: Callable[[Store, User, Span, int], list[Post]]
) -> dict[str, Any]:
    query = call.query
    query.allow(*parameters.LISTING, *parameters.FIELDS)
    user_id = Query(values=[("id", call.user_id)], faults=query.faults).ids("id", most=1)
    span = query.span("pagination_token")
    count = query.max_results(least=5, most=100)
    fields = query.fields()
    query.check()
    user = store.user(user_id[0])
    if user is None:
        return {"errors": [not_found("user", "id", call.user_id)]}
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
    span = query.span("pagination_token", "next_token")
    count = query.max_results(least=10, most=100)
    fields = query.fields()
    query.check()
    posts = store.search(match, span, count + 1)
    return views.page(store, posts[:count], len(posts) > count, fields, call.now_ms)


def get_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets?ids=: up to 100 posts, in the order asked for; missing ones as errors beside them."""
    query = call.query
    query.allow("ids", *parameters.FIELDS)
    ids = query.ids("ids")
    fields = query.fields()
    query.check()
    found = {post_id: store.post(post_id) for post_id in ids}
    answer = views.several(store, [post for post in found.values() if post], fields, call.now_ms)
    if missing := [not_found("tweet", "ids", str(one)) for one, post in found.items() if post is None]:
        answer["errors"] = missing
    return answer


ENDPOINTS = (
    Endpoint(name="post_tweet", method="POST", path="/2/tweets", users_only=True, answer=post_tweet),
    Endpoint(name="get_tweets", method="GET", path="/2/tweets", users_only=False, answer=get_tweets),
    Endpoint(
        name="search_tweets",
        method="GET",
        path="/2/tweets/search/recent",
        users_only=False,
        answer=search_tweets,
    ),
    Endpoint(name="users_me", method="GET", path="/2/users/me", users_only=True, answer=users_me),
    Endpoint(
        name="user_tweets",
        method="GET",
        path="/2/users/{user_id}/tweets",
        users_only=False,
        answer=user_tweets,
    ),
    Endpoint(
        name="fetch_mentions",
        method="GET",
        path="/2/users/{user_id}/mentions",
        users_only=False,
        answer=fetch_mentions,
    ),
)
