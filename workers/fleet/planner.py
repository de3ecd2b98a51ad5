"""Planner: keeps the queue of posts filled."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256

from pydantic import Field

from coordination.intents import Queue
from workers.base import Worker, WorkerSettings
from workers.intervals import also, hours, minutes
from workers.platforms.writers import Brief, Draft, Writer
from workers.platforms.writers.choice import post_writer

PLAN = "plan:"
"""How the planner's targets begin; the rest is the slot's time."""


class PlannerSettings(WorkerSettings):
    """The planner's live settings.

    Attributes:
        check_interval_s: seconds between looks at whether the queue is empty; None: 30 minutes.
        queue_target: how many posts should wait.
        spacing_s: seconds between planned posts.
        deadline_s: a post that could not go within so many seconds of its time expires.
    """

    check_interval_s: float | None = Field(default=None, ge=1, le=31_622_400)
    queue_target: int = Field(default=4, ge=1, le=500)
    spacing_s: int = Field(default=10_800, ge=1, le=31_622_400)
    deadline_s: float = Field(default=86_400, ge=1, le=31_622_400)


class Planner(Worker):
    """Write posts about the account's topics and plan when each goes out."""

    name = "planner"
    every = hours(2)
    settings_model = PlannerSettings
    settings: PlannerSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    def step(self) -> None:
        """Fill the queue up to its target."""
        self._fill(self._queue())

    @also(every=minutes(30))
    def check(self) -> None:
        """Fill the queue when nothing waits any more."""
        queue = self._queue()
        if queue.waiting == 0:
            self.log.info("the queue is empty")
            self._fill(queue)

    def _queue(self) -> Queue:
        # Its own plans only: a post that a person put far ahead must not silence the planner until then.
        return self.fleet.ledger.queue(self.context.account, PLAN)

    def _fill(self, queue: Queue) -> None:
        account = self.fleet.accounts.get(self.context.account)
        avoid = set(queue.texts)
        slots = plan_slots(queue, target=self.settings.queue_target, spacing_s=self.settings.spacing_s)

        def plan(at: datetime) -> None:
            # The slot is the target: two planners that plan the same slot make one intent.
            target = f"{PLAN}{at:%Y-%m-%dT%H:%M:%SZ}"
            seed = int.from_bytes(sha256(f"{account.name} {target}".encode()).digest()[:8], "big")
            draft = self._writer.write(Brief(topics=account.topics, avoid=frozenset(avoid), at=at, seed=seed))
            self._tell_fallback(draft)
            intent = self.fleet.ledger.propose(
                account.name,
                "post",
                target,
                draft.text,
                at=at,
                deadline=at + timedelta(seconds=self.settings.deadline_s),
                origin={"writer": draft.writer, "topic": draft.topic, **draft.detail},
            )
            avoid.add(draft.text)
            self.log.info("planned", intent=intent.id, state=intent.state, for_=at.isoformat())

        self.each(slots, key=lambda at: f"{PLAN}{at.isoformat()}", handle=plan)

    def _tell_fallback(self, draft: Draft) -> None:
        if draft.fallback_reason:
            self.log.warning("the model gave no post: the built-in writer did", reason=draft.fallback_reason)
            self.fleet.audit.event(
                "warning",
                "writer_fallback",
                f"the model gave no post ({draft.fallback_reason}): the built-in writer did",
            )

    @cached_property
    def _writer(self) -> Writer[Brief]:
        return post_writer(self.context.config)


def plan_slots(queue: Queue, *, target: int, spacing_s: int) -> list[datetime]:
    """The times of the posts that are missing, on a grid of `spacing_s`, after all that is planned.

    The grid makes a plan that was cut off, or made twice, come to the same slots.
    """
    start = max(queue.now, queue.planned_until or queue.now, queue.last_posted_at or queue.now)
    first = int(start.timestamp()) // spacing_s + 1
    return [
        datetime.fromtimestamp((first + number) * spacing_s, UTC)
        for number in range(max(0, target - queue.waiting))
    ]
