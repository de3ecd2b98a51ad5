"""People: users, and who likes, bookmarks, follows and mutes what.

Each `add` and `remove` tells whether it changed anything; the store opens the transaction around it. Lists
stand in the order of ids, newest first, so that a page continues at the last id of the one before.
"""

import sqlite3
from typing import Any

from sandbox.x.posts import User
from sandbox.x.store.database import Database

NO_COUNTS = {"retweets": 0, "replies": 0, "likes": 0, "quotes": 0, "bookmarks": 0}


class People:
    """The users and their ties to posts and to each other."""

    def __init__(self, database: Database) -> None:
        """On the store's database."""
        self._database = database

    def user(self, user_id: int) -> User | None:
        """The user with this id."""
        row = self._database.run("get_user", id=user_id).fetchone()
        return None if row is None else _to_user(row)

    def find_user(self, username: str) -> User | None:
        """The user with this name, in any case."""
        row = self._database.run("find_user", username=username).fetchone()
        return None if row is None else _to_user(row)

    def add_like(self, user_id: int, post_id: int, at_ms: int) -> bool:
        """A user likes a post."""
        added = self._changed("add_like", user_id=user_id, post_id=post_id, at_ms=at_ms)
        self.add_to_counts(post_id, likes=int(added))
        return added

    def remove_like(self, user_id: int, post_id: int, _at_ms: int) -> bool:
        """A user likes a post no longer."""
        removed = self._changed("delete_like", user_id=user_id, post_id=post_id)
        self.add_to_counts(post_id, likes=-int(removed))
        return removed

    def add_bookmark(self, user_id: int, post_id: int, at_ms: int) -> bool:
        """A user bookmarks a post."""
        added = self._changed("add_bookmark", user_id=user_id, post_id=post_id, at_ms=at_ms)
        self.add_to_counts(post_id, bookmarks=int(added))
        return added

    def remove_bookmark(self, user_id: int, post_id: int, _at_ms: int) -> bool:
        """A user's bookmark goes."""
        removed = self._changed("delete_bookmark", user_id=user_id, post_id=post_id)
        self.add_to_counts(post_id, bookmarks=-int(removed))
        return removed

    def add_follow(self, user_id: int, followed_id: int, at_ms: int) -> bool:
        """A user follows another."""
        added = self._changed("add_follow", user_id=user_id, followed_id=followed_id, at_ms=at_ms)
        self._count_follow(user_id, followed_id, int(added))
        return added

    def remove_follow(self, user_id: int, followed_id: int, _at_ms: int) -> bool:
        """A user follows another no longer."""
        removed = self._changed("delete_follow", user_id=user_id, followed_id=followed_id)
        self._count_follow(user_id, followed_id, -int(removed))
        return removed

    def add_mute(self, user_id: int, muted_id: int, at_ms: int) -> bool:
        """A user mutes another."""
        return self._changed("add_mute", user_id=user_id, muted_id=muted_id, at_ms=at_ms)

    def remove_mute(self, user_id: int, muted_id: int, _at_ms: int) -> bool:
        """A user hears another again."""
        return self._changed("delete_mute", user_id=user_id, muted_id=muted_id)

    def follows(self, user_id: int, followed_id: int) -> bool:
        """Whether one user follows another."""
        return bool(self._database.number("has_follow", user_id=user_id, followed_id=followed_id))

    def add_to_counts(self, post_id: int, **counts: int) -> None:
        """Adds to a post's counts: retweets, replies, likes, quotes, bookmarks."""
        if any(counts.values()):
            self._database.run("add_to_counts", id=post_id, **{**NO_COUNTS, **counts})

    def liking_users(self, post_id: int, until_id: int, count: int) -> list[User]:
        """Who likes a post."""
        return self._users("list_liking_users", until_id, count, post_id=post_id)

    def reposting_users(self, post_id: int, until_id: int, count: int) -> list[User]:
        """Who reposted a post."""
        return self._users("list_reposting_users", until_id, count, post_id=post_id)

    def count_likes_of(self, user: User) -> int:
        """How many posts the user likes, as far as the sandbox knows by name."""
        return self._database.number("count_likes_of", user_id=user.id)

    def followers(self, user_id: int, until_id: int, count: int) -> list[User]:
        """Who follows a user."""
        return self._users("list_followers", until_id, count, user_id=user_id)

    def following(self, user_id: int, until_id: int, count: int) -> list[User]:
        """Whom a user follows."""
        return self._users("list_following", until_id, count, user_id=user_id)

    def muted(self, user_id: int, until_id: int, count: int) -> list[User]:
        """Whom a user mutes."""
        return self._users("list_muted", until_id, count, user_id=user_id)

    def _users(self, statement: str, until_id: int, count: int, **values: Any) -> list[User]:
        rows = self._database.run(statement, until_id=until_id, count=count, **values)
        return [_to_user(row) for row in rows]

    def _changed(self, statement: str, **values: Any) -> bool:
        return self._database.run(statement, **values).rowcount > 0

    def _count_follow(self, user_id: int, followed_id: int, step: int) -> None:
        if step:
            self._database.run("add_to_follow_counts", user_id=user_id, followed_id=followed_id, step=step)


def _to_user(row: sqlite3.Row) -> User:
    values: dict[str, Any] = dict(row)
    for flag in ("verified", "protected"):
        values[flag] = bool(values[flag])
    return User(**values)
