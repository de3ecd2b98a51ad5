"""Posts and users: the values that worlds give and the store keeps."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody on the platform; `created_ms` counts milliseconds since 1970."""

    id: int
    username: str
    name: str
    created_ms: int


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
    """A post: `text` is what its author wrote, unescaped; `created_ms` milliseconds since 1970."""

    id: int
    author_id: int
    text: str
    created_ms: int
    lang: str
    metrics: Metrics = field(default_factory=Metrics)
