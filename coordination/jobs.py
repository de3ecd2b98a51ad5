"""Jobs: work as rows, claimed with a lease, retried with backoff, dead-lettered with every error kept.

A job runs at least once: a worker that dies after its effect and before its report leaves the job to an heir.
Whoever lost its lease is told so by every report, and such reports change nothing; an effect of its own must
bear a second time, or carry the lease's number, which only rises.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString

from coordination.database import Database, Json
from coordination.engagement import Priority
from coordination.errors import DatabaseBusyError, DatabaseUnavailableError, FleetError, LockLostError
from coordination.ids import number_of, numbers
from coordination.plain import plain
from coordination.session import Session

JOBS = "/jobs"
"""What a worker's name is followed by where it is woken for jobs."""
STATES = ("available", "running", "retryable", "completed", "cancelled", "dead")
"""Every state of a job; the last three are ends."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A claimed job; `lease` is the number that every report on it must carry.

    Attributes:
        expected_s: real seconds after which an execution is told as overdue; None: never.
        trace_id: its run record's, for logs.
        put_offs: how often it was put off in a row.
    """

    id: str
    kind: str
    payload: dict[str, Any]
    lease: int
    attempt: int
    lease_expires_at: datetime
    expected_s: float | None = None
    trace_id: str = ""
    put_offs: int = 0


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to enqueue.

    Attributes:
        kind: lower-case letters, digits, `_`, `.` and `-`.
        payload: JSON, at most 64 kB.
        priority: each ten minutes of waiting make up for one rank.
        run_at: fleet time; None: at once.
        unique_key: among a kind's unfinished jobs there is one with it.
        max_attempts: executions after which it is dead.
        expected_s: real seconds after which an execution is told as overdue, once.
        concurrency_key: names what at most `concurrency_limit` jobs, of whatever kind, may use at a time.
        concurrency_limit: the newest word on a key holds for all its jobs.
        depends: ids of jobs that must be completed before; where one dies or is cancelled, this is cancelled.
    """

    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    priority: Priority = "medium"
    run_at: datetime | None = None
    unique_key: str | None = None
    max_attempts: int = 5
    expected_s: float | None = None
    concurrency_key: str | None = None
    concurrency_limit: int = 1
    depends: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """What became of an enqueue: `created` is False when its unique key named an unfinished job."""

    id: str
    state: str
    created: bool


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """Until when (real time) the leases hold, and the ids of jobs whose lease is lost."""

    lease_expires_at: datetime
    lost: tuple[str, ...]


class Jobs:
    """The fleet's jobs. Every method is one round trip, and one more for each worker that it wakes.

    Reports on one job raise `LockLostError` where its lease is lost; those on many give the ids of the lost.
    """

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
        expected_s: float | None = None,
        concurrency_key: str | None = None,
        concurrency_limit: int = 1,
        depends: Sequence[str] = (),
    ) -> Enqueued:
        """Add a job, to run at `run_at` (fleet time) or at once; see `NewJob`."""
        chosen: dict[str, Any] = {
            "run_at": run_at,
            "unique_key": unique_key,
            "expected_s": expected_s,
            "concurrency_key": concurrency_key,
            "depends": numbers(number_of(job, "job") for job in depends) if depends else None,
        }
        answer = dict(
            self._session.call(
                "enqueue_job",
                kind=kind,
                payload=Json(plain({} if payload is None else payload)),
                priority=priority,
                max_attempts=max_attempts,
                concurrency_limit=concurrency_limit,
                **{name: value for name, value in chosen.items() if value is not None},  # each costs its part
            )
        )
        self._wake(answer.pop("wake"))
        return Enqueued(**answer)

    def enqueue_many(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Add up to 1000 jobs, all or none; give what became of each, in their order. One commit."""
        wanted: list[dict[str, Any]] = [
            {
                "kind": job.kind,
                "payload": plain(job.payload),
                "priority": job.priority,
                "run_at": None if job.run_at is None else job.run_at.isoformat(),
                "unique_key": job.unique_key,
                "max_attempts": job.max_attempts,
                "expected_s": job.expected_s,
                "concurrency_key": job.concurrency_key,
                "concurrency_limit": job.concurrency_limit,
                "depends": list(job.depends),
            }
            for job in jobs
        ]
        answer = self._session.call("enqueue_jobs", jobs=Json(wanted))
        self._wake(answer["wake"])
        return [Enqueued(**one) for one in answer["jobs"]]

    def claim(self, kind: str, n: int = 1, lease_s: float = 300) -> list[Job]:
        """Take up to `n` due jobs of a kind: by priority, with ageing, then by the time of being due.

        Those whose worker died or whose lease is over are taken back first, and are due at once. Claiming
        makes this worker one that is woken for jobs of the kind; where it finds none it counts as asleep
        until it is woken. One round trip, and one more where it falls asleep.
        """
        answer = None
        while answer is None:  # it has just fallen asleep, or taken jobs back, and looks once more
            answer = self._session.call("claim_jobs", kind=kind, n=n, lease_s=float(lease_s))
        return _jobs(answer)

    def turn(
        self,
        jobs: Sequence[Job],
        kind: str,
        n: int = 1,
        lease_s: float = 300,
        *,
        results: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> tuple[list[Job], tuple[str, ...]]:
        """Report success of one batch and take the next, in one round trip and one flush.

        What `complete_many` and `claim` do; give what was claimed, and the ids of those whose lease was lost.
        Where it has to look once more, and that fails, it gives no job: the report stands.
        """
        answer = self._report(
            "turn_jobs", jobs, results=_results(results), kind=kind, n=n, lease_s=float(lease_s)
        )
        claimed = _jobs(answer["jobs"] or ())
        if answer["jobs"] is None:  # it has just fallen asleep, or taken jobs back, and looks once more
            with suppress(DatabaseBusyError, DatabaseUnavailableError):
                claimed = self.claim(kind, n, lease_s)
        return claimed, tuple(answer["lost"])

    def next_in_s(self, kind: str) -> float | None:
        """Give real seconds until a job of a kind is due, by what is known now; None where none waits."""
        answer = self._session.call("next_job_in_s", kind=kind)
        return None if answer is None else float(answer)

    def renew(self, jobs: Sequence[Job], lease_s: float = 300) -> Renewed:
        """Hold claimed jobs for `lease_s` more real seconds; what is lost is somebody else's by now."""
        answer = self._report("renew_jobs", jobs, lease_s=float(lease_s))
        return Renewed(
            lease_expires_at=datetime.fromisoformat(answer["lease_expires_at"]), lost=tuple(answer["lost"])
        )

    def complete(self, job: Job, result: Mapping[str, Any] | None = None) -> None:
        """Report success."""
        self._require_kept(job, self.complete_many([job], [result]))

    def complete_many(
        self, jobs: Sequence[Job], results: Sequence[Mapping[str, Any] | None] | None = None
    ) -> tuple[str, ...]:
        """Report success of many, with one result each; give the ids of those whose lease is lost."""
        return tuple(self._report("complete_jobs", jobs, results=_results(results))["lost"])

    def fail(
        self,
        job: Job,
        error: str,
        backoff_s: float | None = None,
        *,
        final: bool = False,
        error_class: str | None = None,
    ) -> str:
        """Report failure: give `retryable` or `dead`.

        Args:
            job: as claimed.
            error: kept with the job.
            backoff_s: seconds of fleet time until it is due again; None: 10, 20, 40 ... 3600, with jitter.
            final: it is dead at once, whatever attempts are left.
            error_class: for its run record.
        """
        answer = self._report(
            "fail_jobs",
            [job],
            errors=[plain(error)],
            backoff_s=None if backoff_s is None else float(backoff_s),
            final=final,
            error_class=error_class,
        )
        self._require_kept(job, answer["lost"])
        return str(answer["states"][job.id])

    def fail_many(
        self, jobs: Sequence[Job], errors: Sequence[str], backoff_s: float | None = None
    ) -> dict[str, str]:
        """Report failure of many, with one error each; give each one's new state, none of the lost."""
        answer = self._report(
            "fail_jobs",
            jobs,
            errors=[plain(error) for error in errors],
            backoff_s=None if backoff_s is None else float(backoff_s),
        )
        return dict(answer["states"])

    def snooze(self, job: Job, delay_s: float) -> None:
        """Put it off: available again after `delay_s`; the attempt doesn't count."""
        self._require_kept(job, self.snooze_many([job], delay_s))

    def snooze_many(self, jobs: Sequence[Job], delay_s: float) -> tuple[str, ...]:
        """Put many off; give the ids of those whose lease is lost."""
        return tuple(self._report("snooze_jobs", jobs, delay_s=float(delay_s))["lost"])

    def cancel(self, job_id: str) -> bool:
        """End a job that isn't running; say whether there was one."""
        return bool(self._session.database.call("cancel_job", job=number_of(job_id, "job")))

    def cancel_many(self, job_ids: Sequence[str]) -> tuple[str, ...]:
        """End jobs that aren't running, and what depends on them; give the ids of those among the given."""
        return tuple(self._session.call("cancel_jobs", jobs=[number_of(job, "job") for job in job_ids]))

    def replay(self, job_id: str) -> bool:
        """Start a dead or cancelled job anew; say whether there was one, with all that it depends on."""
        return bool(self._session.database.call("replay_job", job=number_of(job_id, "job")))

    def replay_many(self, job_ids: Sequence[str]) -> tuple[str, ...]:
        """Start dead or cancelled jobs anew; give the ids of those that there were."""
        return tuple(self._session.call("replay_jobs", jobs=[number_of(job, "job") for job in job_ids]))

    def rescue(self, n: int = 100) -> tuple[int, int]:
        """Take back the jobs of workers that died; give how many, and how many are newly overdue."""
        answer = self._session.call("rescue_jobs", n=n)
        return int(answer["rescued"]), int(answer["overdue"])

    def _report(self, function: LiteralString, jobs: Sequence[Job], **arguments: Any) -> dict[str, Any]:
        answer = self._session.call(
            function,
            jobs=numbers(job.id for job in jobs),
            leases=numbers(job.lease for job in jobs),
            **arguments,
        )
        self._wake(answer.get("wake", ()))  # a renewal makes nothing free
        return dict(answer)

    @staticmethod
    def _require_kept(job: Job, lost: Sequence[str]) -> None:
        if job.id in lost:
            raise LockLostError(
                f"the lease {job.lease} on job {job.id} is lost: "
                "stop work on this job: somebody else has it, or it ended"
            )

    def _wake(self, workers: Sequence[str]) -> None:
        # Outside the jobs' own transaction, as every wake-up: a lost one costs a poll, nothing more.
        for worker in workers:
            with suppress(FleetError):
                self._session.database.call("wake", worker=worker)


def _jobs(answer: Sequence[dict[str, Any]]) -> list[Job]:
    for job in answer:
        job["lease_expires_at"] = datetime.fromisoformat(job["lease_expires_at"])
    return [Job(**job) for job in answer]


def _results(results: Sequence[Mapping[str, Any] | None] | None) -> Json | None:
    """Give the results as `complete_jobs` takes them: nothing where there is none."""
    if results is None or all(result is None for result in results):
        return None
    return Json([None if result is None else plain(dict(result)) for result in results])


def list_jobs(
    database: Database, *, kind: str | None = None, state: str | None = None, n: int = 50
) -> list[dict[str, Any]]:
    """Give the newest jobs, newest first, ended or not: of one kind and state, or all."""
    return database.rows("list_jobs", kind=kind, state=state, number=n)


def get_job(database: Database, job_id: str) -> dict[str, Any] | None:
    """Give one job, whether it ended or not, with every error; None where there is none."""
    found = database.call("get_job", job=number_of(job_id, "job"))
    return None if found is None else dict(found)


def get_job_status(database: Database) -> list[dict[str, Any]]:
    """Give each kind's depth by state, what is oldest due, and what became of all since ever.

    `wait_s` is the sum of fleet seconds from due to claimed (count: `claimed`), `run_s` that of real seconds
    from claimed to reported (count: `completed` + `failed`).
    """
    return list(database.call("get_job_status"))


def decide_job(database: Database, job_id: str, decision: str, *, actor: str, reason: str) -> dict[str, Any]:
    """A person cancels a job that waits, or replays one that is dead or cancelled. Audited.

    Raises:
        InvalidValueError: there is no such job, or another decision.
        TransitionRefusedError: its state doesn't allow that.
    """
    return dict(
        database.call(
            "decide_job", job=number_of(job_id, "job"), decision=decision, actor=actor, reason=reason
        )
    )
