"""Views: answers as X's JSON shows them: data, includes, errors, meta."""

from collections.abc import Sequence
from typing import Any

from sandbox.x.call import Call
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Store
from sandbox.x.wire import parameters, post_views, user_views
from sandbox.x.wire.answers import not_authorized
from sandbox.x.wire.includes import Includes
from sandbox.x.wire.moments import time
from sandbox.x.wire.parameters import Fields
from sandbox.x.wire.post_views import metrics

__all__ = ["meta", "metrics", "page", "several", "several_users", "single", "single_user", "time"]

PRIVATE_METRICS = ("non_public_metrics", "organic_metrics", "promoted_metrics")
PRIVATE_MS = 30 * 86_400_000  # X shows them for 30 days


def page(store: Store, posts: Sequence[Post], more: bool, fields: Fields, call: Call) -> dict[str, Any]:
    """A timeline's answer; `more` adds the token that continues it."""
    return {
        **several(store, posts, fields, call),
        "meta": meta([post.id for post in posts], more=more, newest=True),
    }


def meta(ids: Sequence[int], *, more: bool, newest: bool) -> dict[str, Any]:
    """What a list says of itself; timelines name their newest and oldest post."""
    found: dict[str, Any] = {"result_count": len(ids)}
    if ids and newest:
        found |= {"newest_id": str(ids[0]), "oldest_id": str(ids[-1])}
    if ids and more:
        found["next_token"] = parameters.token(ids[-1])
    return found


def several(
    store: Store,
    posts: Sequence[Post],
    fields: Fields,
    call: Call,
    *,
    errors: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """`data`, `includes` and `errors` of some posts; X leaves out what would be empty."""
    found = list(errors)
    data = [_post_view(store, post, fields, call, found) for post in posts]
    return {"data": data, **_rest(store, posts, fields, call, found)} if data else _without_data(found)


def single(store: Store, post: Post, fields: Fields, call: Call) -> dict[str, Any]:
    """The answer of one post."""
    errors: list[dict[str, Any]] = []
    data = _post_view(store, post, fields, call, errors)
    return {"data": data, **_rest(store, [post], fields, call, errors)}


def several_users(store: Store, users: Sequence[User], fields: Fields, call: Call) -> dict[str, Any]:
    """`data` and `includes` of some users."""
    if not users:
        return {}
    data = [user_views.view(store, user, fields) for user in users]
    return {"data": data, **_latest(store, users, fields, call)}


def single_user(store: Store, user: User, fields: Fields, call: Call) -> dict[str, Any]:
    """The answer of one user."""
    return {"data": user_views.view(store, user, fields), **_latest(store, [user], fields, call)}


def _post_view(
    store: Store, post: Post, fields: Fields, call: Call, errors: list[dict[str, Any]]
) -> dict[str, Any]:
    """One post, with its private metrics where the caller may see them; else `errors` says so."""
    view = post_views.view(store, post, fields, call.now_ms)
    own = post.author_id == call.caller.user_id and call.now_ms - post.created_ms <= PRIVATE_MS
    for name in PRIVATE_METRICS:
        if name not in fields.tweet:
            continue
        if own and name != "promoted_metrics":
            found = post_views.metrics(store, post, call.now_ms)
            view[name] = post_views.private_metrics(name, post, found, newer=fields.newer)
        elif not own:
            errors.append(not_authorized(name, str(post.id)))
    return view


def _rest(
    store: Store, posts: Sequence[Post], fields: Fields, call: Call, errors: list[dict[str, Any]]
) -> dict[str, Any]:
    includes = Includes(store, fields, call.now_ms)
    includes.add(posts)
    rest: dict[str, Any] = {}
    if found := includes.view():
        rest["includes"] = found
    if errors := [*errors, *includes.errors]:
        rest["errors"] = errors
    return rest


def _latest(store: Store, users: Sequence[User], fields: Fields, call: Call) -> dict[str, Any]:
    includes = Includes(store, fields, call.now_ms)
    includes.add_latest(users)
    found = includes.view()
    return {"includes": found} if found else {}


def _without_data(errors: list[dict[str, Any]]) -> dict[str, Any]:
    return {"errors": errors} if errors else {}
