"""Reads of X: values, what is missing from them, and a named error for each refusal."""

import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from random import Random
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.platforms.scripted import SECRETS, Scripted, credentials, read_request, reply
from tests.unit.platforms.x_bodies import RANDOM, malform, wrong_headers
from workers.platforms.x import (
    Limit,
    X,
    XCreditsDepleted,
    XError,
    XMalformed,
    XRateLimited,
    XRefused,
    XUnauthorized,
    XUnavailable,
    XUnreachable,
)

ME = {"data": {"id": "783214", "name": "Me", "username": "me"}}
GOOD = {"id": "20", "text": "just", "public_metrics": {"like_count": 3, "retweet_count": 4}}


def test_me_is_the_account_with_the_answers_headers(server: Scripted, x: X) -> None:
    server.answers(reply(200, ME, "x-rate-limit-remaining: 74"))
    read = x.me()
    assert (read.value.id, read.value.username) == ("783214", "me")
    assert read.headers["x-rate-limit-remaining"] == "74"


def test_each_post_that_cannot_be_had_is_missing_with_its_reason(server: Scripted, x: X) -> None:
    gone = {"resource_id": "21", "title": "Not Found Error", "detail": "Could not find tweet 21."}
    server.answers(
        reply(200, {"data": [{"id": "22"}, GOOD, 7, {"id": 23, "text": "a"}], "errors": [gone, "?"]})
    )
    read = x.posts(["20", "21", "22", "24"])
    assert [post.id for post in read.value] == ["20"]
    assert {item.id: item.reason for item in read.missing if item.id} == {
        "21": "Could not find tweet 21.",
        "22": "text: Field required",
        "24": "not in X's answer",
    }
    assert len(read.missing) == 6


def test_posts_are_asked_for_by_ids_once_each_with_metrics_and_entities(server: Scripted, x: X) -> None:
    server.answers(reply(200, {"data": [GOOD]}))
    x.posts(["20", "21", "20"])
    line = server.requests[0].split(b"\r\n")[0]
    assert b"ids=20%2C21" in line
    assert b"public_metrics" in line
    assert b"entities" in line


def test_the_timeline_is_read_by_pages_since_an_id(server: Scripted, x: X) -> None:
    server.answers(reply(200, {"data": [GOOD], "meta": {"next_token": "b26v"}}))
    read = x.own_posts("783214", since_id="19", max_results=5, page="a1")
    line = server.requests[0].split(b"\r\n")[0]
    assert line.startswith(b"GET /2/users/783214/tweets?")
    assert all(part in line for part in (b"since_id=19", b"max_results=5", b"pagination_token=a1"))
    assert read.next_token == "b26v"


def test_an_empty_timeline_is_no_error(server: Scripted, x: X) -> None:
    server.answers(reply(200, {"meta": {"result_count": 0}}))
    read = x.own_posts("783214")
    assert (read.value, read.missing, read.next_token) == ((), (), None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, XMalformed),
        (400, XRefused),
        (401, XUnauthorized),
        (402, XCreditsDepleted),
        (403, XRefused),
        (404, XRefused),
        (408, XUnavailable),
        (500, XUnavailable),
        (503, XUnavailable),
    ],
)
def test_each_refusal_is_an_error_of_its_kind_with_headers(
    server: Scripted, x: X, status: int, kind: type[XError]
) -> None:
    server.answers(
        reply(status, {"title": "No"}, "x-rate-limit-remaining: 3", "Location: http://127.0.0.1:9/")
    )
    with pytest.raises(XError) as caught:
        x.me()
    assert type(caught.value) is kind
    assert caught.value.headers["x-rate-limit-remaining"] == "3"
    assert server.connections == 1


