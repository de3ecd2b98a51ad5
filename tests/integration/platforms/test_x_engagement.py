"""Replies, quotes and likes: what is sent, and what becomes of them whatever X or the network does."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.platforms.scripted import SECRETS, Scripted, credentials, read_request, reply, reset
from workers.platforms.x import Limit, Outcome, Sent, X

POST, USER, MADE = "1456012973835788293", "1072250532645998596", "1456012973835788999"
CREATED = reply(201, {"data": {"id": MADE, "text": "Thanks"}})
LIKED = reply(200, {"data": {"liked": True}})
DATE = "Date: Wed, 03 Nov 2021 21:38:39 UTC"
DATE_EPOCH_S = 1_635_975_519
Gate = Callable[[], bool]


def answer_it(x: X, gate: Gate | None = None) -> Sent:
    return x.create_post("Thanks", gate, reply_to=POST)


def quote_it(x: X, gate: Gate | None = None) -> Sent:
    return x.create_post("Thanks", gate, quote_of=POST)


def like_it(x: X, gate: Gate | None = None) -> Sent:
    return x.like(USER, POST, gate)


ACTS = {
    "reply": (answer_it, CREATED, MADE),
    "quote": (quote_it, CREATED, MADE),
    "like": (like_it, LIKED, POST),
}
every_act = pytest.mark.parametrize(("act", "accepted", "platform_id"), ACTS.values(), ids=ACTS)
each_act = pytest.mark.parametrize("act", [act for act, _, _ in ACTS.values()], ids=ACTS)


def body_of(request: bytes) -> tuple[bytes, Any]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], json.loads(body)


def test_a_reply_names_the_post_it_answers(server: Scripted, x: X) -> None:
    server.answers(CREATED)
    answer_it(x)
    line, body = body_of(server.requests[0])
    assert line == b"POST /2/tweets HTTP/1.1"
    assert body == {"text": "Thanks", "reply": {"in_reply_to_tweet_id": POST}}


def test_a_quote_names_the_post_it_quotes(server: Scripted, x: X) -> None:
    server.answers(CREATED)
    quote_it(x)
    line, body = body_of(server.requests[0])
    assert line == b"POST /2/tweets HTTP/1.1"
    assert body == {"text": "Thanks", "quote_tweet_id": POST}


def test_a_like_names_the_account_and_the_post_and_asks_nothing_else_before(server: Scripted, x: X) -> None:
    server.answers(LIKED)
    like_it(x)
    server.finished(1)
    assert server.connections == 1
    line, body = body_of(server.requests[0])
    assert line == f"POST /2/users/{USER}/likes HTTP/1.1".encode()
    assert body == {"tweet_id": POST}
    assert b"Authorization: OAuth " in server.requests[0]
    assert not [secret for secret in SECRETS[1::2] if secret.encode() in server.requests[0]]


@every_act
def test_what_x_accepts_is_posted(
    server: Scripted, x: X, act: Callable[..., Sent], accepted: bytes, platform_id: str
) -> None:
    server.answers(accepted)
    sent = act(x)
    assert (sent.outcome, sent.platform_id, sent.reason) == (Outcome.POSTED, platform_id, "")


@every_act
def test_the_gate_is_asked_when_the_connection_stands_and_before_the_first_byte(
    server: Scripted, x: X, act: Callable[..., Sent], accepted: bytes, platform_id: str
) -> None:
    server.answers(accepted)
    seen: list[tuple[int, int]] = []

    def gate() -> bool:
        seen.append((server.accepted(1), len(server.requests)))
        return True

    assert act(x, gate).platform_id == platform_id
    assert seen == [(1, 0)]


@each_act
def test_a_gate_that_says_no_keeps_every_byte_here(server: Scripted, x: X, act: Callable[..., Sent]) -> None:
    server.answers(CREATED)
    assert act(x, lambda: False).outcome is Outcome.NOT_SENT
    server.finished(1)
    assert server.requests == [b""]


@each_act
def test_a_refused_connection_is_not_sent(act: Callable[..., Sent]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    x = X(f"http://127.0.0.1:{port}", credentials())
    assert act(x, lambda: pytest.fail("no connection stands")).outcome is Outcome.NOT_SENT


@each_act
@pytest.mark.parametrize("fault", ["reset", "hung up", "silent", "cut off", "504"])
def test_a_fault_after_the_request_is_unknown_and_nothing_is_repeated(
    server: Scripted, act: Callable[..., Sent], fault: str
) -> None:
    def serve(connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        match fault:
            case "reset":
                reset(connection)
            case "silent":
                server.over.wait(5)
            case "cut off":
                connection.sendall(CREATED[:-9])
            case "504":
                connection.sendall(reply(504, b"gateway", f"Location: {server.url}", "Retry-After: 0"))
            case _:
                pass

    server.act = serve
    sent = act(X(server.url, credentials(), deadline_s=0.4))
    server.over.set()
    server.finished(1)
    assert (sent.outcome, sent.platform_id, len(server.requests)) == (Outcome.UNKNOWN, None, 1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": {}},
        {"data": {"liked": False}},
        {"data": {"liked": "true"}},
        {"data": {"liked": 1}},
        {"data": [True]},
        {"data": {"id": POST}},
        {"liked": True},
        {"errors": [{"detail": "Could not find tweet"}]},
    ],
)
def test_a_like_that_x_does_not_confirm_is_unknown(server: Scripted, x: X, body: object) -> None:
    server.answers(reply(200, body))
    sent = like_it(x)
    assert (sent.outcome, sent.platform_id) == (Outcome.UNKNOWN, None)
    assert sent.reason.startswith("200 without data.liked true")


def test_a_likes_answer_proves_no_post_and_a_posts_no_like(server: Scripted, x: X) -> None:
    server.answers(LIKED)
    assert answer_it(x).outcome is Outcome.UNKNOWN
    server.answers(CREATED)
    assert like_it(x).outcome is Outcome.UNKNOWN


SUMMONED = (
    "You can only reply to posts in which you are mentioned or whose author quoted one of your posts.",
    "Quoting is not available at your access tier.",
    "You are not permitted to perform this action.",
    "You attempted to reply to a Tweet that is deleted or not visible to you.",
)


@each_act
@pytest.mark.parametrize("detail", SUMMONED)
def test_what_the_account_may_not_do_is_rejected_in_xs_words(
    server: Scripted, x: X, act: Callable[..., Sent], detail: str
) -> None:
    server.answers(reply(403, {"title": "Forbidden", "detail": detail, "type": "about:blank", "status": 403}))
    sent = act(x)
    assert (sent.outcome, sent.status, sent.reason) == (Outcome.REJECTED, 403, f"403: Forbidden: {detail}")


@each_act
def test_a_tier_refusal_in_the_shape_of_a_problem_is_the_accounts_in_xs_words(
    server: Scripted, x: X, act: Callable[..., Sent]
) -> None:
    problem = {
        "title": "Client Forbidden",
        "detail": "This endpoint is only available at a higher access tier.",
        "reason": "client-not-enrolled",
        "type": "https://api.twitter.com/2/problems/client-forbidden",
    }
    server.answers(reply(403, problem))
    sent = act(x)
    assert sent.outcome is Outcome.NOT_ENROLLED
    assert "higher access tier" in sent.reason


@pytest.mark.parametrize("act", [answer_it, quote_it])
def test_a_text_that_x_knows_is_a_duplicate(server: Scripted, x: X, act: Callable[..., Sent]) -> None:
    detail = "You are not allowed to create a Tweet with duplicate content."
    server.answers(reply(403, {"title": "Forbidden", "detail": detail, "type": "about:blank", "status": 403}))
    assert act(x).outcome is Outcome.DUPLICATE


@each_act
def test_a_forbidden_whose_words_were_cut_off_is_unknown(
    server: Scripted, x: X, act: Callable[..., Sent]
) -> None:
    server.answers(reply(403, {"title": "Forbidden", "detail": "You are not"})[:-5])
    assert act(x).outcome is Outcome.UNKNOWN


@each_act
@pytest.mark.parametrize(
    ("body", "limit", "retry_after_s"),
    [
        ({"title": "Too Many Requests", "type": "about:blank", "status": 429}, Limit.WINDOW, 120),
        ({"errors": [{"code": 88, "message": "Rate limit exceeded"}]}, Limit.CODE_88, 120),
        (
            {
                "title": "UsageCapExceeded",
                "type": "https://api.twitter.com/2/problems/usage-capped",
                "period": "Monthly",
            },
            Limit.USAGE_CAP,
            86_400,
        ),
    ],
)
def test_each_429_says_which_limit_it_is_and_when_it_frees(
    server: Scripted, x: X, act: Callable[..., Sent], body: object, limit: Limit, retry_after_s: float
) -> None:
    headers = (DATE, f"x-rate-limit-reset: {DATE_EPOCH_S + 120}", "x-rate-limit-remaining: 0")
    server.answers(reply(429, body, *headers))
    sent = act(x)
    assert (sent.outcome, sent.limit, sent.retry_after_s) == (Outcome.RATE_LIMITED, limit, retry_after_s)


@each_act
def test_the_days_limit_of_likes_outlasts_the_windows(
    server: Scripted, x: X, act: Callable[..., Sent]
) -> None:
    headers = (
        DATE,
        f"x-rate-limit-reset: {DATE_EPOCH_S + 120}",
        "x-rate-limit-remaining: 12",
        f"x-user-limit-24hour-reset: {DATE_EPOCH_S + 7200}",
        "x-user-limit-24hour-remaining: 0",
    )
    server.answers(reply(429, {"title": "Too Many Requests"}, *headers))
    assert act(x).retry_after_s == 7200


@each_act
@pytest.mark.parametrize(
    ("status", "words"), [(401, "401: No"), (402, "credits depleted: 402: No"), (404, "404: No")]
)
def test_a_definite_no_is_rejected(
    server: Scripted, x: X, act: Callable[..., Sent], status: int, words: str
) -> None:
    server.answers(reply(status, {"title": "No"}))
    sent = act(x)
    assert (sent.outcome, sent.status, sent.reason) == (Outcome.REJECTED, status, words)


@pytest.mark.parametrize("bad", ["", "1/2", "x", "12345678901234567890", "\u0661", "1\n"])
def test_an_id_that_is_none_is_rejected_by_name_without_a_connection(
    server: Scripted, x: X, bad: str
) -> None:
    refused = {
        "reply_to": x.create_post("Thanks", reply_to=bad),
        "quote_of": x.create_post("Thanks", quote_of=bad),
        "post_id": x.like(USER, bad),
        "user_id": x.like(bad, POST),
    }
    for field, sent in refused.items():
        assert sent.outcome is Outcome.REJECTED
        assert sent.reason.startswith(f"{field} has ")
    assert server.connections == 0


def test_a_reply_that_is_a_quote_too_is_rejected_without_a_connection(server: Scripted, x: X) -> None:
    sent = x.create_post("Thanks", reply_to=POST, quote_of=POST)
    assert (sent.outcome, sent.reason) == (
        Outcome.REJECTED,
        "reply_to and quote_of: must be one of both at most",
    )
    assert server.connections == 0
