"""Bodies of X's answers, and what can become of them on the way.

Hypothesis gives a `Random`, which does the harm: trees of this size would take too long to draw and to show.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any, cast

from hypothesis import strategies as st


def user(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": str(1000 + number),
        "name": f"Person {number} é 日本",
        "username": f"person_{number}",
        "description": "Maps & tea",
        "verified": False,
        "public_metrics": {"followers_count": 12, "following_count": 3, "tweet_count": 9, "listed_count": 0},
        **more,
    }


def post(number: int, *, new: bool = False, **more: Any) -> dict[str, Any]:
    """A post in X's older naming, or in its `new` one."""
    return {
        "id": str(1_456_012_973_835_788_293 + number),
        "text": f"@person_1 number {number} &amp; https://t.co/abcdefghi{number}",
        "author_id": str(1000 + number),
        "conversation_id": "1456012973835780000",
        "in_reply_to_user_id": "1001",
        "created_at": "2021-11-03T21:38:39.000Z",
        "lang": "en",
        "edit_history_tweet_ids": [str(1_456_012_973_835_788_293 + number)],
        "public_metrics": {
            "repost_count" if new else "retweet_count": 4,
            "reply_count": 0,
            "like_count": 7,
            "quote_count": 1,
            "bookmark_count": 0,
            "impression_count": 900,
        },
        "referenced_posts" if new else "referenced_tweets": [
            {"type": "replied_to", "id": "1456012973835780000"},
            {"type": "quoted", "id": "1456012973835780001"},
        ],
        "entities": {
            "mentions": [{"start": 0, "end": 9, "username": "Person_1", "id": "1001"}],
            "urls": [
                {
                    "start": 20,
                    "end": 43,
                    "url": f"https://t.co/abcdefghi{number}",
                    "expanded_url": "https://example.com/a?b=c",
                    "display_url": "example.com/a",
                }
            ],
        },
        **more,
    }


def page_of_posts(*, new: bool = False) -> dict[str, Any]:
    return {
        "data": [post(number, new=new) for number in range(4)],
        "includes": {
            "users": [user(number) for number in range(4)],
            "posts" if new else "tweets": [post(50 + number, new=new) for number in range(2)],
        },
        "errors": [
            {
                "resource_id": "77",
                "parameter": "referenced_tweets.id",
                "title": "Not Found Error",
                "detail": "Could not find tweet with referenced_tweets.id: [77].",
                "type": "https://api.twitter.com/2/problems/resource-not-found",
            }
        ],
        "meta": {"result_count": 4, "newest_id": "4", "oldest_id": "1", "next_token": "b26v89c19zqg8o3f"},
    }


def page_of_users() -> dict[str, Any]:
    return {"data": [user(number) for number in range(4)], "errors": []}


PAGES: tuple[Callable[[], dict[str, Any]], ...] = (
    page_of_posts,
    lambda: page_of_posts(new=True),
    page_of_users,
)
BRIEF: tuple[Callable[[], dict[str, Any]], ...] = (
    lambda: {"data": user(1)},
    lambda: {"data": {"id": "1456012973835788293", "text": "Test"}},
    lambda: {"data": {"liked": True}},
    lambda: {"meta": {"result_count": 0}},
    lambda: {
        "title": "Too Many Requests",
        "detail": "Too Many Requests",
        "type": "about:blank",
        "status": 429,
    },
    lambda: {"errors": [{"code": 88, "message": "Rate limit exceeded"}]},
    lambda: {
        "title": "Forbidden",
        "detail": "You are not allowed to create a Tweet with duplicate content.",
        "type": "about:blank",
        "status": 403,
    },
)

RAW = "\u0001raw\u0001"
"""Stands in a tree where something is to be written that no value would be written as."""
RAW_VALUES = (
    "1" * 5000,
    "-" + "9" * 400,
    "1e999",
    "NaN",
    "-Infinity",
    "[" * 600 + "]" * 600,
    "[" * 850 + "]" * 850,
    '{"a":' * 400 + "1" + "}" * 400,
    '"\\ud800"',
    '"\\udfff and more"',
    '"\\u0000"',
)
NO_JSON = ("[" * 100_000, '"unfinished', "'single'", "undefined", "")
INSTANTS = (
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "2021-13-45T99:99:99Z",
    "2021-11-03T21:38:39",
    "1635975519",
    "yesterday",
    1635975519,
    1e300,
)
TEXTS = (
    "",
    " ",
    "0",
    "20\n",
    "00020",
    "\u0663",
    "9" * 19,
    "9" * 40,
    "x" * 200_000,
    "a\u202eb",
    "\ud83d\ude37",
)
EMPTY = ("[]", "{}", "[null]", "[[]]", '{"id": null}', "[{}]", '[{"id": "20", "text": 5}]')
KEYS = ("data", "id", "type", "detail", "users", "tweets", "x\ud800", "")


