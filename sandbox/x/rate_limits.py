"""Rate limits: fixed windows that begin with a caller's first request to an endpoint, as on X.

The figures are X's published ones (docs/reference/sandbox.md), unless control has set others. Every
authenticated request counts, also one that is refused afterwards; one beyond the limit counts no further.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.x.auth import Caller
from sandbox.x.store.store import Store

WINDOW_S = 900
DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Limit:
    """So many requests a window; `header` is the stem of the headers that report it, None where none do."""

    limit: int
    window_s: int = WINDOW_S
    header: str | None = "x-rate-limit"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A window after a request: what is left of it, and when it ends (seconds since 1970)."""

    limit: Limit
    allowed: bool
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """The three response headers of this window; none where it is silent."""
        stem = self.limit.header
        if stem is None:
            return {}
        return {
            f"{stem}-limit": str(self.limit.limit),
            f"{stem}-remaining": str(self.remaining),
            f"{stem}-reset": str(self.reset_s),
        }


def _each(user: int, app: int, *names: str) -> dict[tuple[str, str], tuple[Limit, ...]]:
    """The same limits in 15 minutes for some endpoints; 0 where the app alone isn't served."""
    contexts = {"user": user} | ({"app": app} if app else {})
    return {(name, context): (Limit(limit=limit),) for name in names for context, limit in contexts.items()}


LIMITS: dict[tuple[str, str], tuple[Limit, ...]] = {
    **_each(75, 0, "users_me"),
    **_each(900, 900, "user_tweets"),
    **_each(300, 450, "fetch_mentions", "search_tweets"),
    **_each(5000, 3500, "get_tweets"),
    **_each(900, 450, "get_tweet"),
    **_each(50, 0, "delete_tweet", "hide_reply"),
    **_each(900, 300, "get_user", "get_users", "get_user_by_username", "get_users_by_usernames"),
    **_each(300, 300, "search_all_tweets", "count_tweets", "count_all_tweets"),
    **_each(180, 0, "home_timeline", "bookmarks"),
    **_each(75, 75, "liked_tweets", "liking_users", "retweeted_by", "quote_tweets"),
    **_each(50, 0, "unlike_tweet", "retweet", "unretweet", "bookmark_tweet", "unbookmark_tweet"),
    **_each(300, 300, "followers", "following"),
    **_each(50, 0, "follow_user", "unfollow_user", "mute_user", "unmute_user"),
    **_each(15, 0, "muting"),
    **_each(1875, 0, "initialize_media", "append_media", "finalize_media"),
    **_each(500, 0, "upload_media", "describe_media"),
    **_each(1000, 0, "media_status"),
    ("like_tweet", "user"): (
        Limit(limit=50),
        Limit(limit=1000, window_s=DAY_S, header="x-user-limit-24hour"),
    ),
    ("post_tweet", "user"): (
        Limit(limit=100),
        Limit(limit=10_000, window_s=DAY_S, header="x-app-limit-24hour"),
    ),
}


class Limits:
    """The limits in force: the published ones, and in their place what was set."""

    def __init__(self) -> None:
        self._set: dict[tuple[str, str], tuple[Limit, ...]] = {}

    def of(self, endpoint: str, context: str) -> tuple[Limit, ...]:
        """The windows of an endpoint in a context; empty where nothing limits it."""
        return self._set.get((endpoint, context), LIMITS.get((endpoint, context), ()))

    def set(self, endpoint: str, context: str, windows: Sequence[Limit]) -> None:
        """Let these be the endpoint's windows; what was counted in a window of the same length stays."""
        self._set[endpoint, context] = tuple(windows)

    def clear(self) -> int:
        """Let the published ones hold again; gives how many were set."""
        count = len(self._set)
        self._set.clear()
        return count


def used_up(limits: Sequence[Limit], now_ms: int, seconds: float) -> list[Usage]:
    """The first of these windows as if nothing were left of it for so many seconds."""
    first = limits[0] if limits else Limit(limit=1)
    reset_s = int(now_ms / 1000 + seconds)
    return [Usage(limit=first, allowed=False, remaining=0, reset_s=reset_s)]


def use(store: Store, caller: Caller, endpoint: str, now_ms: int, limits: Sequence[Limit]) -> list[Usage]:
    """Takes one request from each of the caller's windows on the endpoint, or from none if one is empty."""
    now_s = now_ms // 1000
    windows = [_window(store, caller, endpoint, limit, now_s) for limit in limits]
    allowed = all(used < limit.limit for limit, (_, used) in zip(limits, windows, strict=True))
    usages: list[Usage] = []
    for limit, (started_s, used_before) in zip(limits, windows, strict=True):
        used = used_before + allowed
        store.set_window(caller.name, endpoint, limit.window_s, started_s=started_s, used=used)
        if allowed:
            store.counts.take(
                caller.name,
                endpoint,
                limit.window_s,
                requests=limit.limit,
                at_ms=now_ms,
                started_s=started_s,
            )
        usages.append(
            Usage(
                limit=limit,
                allowed=allowed,
                remaining=limit.limit - used,
                reset_s=started_s + limit.window_s,
            )
        )
    return usages


def begin_anew(store: Store, caller: Caller, endpoint: str, now_ms: int, limits: Sequence[Limit]) -> None:
    """Ends the caller's windows on the endpoint before their time: new ones begin now, with nothing used."""
    for limit in limits:
        store.set_window(caller.name, endpoint, limit.window_s, started_s=now_ms // 1000, used=0)


def _window(store: Store, caller: Caller, endpoint: str, limit: Limit, now_s: int) -> tuple[int, int]:
    """The start of the current window and what of it is used: a new one where the last has ended."""
    window = store.window(caller.name, endpoint, limit.window_s)
    if window is None or not window[0] <= now_s < window[0] + limit.window_s:
        return now_s, 0
    return window
