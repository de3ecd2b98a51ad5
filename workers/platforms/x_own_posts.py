"""Finding one's own post again by what was sent: X keeps no key of ours that would name it."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from workers.platforms.post_text import canonical
from workers.platforms.x_posts import Post

SNOWFLAKE_EPOCH = datetime.fromtimestamp(1_288_834_974.657, UTC)
SNOWFLAKE_TIME_SHIFT = 22  # an id's upper bits are milliseconds since that epoch
OPENING_MENTIONS = re.compile(r"(?:@[A-Za-z0-9_]{1,50}(?:\s+|$))+")
CLOSING_STATUS = re.compile(r"\s*(?:https?://)?(?:[a-z]+\.)?(?:x|twitter)\.com/\w+(?:/web)?/status/([0-9]+)$")


def find_own_post(
    posts: Iterable[Post],
    text: str,
    since: datetime,
    *,
    reply_to: str | None = None,
    quote_of: str | None = None,
) -> Post | None:
    """The earliest among `posts` that is what was sent and not older than `since`, or None.

    An original matches by its text. A reply matches by the post it answers and its text but for the
    mentions that open it, which X adds and strips; a quote by the post it quotes and its text but for
    the link to that post at its end.

    Args:
        posts: Posts of the account itself.
        text: The exact text that was sent.
        since: When the first attempt began, less the clocks' possible difference; aware.
        reply_to: The id of the post that was answered.
        quote_of: The id of the post that was quoted.
    """
    wanted = _comparable(canonical(text), reply_to, quote_of)
    found = [
        post
        for post in posts
        if posted_at(post.id) >= since
        and post.replied_to == reply_to
        and not post.is_repost
        and quote_of in {None, post.quoted}
        and _comparable(post.canonical, reply_to, quote_of) == wanted
    ]
    return min(found, key=lambda post: int(post.id), default=None)


def posted_at(post_id: str) -> datetime:
    """When X made the id, to the millisecond, by X's clock."""
    return SNOWFLAKE_EPOCH + timedelta(milliseconds=int(post_id) >> SNOWFLAKE_TIME_SHIFT)


def _comparable(text: str, reply_to: str | None, quote_of: str | None) -> str:
    if reply_to is not None and (opening := OPENING_MENTIONS.match(text)):
        text = text[opening.end() :]
    if quote_of is not None and (closing := CLOSING_STATUS.search(text)) and closing[1] == quote_of:
        text = text[: closing.start()]
    return text.strip()
