"""Reactions: how the account's own posts gain public metrics, by a law without chance.

A post aged `a` seconds shows, for each count, floor(C * (1 - exp(-a / T))): the ceiling C comes from
the post's id (SHA-256, so any id will do), T is the count's own pace. It starts at 0, never falls,
and rises within the first minute. docs/reference/sandbox.md has the table.
"""

import hashlib
import math
from dataclasses import dataclass, replace

from sandbox.x.posts import Metrics, Post


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Ceilings from `least` to `most`; 63% of the ceiling is reached after `pace_s` seconds."""

    least: int
    most: int
    pace_s: float


PACES = {
    "impressions": Pace(least=200, most=5000, pace_s=120),
    "likes": Pace(least=10, most=120, pace_s=150),
    "retweets": Pace(least=2, most=30, pace_s=240),
    "replies": Pace(least=1, most=12, pace_s=300),
    "quotes": Pace(least=0, most=6, pace_s=600),
    "bookmarks": Pace(least=0, most=9, pace_s=600),
}


def of(post: Post, now_ms: int) -> Metrics:
    """The metrics of one of the account's own posts at a time (milliseconds since 1970)."""
    age_s = max(0, now_ms - post.created_ms) / 1000
    counts = {
        name: math.floor(_ceiling(post.id, name, pace) * -math.expm1(-age_s / pace.pace_s))
        for name, pace in PACES.items()
    }
    return replace(post.metrics, **counts)


def _ceiling(post_id: int, name: str, pace: Pace) -> int:
    digest = hashlib.sha256(f"{post_id}:{name}".encode()).digest()
    return pace.least + int.from_bytes(digest[:8]) % (pace.most - pace.least + 1)
