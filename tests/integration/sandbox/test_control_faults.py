"""Each fault as a client meets it, on a real sandbox process."""

import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tweepy

from tests.integration.sandbox.controlled import Controlled, RawAnswer, controlled, until

ME = "/2/users/me"
LIMIT, REMAINING, RESET = (f"x-rate-limit-{part}" for part in ("limit", "remaining", "reset"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlled(tmp_path_factory.mktemp("state") / "x") as started:
        yield started


@pytest.fixture
def x(shared: Controlled) -> Iterator[Controlled]:
    """The module's sandbox, a day later for each test and without faults."""
    shared.advance(86_400 + 1)
    yield shared
    shared.clear()


def me(x: Controlled) -> RawAnswer:
    return x.raw("GET", ME).answer()


def remaining(answer: RawAnswer) -> int:
    return int(answer.headers[REMAINING])


def is_quiet(open_socket: socket.socket) -> bool:
    return not select.select([open_socket], [], [], 0)[0]


def test_a_post_is_accepted_and_answered_504(x: Controlled) -> None:
    x.arm("accept_then_504", path="/2/tweets", count=1)
    answer = x.post("Accepted, and nobody says so").answer()
    assert (answer.status, answer.headers["content-type"]) == (504, "text/html; charset=utf-8")
    assert REMAINING not in answer.headers
    assert x.writes()[-1] == "Accepted, and nobody says so"
    again = x.post("Accepted, and nobody says so").answer()
    assert again.status == 403
    assert b"duplicate content" in again.body
    assert x.writes().count("Accepted, and nobody says so") == 1


def test_tweepy_takes_the_504_for_a_server_error(x: Controlled) -> None:
    x.arm("accept_then_504", path="POST /2/tweets", count=1)
    client = x.sandbox.client()
    with pytest.raises(tweepy.TwitterServerError, match="504"):
        client.create_tweet(text="To be sent twice by a careless client")
    client.session.close()
    assert x.writes()[-1] == "To be sent twice by a careless client"


def test_a_delayed_answer_comes_after_its_post_was_accepted(x: Controlled) -> None:
    x.arm("delay", path="/2/tweets", count=1, seconds=0.5)
    began = time.monotonic()
    client = x.post("Late news")
    until(lambda: "Late news" in x.writes())
    assert is_quiet(client.socket)
    assert client.answer().status == 201
    assert time.monotonic() - began >= 0.5


def test_a_post_is_accepted_late_once_its_client_has_given_up(x: Controlled) -> None:
    x.arm("accept_late", path="/2/tweets", count=1)
    client = x.post("Better late")
    until(lambda: x.fired() == [1])
    assert "Better late" not in x.writes()
    assert is_quiet(client.socket)
    client.close()
    until(lambda: "Better late" in x.writes())
    assert x.post("Better late").answer().status == 403


def test_acceptance_can_be_later_than_the_clients_end(x: Controlled) -> None:
    x.arm("accept_late", path="/2/tweets", count=1, seconds=0.5)
    client = x.post("Much later")
    until(lambda: x.fired() == [1])
    client.close()
    left = time.monotonic()
    until(lambda: "Much later" in x.writes())
    assert time.monotonic() - left >= 0.4


@pytest.mark.parametrize(("fault", "accepted"), [("drop_before_accepting", 0), ("drop_after_accepting", 1)])
def test_a_dropped_connection_is_reset(x: Controlled, fault: str, accepted: int) -> None:
    text = f"Cut off by {fault}"
    x.arm(fault, path="/2/tweets", count=1)
    with pytest.raises(ConnectionResetError):
        x.post(text).answer()
    assert x.writes().count(text) == accepted
    assert x.sandbox.own("requests")[-1]["status"] == 0
    assert x.post(text).answer().status == (403 if accepted else 201)


@pytest.mark.parametrize(("fault", "taken"), [("drop_before_accepting", 0), ("drop_after_accepting", 1)])
def test_a_dropped_request_counts_where_it_was_looked_at(x: Controlled, fault: str, taken: int) -> None:
    before = remaining(me(x))
    x.arm(fault, path=ME, count=1)
    with pytest.raises(ConnectionResetError):
        me(x)
    assert remaining(me(x)) == before - 1 - taken


def test_a_read_leaves_a_fault_of_acceptance_to_the_write_it_is_meant_for(x: Controlled) -> None:
    x.arm("drop_after_accepting", path="/2/tweets", count=1)
    assert x.raw("GET", "/2/tweets?ids=1").answer().status == 200
    with pytest.raises(ConnectionResetError):
        x.post("The write").answer()
    x.clear()
    x.arm("drop_after_accepting", path="GET /2/tweets", count=1)
    assert x.post("Not the read").answer().status == 201
    with pytest.raises(ConnectionResetError):
        x.raw("GET", "/2/tweets?ids=1").answer()


def test_a_lagging_timeline_shows_a_post_only_later(x: Controlled) -> None:
    post_id = json.loads(x.post("Seen by and by").answer().body)["data"]["id"]
    timeline = f"/2/users/{x.sandbox.keys['user_id']}/tweets?max_results=5"

    def seen() -> bool:
        posts = json.loads(x.raw("GET", timeline).answer().body).get("data", [])
        return post_id in [post["id"] for post in posts]

    assert seen()
    x.arm("lagging_timeline", path="/2/users/:id/tweets", seconds=60)
    assert not seen()
    x.advance(61)
    assert seen()


def test_the_duplicate_check_is_off_while_the_fault_is_armed(x: Controlled) -> None:
    x.arm("duplicate_check_off", path="/2/tweets")
    assert [x.post("Twice").answer().status for _ in range(2)] == [201, 201]
    x.clear()
    assert x.post("Twice").answer().status == 403
    assert x.writes().count("Twice") == 2


def test_headers_are_missing_all_or_those_named(x: Controlled) -> None:
    x.arm("headers_missing", path=ME, count=1)
    assert not {LIMIT, REMAINING, RESET} & set(me(x).headers)
    x.arm("headers_missing", path=ME, count=1, headers=[RESET])
    assert {LIMIT, REMAINING, RESET} & set(me(x).headers) == {LIMIT, REMAINING}
    assert {LIMIT, REMAINING, RESET} <= set(me(x).headers)


def test_headers_are_wrong_as_told(x: Controlled) -> None:
    x.arm("headers_wrong", path=ME, count=1)
    wrong = me(x).headers
    assert (wrong[LIMIT], wrong[REMAINING], wrong[RESET]) == ("many", "-1", "99999999999999999999")
    x.arm("headers_wrong", path=ME, count=1, headers={REMAINING: "70000"})
    told = me(x).headers
    assert (told[LIMIT], told[REMAINING]) == ("75", "70000")


def test_an_older_answers_headers_come_with_a_newer_answer(x: Controlled) -> None:
    first = me(x)
    x.arm("headers_reordered", path=ME, count=1)
    assert (remaining(first), remaining(me(x)), remaining(me(x))) == (74, 74, 72)


def test_a_window_is_said_to_reset_early_and_does_not(x: Controlled) -> None:
    true = int(me(x).headers[RESET])
    x.arm("early_reset", path=ME, count=1, seconds=600)
    assert int(me(x).headers[RESET]) == true - 600
    x.advance(301)
    assert remaining(me(x)) == 72


def test_depleted_credits_are_a_402_that_accepts_nothing(x: Controlled) -> None:
    x.arm("credits_depleted", path="/2/tweets", count=1)
    answer = x.post("Unpaid").answer()
    assert answer.status == 402
    assert json.loads(answer.body)["title"] == "CreditsDepleted"
    assert "Unpaid" not in x.writes()


def test_a_usage_cap_is_a_429_while_the_window_has_room(x: Controlled) -> None:
    x.arm("usage_cap", path="/2/tweets/search/recent", count=1, period="Daily")
    answer = x.raw("GET", "/2/tweets/search/recent?query=tea").answer()
    body = json.loads(answer.body)
    assert (answer.status, remaining(answer)) == (429, 299)
    assert body["type"].endswith("/problems/usage-capped")
    assert (body["title"], body["period"], body["scope"]) == ("UsageCapExceeded", "Daily", "Product")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("code_88", {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}),
        (
            "rate_limited",
            {
                "title": "Too Many Requests",
                "detail": "Too Many Requests",
                "type": "about:blank",
                "status": 429,
            },
        ),
    ],
)
def test_a_window_is_said_to_be_used_up_and_nothing_counts(
    x: Controlled, fault: str, expected: dict[str, Any]
) -> None:
    x.arm(fault, path=ME, count=1, seconds=120)
    answer = me(x)
    assert (answer.status, json.loads(answer.body)) == (429, expected)
    assert (answer.headers[LIMIT], remaining(answer)) == ("75", 0)
    assert abs(int(answer.headers[RESET]) - x.now().timestamp() - 120) < 10
    assert remaining(me(x)) == 74


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("code_88", tweepy.TooManyRequests),
        ("usage_cap", tweepy.TooManyRequests),
        ("tokens_revoked", tweepy.Unauthorized),
        ("credits_depleted", tweepy.HTTPException),
        ("unavailable_503", tweepy.TwitterServerError),
    ],
)
def test_tweepy_meets_each_refusal_as_xs_own(x: Controlled, fault: str, error: type[Exception]) -> None:
    x.arm(fault, count=1)
    client = x.sandbox.client()
    with pytest.raises(error):
        client.get_me()
    assert client.get_me().data.username == "fleet"
    client.session.close()


