"""Post views: a post as X's JSON shows one, in the older names or the newer."""

from collections.abc import Callable
from typing import Any

from sandbox.x import text as texts
from sandbox.x.posts import Metrics, Post
from sandbox.x.store.store import Store
from sandbox.x.wire.moments import time
from sandbox.x.wire.parameters import Fields

SOURCE = "SocialFleet sandbox"

# What stands in a post itself, by the field that asks for it: nothing is worked out that nobody wants.
_GIVEN: dict[str, Callable[[Post], object]] = {
    "author_id": lambda post: str(post.author_id),
    "conversation_id": lambda post: str(post.conversation),
    "created_at": lambda post: time(post.created_ms),
    "lang": lambda post: post.lang,
    "possibly_sensitive": lambda _post: False,
    "reply_settings": lambda post: post.reply_settings,
    "source": lambda _post: SOURCE,
    "made_with_ai": lambda post: post.made_with_ai,
    "paid_partnership": lambda post: post.paid_partnership,
}


def metrics(store: Store, post: Post, now_ms: int) -> Metrics:
    """A post's metrics now: the world's are given, the account's own grow."""
    return store.reactions.of(post, now_ms)


def view(store: Store, post: Post, fields: Fields, now_ms: int) -> dict[str, Any]:
    """One post with the fields that were asked for, non-public metrics aside."""
    wanted = fields.tweet | fields.expansions
    text = texts.escaped(post.text)
    history = "edit_history_post_ids" if fields.newer else "edit_history_tweet_ids"
    view: dict[str, Any] = {history: [str(post.id)], "id": str(post.id), "text": text}
    for name, of in _GIVEN.items():
        if name in wanted:
            view[name] = of(post)
    if "display_text_range" in wanted:
        view["display_text_range"] = [0, len(text)]
    if "entities" in wanted and (found := entities(store, text)):
        view["entities"] = found
    if "public_metrics" in wanted:
        view["public_metrics"] = public_metrics(metrics(store, post, now_ms), newer=fields.newer)
    if "in_reply_to_user_id" in wanted and post.reply_to and (author := store.author_of(post.reply_to)):
        view["in_reply_to_user_id"] = str(author)
    if _asks_for_references(fields) and (found := references(post)):
        view["referenced_posts" if fields.newer else "referenced_tweets"] = found
    if _asks_for_media(fields) and (keys := [upload.key for upload in store.media.of(post.id)]):
        view["attachments"] = {"media_keys": keys}
    return view


def references(post: Post) -> list[dict[str, str]]:
    """The posts that a post refers to, and how."""
    kinds = (("retweeted", post.repost_of), ("quoted", post.quote_of), ("replied_to", post.reply_to))
    return [{"type": kind, "id": str(one)} for kind, one in kinds if one is not None]


def public_metrics(found: Metrics, *, newer: bool = False) -> dict[str, int]:
    """Public metrics under X's names."""
    return {
        "repost_count" if newer else "retweet_count": found.retweets,
        "reply_count": found.replies,
        "like_count": found.likes,
        "quote_count": found.quotes,
        "bookmark_count": found.bookmarks,
        "impression_count": found.impressions,
    }


def private_metrics(name: str, post: Post, found: Metrics, *, newer: bool = False) -> dict[str, int]:
    """`non_public_metrics` or `organic_metrics`: clicks are a fixed share of the likes.

    X shows more of them than the sandbox has a law for.
    """
    profile_clicks = found.likes // 10
    clicks = {"user_profile_clicks": profile_clicks}
    if "://" in post.text:
        clicks["url_link_clicks"] = found.likes // 4
    if name == "non_public_metrics":
        acts = found.likes + found.replies + found.retweets + found.quotes + found.bookmarks
        return {
            "impression_count": found.impressions,
            "engagements": acts + sum(clicks.values()),
            **clicks,
        }
    shown = public_metrics(found, newer=newer)
    del shown["quote_count"], shown["bookmark_count"]
    return {**shown, **clicks}


def entities(store: Store, text: str) -> dict[str, Any]:
    """The entities in an (escaped) text; positions count its code points."""
    view: dict[str, Any] = {}
    tags: tuple[tuple[str, texts.Kind], ...] = (("hashtags", "hashtag"), ("cashtags", "cashtag"))
    for key, kind in tags:
        if found := texts.entities(text, kind):
            view[key] = [{"start": one.start, "end": one.end, "tag": one.name} for one in found]
    mentions: list[dict[str, Any]] = []
    for one in texts.entities(text, "mention"):
        user = store.find_user(one.name)
        identity = {"id": str(user.id)} if user else {}
        mentions.append({"start": one.start, "end": one.end, "username": one.name, **identity})
    if mentions:
        view["mentions"] = mentions
    if links := texts.links(text):
        view["urls"] = [
            {
                "start": link.start,
                "end": link.end,
                "url": link.url,
                "expanded_url": link.url,
                "display_url": link.url.split("://", 1)[-1],
            }
            for link in links
        ]
    return view


def _asks_for_references(fields: Fields) -> bool:
    asked = any(name.startswith("referenced_tweets.id") for name in fields.expansions)
    return asked or "referenced_tweets" in fields.tweet


def _asks_for_media(fields: Fields) -> bool:
    return "attachments" in fields.tweet or "attachments.media_keys" in fields.expansions
