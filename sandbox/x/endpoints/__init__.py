"""Endpoints: what each served path does, once the caller is known and has a request left."""

from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import (
    bookmarks,
    follows,
    likes,
    media,
    oauth2,
    posts,
    retweets,
    searches,
    timelines,
    users,
)

__all__ = ["ENDPOINTS", "Call", "Endpoint"]

# The order is the router's: a fixed path stands before the one whose parameter would take it.
ENDPOINTS: tuple[Endpoint, ...] = (
    *searches.ENDPOINTS,
    *posts.ENDPOINTS,
    *users.ENDPOINTS,
    *timelines.ENDPOINTS,
    *likes.ENDPOINTS,
    *retweets.ENDPOINTS,
    *follows.ENDPOINTS,
    *bookmarks.ENDPOINTS,
    *media.ENDPOINTS,
    *oauth2.ENDPOINTS,
)
