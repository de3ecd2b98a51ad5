"""Pools: what a person sets of a thing with a capacity."""

from typing import Any, Literal

from coordination.database import Database

Strategy = Literal["priority", "equal", "proportional"]


def configure_pool(
    database: Database,
    resource_type: str,
    resource_id: str,
    *,
    actor: str,
    reason: str,
    capacity: int | None = None,
    kind: str | None = None,
    min_capacity: int | None = None,
    max_capacity: int | None = None,
    strategy: Strategy | None = None,
    queue_bound: int | None = None,
    ageing_s: float | None = None,
    escalate_after_s: float | None = None,
    alert_after_s: float | None = None,
) -> dict[str, Any]:
    """A person makes or changes a pool; audited. None leaves a value as it is. One round trip.

    A capacity below what is reserved takes nothing from anybody: no more is given until enough came back.

    Args:
        database: a person's connection.
        resource_type: content, db_connection, memory, cpu, storage or conversation.
        resource_id: which pool.
        actor: who changes it.
        reason: why.
        capacity: units; live.
        kind: what the units are, one of the type's kinds.
        min_capacity: down to which the load may take it.
        max_capacity: up to which.
        strategy: `priority`; `equal`, the same for each worker that asks; `proportional`, by declared need.
        queue_bound: waiters beyond it are refused at once.
        ageing_s: after so many seconds of waiting a request is as one of the next priority.
        escalate_after_s: after so many it is raised, and the coordinator told.
        alert_after_s: after so many a person is.

    Raises:
        InvalidValueError: names the parameter and what is allowed.
    """
    given: dict[str, Any] = {
        "capacity": capacity,
        "kind": kind,
        "min_capacity": min_capacity,
        "max_capacity": max_capacity,
        "strategy": strategy,
        "queue_bound": queue_bound,
        "ageing_s": ageing_s,
        "escalate_after_s": escalate_after_s,
        "alert_after_s": alert_after_s,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    return dict(
        database.call(
            "configure_pool",
            resource_type=resource_type,
            resource_id=resource_id,
            actor=actor,
            reason=reason,
            **changed,
        )
    )


def list_pools(database: Database, *, standing: bool) -> list[dict[str, Any]]:
    """Give pools as `Reservations.get_pool_status` does, for persons. One round trip.

    Args:
        database: a person's connection.
        standing: without those that were made at first use, which may be as many as there are posts.
    """
    return list(database.call("get_pool_status", incarnation=None, standing=standing))
