"""X's recorded answers, and a world in which the same requests find as much."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from sandbox.x import snowflakes
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Store
from sandbox.x.wire.moments import time
from sandbox.x.world.worlds import user_id

FOLDER = Path(__file__).parents[4] / "shared/data/x/recordings"
ACCOUNT = "1072250532645998596"  # who recorded them
AT_MS = 1_780_000_000_000

# Whose ids the recorded requests name without their usernames beside them.
USERNAMES = {"783214": "Twitter", "2244994945": "TwitterDev", "17874544": "TwitterSupport"}
ANNOUNCEMENT, RELEASE, REPLY = 1293593516040269825, 1415348607813832708, 1344794616005066752


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One recorded request and its answer."""

    method: str
    path: str
    query: Mapping[str, str]
    sent: dict[str, Any] | None
    status: int
    headers: Mapping[str, str]
    answer: dict[str, Any]


def read(name: str) -> list[Exchange]:
    """The exchanges of one recording."""
    pairs = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return [_exchange(pair["request"], pair["response"]) for pair in pairs]


def _exchange(request: dict[str, Any], response: dict[str, Any]) -> Exchange:
    parts = urlsplit(str(request["uri"]))
    return Exchange(
        method=request["method"],
        path=parts.path,
        query=dict(parse_qsl(parts.query)),
        sent=request["body"],
        status=response["status"],
        headers={name.lower(): value for name, value in response["headers"].items()},
        answer=response["body"],
    )


@dataclass(kw_only=True)
class World:
    """The recordings' people and posts; the sandbox gives people ids of its own."""

    posts: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    names: dict[str, str] = field(default_factory=lambda: dict(USERNAMES))

    def own_id(self, recorded: str, account: str) -> str:
        """What a recorded id is called here."""
        if recorded == ACCOUNT:
            return account
        name = self.names.get(recorded)
        return str(user_id(name)) if name else recorded

    def write(self, path: Path) -> None:
        """The world as a file that the sandbox reads."""
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["id", "created_at", "user", "text"])
            for post_id, (author, text) in self.posts.items():
                rows.writerow([post_id, time(snowflakes.time_ms(post_id)), author, text])


def world() -> World:
    """Everything that the recordings show, each person with at least one post."""
    found = World()
    for path in sorted(FOLDER.glob("*.json")):
        for exchange in read(path.name):
            for item in _items(exchange.answer):
                if "username" in item and item["id"] != ACCOUNT:
                    found.names[item["id"]] = item["username"]
                elif "text" in item and exchange.method == "GET":
                    found.posts[int(item["id"])] = (_author(path.stem), item["text"])
    found.posts[ANNOUNCEMENT] = ("TwitterDev", found.posts[ANNOUNCEMENT][1])
    found.posts[RELEASE] = ("TwitterDev", "A release")
    for number in range(12):  # more than a page of what it said
        found.posts[snowflakes.from_time(AT_MS - number * 1000)] = ("Twitter", f"One more: {number}")
    known = {author for author, _ in found.posts.values()}
    for number, name in enumerate(sorted(set(found.names.values()) - known)):
        found.posts[snowflakes.from_time(AT_MS + number * 1000)] = (name, f"Hello from {number}")
    return found


def _items(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    data = answer.get("data", [])
    items = cast("list[Any]", data if isinstance(data, list) else [data])
    yield from (item for item in items if isinstance(item, dict) and "id" in item)


def _author(recording: str) -> str:
    return "Twitter" if recording == "get_users_tweets" else "somebody_else"


def tie(store: Store, found: World) -> None:
    """Who likes, follows, reposts and quotes what, as the recordings show it."""
    ids = {name: user_id(name) for name in found.names.values()}
    twitter, account = ids["Twitter"], store.account.id
    liked = [int(item["id"]) for item in _items(read("get_liked_tweets.json")[0].answer)]
    likers = [ids[item["username"]] for item in _items(read("get_liking_users.json")[0].answer)]
    more_liked = [one for one in found.posts if one not in liked][: 101 - len(liked)]
    store.add_others_likes(
        [(twitter, one, AT_MS) for one in (*liked, *more_liked)]
        + [(one, ANNOUNCEMENT, AT_MS) for one in likers]
    )
    followers = [ids[item["username"]] for item in _items(read("get_users_followers.json")[0].answer)]
    followed = [ids[item["username"]] for item in _items(read("get_users_following.json")[0].answer)]
    more_followers = [one for one in ids.values() if one not in {*followers, twitter}][:5]
    store.add_others_follows(
        [(one, twitter, AT_MS) for one in (*followers, *more_followers)]
        + [(twitter, one, AT_MS) for one in followed]
        + [(account, user_id("somebody_else"), AT_MS)]
    )
    reposters = [ids[item["username"]] for item in _items(read("get_retweeters.json")[0].answer)]
    store.add_others_posts([_repost(number, one) for number, one in enumerate(reposters)])
    quotes = read("get_quote_tweets.json")[0].answer
    more = [_quote(number, user_id("somebody_else")) for number in range(quotes["meta"]["result_count"] + 3)]
    store.add_others_posts(more)
    root = store.accept_post("What do you say?", lang="en", at_ms=AT_MS)
    store.add_others_posts([_reply(root, user_id("somebody_else"))])


def _repost(number: int, author_id: int) -> Post:
    at_ms = AT_MS + 10_000_000 + number
    text = "RT @TwitterDev: A release"
    post_id = snowflakes.from_time(at_ms)
    return Post(id=post_id, author_id=author_id, text=text, created_ms=at_ms, lang="en", repost_of=RELEASE)


def _quote(number: int, author_id: int) -> Post:
    at_ms = AT_MS + 20_000_000 + number
    post_id = snowflakes.from_time(at_ms)
    return Post(
        id=post_id, author_id=author_id, text="Look", created_ms=at_ms, lang="en", quote_of=ANNOUNCEMENT
    )


def _reply(root: Post, author_id: int) -> Post:
    return Post(
        id=REPLY,
        author_id=author_id,
        text="@fleet I say nothing",
        created_ms=AT_MS,
        lang="en",
        reply_to=root.id,
        conversation_id=root.id,
    )


def account(keys: Mapping[str, str]) -> User:
    """The sandbox's own account, as its store wants it."""
    own_id = int(keys["user_id"])
    return User(id=own_id, username=keys["username"], name="Fleet", created_ms=snowflakes.time_ms(own_id))


def shape(value: Any) -> Any:
    """What kind of JSON a value is: the types, the keys, and the one shape that a list's items share."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {name: shape(one) for name, one in items.items()}
    if isinstance(value, list):
        shapes: list[Any] = []
        for item in cast("list[Any]", value):
            if shape(item) not in shapes:
                shapes.append(shape(item))
        return shapes
    return type(value).__name__
