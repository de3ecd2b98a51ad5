"""What becomes of a post when the server or the network does each of the things they do."""

import json
import logging
import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.platforms.scripted import (
    SECRETS,
    Act,
    Scripted,
    credentials,
    read_request,
    reply,
    reset,
)
from workers.platforms import exchange
from workers.platforms.x import Limit, Outcome, Sent, X

CREATED = {"data": {"id": "1456012973835788293", "text": "Test"}}
DUPLICATE = {
    "detail": "You are not allowed to create a Tweet with duplicate content.",
    "type": "about:blank",
    "title": "Forbidden",
    "status": 403,
}
DATE = "Date: Wed, 03 Nov 2021 21:38:39 UTC"
DATE_EPOCH_S = 1_635_975_519


def test_a_created_post_is_posted_with_its_id_and_headers(server: Scripted, x: X) -> None:
    server.answers(reply(201, CREATED, "X-Rate-Limit-Remaining: 199"))
    sent = x.create_post("Test")
    assert (sent.outcome, sent.platform_id, sent.status) == (Outcome.POSTED, "1456012973835788293", 201)
    assert sent.headers["x-rate-limit-remaining"] == "199"


@pytest.mark.parametrize(
    "text", ["plain", "é 日本語 😷 \u200d", 'quotes " \\ and\nlines', "&amp; <b>", "e\u0301"]
)
def test_the_body_is_the_text_alone_in_utf_8_byte_for_byte(server: Scripted, x: X, text: str) -> None:
    server.answers(reply(201, CREATED))
    x.create_post(text)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert json.loads(body) == {"text": text}
    assert all(letter.encode() in body for letter in text if letter not in '"\\\n')
    assert head.startswith(b"POST /2/tweets HTTP/1.1\r\n")


def test_a_text_that_utf_8_cannot_hold_is_rejected_without_a_connection(server: Scripted, x: X) -> None:
    assert x.create_post("lone \ud800").outcome is Outcome.REJECTED
    assert server.connections == 0


def test_the_hook_comes_after_the_connection_and_before_the_first_byte(server: Scripted, x: X) -> None:
    server.answers(reply(201, CREATED))
    seen: list[tuple[int, int]] = []

    def before_write() -> bool:
        seen.append((server.accepted(1), len(server.requests)))
        return True

    assert x.create_post("Test", before_write).outcome is Outcome.POSTED
    assert seen == [(1, 0)]


def test_a_hook_that_says_no_keeps_every_byte_here(server: Scripted, x: X) -> None:
    server.answers(reply(201, CREATED))
    sent = x.create_post("Test", lambda: False)
    assert (sent.outcome, sent.reason) == (Outcome.NOT_SENT, "too late")
    server.finished(1)
    assert server.requests == [b""]


@pytest.mark.timed
def test_a_deadline_that_passes_in_the_hook_keeps_every_byte_here(server: Scripted) -> None:
    server.answers(reply(201, CREATED))

    def dawdle() -> bool:
        return not server.over.wait(0.2)

    sent = X(server.url, credentials(), deadline_s=0.1).create_post("Test", dawdle)
    assert sent.outcome is Outcome.NOT_SENT
    server.finished(1)
    assert server.requests == [b""]


def test_a_refused_connection_and_an_unknown_name_are_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert X(f"http://127.0.0.1:{port}", credentials()).create_post("Test").outcome is Outcome.NOT_SENT
    assert X("http://x.invalid", credentials()).create_post("Test").outcome is Outcome.NOT_SENT


@pytest.mark.timed
def test_a_connection_that_is_never_accepted_is_not_sent() -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        begun_s = time.monotonic()
        sent = X(f"http://127.0.0.1:{port}", credentials(), deadline_s=0.3).create_post("Test")
    assert sent.outcome is Outcome.NOT_SENT
    assert time.monotonic() - begun_s < 0.8


