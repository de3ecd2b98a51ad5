"""X's posts, as its API writes them and as it used to: both namings are read. Ids are strings."""

from typing import Annotated

from pydantic import AliasChoices, Field, StringConstraints

from workers.platforms.post_text import Link, canonical, is_media
from workers.platforms.x_wire import Count, Id, Instant, Text, Username, Wire

REPLIED, QUOTED = "replied_to", "quoted"
REPOSTED = frozenset({"retweeted", "reposted"})
LINK_CAP = 4096

Url = Annotated[str, StringConstraints(strict=True, max_length=LINK_CAP, pattern=r"^[^\s\x00-\x1f]+$")]


class Metrics(Wire):
    """A post's public counts; None where X gave none, which is not zero."""

    reposts: Count | None = Field(None, validation_alias=AliasChoices("repost_count", "retweet_count"))
    replies: Count | None = Field(None, validation_alias="reply_count")
    likes: Count | None = Field(None, validation_alias="like_count")
    quotes: Count | None = Field(None, validation_alias="quote_count")
    bookmarks: Count | None = Field(None, validation_alias="bookmark_count")
    impressions: Count | None = Field(None, validation_alias="impression_count")


class Reference(Wire):
    """Another post that a post answers, quotes or repeats."""

    kind: Text = Field(validation_alias="type")
    id: Id


class _Url(Wire):
    url: Url
    expanded_url: Url | None = None
    display_url: Text = ""
    media_key: Text | None = None

    def link(self) -> Link:
        expanded = self.expanded_url or self.url
        media = self.media_key is not None or is_media(expanded, self.display_url)
        return Link(short=self.url, expanded=expanded, is_media=media)


class _Mention(Wire):
    username: Username
    id: Id | None = None


class _Entities(Wire):
    urls: tuple[_Url, ...] = ()
    mentions: tuple[_Mention, ...] = ()


class Post(Wire):
    """A post as X returned it: `text` still with its escapes and short links."""

    id: Id
    text: Text
    author_id: Id | None = None
    conversation_id: Id | None = None
    in_reply_to_user_id: Id | None = None
    created_at: Instant | None = None
    lang: Text | None = None
    metrics: Metrics | None = Field(None, validation_alias="public_metrics")
    references: tuple[Reference, ...] = Field(
        (), validation_alias=AliasChoices("referenced_posts", "referenced_tweets")
    )
    entities: _Entities = _Entities()

    @property
    def mentions(self) -> tuple[str, ...]:
        """The usernames that the text names, in lower case and in their order, each once."""
        return tuple(dict.fromkeys(mention.username.lower() for mention in self.entities.mentions))

    @property
    def mentioned_ids(self) -> tuple[str, ...]:
        """The ids of those whom the text names, as far as X gave them, each once."""
        return tuple(dict.fromkeys(mention.id for mention in self.entities.mentions if mention.id))

    @property
    def replied_to(self) -> str | None:
        """The id of the post that this one answers."""
        return self._referred(frozenset({REPLIED}))

    @property
    def quoted(self) -> str | None:
        """The id of the post that this one quotes."""
        return self._referred(frozenset({QUOTED}))

    @property
    def reposted(self) -> str | None:
        """The id of the post that this one merely repeats."""
        return self._referred(REPOSTED)

    @property
    def is_reply(self) -> bool:
        """Whether it is addressed to someone: by answering a post, or by opening with a username."""
        return self.replied_to is not None or self.in_reply_to_user_id is not None

    @property
    def is_repost(self) -> bool:
        """Whether it is another's post, repeated without a word of its own."""
        return self.reposted is not None

    @property
    def links(self) -> tuple[Link, ...]:
        """The text's links with what they stand for."""
        return tuple(url.link() for url in self.entities.urls)

    @property
    def canonical(self) -> str:
        """The text in the form that compares with a frozen one."""
        return canonical(self.text, self.links)

    def _referred(self, kinds: frozenset[str]) -> str | None:
        return next((reference.id for reference in self.references if reference.kind in kinds), None)
