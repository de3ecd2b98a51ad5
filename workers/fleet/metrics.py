"""Metrics: how the account's own posts are doing."""

import re
from collections.abc import Sequence

from pydantic import Field

from coordination.readings import TrackedPost
from workers.base import Worker, WorkerSettings
from workers.context import Platform
from workers.errors import NoGrantError
from workers.intervals import minutes
from workers.outside.reads import read
from workers.platforms.x import Post

ID = re.compile("[0-9]{1,19}", re.ASCII)
LOOKUP_CAP = 100
"""Posts that X looks up in one request."""


class MetricsSettings(WorkerSettings):
    """The collector's live settings.

    Attributes:
        batch_size: posts a step reads at most.
        first_reading_s: seconds from a post to its first reading; each later one waits twice as long.
        longest_interval_s: and never longer than this.
    """

    batch_size: int = Field(default=LOOKUP_CAP, ge=1, le=LOOKUP_CAP)
    first_reading_s: float = Field(default=900, ge=1, le=604_800)
    longest_interval_s: float = Field(default=604_800, ge=1, le=31_622_400)


class Metrics(Worker):
    """Read the public metrics of the account's own posts at growing intervals."""

    name = "metrics"
    every = minutes(15)
    needs = (Platform.X,)
    settings_model = MetricsSettings
    settings: MetricsSettings  # pyright: ignore[reportIncompatibleVariableOverride]  the same, narrower

    def step(self) -> None:
        """Read every post that is due, a request a batch."""
        while not self.draining.is_set():
            due = self.fleet.readings.claim_due(self.context.account, self.settings.batch_size)
            if not due or not self._read(due) or len(due) < self.settings.batch_size:
                return

    def _read(self, due: Sequence[TrackedPost]) -> bool:
        """Read one batch; False when the platform or the limit says to stop."""
        ids = [post.platform_id for post in due if ID.fullmatch(post.platform_id)]
        try:
            answer = read(
                self.fleet,
                "get_tweets",
                lambda: self.context.x.posts(ids),
                account=self.context.account,
                worker_id=self.worker_id,
                priority="low",
            )
        except NoGrantError as error:
            self.log.info(str(error), retry_after_s=error.retry_after_s)
            return False
        seen = {post.id: post for post in answer.value}
        missing = {item.id: item.reason for item in answer.missing}
        self.each(
            due,
            key=lambda tracked: tracked.platform_id,
            handle=lambda tracked: self._keep(tracked, seen, missing),
        )
        self._tell(due, answer.value)
        return True

    def _tell(self, due: Sequence[TrackedPost], posts: Sequence[Post]) -> None:
        counts = [post.metrics for post in posts if post.metrics]
        impressions = sum(count.impressions or 0 for count in counts)
        likes = sum(count.likes or 0 for count in counts)
        message = f"read {len(counts)} of {len(due)} posts: {impressions} impressions, {likes} likes"
        self.fleet.audit.event("info", "read", message)

    def _keep(self, tracked: TrackedPost, seen: dict[str, Post], missing: dict[str | None, str]) -> None:
        account, number = self.context.account, tracked.readings
        next_in_s = min(
            self.settings.first_reading_s * 2.0 ** min(number, 40), self.settings.longest_interval_s
        )
        post = seen.get(tracked.platform_id)
        if post is None or post.metrics is None:
            reason = missing.get(tracked.platform_id, "X gave no metrics for it, or its id is none")
            gone = self.fleet.readings.miss(account, tracked.platform_id, reason, next_in_s=next_in_s)
            self.log.warning("no metrics", post=tracked.platform_id, reason=reason, gone=gone)
            return
        counts = post.metrics.model_dump(exclude_none=True)
        number = self.fleet.readings.append(account, tracked.platform_id, counts, next_in_s=next_in_s)
        self.log.info("read", post=tracked.platform_id, reading=number, **counts)
