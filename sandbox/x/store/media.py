"""Media: uploads in segments, what X would say of them, and what is attached to posts.

The bytes are counted and forgotten: nothing here looks at pictures.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.x import snowflakes
from sandbox.x.store.database import Database


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload: what was announced, what has arrived (bytes), and when it was finished (ms since 1970)."""

    id: int
    media_type: str
    category: str | None
    total_bytes: int
    received_bytes: int
    created_ms: int
    finalized_ms: int | None
    alt_text: str | None

    @property
    def key(self) -> str:
        """X's media key: the kind's number and the id."""
        return f"{KINDS[self.kind]}_{self.id}"

    def is_ready(self, now_ms: int) -> bool:
        """Whether it can be attached to a post: finished, and processed where that takes time."""
        return self.finalized_ms is not None and now_ms >= self.finalized_ms + self.processing_ms

    @property
    def processing_ms(self) -> int:
        """How long X works on it after the end: pictures are ready at once."""
        return 0 if self.kind == "photo" else PROCESSING_MS

    @property
    def kind(self) -> str:
        """What X shows it as: photo, video or animated_gif."""
        if self.media_type.startswith("video/"):
            return "video"
        return "animated_gif" if self.media_type == "image/gif" else "photo"


PROCESSING_MS = 2000
KINDS = {"photo": 3, "video": 7, "animated_gif": 16}


class Media:
    """The uploads of the account."""

    def __init__(self, database: Database) -> None:
        """On the store's database."""
        self._database = database

    def begin(self, *, media_type: str, category: str | None, total_bytes: int, at_ms: int) -> Upload:
        """Announces an upload."""
        with self._database.transaction(durable=False):
            upload_id = snowflakes.following(self._database.number("get_last_media_id"), at_ms)
            self._database.run(
                "add_media",
                id=upload_id,
                media_type=media_type,
                category=category,
                total_bytes=total_bytes,
                created_ms=at_ms,
            )
        found = self.upload(upload_id)
        assert found is not None  # noqa: S101 - written above
        return found

    def append(self, upload: Upload, position: int, length_bytes: int) -> None:
        """A segment arrived; the same position again replaces it."""
        with self._database.transaction(durable=False):
            self._database.run("set_segment", media_id=upload.id, position=position, bytes=length_bytes)

    def finalize(self, upload: Upload, at_ms: int) -> None:
        """Every segment is there."""
        with self._database.transaction(durable=False):
            self._database.run("set_finalized", id=upload.id, at_ms=at_ms)

    def describe(self, upload: Upload, alt_text: str) -> None:
        """Sets the text for those who can't see it."""
        with self._database.transaction(durable=False):
            self._database.run("set_alt_text", id=upload.id, alt_text=alt_text)

    def upload(self, upload_id: int) -> Upload | None:
        """The upload with this id."""
        row = self._database.run("get_media", id=upload_id).fetchone()
        return None if row is None else _to_upload(row)

    def attach(self, post_id: int, media_ids: Sequence[int]) -> None:
        """Attaches finished uploads to a post; the store opens the transaction around it."""
        rows = (
            {"post_id": post_id, "position": position, "media_id": media_id}
            for position, media_id in enumerate(media_ids)
        )
        self._database.run_many("attach_media", rows)

    def of(self, post_id: int) -> list[Upload]:
        """What is attached to a post, in its order."""
        return [_to_upload(row) for row in self._database.run("list_media_of", post_id=post_id)]


def _to_upload(row: sqlite3.Row) -> Upload:
    values: dict[str, Any] = dict(row)
    return Upload(**values)
