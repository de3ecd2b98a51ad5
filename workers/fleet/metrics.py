"""Metrics: how the account's own posts are doing."""

from collections.abc import Sequence

from pydantic import Field

from coordination.readings import TrackedPost
from workers.base import Worker, WorkerSettings
from workers.context import Platform
from workers.intervals import minutes
from workers.platforms.x import Post, XError, XRefused

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
        account = self.context.account
        grant = self.fleet.rate_limits.can_make_request("get_tweets", self.worker_id, "low", account)
        if not grant.allowed or grant.grant_id is None:
            self.log.info("the limit says wait", reason=grant.reason, retry_after_s=grant.retry_after_seconds)
            return False
        try:
            answer = self.context.x.posts([post.platform_id for post in due])
        except XError as error:
            status = error.status if isinstance(error, XRefused) else None
            self.fleet.rate_limits.record_usage(grant.grant_id, False, error.headers, status=status)
            raise
        self.fleet.rate_limits.record_usage(grant.grant_id, True, answer.headers, status=200)
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
            reason = missing.get(tracked.platform_id, "X gave no metrics for it")
            gone = self.fleet.readings.miss(account, tracked.platform_id, reason, next_in_s=next_in_s)
            self.log.warning("no metrics", post=tracked.platform_id, reason=reason, gone=gone)
            return
        counts = post.metrics.model_dump(exclude_none=True)
        number = self.fleet.readings.append(account, tracked.platform_id, counts, next_in_s=next_in_s)
        self.log.info("read", post=tracked.platform_id, reading=number, **counts)
