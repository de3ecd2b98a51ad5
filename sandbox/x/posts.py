"""Posts and users: the values that worlds give and the store keeps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody on the platform; `created_ms` counts milliseconds since 1970.

    Attributes:
        followers: How many follow the user, as shown; more than the sandbox may know by name.
        following: How many the user follows, as shown.
    """

    id: int
    username: str
    name: str
    created_ms: int
    description: str = ""
    location: str = ""
    url: str = ""
    followers: int = 0
    following: int = 0
    verified: bool = False
    protected: bool = False


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What others did with a post, as counts."""

    retweets: int = 0
    replies: int = 0
    likes: int = 0
    quotes: int = 0
    bookmarks: int = 0
    impressions: int = 0


@dataclass(frozen=True, kw_only=True)
class Post:
    """A post: `text` is what its author wrote, unescaped; `created_ms` milliseconds since 1970.

    Attributes:
        lang: The language as its source names it.
        reply_to: The post that it answers.
        quote_of: The post that it quotes.
        repost_of: The post that it repeats.
        conversation_id: The post that began the conversation; None where this one begins it.
        reply_settings: Who may answer, in X's words.
        made_with_ai: Whether its author labelled it so.
        paid_partnership: The same, for advertising.
    """

    id: int
    author_id: int
    text: str
    created_ms: int
    lang: str
    metrics: Metrics = field(default_factory=Metrics)
    reply_to: int | None = None
    quote_of: int | None = None
    repost_of: int | None = None
    conversation_id: int | None = None
    reply_settings: str = "everyone"
    made_with_ai: bool = False
    paid_partnership: bool = False

    @property
    def conversation(self) -> int:
        """The id of the post that began the conversation, this one's own where it did."""
        return self.conversation_id or self.id


# A world begins with 100,000 of these: a tuple is made in a fifth of a frozen dataclass's time.
class PlainPost(NamedTuple):
    """A `Post` with no counts yet and nothing chosen; its fields are those of the same names."""

    id: int
    author_id: int
    text: str
    created_ms: int
    lang: str
    reply_to: int | None
    quote_of: int | None
    repost_of: int | None
    conversation_id: int | None


class Batch(NamedTuple):
    """Some posts of a past at once, and for each its row in the index of words: id, text, marks."""

    posts: Sequence[PlainPost]
    words: Sequence[tuple[int, str, str]]


class Reactions(Protocol):
    """What people did with posts."""

    def of(self, post: Post, now_ms: int) -> Metrics:
        """A post's metrics at a time (milliseconds since 1970): a later reading is never smaller."""
        ...


class Given:
    """The metrics that stand with the posts, at any time."""

    def of(self, post: Post, now_ms: int) -> Metrics:  # noqa: ARG002 - the protocol's
        """The post's own metrics."""
        return post.metrics
