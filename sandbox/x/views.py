"""Views: posts and users as X's JSON shows them. Ids are strings; texts are HTML-escaped."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sandbox.x import parameters, reactions
from sandbox.x import text as texts
from sandbox.x.parameters import Fields
from sandbox.x.posts import Metrics, Post, User
from sandbox.x.store import Store


def time(at_ms: int) -> str:
    """A time as X writes it: UTC, milliseconds, Z."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def metrics(store: Store, post: Post, now_ms: int) -> Metrics:
    """A post's metrics now: the world's are given, the account's own grow."""
    return reactions.of(post, now_ms) if post.author_id == store.account.id else post.metrics


def page(store: Store, posts: Sequence[Post], more: bool, fields: Fields, now_ms: int) -> dict[str, Any]:
    """A list's answer; `more` adds the token that continues it."""
    meta: dict[str, Any] = {"result_count": len(posts)}
    if posts:
        meta |= {"newest_id": str(posts[0].id), "oldest_id": str(posts[-1].id)}
    if more:
        meta["next_token"] = parameters.token(posts[-1].id)
    return {**several(store, posts, fields, now_ms), "meta": meta}


def several(store: Store, posts: Sequence[Post], fields: Fields, now_ms: int) -> dict[str, Any]:
    """`data` and `includes` of some posts; X leaves out what would be empty."""
    answer: dict[str, Any] = {}
    if posts:
        answer["data"] = [post_view(store, post, fields, now_ms) for post in posts]
        if "author_id" in fields.expansions:
            authors = [store.user(author_id) for author_id in dict.fromkeys(post.author_id for post in posts)]
            answer["includes"] = {"users": [user_view(store, user, fields) for user in authors if user]}
    return answer


def post_view(store: Store, post: Post, fields: Fields, now_ms: int) -> dict[str, Any]:
    """One post with the fields that were asked for."""
    wanted = fields.tweet | ({"author_id"} & fields.expansions)
    text = texts.escaped(post.text)
    view: dict[str, Any] = {"edit_history_tweet_ids": [str(post.id)], "id": str(post.id), "text": text}
    if "author_id" in wanted:
        view["author_id"] = str(post.author_id)
    if "conversation_id" in wanted:
        view["conversation_id"] = str(post.id)
    if "created_at" in wanted:
        view["created_at"] = time(post.created_ms)
    if "entities" in wanted and (found := entities_view(store, text)):
        view["entities"] = found
    if "lang" in wanted:
        view["lang"] = post.lang
    if "possibly_sensitive" in wanted:
        view["possibly_sensitive"] = False
    if "public_metrics" in wanted:
        view["public_metrics"] = metrics_view(metrics(store, post, now_ms))
    if "reply_settings" in wanted:
        view["reply_settings"] = "everyone"
    if "source" in wanted:
        view["source"] = "SocialFleet sandbox"
    return view


def metrics_view(found: Metrics) -> dict[str, int]:
    """Public metrics under X's names."""
    return {
        "retweet_count": found.retweets,
        "reply_count": found.replies,
        "like_count": found.likes,
        "quote_count": found.quotes,
        "bookmark_count": found.bookmarks,
        "impression_count": found.impressions,
    }


def entities_view(store: Store, text: str) -> dict[str, Any]:
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


def user_view(store: Store, user: User, fields: Fields) -> dict[str, Any]:
    """One user with the fields that were asked for."""
    view: dict[str, Any] = {"id": str(user.id), "name": user.name, "username": user.username}
    if "created_at" in fields.user:
        view["created_at"] = time(user.created_ms)
    if "description" in fields.user:
        view["description"] = ""
    for flag in ("protected", "verified"):
        if flag in fields.user:
            view[flag] = False
    if "public_metrics" in fields.user:
        view["public_metrics"] = {
            "followers_count": 0,
            "following_count": 0,
            "tweet_count": store.count_posts_of(user),
            "listed_count": 0,
            "like_count": 0,
        }
    return view