def test_revoked_tokens_stay_revoked_until_the_fault_is_cleared(x: Controlled) -> None:
    x.arm("tokens_revoked")
    assert [me(x).status for _ in range(3)] == [401] * 3
    assert x.fired() == [3]
    x.clear()
    assert me(x).status == 200


def test_a_503_is_an_edges_and_counts_nothing(x: Controlled) -> None:
    x.arm("unavailable_503", path=ME, count=1)
    answer = me(x)
    assert (answer.status, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert remaining(me(x)) == 74


@pytest.mark.parametrize(
    ("shape", "body"),
    [("empty", b""), ("list", b"[null]"), ("html", None), ("cut", None), ("types", None)],
)
def test_a_body_is_malformed_in_each_shape(x: Controlled, shape: str, body: bytes | None) -> None:
    whole = me(x).body
    x.arm("malformed_body", path=ME, count=1, shape=shape)
    answer = me(x)
    assert (answer.status, remaining(answer)) == (200, 73)
    if body is not None:
        assert answer.body == body
    elif shape == "cut":
        assert answer.body == whole[: len(whole) // 2]
    elif shape == "html":
        assert answer.body.startswith(b"<html>")
    else:
        assert isinstance(json.loads(answer.body)["data"]["id"], int)
    assert me(x).body == whole


@pytest.mark.parametrize("fault", ["malformed_body", "huge_body", "slow_body"])
def test_an_answer_without_a_body_has_nothing_to_spoil(x: Controlled, fault: str) -> None:
    x.arm(fault, path="/i/oauth2/authorize", **({"shape": "types"} if fault == "malformed_body" else {}))
    assert x.sandbox.authorize("tweet.read", "users.read")["access_token"]
    assert x.fired() == [1]


def test_a_malformed_answer_to_a_post_leaves_it_accepted(x: Controlled) -> None:
    x.arm("malformed_body", path="/2/tweets", count=1)
    assert x.post("Half an answer").answer().status == 201
    assert x.writes()[-1] == "Half an answer"


def test_a_huge_body_is_streamed_without_being_held(x: Controlled) -> None:
    process = psutil.Process(x.sandbox.process.pid)
    whole = me(x).body
    x.arm("huge_body", path=ME, count=1)
    before = process.memory_info().rss
    client = x.raw("GET", ME)
    received, blanks, most, last = 0, 0, before, b""
    while chunk := client.socket.recv(2**20):
        received += len(chunk)
        blanks += chunk.count(b" ")
        last = (last + chunk)[-2 * len(whole) :]  # a chunk may be no more than the end of the last one
        most = max(most, process.memory_info().rss)
    client.close()
    assert blanks >= 64 * 2**20
    assert received < 65 * 2**20
    assert whole in last
    assert most - before < 16 * 2**20


def test_a_slow_body_comes_byte_by_byte(x: Controlled) -> None:
    whole = me(x).body
    x.arm("slow_body", path=ME, count=1, seconds=0.005)
    began = time.monotonic()
    assert me(x).body == whole
    assert time.monotonic() - began >= 0.005 * len(whole)
    x.arm("slow_body", path=ME, count=1, seconds=600)
    client = x.raw("GET", ME)
    head = client.socket.recv(65_536)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert is_quiet(client.socket)
    client.close()
    assert me(x).status == 200


def test_a_count_ends_a_fault_and_shows_what_is_left(x: Controlled) -> None:
    armed = x.arm("unavailable_503", path=ME, count=2)
    assert (armed["count"], armed["left"], armed["fired"]) == (2, 2, 0)
    assert [me(x).status for _ in range(4)] == [503, 503, 200, 200]
    (fault,) = x.sandbox.own("faults")
    assert (fault["left"], fault["fired"]) == (0, 2)


def test_one_seed_and_one_order_of_requests_give_one_series(x: Controlled) -> None:
    def series() -> list[int]:
        x.arm("unavailable_503", path=ME, probability=0.4, seed=11)
        statuses = [me(x).status for _ in range(25)]
        x.clear()
        return statuses

    first = series()
    assert set(first) == {200, 503}
    assert series() == first


def test_several_faults_apply_together_until_one_ends_the_request(x: Controlled) -> None:
    for fault in ("malformed_body", "headers_missing", "slow_body", "headers_wrong"):
        x.arm(fault, path=ME, count=1)
    answer = me(x)
    assert REMAINING not in answer.headers
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)
    assert x.fired() == [1, 1, 0, 1]


def test_a_fault_fires_on_its_own_paths_only(x: Controlled) -> None:
    x.arm("unavailable_503", path="/2/users/*")
    assert me(x).status == 503
    assert x.raw("GET", "/2/tweets/search/recent?query=tea").answer().status == 200
    assert x.sandbox.own("health")["sandbox"] == "x"


def test_faults_end_with_the_process(tmp_path: Path) -> None:
    with controlled(tmp_path / "x") as first:
        first.arm("tokens_revoked")
        first.sandbox.process.kill()
        first.sandbox.process.wait(5)
    with controlled(tmp_path / "x") as second:
        assert second.sandbox.own("faults") == []
        assert me(second).status == 200


def test_a_sandbox_leaves_in_time_while_faults_hold_requests(tmp_path: Path) -> None:
    with controlled(tmp_path / "x") as started:
        started.arm("accept_late", path="/2/tweets")
        started.arm("delay", path=ME, seconds=600)
        held = [started.post("Never"), started.raw("GET", ME)]
        until(lambda: started.fired() == [1, 1])
        started.sandbox.process.terminate()
        assert started.sandbox.process.wait(3) == 0
        for client in held:
            client.close()