@pytest.mark.timed
def test_a_name_that_is_never_resolved_is_not_sent_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def resolve_never(*_arguments: Any, **_options: Any) -> list[Any]:
        over.wait(5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve_never)
    begun_s = time.monotonic()
    sent = X("http://x.example", credentials(), deadline_s=0.3).create_post("Test")
    over.set()
    assert (sent.outcome, sent.reason) == (
        Outcome.NOT_SENT,
        "TimeoutError: the name x.example was not resolved in time",
    )
    assert time.monotonic() - begun_s < 0.8


@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_a_connection_closed_before_the_request_is_not_sent(
    server: Scripted, x: X, monkeypatch: pytest.MonkeyPatch, end: Act
) -> None:
    opened = exchange.open_connection
    stands = threading.Event()

    def closed_when_it_stands(connection: socket.socket) -> None:
        stands.wait(5)
        end(connection)

    def opened_and_closed(*arguments: Any) -> socket.socket:
        connection = opened(*arguments)
        stands.set()
        server.finished(1)
        return connection

    monkeypatch.setattr(exchange, "open_connection", opened_and_closed)
    server.act = closed_when_it_stands
    sent = x.create_post("Test", lambda: pytest.fail("a closed connection was offered for writing"))
    assert (sent.outcome, sent.reason) == (
        Outcome.NOT_SENT,
        "the server closed the connection before the request",
    )


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
def test_a_dead_senders_bytes_are_delivered_for_ten_seconds_at_most(
    server: Scripted, x: X, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = exchange.open_connection
    timeouts_ms: list[int] = []

    def opened_and_asked(*arguments: Any) -> socket.socket:
        connection = opened(*arguments)
        timeouts_ms.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        return connection

    monkeypatch.setattr(exchange, "open_connection", opened_and_asked)
    server.answers(reply(201, CREATED))
    assert x.create_post("Test").outcome is Outcome.POSTED
    assert timeouts_ms == [10_000]


def test_a_reset_after_the_request_is_unknown(server: Scripted, x: X) -> None:
    def act(connection: socket.socket) -> None:
        read_request(connection)
        reset(connection)

    server.act = act
    assert x.create_post("Test").outcome is Outcome.UNKNOWN


def test_a_server_that_takes_the_post_and_hangs_up_is_unknown(server: Scripted, x: X) -> None:
    server.answers(b"")
    assert x.create_post("Test").outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [100, 103, 302, 307, 308, 408, 500, 502, 503, 504, 599])
def test_what_leaves_a_doubt_is_unknown_and_asked_once(server: Scripted, x: X, status: int) -> None:
    server.answers(reply(status, {"title": "Hm"}, f"Location: {server.url}/elsewhere", "Retry-After: 0"))
    assert x.create_post("Test").outcome is Outcome.UNKNOWN
    server.finished(1)
    assert server.connections == 1


@pytest.mark.timed
@pytest.mark.parametrize(
    "data",
    [
        reply(201, CREATED),
        reply(201, {"data": {"id": "1", "text": "x" * 2000}}),
        b"HTTP/1.1 201 Created\r\n" + b"X-Padding: y\r\n" * 500,
    ],
)
def test_a_slow_loris_is_unknown_at_the_deadline(server: Scripted, data: bytes) -> None:
    server.drips(data)
    begun_s = time.monotonic()
    sent = X(server.url, credentials(), deadline_s=0.4).create_post("Test")
    assert sent.outcome is Outcome.UNKNOWN
    assert 0.3 < time.monotonic() - begun_s < 0.8


@pytest.mark.timed
def test_a_server_that_says_nothing_is_unknown_at_the_deadline(server: Scripted) -> None:
    def act(connection: socket.socket) -> None:
        read_request(connection)
        server.over.wait(5)

    server.act = act
    begun_s = time.monotonic()
    assert X(server.url, credentials(), deadline_s=0.3).create_post("Test").outcome is Outcome.UNKNOWN
    server.over.set()
    assert time.monotonic() - begun_s < 0.8


