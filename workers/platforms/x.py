"""X over its API v2: one account's posts and reads, each call once and within a deadline.

tweepy knows the endpoints and signs; the wire is `exchange`, which keeps the promises that an act on
the outside world needs. The errors are drawn in `x_errors`, a write's outcomes in `x_answers`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ssl import SSLContext
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import requests
from pydantic import ValidationError

from workers.platforms.connection import trust
from workers.platforms.exchange import Answer, ExchangeError, NotSent, Unanswered, connect
from workers.platforms.x_answers import ID, Outcome, Sent, read_body, sort_write
from workers.platforms.x_client import client_for
from workers.platforms.x_credentials import XCredentials
from workers.platforms.x_errors import (
    Limit,
    XCreditsDepleted,
    XError,
    XMalformed,
    XRateLimited,
    XRefused,
    XUnauthorized,
    XUnavailable,
    XUnreachable,
)
from workers.platforms.x_posts import Metrics, Missing, Post, User, find_own_post, next_page, posts_in

__all__ = [
    "Limit",
    "Metrics",
    "Missing",
    "Outcome",
    "Post",
    "Read",
    "Sent",
    "User",
    "X",
    "XCredentials",
    "XCreditsDepleted",
    "XError",
    "XMalformed",
    "XRateLimited",
    "XRefused",
    "XUnauthorized",
    "XUnavailable",
    "XUnreachable",
    "find_own_post",
]

DEADLINE_CAP_S = 13.0  # the lease that covers a send is reckoned with this
POST_FIELDS = ["author_id", "created_at", "entities", "public_metrics", "referenced_tweets"]
LOOKUP_CAP = 100
PAGE_FLOOR, PAGE_CAP = 5, 100

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Read(Generic[T]):
    """What a read gave.

    Attributes:
        value: What was asked for.
        missing: Items that were asked for or sent and can't be had, each with its reason.
        headers: The answer's headers in lower case; they settle the caller's grant.
        next_token: Where the next page begins; None on the last.
    """

    value: T
    missing: tuple[Missing, ...] = ()
    headers: Mapping[str, str]
    next_token: str | None = None


class X:
    """One account on X.

    Reads raise `XError`; `create_post` says in its answer what became of the post.

    Args:
        base_url: The address of X, or of a server that speaks its protocol.
        credentials: The account's.
        deadline_s: Seconds for a whole call, more than 0 and at most 13.
    """

    def __init__(
        self, base_url: str, credentials: XCredentials, *, deadline_s: float = DEADLINE_CAP_S
    ) -> None:
        if not _is_address(base_url):
            raise ValueError(f"base_url is {base_url!r}: must be an http or https URL with a host")
        if not 0 < deadline_s <= DEADLINE_CAP_S:
            raise ValueError(f"deadline_s is {deadline_s}: must be more than 0 and at most {DEADLINE_CAP_S}")
        self.base_url = base_url.rstrip("/")
        self.deadline_s = deadline_s
        self._credentials = credentials

    def create_post(self, text: str, before_write: Callable[[], bool] | None = None) -> Sent:
        """Post `text` once, as it is; whatever X or the network does, the answer is a `Sent`.

        Args:
            text: The exact text.
            before_write: Called when the connection stands, right before the first byte of the
                request is written; when it returns False nothing is, and the outcome is NOT_SENT.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return Sent(outcome=Outcome.REJECTED, reason=f"text: {error}", headers={})
        try:
            return sort_write(self._client(before_write).create_tweet(text=text))
        except NotSent as error:
            return Sent(outcome=Outcome.NOT_SENT, reason=error.reason, headers={})
        except Unanswered as error:
            return Sent(outcome=Outcome.UNKNOWN, reason=error.reason, headers={})

    def me(self) -> Read[User]:
        """The account itself."""
        body, headers = self._read(lambda client: client.get_me())
        try:
            return Read(value=User.model_validate(body.get("data")), headers=headers)
        except ValidationError:
            raise XMalformed("its data is no user", headers) from None

    def posts(self, ids: Sequence[str]) -> Read[tuple[Post, ...]]:
        """The posts with these 1 to 100 ids; each that can't be had is in `missing`."""
        wanted = dict.fromkeys(_id("ids", post_id) for post_id in ids)
        if not 1 <= len(wanted) <= LOOKUP_CAP:
            raise ValueError(f"ids has {len(wanted)} ids: must have 1 to {LOOKUP_CAP}")
        body, headers = self._read(
            lambda client: client.get_tweets(list(wanted), tweet_fields=POST_FIELDS, user_auth=True)
        )
        posts, missing = posts_in(body)
        seen = {post.id for post in posts} | {item.id for item in missing}
        unsaid = tuple(
            Missing(id=post_id, reason="not in X's answer") for post_id in wanted if post_id not in seen
        )
        return Read(value=posts, missing=missing + unsaid, headers=headers)

    def own_posts(
        self,
        user_id: str,
        since_id: str | None = None,
        *,
        max_results: int = PAGE_CAP,
        page: str | None = None,
    ) -> Read[tuple[Post, ...]]:
        """A page of the account's timeline, newest first.

        Args:
            user_id: The account's id.
            since_id: Only posts newer than this one.
            max_results: Posts a page, 5 to 100.
            page: The `next_token` of the page before.
        """
        if not PAGE_FLOOR <= max_results <= PAGE_CAP:
            raise ValueError(f"max_results is {max_results}: must be {PAGE_FLOOR} to {PAGE_CAP}")
        user = _id("user_id", user_id)
        since = _id("since_id", since_id) if since_id is not None else None
        body, headers = self._read(
            lambda client: client.get_users_tweets(
                user,
                since_id=since,
                max_results=max_results,
                pagination_token=page,
                tweet_fields=POST_FIELDS,
                user_auth=True,
            )
        )
        posts, missing = posts_in(body)
        next_token = next_page(body)
        return Read(value=posts, missing=missing, headers=headers, next_token=next_token)

    def reachable(self) -> None:
        """Open a TCP connection to X and close it: no call, no cost; raises `XUnreachable`."""
        try:
            connect(self.base_url, deadline_s=self.deadline_s)
        except NotSent as error:
            raise XUnreachable(error.reason) from error

    def _read(self, call: Callable[[Any], Answer]) -> tuple[dict[str, Any], Mapping[str, str]]:
        try:
            answer = call(self._client())
        except ExchangeError as error:
            raise XUnreachable(error.reason) from error
        return read_body(answer), answer.headers

    def _client(self, before_write: Callable[[], bool] | None = None) -> Any:
        return client_for(
            self.base_url,
            self._credentials,
            deadline_s=self.deadline_s,
            tls=self._tls,
            before_write=before_write,
        )

    @cached_property
    def _tls(self) -> SSLContext | None:
        return trust() if urlsplit(self.base_url).scheme == "https" else None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(requests.Request("GET", url).prepare().url or "")
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _id(field: str, value: str) -> str:
    if not ID.fullmatch(value):
        raise ValueError(f"{field} has {value!r}: must be 1 to 19 digits, as a string")
    return value
