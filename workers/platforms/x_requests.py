"""What X is asked: the fields, and each value in the bounds within which X accepts it.

Every function here raises ValueError by the field's name for what X would refuse.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from workers.platforms.x_answers import ID

POST_FIELDS = [
    "author_id",
    "conversation_id",
    "created_at",
    "entities",
    "in_reply_to_user_id",
    "lang",
    "public_metrics",
    "referenced_tweets",
]
USER_FIELDS = ["description", "public_metrics", "verified"]
# Each item that comes along is a paid read: no more than what is acted upon.
WITH_AUTHORS: Mapping[str, Any] = {"expansions": ["author_id"], "user_fields": USER_FIELDS}
WITH_CONTEXT: Mapping[str, Any] = {
    "expansions": ["author_id", "referenced_tweets.id", "referenced_tweets.id.author_id"],
    "user_fields": USER_FIELDS,
}
LOOKUP_CAP = 100
PAGE_FLOOR, SEARCH_FLOOR, PAGE_CAP = 5, 10, 100
QUERY_CAP = 4096
SHOWN = 80


def id_in(field: str, value: str) -> str:
    """`value`, which is an id."""
    if not ID.fullmatch(value):
        raise ValueError(f"{field} has {value!r}: must be 1 to 19 digits, as a string")
    return value


def ids_in(ids: Sequence[str]) -> list[str]:
    """The 1 to 100 ids of a lookup, each once."""
    wanted = list(dict.fromkeys(id_in("ids", one) for one in ids))
    if not 1 <= len(wanted) <= LOOKUP_CAP:
        raise ValueError(f"ids has {len(wanted)} ids: must have 1 to {LOOKUP_CAP}")
    return wanted


def post_request(text: str, reply_to: str | None, quote_of: str | None) -> dict[str, Any]:
    """A post, or a reply or quote."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text: {error}") from error
    if reply_to is not None and quote_of is not None:
        raise ValueError("reply_to and quote_of: must be one of both at most")
    return {
        "text": text,
        "in_reply_to_tweet_id": None if reply_to is None else id_in("reply_to", reply_to),
        "quote_tweet_id": None if quote_of is None else id_in("quote_of", quote_of),
    }


def page_request(
    max_results: int,
    *,
    floor: int = PAGE_FLOOR,
    since_id: str | None,
    until_id: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A page of posts."""
    if not floor <= max_results <= PAGE_CAP:
        raise ValueError(f"max_results is {max_results}: must be {floor} to {PAGE_CAP}")
    return {
        "since_id": None if since_id is None else id_in("since_id", since_id),
        "until_id": None if until_id is None else id_in("until_id", until_id),
        "max_results": max_results,
        "tweet_fields": POST_FIELDS,
        "user_auth": True,
        **more,
    }


def search_request(
    query: str,
    max_results: int,
    *,
    since_id: str | None,
    start_time: datetime | None,
    next_token: str | None,
) -> dict[str, Any]:
    """A page of a search."""
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"query: {error}") from error
    if not query.strip() or len(query) > QUERY_CAP:
        raise ValueError(f"query is {query[:SHOWN]!r}: must be 1 to {QUERY_CAP} characters, not all blank")
    if start_time is not None and start_time.tzinfo is None:
        raise ValueError(f"start_time is {start_time}: must have a time zone")
    page = page_request(max_results, floor=SEARCH_FLOOR, since_id=since_id, next_token=next_token)
    return {**page, **WITH_AUTHORS, "query": query, "start_time": start_time}