@pytest.mark.timed
def test_a_server_that_does_not_read_ends_at_the_deadline(server: Scripted) -> None:
    def act(connection: socket.socket) -> None:
        del connection
        server.over.wait(5)

    server.act = act
    begun_s = time.monotonic()
    sent = X(server.url, credentials(), deadline_s=0.3).create_post("x" * 20_000_000)
    server.over.set()
    assert sent.outcome is Outcome.UNKNOWN
    assert time.monotonic() - begun_s < 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"data": null}',
        b'{"data": []}',
        b'{"data": {"id": 12}}',
        b'{"data": {"id": ""}}',
        b'{"data": {"id": "1x"}}',
        b'{"data": {"id": "\xd9\xa1"}}',
    ],
)
def test_a_2xx_without_a_posts_id_is_unknown(server: Scripted, x: X, body: bytes) -> None:
    server.answers(reply(201, body))
    assert x.create_post("Test").outcome is Outcome.UNKNOWN


def test_a_2xx_cut_off_is_unknown_and_a_huge_one_too(server: Scripted, x: X) -> None:
    server.answers(reply(201, CREATED)[:-4])
    assert x.create_post("Test").outcome is Outcome.UNKNOWN
    server.answers(b"HTTP/1.1 201 Created\r\n\r\n" + b" " * 10_000_001 + json.dumps(CREATED).encode())
    sent = x.create_post("Test")
    assert sent.outcome is Outcome.UNKNOWN
    assert "longer than" in sent.reason


def test_a_duplicate_is_told_from_other_forbidden_posts(server: Scripted, x: X) -> None:
    server.answers(reply(403, DUPLICATE))
    assert x.create_post("Test").outcome is Outcome.DUPLICATE
    server.answers(reply(403, {"errors": [{"code": 187, "message": "Status is a duplicate."}]}))
    assert x.create_post("Test").outcome is Outcome.DUPLICATE
    server.answers(reply(403, {"title": "Forbidden", "detail": "You are not permitted."}))
    sent = x.create_post("Test")
    assert (sent.outcome, sent.reason) == (Outcome.REJECTED, "403: Forbidden: You are not permitted.")


def test_a_forbidden_whose_words_were_cut_off_is_unknown(server: Scripted, x: X) -> None:
    server.answers(reply(403, DUPLICATE)[:-20])
    assert x.create_post("Test").outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [400, 401, 402, 404, 409, 410, 413, 422, 451])
def test_a_definite_no_is_rejected_with_its_reason(server: Scripted, x: X, status: int) -> None:
    server.answers(reply(status, {"title": "No", "errors": [{"message": "because"}]}))
    sent = x.create_post("Test")
    assert (sent.outcome, sent.status) == (Outcome.REJECTED, status)
    assert sent.reason.endswith(f"{status}: No: because")


def test_depleted_credits_are_rejected_by_that_name(server: Scripted, x: X) -> None:
    server.answers(reply(402, {"title": "CreditsDepleted", "detail": "No credits."}))
    sent = x.create_post("Test")
    assert (sent.outcome, sent.reason) == (
        Outcome.REJECTED,
        "credits depleted: 402: CreditsDepleted: No credits.",
    )


def limited(server: Scripted, x: X, body: object, *headers: str) -> Sent:
    server.answers(reply(429, body, *headers))
    sent = x.create_post("Test")
    assert sent.outcome is Outcome.RATE_LIMITED
    return sent


def test_a_429_waits_for_its_reset_by_the_answers_own_clock(server: Scripted, x: X) -> None:
    reset_header = f"x-rate-limit-reset: {DATE_EPOCH_S + 120}"
    plain = {"title": "Too Many Requests", "type": "about:blank", "status": 429}
    sent = limited(server, x, plain, reset_header, DATE)
    assert (sent.retry_after_s, sent.limit) == (120, Limit.WINDOW)
    sent = limited(
        server, x, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}, reset_header, DATE
    )
    assert (sent.retry_after_s, sent.limit) == (120, Limit.CODE_88)


