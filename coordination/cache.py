"""The cache: what can be computed again, kept for a while and shared by all processes.

It may be empty at any time (a crash of the server empties it) and is never why work fails: where the cache
can't be asked, nothing is found, nothing is kept, and `get_or_compute` computes itself; what is too large to
be kept is given all the same. Times are real seconds. Values are JSON.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from coordination.database import Database, Json
from coordination.errors import DatabaseError, DatabaseUnavailableError, InvalidValueError
from coordination.plain import plain
from coordination.session import Session

LEASE_S: Final = 30.0
"""How long one process may compute a value before another one may."""
FIRST_POLL_S: Final = 0.02
LONGEST_POLL_S: Final = 0.25

Pause = Callable[[float], object]


@dataclass(frozen=True, kw_only=True)
class CacheStatus:
    """One namespace of the cache; counts are since the server last crashed.

    Attributes:
        computing: values that some process computes now.
        stale_hits: answers past their time, given while the value was computed anew.
        evictions: values that went before their time, since there were too many.
        hit_rate: share of hits, stale ones too, 0 to 1; None before anybody asked.
    """

    namespace: str
    entries: int
    bytes: int
    computing: int
    hits: int
    stale_hits: int
    misses: int
    stores: int
    evictions: int
    hit_rate: float | None


class Cache:
    """What a worker keeps and looks up. Every method is one round trip, but for `get_or_compute`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Give a fresh value, or the default."""
        with suppress(DatabaseError):
            answer = self._session.call("get_cached", namespace=namespace, key=key)
            return answer["value"] if answer["hit"] else default
        return default

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, Any]:
        """Give the fresh values among at most 1000 keys; what is not there is missing."""
        with suppress(DatabaseError):
            return dict(self._session.call("get_many_cached", namespace=namespace, keys=list(keys)))
        return {}

    def set(self, namespace: str, key: str, value: object, *, ttl_s: float, stale_s: float = 0.0) -> None:
        """Keep a value.

        Args:
            namespace: of the key.
            key: of the value.
            value: JSON of at most 262144 bytes.
            ttl_s: for how long it is fresh.
            stale_s: for how long after that it is given while it is computed anew.
        """
        with suppress(DatabaseError):
            self._put(namespace, key, value, ttl_s, stale_s, None)

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a value; whether there was one. Who computes it meanwhile stores nothing."""
        return bool(self._session.call("drop_cached", namespace=namespace, key=key))

    def delete_all(self, namespace: str, prefix: str = "") -> int:
        """Remove every value of a namespace whose key begins with `prefix`; give how many."""
        return int(self._session.call("drop_cached", namespace=namespace, prefix=prefix))

    def get_or_compute(
        self,
        namespace: str,
        key: str,
        compute: Callable[[], Any],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        lease_s: float = LEASE_S,
        pause: Pause = time.sleep,
        instead_of: tuple[type[Exception], ...] = (),
    ) -> Any:
        """Give a value, computing it where there is none: in one process at a time, whoever asks.

        The others get the stale value while there is one, else they wait; if its process fails, dies or takes
        longer than `lease_s`, the next one computes. Two round trips where it computes, else one a look.

        Args:
            namespace: of the key.
            key: of the value.
            compute: gives the value; what it raises is raised.
            ttl_s: for how long it is fresh.
            stale_s: for how long after that it is given while it is computed anew.
            lease_s: how long computing may take.
            pause: waits some seconds between looks; a worker gives its own, so that the wait is no stall. One
                that gives False, as a worker's does when it drains, ends the wait: then it computes itself.
            instead_of: failures of `compute` in whose place the stale value is given while there is one: with
                the platform away or a limit used up, work goes on with what was known last.
        """
        poll_s, waits = FIRST_POLL_S, False
        while True:
            try:
                answer: Mapping[str, Any] = self._session.call(
                    "begin_cached", namespace=namespace, key=key, lease_s=lease_s, waits=waits
                )
            except DatabaseError:
                return compute()
            match answer["found"]:
                case "hit" | "stale":
                    return answer["value"]
                case "compute":
                    token = int(answer["token"])
                    return self._compute(namespace, key, compute, ttl_s, stale_s, token, instead_of)
                case _:
                    waits = True
                    wait_s = min(poll_s * random.uniform(0.5, 1), answer["wait_s"])  # noqa: S311  no secret
                    if pause(wait_s) is False:
                        return compute()
                    poll_s = min(poll_s * 2, LONGEST_POLL_S)

    def get_cache_status(self) -> list[CacheStatus]:
        """Every namespace that was ever asked or filled."""
        return [CacheStatus(**row) for row in self._session.call("get_cache_status")]

    def _compute(
        self,
        namespace: str,
        key: str,
        compute: Callable[[], Any],
        ttl_s: float,
        stale_s: float,
        token: int,
        instead_of: tuple[type[Exception], ...],
    ) -> Any:
        try:
            value = compute()
        except BaseException as error:
            left = self._give_up(namespace, key, token, wants_stale=isinstance(error, instead_of))
            if left["stale"]:
                return left["value"]
            raise
        try:
            self._put(namespace, key, value, ttl_s, stale_s, token)
        except DatabaseError:
            pass  # computed again next time
        except InvalidValueError as error:
            self._give_up(namespace, key, token)
            if error.field != "value":  # one that is too large is still what was asked for
                raise
        return value

    def _give_up(
        self, namespace: str, key: str, token: int, *, wants_stale: bool = False
    ) -> Mapping[str, Any]:
        try:
            return self._session.call(
                "give_up_cached", namespace=namespace, key=key, token=token, wants_stale=wants_stale
            )
        except DatabaseError:  # the lease ends by itself
            return {"stale": False}

    def _put(
        self, namespace: str, key: str, value: object, ttl_s: float, stale_s: float, token: int | None
    ) -> bool:
        return bool(
            self._session.call(
                "put_cached",
                namespace=namespace,
                key=key,
                value=Json(plain(value)),
                ttl_s=ttl_s,
                stale_s=stale_s,
                token=token,
            )
        )


def get_cache_status(database: Database) -> list[CacheStatus]:
    """The same for a person or the console; nothing where the cache alone is broken."""
    try:
        return [CacheStatus(**row) for row in database.call("get_cache_status")]
    except DatabaseUnavailableError:
        raise
    except DatabaseError:
        return []