def test_a_limit_says_when_to_ask_again(server: Scripted, x: X) -> None:
    date = "Date: Wed, 03 Nov 2021 21:38:39 UTC"
    server.answers(reply(429, {"title": "Too Many Requests"}, "x-rate-limit-reset: 1635975549", date))
    with pytest.raises(XRateLimited) as caught:
        x.me()
    assert (caught.value.retry_after_s, caught.value.limit) == (30, Limit.WINDOW)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff"])
def test_an_answer_that_cannot_be_read_is_malformed(server: Scripted, x: X, body: bytes) -> None:
    server.answers(reply(200, body))
    with pytest.raises(XMalformed):
        x.posts(["20"])


def test_me_without_a_user_and_a_body_cut_off_are_malformed(server: Scripted, x: X) -> None:
    server.answers(reply(200, {"data": {"id": 5}}))
    with pytest.raises(XMalformed):
        x.me()
    server.answers(reply(200, ME)[:-1])
    with pytest.raises(XMalformed, match="not whole"):
        x.me()


def test_a_read_that_is_not_answered_is_unreachable(server: Scripted) -> None:
    def stop_short(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(reply(200, ME)[:-3])
        server.over.wait(5)

    server.act = stop_short
    with pytest.raises(XMalformed, match="TimeoutError"):
        X(server.url, credentials(), deadline_s=0.9).me()
    server.over.set()
    server.answers(b"")
    with pytest.raises(XUnreachable):
        X(server.url, credentials(), deadline_s=0.3).me()


def test_reachable_connects_and_calls_nothing(server: Scripted, x: X) -> None:
    server.answers(reply(200, ME))
    x.reachable()
    server.finished(1)
    assert server.requests == [b""]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(XUnreachable, match="try again later"):
        X(f"http://127.0.0.1:{port}", credentials()).reachable()


def test_no_error_shows_a_secret(server: Scripted, x: X) -> None:
    server.answers(reply(401, {"detail": f"bad token {' '.join(SECRETS)}"}))
    with pytest.raises(XUnauthorized) as caught:
        x.me()
    assert [secret for secret in SECRETS if secret in f"{caught.value!r} {caught.value.reason}"] == []


@pytest.mark.parametrize(
    "url", ["", "x.com", "ftp://x.com", "http://", "https://[", "http://h:99999", "http://a b"]
)
def test_an_address_that_is_none_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="base_url is"):
        X(url, credentials())


def test_values_that_x_would_refuse_are_refused_by_name(x: X) -> None:
    with pytest.raises(ValueError, match="ids has 0"):
        x.posts([])
    with pytest.raises(ValueError, match="ids has 101"):
        x.posts([str(number) for number in range(101)])
    with pytest.raises(ValueError, match="ids has '1/2'"):
        x.posts(["1/2"])
    with pytest.raises(ValueError, match="max_results is 4"):
        x.own_posts("1", max_results=4)
    with pytest.raises(ValueError, match="deadline_s is 14"):
        X("http://127.0.0.1", credentials(), deadline_s=14)


AUTHOR = {"id": "9", "username": "mira", "name": "Mira", "public_metrics": {"followers_count": 5}}
ANSWERED = {"id": "19", "text": "the question", "author_id": "8"}
MENTION = {
    **GOOD,
    "author_id": "9",
    "entities": {"mentions": [{"start": 0, "end": 3, "username": "Me", "id": "783214"}]},
    "referenced_tweets": [{"type": "replied_to", "id": "19"}],
}
MENTIONS = {
    "data": [MENTION, {"id": "18"}],
    "includes": {"users": [AUTHOR, {"id": "8"}], "tweets": [ANSWERED]},
    "meta": {"next_token": "b26v"},
}