def test_a_429_for_the_day_waits_for_the_days_reset(server: Scripted, x: X) -> None:
    headers = (
        f"x-rate-limit-reset: {DATE_EPOCH_S + 120}",
        "x-rate-limit-remaining: 40",
        f"x-user-limit-24hour-reset: {DATE_EPOCH_S + 7200}",
        "x-user-limit-24hour-remaining: 0",
        DATE,
    )
    assert limited(server, x, {}, *headers).retry_after_s == 7200


def test_a_usage_cap_waits_a_day_and_says_so(server: Scripted, x: X) -> None:
    body = {
        "title": "UsageCapExceeded",
        "detail": "Usage cap exceeded: Monthly product cap",
        "type": "https://api.twitter.com/2/problems/usage-capped",
        "period": "Monthly",
    }
    sent = limited(
        server, x, body, f"x-rate-limit-reset: {DATE_EPOCH_S + 5}", "x-rate-limit-remaining: 90", DATE
    )
    assert (sent.retry_after_s, sent.limit) == (86_400, Limit.USAGE_CAP)
    assert "usage cap" in sent.reason


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (DATE,),
        (f"x-rate-limit-reset: {DATE_EPOCH_S}",),
        (DATE, "x-rate-limit-reset: soon"),
        ("Date: never", "x-rate-limit-reset: 5"),
    ],
)
def test_a_429_without_a_readable_reset_waits_a_window(
    server: Scripted, x: X, headers: tuple[str, ...]
) -> None:
    assert limited(server, x, {}, *headers).retry_after_s == 900


def test_a_reset_in_the_past_or_far_off_is_brought_into_bounds(server: Scripted, x: X) -> None:
    assert limited(server, x, {}, DATE, "x-rate-limit-reset: 5").retry_after_s == 1
    assert limited(server, x, {}, DATE, "x-rate-limit-reset: 999999999999").retry_after_s == 86_400


def test_no_secret_shows_in_reprs_reasons_or_debug_logs(
    server: Scripted, x: X, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers(reply(400, {"detail": f"you sent {' '.join(SECRETS)}"}))
    sent = x.create_post("Test")
    shown = f"{sent} {credentials()!r} {x!r} {vars(x)} {caplog.text}"
    assert [secret for secret in SECRETS if secret in shown] == []


HEADS = st.sampled_from(
    [b"HTTP/1.1 201 Created\r\n", b"HTTP/1.1 403 No\r\n", b"HTTP/1.1 429 No\r\n", b"HTTP/1.1 500 No\r\n", b""]
)
FIELDS = st.lists(
    st.sampled_from(
        [
            b"Content-Length: 5\r\n",
            b"Content-Length: -5\r\n",
            b"Content-Length: x\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"x-rate-limit-reset: \xd9\xa1\r\n",
            b"Date: Wed, 99 Nov 20219 99:38:39\r\n",
            b"Content-Encoding: br\r\n",
            b": \r\n",
            b"no colon\r\n",
            b"\x00\xff: \x00\r\n",
        ]
    ),
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "errors", "id", "title", "detail", "code", "type", "message"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
BODIES = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())


@settings(
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(head=HEADS, fields=FIELDS, body=BODIES)
def test_no_answer_makes_create_post_raise_or_claim_a_post_without_an_id(
    server: Scripted, x: X, head: bytes, fields: list[bytes], body: bytes
) -> None:
    server.answers(head + b"".join(fields) + b"\r\n" + body)
    sent = x.create_post("Test")
    assert sent.outcome is not Outcome.NOT_SENT
    assert (sent.platform_id is not None) == (sent.outcome is Outcome.POSTED)
    assert sent.retry_after_s is None or 1 <= sent.retry_after_s <= 86_400
