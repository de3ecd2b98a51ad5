"""Jobs: work as rows, claimed with a lease, retried with backoff, dead-lettered with every error kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coordination.answers import with_moments
from coordination.database import Json
from coordination.engagement import Priority
from coordination.plain import plain
from coordination.session import Session


@dataclass(frozen=True, kw_only=True)
class Job:
    """A claimed job; `lease` is the number that every report on it must carry."""

    id: str
    kind: str
    payload: dict[str, Any]
    lease: int
    attempt: int
    lease_expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """What became of an enqueue: `created` is False when its unique key named an unfinished job."""

    id: str
    state: str
    created: bool


class Jobs:
    """The fleet's jobs. Every method is one round trip; reports with a lost lease raise `LockLostError`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def enqueue(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        priority: Priority = "medium",
        run_at: datetime | None = None,
        unique_key: str | None = None,
        max_attempts: int = 5,
    ) -> Enqueued:
        """Add a job, to run at `run_at` (fleet time) or at once."""
        answer = self._session.call(
            "enqueue_job",
            kind=kind,
            payload=Json(dict(payload or {})),
            priority=priority,
            run_at=run_at,
            unique_key=unique_key,
            max_attempts=max_attempts,
        )
        return Enqueued(**answer)

    def claim(self, kind: str, n: int = 1, lease_s: float = 300) -> list[Job]:
        """Take up to `n` due jobs of a kind: higher priority first, then older."""
        answer = self._session.call("claim_jobs", kind=kind, n=n, lease_s=float(lease_s))
        return [Job(**with_moments(job, "lease_expires_at")) for job in answer]

    def complete(self, job: Job, result: Mapping[str, Any] | None = None) -> None:
        """Report success."""
        self._session.call(
            "complete_job",
            job=int(job.id),
            lease=job.lease,
            result=None if result is None else Json(dict(result)),
        )

    def fail(self, job: Job, error: str, backoff_s: float = 0) -> str:
        """Report failure: give `retryable` (again after `backoff_s`) or `dead`."""
        answer = self._session.call(
            "fail_job", job=int(job.id), lease=job.lease, error=plain(error), backoff_s=float(backoff_s)
        )
        return str(answer["state"])

    def snooze(self, job: Job, delay_s: float) -> None:
        """Put it off: available again after `delay_s`; the attempt doesn't count."""
        self._session.call("snooze_job", job=int(job.id), lease=job.lease, delay_s=float(delay_s))

    def cancel(self, job_id: str) -> bool:
        """End a job that isn't running; say whether there was one."""
        return bool(self._session.database.call("cancel_job", job=int(job_id)))

    def replay(self, job_id: str) -> bool:
        """Start a dead or cancelled job anew; say whether there was one."""
        return bool(self._session.database.call("replay_job", job=int(job_id)))
