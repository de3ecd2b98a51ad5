"""The walk through mentions: from the newest down to the cursor, each page stored before the next is read.

Pages come newest first, so the cursor may move only when the walk has arrived at it. A walk that is cut
off, by a crash or by its bound on pages, goes on below what is stored; what came newer is the next walk's.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from coordination import Fleet
from coordination.interactions import Cursor, Mention, Noted, Page
from workers.content.addressing import Addressed, judge
from workers.crash_points import CrashPoints
from workers.errors import WorkerError
from workers.logs import Log
from workers.outside.reads import read
from workers.platforms.x import Post, Read, X

EPOCH: Final = datetime.fromtimestamp(1_288_834_974.657, UTC)
TIME_SHIFT: Final = 22
"""X's ids hold milliseconds since its epoch above their lowest 22 bits; older ids are plain numbers."""
ROUNDING: Final = timedelta(seconds=1)
"""X cuts `created_at` to whole seconds; the id tells the milliseconds."""

log = Log("mentions")


class UnreadableMentionError(WorkerError):
    """A mention that can't be read; it is kept as a dead letter and counts as seen."""


class MentionWalk:
    """Reads one account's mentions.

    Args:
        fleet: this incarnation.
        x: the platform.
        account: the account's name.
        to: who it is there.
        worker_id: who reads, for the record.
        crash: the crash points.
    """

    def __init__(
        self, *, fleet: Fleet, x: X, account: str, to: Addressed, worker_id: str, crash: CrashPoints
    ) -> None:
        self._fleet = fleet
        self._x = x
        self._account = account
        self._to = to
        self._worker_id = worker_id
        self._crash = crash

    def pages(self, *, overlap_s: float, at_most: int) -> Iterator[Noted]:
        """Read and store page after page, and give what became of each; the first of all is the baseline.

        Raises:
            NoGrantError, XError: the next page can't be read now; those before are stored.
        """
        cursor = self._fleet.interactions.get_cursor(self._account)
        self._crash.pass_by("mentions.after_cursor")
        since, until, token = since_id(cursor, overlap_s), cursor.reached, None
        for _ in range(at_most):
            answer = self._read(since, until, token)
            self._crash.pass_by("mentions.after_read")
            page = self._page(answer, cursor)
            self._crash.pass_by("mentions.after_judging")
            noted = self._fleet.interactions.note(self._account, page)
            self._crash.pass_by("mentions.after_note")
            yield noted
            if cursor.position is None or page.is_last or not noted.moved:
                return
            cursor, token = noted.cursor, answer.next_token

    def _read(self, since: str | None, until: str | None, token: str | None) -> Read[tuple[Post, ...]]:
        user_id = self._to.user_id
        return read(
            self._fleet,
            "fetch_mentions",
            lambda: self._x.mentions(user_id, since, until_id=until, page=token),
            account=self._account,
            worker_id=self._worker_id,
        )

    def _page(self, answer: Read[tuple[Post, ...]], cursor: Cursor) -> Page:
        context = {**answer.posts, **{post.id: post for post in answer.value}}
        mentions: list[Mention] = []
        referred = {reference.id for post in answer.value for reference in post.references}
        bad = {
            missing.id or f"unreadable:{_digest(missing.reason)}": missing.reason
            for missing in answer.missing
            if missing.id not in referred and not missing.reason.startswith("includes")
        }
        for post in answer.value:
            try:
                mentions.append(self._mention(post, answer, context))
            except Exception as error:  # noqa: BLE001  one bad mention must not hide the others
                bad[post.id] = f"{type(error).__name__}: {error}"
        self._keep(bad)
        ids = sorted((post.id for post in answer.value), key=int)
        return Page(
            mentions=mentions,
            newest=ids[-1] if ids else None,
            oldest=ids[0] if ids else None,
            is_last=answer.next_token is None,
            cursor=cursor,
        )

    def _mention(self, post: Post, answer: Read[tuple[Post, ...]], context: dict[str, Post]) -> Mention:
        if post.author_id is None:
            raise UnreadableMentionError("it names no author")
        judgement = judge(post, self._to, context)
        author = answer.users.get(post.author_id)
        return Mention(
            platform_id=post.id,
            author_id=post.author_id,
            handle=author.username if author else "",
            text=post.text,
            conversation_id=post.conversation_id,
            kind=judgement.kind,
            summons=judgement.summons,
            request=judgement.request,
            subject=judgement.subject,
            reason=judgement.reason,
            posted_at=posted_at(post),
        )

    def _keep(self, bad: dict[str, str]) -> None:
        """Keep what can't be read as dead letters, each once."""
        names = {item_name(key): why for key, why in bad.items()}
        known = self._fleet.failed_items.among(names) if names else {}
        for name, why in names.items():
            if name not in known:
                self._fleet.failed_items.fail(name, UnreadableMentionError(why), max_attempts=1)
                log.warning("a mention can't be read: kept and passed over", item=name, reason=why)


def item_name(platform_id: str) -> str:
    """What a mention is called among the failed items."""
    return f"mention:{platform_id}"


def since_id(cursor: Cursor, overlap_s: float) -> str | None:
    """Where to read from: below the cursor by what the platform may show late, never below the baseline."""
    if cursor.position is None or int(cursor.position) == 0:
        return None
    earlier = int(cursor.position) - (int(overlap_s * 1000) << TIME_SHIFT)
    return str(max(earlier, int(cursor.baseline or 0))) if earlier > 0 else cursor.position


def posted_at(post: Post) -> datetime:
    """When it was posted: by its id where that agrees with what the platform says, else by its word."""
    by_id = EPOCH + timedelta(milliseconds=int(post.id) >> TIME_SHIFT)
    if post.created_at is None or abs(by_id - post.created_at) <= ROUNDING:
        return by_id
    return post.created_at


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
