"""Endpoints: what each served path does, once the caller is known and has a request left."""

from sandbox.x.call import Call, Endpoint
from sandbox.x.endpoints import posts, timelines, users

__all__ = ["ENDPOINTS", "Call", "Endpoint"]

# The order is the router's: a fixed path stands before the one whose parameter would take it.
ENDPOINTS: tuple[Endpoint, ...] = (*timelines.ENDPOINTS, *users.ENDPOINTS, *posts.ENDPOINTS)