def hostile(random: Random) -> Any:
    """A value that has no business where it will stand."""
    raw = f"{RAW}{random.randrange(len(RAW_VALUES))}."
    letters = "".join(chr(random.randrange(0x110000)) for _ in range(random.randrange(9)))
    number = random.randint(-(10 ** random.randrange(30)), 10 ** random.randrange(30))
    plain = random.choice((None, True, False, number, number / 7, letters))
    return random.choice(
        (plain, plain, raw, random.choice(TEXTS), random.choice(INSTANTS), json.loads(random.choice(EMPTY)))
    )


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    found: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        for key, value in cast("dict[str, Any]", tree).items():
            found += [(cast("Any", tree), key), *places(value)]
    elif isinstance(tree, list):
        for position, value in enumerate(cast("list[Any]", tree)):
            found += [(cast("Any", tree), position), *places(value)]
    return found


def spoil(random: Random, tree: Any) -> None:
    """Do one wrong thing to a place in `tree`."""
    found = places(tree)
    if not found:
        return
    place: tuple[Any, Any] = random.choice(found)
    container, key = place
    value: Any = container[key]
    match random.choice(("replace", "replace", "drop", "add", "as number", "null beside", "wrap")):
        case "drop":
            del container[key]
        case "as number" if isinstance(value, str) and value.isdecimal():
            container[key] = int(value)
        case "wrap":
            container[key] = [value]
        case "null beside" if isinstance(container, list):
            cast("list[Any]", container).insert(key, None)
        case "add" if isinstance(container, dict):
            container[random.choice(KEYS)] = hostile(random)
        case _:
            container[key] = hostile(random)


def written(tree: Any) -> bytes:
    """The tree as JSON, with raw values where they stand for them."""
    text = json.dumps(tree)
    for number, raw in enumerate(RAW_VALUES):
        text = text.replace(json.dumps(f"{RAW}{number}."), raw)
    return text.encode()


def garble(random: Random, body: bytes) -> bytes:
    """Do one wrong thing to a body's bytes."""
    place = random.randrange(len(body) + 1)
    junk = random.choice((*(text.encode() for text in NO_JSON), random.randbytes(random.randrange(1, 5))))
    return random.choice(
        (
            body[:place],
            body[:place] + junk + body[place:],
            body.decode().encode("utf-16"),
            body.decode().encode("utf-32"),
            body.replace(b"Maps", b"\xe9").replace(b"T", b"\xe9"),
            b"\xef\xbb\xbf" + body,
        )
    )


def malform(random: Random) -> bytes:
    """A valid body after one to five wrong things, or one on its bytes."""
    tree = {"root": random.choice(random.choice((PAGES, PAGES, PAGES, BRIEF)))()}
    if random.random() < 0.2:
        return garble(random, written(tree["root"]))
    for _ in range(random.randrange(1, 6)):
        spoil(random, tree)
    return written(tree.get("root", []))


def spoil_items(random: Random) -> tuple[dict[str, Any], bytes, frozenset[tuple[str, int]]]:
    """A page with wrong things inside some items: the page as it was, its bytes, and which items."""
    new = random.random() < 0.5
    tree = page_of_posts(new=new)
    lists = {"data": tree["data"], "users": tree["includes"]["users"]}
    spoiled: set[tuple[str, int]] = set()
    for _ in range(random.randrange(1, 4)):
        name = random.choice(("data", "users"))
        position = random.randrange(len(lists[name]))
        box = {"item": lists[name][position]}
        spoil(random, box)
        lists[name][position] = box.get("item")
        spoiled.add((name, position))
    return page_of_posts(new=new), written(tree), frozenset(spoiled)


LIMIT_HEADERS = tuple(
    f"{window}-{part}"
    for window in ("x-rate-limit", "x-user-limit-24hour", "x-app-limit-24hour")
    for part in ("reset", "remaining")
)
LIMIT_VALUES = (
    "0",
    "-1",
    "1635975639",
    "9" * 12,
    "9" * 40,
    "9" * 5000,
    "soon",
    "",
    "1e9",
    "\u0663",
    "0x10",
    "1635975639.5",
)
DATES = (
    "Wed, 03 Nov 2021 21:38:39 GMT",
    "Wed, 03 Nov 2021 21:38:39 GMT",
    "Mon, 01 Jan 0001 00:00:00 -0000",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Wed, 99 Nov 20219 99:38:39",
    "Wed, 03 Nov 2021 21:38:39 +99999999999",
    ", , ,",
    "",
    "9" * 5000,
)


def wrong_headers(random: Random) -> dict[str, str]:
    """Some of the headers that say when a limit opens, with values that need not be any."""
    names = random.sample(LIMIT_HEADERS, random.randrange(len(LIMIT_HEADERS) + 1))
    headers = {name: random.choice(LIMIT_VALUES) for name in names}
    return headers if random.random() < 0.2 else {**headers, "date": random.choice(DATES)}


RANDOM = st.randoms(use_true_random=True)
