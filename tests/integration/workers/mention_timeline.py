"""An X whose mentions a test writes: pages newest first, since_id, until_id, page tokens."""

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.integration.platforms.scripted import Scripted, read_request, reply

US = "42"
HANDLE = "fleet"
EPOCH_MS = 1_288_834_974_657


def snowflake(at: datetime, sequence: int = 0) -> int:
    """The id of a post made then."""
    return ((int(at.timestamp() * 1000) - EPOCH_MS) << 22) + sequence


def created(number: int) -> str:
    at = datetime.fromtimestamp((EPOCH_MS + (number >> 22)) / 1000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


class MentionTimeline:
    """Serves `posts` as the account's mentions, and `others` as what they refer to."""

    def __init__(self) -> None:
        self.posts: dict[int, dict[str, Any]] = {}
        self.others: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, str]] = []
        self.bad: list[Any] = []
        self._server = Scripted()
        self._server.act = self._act
        self.url = self._server.url
        self._last = 0

    def mention(
        self,
        text: str,
        *,
        author: int = 700,
        at: datetime | None = None,
        answers: str | None = None,
        to: str | None = None,
        **more: Any,
    ) -> str:
        """Somebody names the account; gives the post's id. Each is newer than the one before."""
        number = snowflake(at or datetime.now(UTC) + timedelta(seconds=1))
        if at is None:
            number = self._last = max(number, self._last + 1)
        references = {"referenced_tweets": [{"type": "replied_to", "id": answers}]} if answers else {}
        answered = {"in_reply_to_user_id": to} if to else {}
        self.posts[number] = {
            "id": str(number),
            "text": text,
            "author_id": str(author),
            "conversation_id": answers or str(number),
            "created_at": created(number),
            **references,
            **answered,
            **more,
        }
        return str(number)

    def reads(self) -> list[dict[str, str]]:
        return list(self.asked)

    def close(self) -> None:
        self._server.close()

    def _act(self, connection: socket.socket) -> None:
        request = read_request(connection)
        if not request:
            return
        target = urlsplit(request.split(b" ", 2)[1].decode())
        given = {name: values[0] for name, values in parse_qs(target.query).items()}
        if target.path == "/2/users/me":
            body: dict[str, Any] = {"data": {"id": US, "username": HANDLE, "name": "Fleet"}}
        else:
            self.asked.append(given)
            body = self._page(given)
        connection.sendall(reply(200, json.dumps(body).encode(), "Content-Type: application/json"))

    def _page(self, given: dict[str, str]) -> dict[str, Any]:
        since, until = int(given.get("since_id", 0)), int(given.get("until_id", 2**63))
        below = min(until, int(given.get("pagination_token", 2**63)))
        found = sorted((number for number in self.posts if since < number < below), reverse=True)
        size = int(given["max_results"])
        page, rest = found[:size], found[size:]
        data: list[Any] = [self.posts[number] for number in page]
        authors = {str(post["author_id"]) for post in data if post.get("author_id")}
        referred = {ref["id"] for post in data for ref in post.get("referenced_tweets", [])}
        meta: dict[str, Any] = {"result_count": len(page)}
        if rest:
            meta["next_token"] = str(page[-1])
        return {
            "data": data + self.bad,
            "includes": {
                "users": [{"id": one, "username": f"person{one}", "name": "P"} for one in sorted(authors)],
                "tweets": [self.others[one] for one in sorted(referred) if one in self.others],
            },
            "meta": meta,
        }
