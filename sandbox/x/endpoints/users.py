"""Users: the account itself, and others by id or name."""

import re
from typing import Any

from sandbox.x import tiers
from sandbox.x.call import Call, Endpoint
from sandbox.x.posts import User
from sandbox.x.store.store import Store
from sandbox.x.wire import views
from sandbox.x.wire.answers import not_found
from sandbox.x.wire.parameters import Fields

_USERNAME = re.compile(r"[A-Za-z0-9_]{1,20}")  # 15 today, 20 once


def users_me(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/me: the account."""
    return views.single_user(store, store.user(store.account.id) or store.account, _fields(call), call)


def get_user(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/:id."""
    user_id = call.path_id()
    fields = _fields(call)
    user = store.user(user_id)
    if user is None:
        return {"errors": [not_found("user", "id", str(user_id))]}
    return views.single_user(store, user, fields, call)


def get_users(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users?ids=: up to 100."""
    ids = call.query.ids("ids")
    fields = _fields(call, "ids")
    return _several(store, call, fields, "ids", {str(one): store.user(one) for one in ids})


def get_user_by_username(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/by/username/:username."""
    (name,) = _usernames(call, "username", [call.path["username"]])
    fields = _fields(call)
    user = store.find_user(name)
    if user is None:
        return {"errors": [not_found("user", "username", name)]}
    return views.single_user(store, user, fields, call)


def get_users_by_usernames(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/users/by?usernames=: up to 100."""
    names = _usernames(call, "usernames", call.query.required("usernames").split(","))
    if len(names) > 100:  # noqa: PLR2004 - X's bound
        message = f"The `usernames` query parameter has {len(names)} values, which is not between 1 and 100"
        call.query.fault("usernames", message)
    fields = _fields(call, "usernames")
    return _several(store, call, fields, "usernames", {one: store.find_user(one) for one in names})


def _fields(call: Call, *names: str) -> Fields:
    return call.query.user_fields(*names)


def _usernames(call: Call, parameter: str, names: list[str]) -> list[str]:
    for name in names:
        if not _USERNAME.fullmatch(name):
            message = (
                f"The `{parameter}` query parameter value [{name}] does not match ^[A-Za-z0-9_]{{1,15}}$"
            )
            call.query.fault(parameter, message)
    return list(dict.fromkeys(names))


def _several(
    store: Store, call: Call, fields: Fields, parameter: str, found: dict[str, User | None]
) -> dict[str, Any]:
    users = [user for user in found.values() if user]
    answer = views.several_users(store, users, fields, call)
    if missing := [not_found("user", parameter, one) for one, user in found.items() if user is None]:
        answer["errors"] = missing
    return answer


ENDPOINTS = (
    Endpoint(name="users_me", method="GET", path="/2/users/me", answer=users_me, who="user", tiers=tiers.ALL),
    Endpoint(
        name="get_users_by_usernames",
        method="GET",
        path="/2/users/by",
        answer=get_users_by_usernames,
        tiers=tiers.ALL,
    ),
    Endpoint(
        name="get_user_by_username",
        method="GET",
        path="/2/users/by/username/{username}",
        answer=get_user_by_username,
        tiers=tiers.ALL,
    ),
    Endpoint(name="get_users", method="GET", path="/2/users", answer=get_users, tiers=tiers.ALL),
    Endpoint(name="get_user", method="GET", path="/2/users/{id}", answer=get_user, tiers=tiers.ALL),
)
