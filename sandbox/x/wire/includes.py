"""Includes: the users, posts and media that expansions add to an answer, each once."""

from collections.abc import Sequence
from typing import Any

from sandbox.x import text as texts
from sandbox.x.posts import Post, User
from sandbox.x.store.media import Upload
from sandbox.x.store.store import Store
from sandbox.x.wire import post_views, user_views
from sandbox.x.wire.answers import not_found
from sandbox.x.wire.parameters import Fields


class Includes:
    """What the expansions of some posts lead to; `errors` has an entry for each post that is gone."""

    def __init__(self, store: Store, fields: Fields, now_ms: int) -> None:
        """Nothing yet."""
        self._store = store
        self._fields = fields
        self._now_ms = now_ms
        self._users: dict[int, User] = {}
        self._posts: dict[int, Post] = {}
        self._media: dict[str, Upload] = {}
        self.errors: list[dict[str, Any]] = []

    def add(self, posts: Sequence[Post]) -> None:
        """Adds what the posts lead to."""
        asked = self._fields.expansions
        for post in posts:
            if "author_id" in asked:
                self._add_user(post.author_id)
            if "in_reply_to_user_id" in asked and post.reply_to:
                self._add_user(self._store.author_of(post.reply_to))
            if "entities.mentions.username" in asked:
                self._add_mentioned(post)
            if "attachments.media_keys" in asked:
                self._media |= {upload.key: upload for upload in self._store.media.of(post.id)}
            if any(name.startswith("referenced_tweets.id") for name in asked):
                self._add_references(post)

    def add_latest(self, users: Sequence[User]) -> None:
        """Adds the users' most recent posts."""
        if "most_recent_tweet_id" in self._fields.expansions:
            latest = [self._store.latest_post_of(user) for user in users]
            self._posts |= {post.id: post for post in latest if post}

    def view(self) -> dict[str, Any]:
        """The answer's `includes`, empty where nothing was found."""
        fields, store = self._fields, self._store
        posts = [post_views.view(store, post, fields, self._now_ms) for post in self._posts.values()]
        kinds = {
            "media": [_media_view(upload, fields) for upload in self._media.values()],
            "users": [user_views.view(store, user, fields) for user in self._users.values()],
            fields.posts: posts,
        }
        return {kind: found for kind, found in kinds.items() if found}

    def _add_user(self, user_id: int | None) -> None:
        if user_id is not None and user_id not in self._users and (user := self._store.user(user_id)):
            self._users[user_id] = user

    def _add_mentioned(self, post: Post) -> None:
        for name in texts.names(post.text, "mention"):
            if user := self._store.find_user(name):
                self._users.setdefault(user.id, user)

    def _add_references(self, post: Post) -> None:
        parameter = "referenced_posts.id" if self._fields.newer else "referenced_tweets.id"
        for reference in post_views.references(post):
            found = self._store.post(int(reference["id"]))
            if found is None:
                self.errors.append(not_found("tweet", parameter, reference["id"]))
                continue
            self._posts.setdefault(found.id, found)
            if "referenced_tweets.id.author_id" in self._fields.expansions:
                self._add_user(found.author_id)
            if "referenced_tweets.id.attachments.media_keys" in self._fields.expansions:
                self._media |= {upload.key: upload for upload in self._store.media.of(found.id)}


def _media_view(upload: Upload, fields: Fields) -> dict[str, Any]:
    view: dict[str, Any] = {"media_key": upload.key, "type": upload.kind}
    if "url" in fields.media and upload.kind == "photo":
        view["url"] = f"https://pbs.twimg.com/media/{upload.id}.jpg"
    if "alt_text" in fields.media and upload.alt_text:
        view["alt_text"] = upload.alt_text
    return view
