"""X over its API v2: one account's posts and reads, each call once and within a deadline.

tweepy knows the endpoints and signs; the wire is `exchange`, which keeps the promises that an act on
the outside world needs. The errors are drawn in `x_errors`, a write's outcomes in `x_answers`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, cached_property
from ssl import SSLContext
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from workers.platforms.connection import trust
from workers.platforms.exchange import Answer, ExchangeError, NotSent, Unanswered, connect
from workers.platforms.x_answers import Outcome, Sent, read_body, sort_like, sort_post
from workers.platforms.x_client import client_for, rehearse
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
from workers.platforms.x_own_posts import find_own_post
from workers.platforms.x_posts import Metrics, Post
from workers.platforms.x_reads import Missing, Read, read_posts, read_user, read_users
from workers.platforms.x_requests import (
    PAGE_CAP,
    POST_FIELDS,
    USER_FIELDS,
    WITH_CONTEXT,
    id_in,
    ids_in,
    page_request,
    post_request,
    search_request,
)
from workers.platforms.x_users import User

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

T = TypeVar("T")


class X:
    """One account on X.

    Reads raise `XError`, and ValueError for what X would refuse; writes say in their answer what
    became of them.

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

    def create_post(
        self,
        text: str,
        before_write: Callable[[], bool] | None = None,
        *,
        reply_to: str | None = None,
        quote_of: str | None = None,
    ) -> Sent:
        """Post `text` once, as it is; whatever X or the network does, the answer is a `Sent`.

        Args:
            text: The exact text.
            before_write: Called when the connection stands, right before the first byte of the
                request is written; when it returns False nothing is, and the outcome is NOT_SENT.
            reply_to: The id of the post to answer.
            quote_of: The id of the post to quote; not together with `reply_to`.
        """
        try:
            asked = post_request(text, reply_to, quote_of)
        except ValueError as error:
            return _rejected(str(error))
        return self._write(lambda client: client.create_tweet(**asked), sort_post, before_write)

    def like(self, user_id: str, post_id: str, before_write: Callable[[], bool] | None = None) -> Sent:
        """Like a post once; X answers a second like of it as it did the first.

        Args:
            user_id: The account's own id.
            post_id: The post's id, which is the `platform_id` of what is POSTED.
            before_write: As for `create_post`.
        """
        try:
            user, post = id_in("user_id", user_id), id_in("post_id", post_id)
        except ValueError as error:
            return _rejected(str(error))
        return self._write(
            lambda client: client.like_as(user, post), lambda answer: sort_like(answer, post), before_write
        )

    def me(self) -> Read[User]:
        """The account itself."""
        return read_user(*self._read(lambda client: client.get_me()))

    def posts(self, ids: Sequence[str], *, with_context: bool = False) -> Read[tuple[Post, ...]]:
        """The posts with these 1 to 100 ids; each that can't be had is in `missing`.

        Args:
            ids: Their ids.
            with_context: Whether authors and the posts referred to come along; each is a paid read.
        """
        wanted = ids_in(ids)
        expanded: Mapping[str, Any] = WITH_CONTEXT if with_context else {}
        found = read_posts(
            *self._read(
                lambda client: client.get_tweets(wanted, tweet_fields=POST_FIELDS, user_auth=True, **expanded)
            )
        )
        return _with_unsaid(found, wanted, found.value)

    def users(self, ids: Sequence[str]) -> Read[tuple[User, ...]]:
        """The users with these 1 to 100 ids; each that can't be had is in `missing`."""
        wanted = ids_in(ids)
        found = read_users(
            *self._read(lambda client: client.get_users(ids=wanted, user_fields=USER_FIELDS, user_auth=True))
        )
        return _with_unsaid(found, wanted, found.value)

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
        user = id_in("user_id", user_id)
        asked = page_request(max_results, since_id=since_id, pagination_token=page)
        return read_posts(*self._read(lambda client: client.get_users_tweets(user, **asked)))

    def mentions(
        self,
        user_id: str,
        since_id: str | None = None,
        *,
        until_id: str | None = None,
        max_results: int = PAGE_CAP,
        page: str | None = None,
    ) -> Read[tuple[Post, ...]]:
        """A page of the posts that name the account, newest first, with their authors and context.

        Args:
            user_id: The account's id.
            since_id: Only posts newer than this one.
            until_id: Only posts older than this one.
            max_results: Posts a page, 5 to 100.
            page: The `next_token` of the page before.
        """
        user = id_in("user_id", user_id)
        asked = page_request(
            max_results, since_id=since_id, until_id=until_id, pagination_token=page, **WITH_CONTEXT
        )
        return read_posts(*self._read(lambda client: client.get_users_mentions(user, **asked)))

    def search(
        self,
        query: str,
        *,
        since_id: str | None = None,
        start_time: datetime | None = None,
        max_results: int = PAGE_CAP,
        page: str | None = None,
    ) -> Read[tuple[Post, ...]]:
        """A page of the last week's posts that match, newest first, with their authors.

        Args:
            query: In X's search language.
            since_id: Only posts newer than this one.
            start_time: Only posts not older than this, to the second; aware.
            max_results: Posts a page, 10 to 100.
            page: The `next_token` of the page before.
        """
        asked = search_request(query, max_results, since_id=since_id, start_time=start_time, next_token=page)
        return read_posts(*self._read(lambda client: client.search_recent_tweets(**asked)))

    def reachable(self) -> None:
        """Open a TCP connection to X and close it: no call, no cost; raises `XUnreachable`."""
        try:
            connect(self.base_url, deadline_s=self.deadline_s)
        except NotSent as error:
            raise XUnreachable(error.reason) from error

    def _write(
        self,
        call: Callable[[Any], Answer],
        sort: Callable[[Answer], Sent],
        before_write: Callable[[], bool] | None,
    ) -> Sent:
        try:
            return sort(call(self._client(before_write)))
        except NotSent as error:
            return Sent(outcome=Outcome.NOT_SENT, reason=error.reason, headers={})
        except Unanswered as error:
            return Sent(outcome=Outcome.UNKNOWN, reason=error.reason, headers={})

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


def prepare(base_url: str) -> None:
    """Do what every process that talks to X does first, once for all that are forked from this one."""
    if _is_address(base_url):
        rehearse(base_url)


@cache
def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(requests.Request("GET", url).prepare().url or "")
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _rejected(reason: str) -> Sent:
    return Sent(outcome=Outcome.REJECTED, reason=reason, headers={})


def _with_unsaid(found: Read[T], wanted: Sequence[str], items: Sequence[Post | User]) -> Read[T]:
    """Nothing that was asked for is left without a word."""
    seen = {item.id for item in items} | {item.id for item in found.missing}
    unsaid = tuple(Missing(id=one, reason="not in X's answer") for one in wanted if one not in seen)
    return replace(found, missing=found.missing + unsaid)
