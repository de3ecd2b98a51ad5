"""What the answer to a read holds: posts, users, and what is missing with its reason.

One bad item never spoils its neighbours: it is set aside. Only a body of which nothing can be told,
or whose next page can't be asked for, is malformed as a whole.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from workers.platforms.x_answers import ID, one_line, text_of
from workers.platforms.x_errors import XMalformed
from workers.platforms.x_posts import Post
from workers.platforms.x_users import User
from workers.platforms.x_wire import Wire

PAGE_TOKEN = re.compile(r"[\w.~+/=-]{1,512}", re.ASCII)
TELLING = {"data": list, "errors": list, "meta": dict}  # an answer of X to a read has at least one of them
INCLUDED_POSTS = ("posts", "tweets")
INCLUDED_USERS = ("users",)
SAID = {"model_type": "must be an object", "tuple_type": "must be a list"}  # not in the words of Python

T = TypeVar("T")
Item = TypeVar("Item", bound=Wire)


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An item that was asked for or sent, and can't be had; `id` is None where it can't be read."""

    id: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Read(Generic[T]):
    """What a read gave.

    Attributes:
        value: What was asked for.
        missing: Items that were asked for or sent and can't be had, each with its reason.
        headers: The answer's headers in lower case; they settle the caller's grant.
        next_token: Where the next page begins; None on the last.
        users: The accounts that came along, by id: authors, those mentioned.
        posts: The posts that came along, by id: those that `value` answers, quotes or repeats.
    """

    value: T
    missing: tuple[Missing, ...] = ()
    headers: Mapping[str, str]
    next_token: str | None = None
    users: Mapping[str, User] = field(default_factory=dict[str, User])
    posts: Mapping[str, Post] = field(default_factory=dict[str, Post])


def read_posts(body: dict[str, Any], headers: Mapping[str, str]) -> Read[tuple[Post, ...]]:
    """The posts of an answer, with all that came along."""
    return _read(body, headers, Post)


def read_users(body: dict[str, Any], headers: Mapping[str, str]) -> Read[tuple[User, ...]]:
    """The users of an answer, with all that came along."""
    return _read(body, headers, User)


def read_user(body: dict[str, Any], headers: Mapping[str, str]) -> Read[User]:
    """The one user of an answer; raises `XMalformed` when there is none."""
    try:
        return Read(value=User.model_validate(body.get("data")), headers=headers)
    except ValidationError:
        raise XMalformed("its data is no user", headers) from None


def _read(body: dict[str, Any], headers: Mapping[str, str], kind: type[Item]) -> Read[tuple[Item, ...]]:
    if not any(isinstance(body.get(key), form) for key, form in TELLING.items()):
        raise XMalformed("it has neither data nor errors nor meta", headers)
    next_token = _next_token(body, headers)
    missing: list[Missing] = []
    value = tuple(_items(_data(body, headers), kind, "", missing))
    if not isinstance(body.get("includes", {}), dict):
        missing.append(Missing(id=None, reason="includes: must be an object"))
    users = tuple(_included(body, INCLUDED_USERS, User, missing))
    posts = tuple(_included(body, INCLUDED_POSTS, Post, missing))
    missing += _told(body.get("errors"))
    return Read(
        value=value,
        missing=tuple(missing),
        headers=headers,
        next_token=next_token,
        users={user.id: user for user in users},
        posts={post.id: post for post in posts},
    )


def _data(body: dict[str, Any], headers: Mapping[str, str]) -> list[Any]:
    """What was asked for, as it came; what was lost on the way must not pass for "there is none"."""
    data: Any = body.get("data")
    meta: Any = body.get("meta")
    count: Any = cast("dict[str, Any]", meta).get("result_count") if isinstance(meta, dict) else None
    if data is None and count:
        raise XMalformed("it has no data, and a result_count that says it should", headers)
    if data is not None and not isinstance(data, list):
        raise XMalformed("its data is no list", headers)
    return cast("list[Any]", data or [])


def _items(found: list[Any], kind: type[Item], place: str, missing: list[Missing]) -> Iterable[Item]:
    """Each of `found` that is of its kind; the others go to `missing`."""
    for item in found:
        try:
            yield kind.model_validate(item)
        except ValidationError as error:
            missing.append(Missing(id=_id_of(item, "id"), reason=one_line(place + _fault(error))))


def _included(
    body: dict[str, Any], names: Iterable[str], kind: type[Item], missing: list[Missing]
) -> Iterable[Item]:
    includes: Any = body.get("includes")
    for name in names if isinstance(includes, dict) else ():
        found: Any = cast("dict[str, Any]", includes).get(name)
        if isinstance(found, list):
            yield from _items(cast("list[Any]", found), kind, f"includes.{name}: ", missing)
        elif found is not None:
            missing.append(Missing(id=None, reason=f"includes.{name}: must be a list"))


def _told(errors: Any) -> Iterable[Missing]:
    """What X itself says it could not give."""
    if errors is not None and not isinstance(errors, list):
        yield Missing(id=None, reason="errors: must be a list")
        return
    for item in cast("list[Any]", errors or []):
        reason = text_of(item, "detail") or text_of(item, "title") or text_of(item, "message")
        found = _id_of(item, "resource_id") or _id_of(item, "value")
        yield Missing(id=found, reason=one_line(reason or "") or "X gave no reason")


def _next_token(body: dict[str, Any], headers: Mapping[str, str]) -> str | None:
    """Where the next page begins; one that can't be asked for must not pass for the last page."""
    meta = body.get("meta")
    if meta is None:
        return None
    if not isinstance(meta, dict):
        raise XMalformed("its meta is no object", headers)
    token = cast("dict[str, Any]", meta).get("next_token")
    if token is None or token == "":
        return None
    if not isinstance(token, str) or not PAGE_TOKEN.fullmatch(token):
        raise XMalformed("its meta.next_token is no page's token", headers)
    return token


def _id_of(item: Any, key: str) -> str | None:
    found = text_of(item, key)
    return found if found and ID.fullmatch(found) else None


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "item"
    return f"{place}: {SAID.get(first['type'], first['msg']).removeprefix('Value error, ')}"
