"""Routes: which role gets what names no recipient, set by persons and followed by the coordinator."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from coordination.answers import with_moments
from coordination.database import Database
from coordination.engagement import Priority
from coordination.messages import MessageType

ANY = "*"
"""The kind of a route that holds for all kinds of a type which have none of their own."""
POLICIES = ("least_loaded", "round_robin", "first")

Policy = Literal["least_loaded", "round_robin", "first"]


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where messages of one type and kind go.

    Attributes:
        kind: the payload's kind, or `*` for any.
        role: the role whose workers get them.
        priority: of those sent without one; None: the type's.
        policy: which of the role's workers: the one with the fewest messages, one after the other, or the
            first by name. One that runs always goes before one that doesn't.
        changed_at: fleet time.
    """

    type: MessageType
    kind: str
    role: str
    priority: Priority | None
    policy: Policy
    changed_by: str
    reason: str
    changed_at: datetime


def list_routes(database: Database) -> list[Route]:
    """Give every route, by type and kind."""
    return [Route(**row) for row in database.rows("list_routes")]


def set_route(
    database: Database,
    type: MessageType,  # noqa: A002  the protocol's own word
    kind: str,
    role: str,
    *,
    priority: Priority | None = None,
    policy: Policy = "least_loaded",
    actor: str,
    reason: str,
) -> Route:
    """A person says where messages of a type and kind go. Audited; one round trip.

    Raises:
        InvalidValueError: names the field and what is allowed.
    """
    return _route(
        database.call(
            "set_route",
            type=type,
            kind=kind,
            role=role,
            priority=priority,
            policy=policy,
            actor=actor,
            reason=reason,
        )
    )


def remove_route(
    database: Database,
    type: MessageType,  # noqa: A002  the protocol's own word
    kind: str,
    *,
    actor: str,
    reason: str,
) -> Route:
    """A person takes a route away; give what it was. Audited; one round trip.

    Raises:
        InvalidValueError: there is none.
    """
    return _route(database.call("remove_route", type=type, kind=kind, actor=actor, reason=reason))


def _route(row: dict[str, Any]) -> Route:
    return Route(**with_moments(row, "changed_at"))