def test_mentions_come_with_their_authors_and_what_they_answer(server: Scripted, x: X) -> None:
    server.answers(reply(200, MENTIONS))
    read = x.mentions("783214", "17", until_id="99", max_results=5, page="a1")
    line = server.requests[0].split(b"\r\n")[0].decode()
    assert line.startswith("GET /2/users/783214/mentions?")
    for part in ("since_id=17", "until_id=99", "max_results=5", "pagination_token=a1"):
        assert part in line
    assert "expansions=author_id%2Creferenced_tweets.id%2Creferenced_tweets.id.author_id&" in line
    mention = read.value[0]
    assert (mention.mentions, mention.mentioned_ids, mention.replied_to) == (("me",), ("783214",), "19")
    assert read.users["9"].followers == 5
    assert read.posts["19"].text == "the question"
    assert [(item.id, item.reason) for item in read.missing] == [
        ("18", "text: Field required"),
        ("8", "includes.users: username: Field required"),
    ]
    assert read.next_token == "b26v"


def test_a_search_is_asked_for_by_its_query_and_time_and_comes_with_authors(server: Scripted, x: X) -> None:
    server.answers(reply(200, MENTIONS))
    start = datetime(2026, 3, 1, 13, 30, tzinfo=timezone(timedelta(hours=1)))
    read = x.search("#maps -is:repost é", since_id="17", start_time=start, max_results=10, page="n1")
    line = server.requests[0].split(b"\r\n")[0].decode()
    assert line.startswith("GET /2/tweets/search/recent?")
    query = parse_qs(urlsplit(line.split()[1]).query)
    assert query["query"] == ["#maps -is:repost é"]
    assert query["start_time"] == ["2026-03-01T12:30:00Z"]
    assert (query["since_id"], query["max_results"], query["next_token"]) == (["17"], ["10"], ["n1"])
    assert query["expansions"] == ["author_id"]
    assert read.users["9"].username == "mira"


def test_users_are_read_by_ids_and_the_unknown_is_missing(server: Scripted, x: X) -> None:
    server.answers(reply(200, {"data": [AUTHOR]}))
    read = x.users(["9", "10", "9"])
    line = server.requests[0].split(b"\r\n")[0]
    assert line.startswith(b"GET /2/users?")
    assert b"ids=9%2C10" in line
    assert [(found.id, found.followers, found.verified) for found in read.value] == [("9", 5, None)]
    assert [(item.id, item.reason) for item in read.missing] == [("10", "not in X's answer")]


def test_posts_come_with_their_context_only_when_asked(server: Scripted, x: X) -> None:
    server.answers(reply(200, {"data": [GOOD]}))
    x.posts(["20"])
    x.posts(["20"], with_context=True)
    assert [b"expansions=" in request for request in server.requests] == [False, True]


def test_searches_and_mentions_that_x_would_refuse_are_refused_by_name(server: Scripted, x: X) -> None:
    for query in ("", "  ", "x" * 4097, "lone \ud800"):
        with pytest.raises(ValueError, match="query"):
            x.search(query)
    with pytest.raises(ValueError, match="start_time is 2026-03-01 00:00:00: must have a time zone"):
        x.search("maps", start_time=datetime(2026, 3, 1))  # noqa: DTZ001  a naive one is what is refused
    with pytest.raises(ValueError, match="max_results is 9: must be 10 to 100"):
        x.search("maps", max_results=9)
    with pytest.raises(ValueError, match="until_id has 'x'"):
        x.mentions("1", until_id="x")
    assert server.connections == 0


READS: dict[str, Callable[[X], object]] = {
    "me": lambda x: x.me(),
    "posts": lambda x: x.posts(["20"]),
    "users": lambda x: x.users(["9"]),
    "own posts": lambda x: x.own_posts("1"),
    "mentions": lambda x: x.mentions("1"),
    "search": lambda x: x.search("maps"),
}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(READS)), random=RANDOM, status=st.sampled_from([200, 200, 429]))
def test_no_answer_makes_a_read_raise_anything_but_an_x_error(
    server: Scripted, x: X, name: str, random: Random, status: int
) -> None:
    headers = [f"{header}: {value}" for header, value in wrong_headers(random).items()]
    server.answers(reply(status, malform(random), *headers))
    with suppress(XError):
        READS[name](x)
        assert status == 200
