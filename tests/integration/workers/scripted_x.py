"""An X of a test's own: it answers searches and lookups from the posts that the test gives it."""

import json
import socket
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.integration.platforms.scripted import Scripted, read_request, reply


def x_post(
    number: int,
    text: str,
    at: datetime,
    *,
    author: int = 500,
    refers: str | None = None,
    to: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A post as X writes it; `refers` is how it refers to another, `to` whom it answers."""
    referring = {"referenced_tweets": [{"type": refers, "id": "9"}]} if refers else {}
    answering = {"in_reply_to_user_id": to} if to else {}
    return {
        **referring,
        **answering,
        "id": str(number),
        "text": text,
        "author_id": str(author),
        "created_at": at.isoformat().replace("+00:00", "Z"),
        "lang": "en",
        "public_metrics": {"like_count": 30, "retweet_count": 5, "reply_count": 4, "impression_count": 1000},
        **more,
    }


class ScriptedX:
    """Its timeline is `posts`; whoever wrote one has `followers`."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.followers = 20_000
        self.status: dict[str, int] = {}
        self.errors: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._server = Scripted()
        self._server.act = self._act
        self.url = self._server.url

    def queries(self) -> list[str]:
        return [given["query"] for path, given in self.asked if path.endswith("/search/recent")]

    def close(self) -> None:
        self._server.close()

    def _act(self, connection: socket.socket) -> None:
        request = read_request(connection)
        if not request:  # somebody looked whether it is there
            return
        target = urlsplit(request.split(b" ", 2)[1].decode())
        given = {name: values[0] for name, values in parse_qs(target.query).items()}
        self.asked.append((target.path, given))
        status = self.status.get(target.path, 200)
        if status != 200:
            connection.sendall(reply(status, {"title": "no", "status": status}))
            return
        found = self.posts
        if "ids" in given:
            wanted = given["ids"].split(",")
            found = [post for post in self.posts if post["id"] in wanted]
        authors = {str(post["author_id"]) for post in found if "author_id" in post}
        users = [
            {
                "id": author,
                "username": f"person{author}",
                "name": "P",
                "public_metrics": {"followers_count": self.followers},
            }
            for author in sorted(authors)
        ]
        body: dict[str, Any] = {"meta": {"result_count": len(found)}}
        if found:
            body |= {"data": found, "includes": {"users": users}}
        if self.errors:
            body["errors"] = self.errors
        connection.sendall(reply(200, json.dumps(body).encode(), "Content-Type: application/json"))
