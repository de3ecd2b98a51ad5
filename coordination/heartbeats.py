"""Heartbeats: what the work loop has done, told on the incarnation's own connection; what it must know."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from coordination.database import Json
from coordination.incarnation import Incarnation
from coordination.plain import plain

State = Literal["STARTING", "READY", "BUSY", "PAUSED", "DRAINING"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a beat's answer says about this worker.

    Attributes:
        version: of settings and flags together; another one than before means: something was changed.
        settings: the stored settings under the worker's prefix; None where the caller knows them already.
        enabled: whether the worker's flag is on; one that nobody has set is.
        paused: why it is paused by command; None while it is not.
        mail_in_s: real seconds until a message for it is due; None while none waits.
        clock: names the fleet clock's present course; empty while fleet time is real time.
        answered_at: when the answer came, on this process's monotonic clock.
    """

    version: int
    settings: Mapping[str, Any] | None
    enabled: bool
    paused: str | None
    mail_in_s: float | None
    clock: str
    answered_at: float


class Heartbeats:
    """Beats of one incarnation. One round trip each, not flushed. Belongs to the heartbeat's thread.

    Attributes:
        round_trip_ms: how long the last answer took; None before the first.
    """

    def __init__(self, incarnation: Incarnation) -> None:
        self._incarnation = incarnation
        self.round_trip_ms: float | None = None

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
        known_version: int | None = None,
    ) -> Standing:
        """Tell the loop's progress; give all that an idle worker must know, so that it asks for nothing else.

        Args:
            state: what the loop does.
            progress: its ticks.
            reason: why it is in that state.
            step: the step that it is in.
            healthy: whether the last health check found nothing.
            health: what it found.
            memory_bytes: resident memory.
            known_version: of the settings that the caller has.

        Raises:
            IncarnationLostError: this life was ended; stop acting.
            DatabaseUnavailableError: the connection is lost, and the life with it.
        """
        asked_at = monotonic()
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
            known_version=known_version,
        )
        answered_at = monotonic()
        self.round_trip_ms = round((answered_at - asked_at) * 1000, 2)
        return Standing(**answer, answered_at=answered_at)
