"""Heartbeats: what the work loop has done, told from the incarnation's own connection."""

from collections.abc import Mapping
from typing import Literal

from coordination.database import Json
from coordination.incarnation import Incarnation
from coordination.plain import plain

State = Literal["STARTING", "READY", "BUSY", "PAUSED", "DRAINING"]


class Heartbeats:
    """Beats of one incarnation. One round trip each, not flushed. Belongs to the heartbeat's thread."""

    def __init__(self, incarnation: Incarnation) -> None:
        self._incarnation = incarnation

    def beat(
        self,
        *,
        state: State,
        progress: int,
        reason: str | None = None,
        step: str | None = None,
        healthy: bool = True,
        health: Mapping[str, object] | None = None,
        memory_bytes: int = 0,
    ) -> int:
        """Tell the loop's progress; give the configuration's version: when it rises, read settings again.

        Raises:
            IncarnationLostError: this life was ended; stop acting.
            DatabaseUnavailableError: the connection is lost, and the life with it.
        """
        answer = self._incarnation.database.call(
            "beat",
            incarnation=self._incarnation.id,
            state=state,
            reason=plain(reason),
            step=step,
            progress=progress,
            healthy=healthy,
            health=Json(plain(dict(health or {}))),
            memory_bytes=memory_bytes,
        )
        return int(answer["configuration_version"])
