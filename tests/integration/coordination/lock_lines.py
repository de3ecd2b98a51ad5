"""Lines for a content, polled by hand."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from coordination import Fleet
from coordination.engagement import Priority
from tests.integration.coordination.tables import Owner, planted


@contextmanager
def unhurried(owner: Owner) -> Generator[None]:
    """Nobody is silent within an hour: who polls by hand is slow on a busy machine."""
    with planted(owner, "poll_within", ("'00:00:01'::interval", "'01:00:00'::interval")):
        yield


def line_up(
    fleet: Fleet, content: str = "1", *, priority: Priority = "medium", wait_s: float = 60, **options: Any
) -> int:
    """A place in the line of a content that is held; the worker then polls by itself."""
    answer = fleet.session.call(
        "request_lock",
        tweet_id=content,
        worker_id=options.pop("worker_id", fleet.incarnation.worker),
        lock_type=options.pop("lock_type", "analysis"),
        priority=priority,
        wait_s=wait_s,
        **options,
    )
    assert not answer["granted"], answer
    return int(answer["waiter"])


def poll(fleet: Fleet, waiter: int) -> dict[str, Any]:
    return dict(fleet.session.call("poll_lock", waiter=waiter))
