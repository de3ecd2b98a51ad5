"""Users: the account itself, and others by id or name."""

from typing import Any

from sandbox.x import parameters, views
from sandbox.x.call import Call, Endpoint
from sandbox.x.parameters import Fields
from sandbox.x.store import Store


def users_me(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/me: the account."""
    call.query.allow("user.fields", "tweet.fields", "post.fields", "expansions")
    user_fields = call.query.one_of("user.fields", parameters.USER_FIELDS)
    for name in ("tweet.fields", "post.fields"):
        call.query.one_of(name, parameters.TWEET_FIELDS)
    call.query.one_of("expansions", ("pinned_tweet_id",))
    call.query.check()
    return {"data": views.user_view(store, store.account, Fields(user=user_fields))}


ENDPOINTS = (Endpoint(name="users_me", method="GET", path="/2/users/me", answer=users_me, who="user"),)
