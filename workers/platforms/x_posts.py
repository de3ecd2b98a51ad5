"""X's users and posts, as its API writes them and as it used to: both namings are read.

Ids are strings. One bad item never spoils its neighbours: it is set aside with its reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictInt, StringConstraints, ValidationError

from workers.platforms.post_text import Link, canonical, is_media

SNOWFLAKE_EPOCH = datetime.fromtimestamp(1_288_834_974.657, UTC)
SNOWFLAKE_TIME_SHIFT = 22  # an id's upper bits are milliseconds since that epoch
ANSWERING = frozenset({"replied_to", "retweeted"})  # such a post is no original, whatever its text

Id = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,19}$")]
Count = Annotated[StrictInt, Field(ge=0)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class User(_Wire):
    """An account."""

    id: Id
    username: str


class Metrics(_Wire):
    """A post's public counts; None where X gave none, which is not zero."""

    reposts: Count | None = Field(None, validation_alias=AliasChoices("repost_count", "retweet_count"))
    replies: Count | None = Field(None, validation_alias="reply_count")
    likes: Count | None = Field(None, validation_alias="like_count")
    quotes: Count | None = Field(None, validation_alias="quote_count")
    bookmarks: Count | None = Field(None, validation_alias="bookmark_count")
    impressions: Count | None = Field(None, validation_alias="impression_count")


class Reference(_Wire):
    """Another post that a post answers, quotes or repeats."""

    kind: str = Field(validation_alias="type")
    id: Id


class _Url(_Wire):
    url: str
    expanded_url: str | None = None
    display_url: str = ""
    media_key: str | None = None

    def link(self) -> Link:
        expanded = self.expanded_url or self.url
        media = self.media_key is not None or is_media(expanded, self.display_url)
        return Link(short=self.url, expanded=expanded, is_media=media)


class _Entities(_Wire):
    urls: tuple[_Url, ...] = ()


class Post(_Wire):
    """A post as X returned it: `text` still with its escapes and short links."""

    id: Id
    text: Annotated[str, StringConstraints(strict=True)]
    author_id: Id | None = None
    created_at: datetime | None = None
    metrics: Metrics | None = Field(None, validation_alias="public_metrics")
    references: tuple[Reference, ...] = Field(
        (), validation_alias=AliasChoices("referenced_posts", "referenced_tweets")
    )
    entities: _Entities = _Entities()

    @property
    def links(self) -> tuple[Link, ...]:
        """The text's links with what they stand for."""
        return tuple(url.link() for url in self.entities.urls)

    @property
    def canonical(self) -> str:
        """The text in the form that compares with a frozen one."""
        return canonical(self.text, self.links)


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An item that was asked for or sent, and can't be had; `id` is None where it can't be read."""

    id: str | None
    reason: str


def posts_in(body: dict[str, Any]) -> tuple[tuple[Post, ...], tuple[Missing, ...]]:
    """The posts of an answer's `data` (one or a list), and what is missing from it with the reason."""
    data: Any = body.get("data") or []
    items = cast("list[Any]", data if isinstance(data, list) else [data])
    posts: list[Post] = []
    missing: list[Missing] = []
    for item in items:
        try:
            posts.append(Post.model_validate(item))
        except ValidationError as error:
            missing.append(Missing(id=_text_of(item, "id"), reason=_fault(error)))
    errors: Any = body.get("errors")
    for item in cast("list[Any]", errors if isinstance(errors, list) else []):
        found = _text_of(item, "resource_id") or _text_of(item, "value")
        missing.append(Missing(id=found, reason=_told(item)))
    return tuple(posts), tuple(missing)


def next_page(body: dict[str, Any]) -> str | None:
    """Where the timeline's next page begins; None on the last."""
    return _text_of(body.get("meta"), "next_token") or None


def find_own_post(posts: Iterable[Post], text: str, since: datetime) -> Post | None:
    """The earliest original among `posts` that has this text and is not older than `since`, or None.

    Args:
        posts: Posts of the account itself.
        text: The exact text that was sent.
        since: When the first attempt began, less the clocks' possible difference; aware.
    """
    wanted = canonical(text)
    found = [
        post
        for post in posts
        if posted_at(post.id) >= since
        and post.canonical == wanted
        and not any(reference.kind in ANSWERING for reference in post.references)
    ]
    return min(found, key=lambda post: int(post.id), default=None)


def posted_at(post_id: str) -> datetime:
    """When X made the id, to the millisecond, by X's clock."""
    return SNOWFLAKE_EPOCH + timedelta(milliseconds=int(post_id) >> SNOWFLAKE_TIME_SHIFT)


def _text_of(item: Any, key: str) -> str | None:
    found = cast("dict[str, Any]", item).get(key) if isinstance(item, dict) else None
    return found if isinstance(found, str) else None


def _told(item: Any) -> str:
    return (
        _text_of(item, "detail") or _text_of(item, "title") or _text_of(item, "message") or "X gave no reason"
    )


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "item"
    return f"{place}: {first['msg']}"
