"""Retweets and quotes: a post repeated, taken back, and who did it."""

from typing import Any

from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import own
from sandbox.x.store.store import Store
from sandbox.x.wire import parameters, views
from sandbox.x.wire.answers import not_found


def retweet(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/users/:id/retweets: once more changes nothing."""
    post = own.known_post(store, own.target_in_body(call, "tweet_id"))
    store.repost(post, call.now_ms)
    return {"data": {"retweeted": True}}


def unretweet(store: Store, call: Call) -> dict[str, Any]:
    """DELETE /2/users/:id/retweets/:source_tweet_id."""
    store.unrepost(own.target_in_path(call, "source_tweet_id"), call.now_ms)
    return {"data": {"retweeted": False}}


def retweeted_by(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/:id/retweeted_by."""
    return own.list_users(store, call, store.people.reposting_users, of="tweet", most=100)


def quote_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/:id/quote_tweets: newest first."""
    query = call.query
    query.allow("max_results", "pagination_token", "exclude", *parameters.FIELDS)
    post_id = call.path_id()
    query.one_of("exclude", ("retweets", "replies"))
    span = call.span("pagination_token")
    count = query.max_results(least=10, most=100, usual=10)
    fields = query.fields()
    query.check()
    if store.post(post_id) is None:
        return {"errors": [not_found("tweet", "id", str(post_id))]}
    posts = store.quotes_of(post_id, span, count + 1)
    answer = views.several(store, posts[:count], fields, call)
    answer["meta"] = views.meta([one.id for one in posts[:count]], more=len(posts) > count, newest=False)
    return answer


WRITE = ("tweet.read", "tweet.write", "users.read")

ENDPOINTS = (
    Endpoint(
        name="retweet",
        method="POST",
        path="/2/users/{id}/retweets",
        answer=retweet,
        who="user",
        scopes=WRITE,
    ),
    Endpoint(
        name="unretweet",
        method="DELETE",
        path="/2/users/{id}/retweets/{source_tweet_id}",
        answer=unretweet,
        who="user",
        scopes=WRITE,
    ),
    Endpoint(name="retweeted_by", method="GET", path="/2/tweets/{id}/retweeted_by", answer=retweeted_by),
    Endpoint(name="quote_tweets", method="GET", path="/2/tweets/{id}/quote_tweets", answer=quote_tweets),
)
