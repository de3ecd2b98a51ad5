"""Own: what paths that begin with the account's own id share, and lists of people and of chosen posts."""

from collections.abc import Callable
from typing import Any

from sandbox.x.call import Call
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Store
from sandbox.x.wire import bodies, parameters, views
from sandbox.x.wire.answers import Fault, InvalidRequest, not_found

PeopleReader = Callable[[int, int, int], list[User]]
PostsReader = Callable[[int, int, int], list[Post]]


def check_path(call: Call, name: str = "id") -> None:
    """Raises InvalidRequest unless the path's id is the caller's own."""
    user_id = call.path_id(name)
    call.query.check()
    if user_id != call.caller.user_id:
        message = (
            f"The `{name}` query parameter value [{user_id}] must be the same as the authenticating user "
            f"[{call.caller.user_id}]"
        )
        raise InvalidRequest(Fault(parameter=name, value=str(user_id), message=message))


def target_in_body(call: Call, name: str) -> int:
    """The id that the body of a write names; raises InvalidRequest."""
    call.query.allow()
    body = bodies.read(call)
    body.allow(name)
    target = body.id(name, required=True)
    body.check()
    check_path(call)
    return target or 0


def target_in_path(call: Call, name: str, *, own: str = "id") -> int:
    """The id that the path of a DELETE names; raises InvalidRequest."""
    call.query.allow()
    target = call.path_id(name)
    check_path(call, own)
    return target


def known_post(store: Store, post_id: int) -> Post:
    """The post that a write is about; raises InvalidRequest where there is none."""
    post = store.post(post_id)
    if post is None:
        raise InvalidRequest(Fault(message="This tweet cannot be found."))
    return post


def known_user(store: Store, user_id: int) -> User:
    """The user that a write is about; raises InvalidRequest where there is none."""
    user = store.user(user_id)
    if user is None:
        raise InvalidRequest(Fault(message="This user cannot be found."))
    return user


def list_users(
    store: Store, call: Call, read: PeopleReader, *, of: str, most: int = 1000, usual: int = 100
) -> dict[str, Any]:
    """A page of users.

    Args:
        store: Where the post or user that the path names is looked up.
        call: The call.
        read: Gives the users for that one's id, below an id, so many at most.
        of: `tweet` or `user`: what the path names.
        most: The longest page that may be asked for.
        usual: How long a page is unless asked.
    """
    query = call.query
    one_id = call.path_id()
    until_id = query.position("pagination_token")
    count = query.max_results(least=1, most=most, usual=usual)
    fields = query.user_fields("max_results", "pagination_token")
    known = store.post(one_id) if of == "tweet" else store.user(one_id)
    if known is None:
        return {"errors": [not_found(of, "id", str(one_id))]}
    users = read(one_id, until_id, count + 1)
    more = len(users) > count
    answer = views.several_users(store, users[:count], fields, call)
    answer["meta"] = views.meta([user.id for user in users[:count]], more=more, newest=False)
    return answer


def list_posts(store: Store, call: Call, read: PostsReader, *, own: bool = False) -> dict[str, Any]:
    """A page of the posts that a user has chosen; `own`: only the caller may see them."""
    query = call.query
    query.allow("max_results", "pagination_token", *parameters.FIELDS)
    user_id = call.path_id()
    until_id = query.position("pagination_token")
    count = query.max_results(least=5, most=100, usual=100)
    fields = query.fields()
    query.check()
    if own:
        check_path(call)
    if store.user(user_id) is None:
        return {"errors": [not_found("user", "id", str(user_id))]}
    posts = read(user_id, until_id, count + 1)
    answer = views.several(store, posts[:count], fields, call)
    more = len(posts) > count
    answer["meta"] = views.meta([post.id for post in posts[:count]], more=more, newest=False)
    return answer
