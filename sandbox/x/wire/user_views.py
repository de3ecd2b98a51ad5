"""User views: a user as X's JSON shows one."""

from collections.abc import Callable
from typing import Any

from sandbox.x import text as texts
from sandbox.x.posts import User
from sandbox.x.store.store import Store
from sandbox.x.wire.moments import time
from sandbox.x.wire.parameters import Fields

DEFAULT_IMAGE = "https://abs.twimg.com/sticky/default_profile_images/default_profile_normal.png"

# What stands in a user itself, by the field that asks for it: nothing is worked out that nobody wants.
_GIVEN: dict[str, Callable[[User], object]] = {
    "created_at": lambda user: time(user.created_ms),
    "description": lambda user: texts.escaped(user.description),
    "profile_image_url": lambda _user: DEFAULT_IMAGE,
    "protected": lambda user: user.protected,
    "url": lambda user: user.url,
    "verified": lambda user: user.verified,
    "verified_type": lambda user: "blue" if user.verified else "none",
}


def view(store: Store, user: User, fields: Fields) -> dict[str, Any]:
    """One user with the fields that were asked for."""
    view: dict[str, Any] = {"id": str(user.id), "name": user.name, "username": user.username}
    for name, of in _GIVEN.items():
        if name in fields.user:
            view[name] = of(user)
    if "location" in fields.user and user.location:
        view["location"] = user.location
    if "public_metrics" in fields.user:
        view["public_metrics"] = {
            "followers_count": user.followers,
            "following_count": user.following,
            "tweet_count": store.count_posts_of(user),
            "listed_count": 0,
            "like_count": store.people.count_likes_of(user),
            "media_count": 0,
        }
    if "most_recent_tweet_id" in fields.user and (latest := store.latest_post_of(user)):
        view["most_recent_post_id" if fields.newer else "most_recent_tweet_id"] = str(latest.id)
    return view
