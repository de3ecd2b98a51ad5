"""Who controls the sandbox, its time, its counts, and what a kill leaves of its record."""

import http.client
import json
import queue
import random
import select
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.sandbox.controlled import PATIENCE_S, Controlled, RawAnswer, controlled, until
from tests.integration.sandbox.running import START_S, command, running

ME = "/2/users/me"
FAULT = {"fault": "delay", "path": "/2/tweets", "count": 1}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlled(tmp_path_factory.mktemp("state") / "x") as started:
        yield started


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Controlled]:
    with controlled(tmp_path / "x") as started:
        yield started


def me(x: Controlled) -> RawAnswer:
    return x.raw("GET", ME).answer()


# The token


def output(state: Path) -> list[str]:
    """The start's two lines."""
    process = subprocess.Popen(
        command("--port", "0", "--state", state), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        try:
            assert select.select([process.stdout], [], [], START_S)[0]
            return [process.stdout.readline() for _ in range(2)]
        finally:
            process.terminate()


def test_a_sandbox_run_by_hand_makes_its_token_once_and_prints_it_below_its_first_line(
    tmp_path: Path,
) -> None:
    state = tmp_path / "x"
    first, second = output(state)
    token = state / "sandbox.token"
    assert first.startswith("sandbox: X at http://127.0.0.1:")
    assert second == f"sandbox: control token {token.read_text().strip()} (in {token})\n"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text().strip()) == 43
    assert output(state)[1] == second


def test_a_fleets_token_beside_the_state_is_used_and_not_printed(tmp_path: Path) -> None:
    (tmp_path / "sandbox.token").write_text("the-fleets-own-token\n")
    assert output(tmp_path / "sandbox")[1] == f"sandbox: control token in {tmp_path / 'sandbox.token'}\n"
    with running(tmp_path / "sandbox") as sandbox:
        assert not (tmp_path / "sandbox/sandbox.token").exists()
        for token, status in (("the-fleets-own-token", 201), ("another", 401)):
            answer = requests.post(
                f"{sandbox.url}/_sandbox/faults",
                json=FAULT,
                headers={"Authorization": f"Bearer {token}"},
                timeout=10,
            )
            assert answer.status_code == status


@pytest.mark.parametrize("content", ["", "short\n", "two words of it\n"])
def test_a_token_that_is_none_is_refused_in_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "sandbox.token").write_text(content)
    ended = subprocess.run(
        command("--port", "0", "--state", tmp_path / "sandbox"),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"sandbox: {tmp_path / 'sandbox.token'} holds no token")


@pytest.mark.parametrize(
    ("method", "name"), [("POST", "faults"), ("DELETE", "faults"), ("POST", "clock"), ("PUT", "faults")]
)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer guess", "Basic {token}", "{token}"])
def test_nothing_changes_without_the_token(
    shared: Controlled, method: str, name: str, header: str | None
) -> None:
    shared.clear()
    shared.arm("delay", path="/2/moon", count=1)
    headers = {} if header is None else {"Authorization": header.format(token=shared.token)}
    refused = requests.request(
        method, f"{shared.sandbox.url}/_sandbox/{name}", json=FAULT, headers=headers, timeout=10
    )
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert refused.json()["title"] == "Unauthorized"
    assert shared.fired() == [0]


@pytest.mark.parametrize("name", ["writes", "requests", "limits", "health", "faults", "clock"])
def test_reading_needs_no_token(shared: Controlled, name: str) -> None:
    assert requests.get(f"{shared.sandbox.url}/_sandbox/{name}", timeout=10).status_code == 200


def test_what_a_strangers_page_could_send_is_refused(shared: Controlled) -> None:
    url, headers = f"{shared.sandbox.url}/_sandbox/faults", {"Authorization": f"Bearer {shared.token}"}
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        typed = {**headers, "Content-Type": content_type}
        refused = requests.post(url, data=json.dumps(FAULT), headers=typed, timeout=10)
        assert (refused.status_code, refused.json()["title"]) == (415, "Unsupported Media Type")
    preflight = requests.options(url, headers={"Origin": "https://evil.example"}, timeout=10)
    assert not [name for name in preflight.headers if name.lower().startswith("access-control")]
    renamed = requests.post(url, json=FAULT, headers={**headers, "Host": "evil.example"}, timeout=10)
    assert renamed.status_code == 421


# What can't be used


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "fault"),
        ({"fault": "earthquake"}, "fault"),
        ({"fault": ["delay"]}, "fault"),
        ({**FAULT, "path": "2/tweets"}, "path"),
        ({**FAULT, "path": "FETCH /2/tweets"}, "path"),
        ({**FAULT, "path": 2}, "path"),
        ({**FAULT, "path": "/\ud800"}, "path"),
        ({**FAULT, "\ud800": 1}, "\ud800"),
        ({**FAULT, "seconds": [1] * 100}, "seconds"),
        ({**FAULT, "count": 0}, "count"),
        ({**FAULT, "count": True}, "count"),
        ({**FAULT, "count": 1.5}, "count"),
        ({**FAULT, "probability": 0.5}, "probability"),
        ({"fault": "delay", "probability": 1.1}, "probability"),
        ({**FAULT, "seed": -1}, "seed"),
        ({**FAULT, "seconds": -1}, "seconds"),
        ({**FAULT, "seconds": "5"}, "seconds"),
        ({**FAULT, "colour": "red"}, "colour"),
        ({"fault": "accept_then_504", "seconds": 1}, "seconds"),
        ({"fault": "huge_body", "bytes": 0}, "bytes"),
        ({"fault": "malformed_body", "shape": "round"}, "shape"),
        ({"fault": "headers_wrong", "headers": {"set-cookie": "a=b"}}, "headers"),
        ({"fault": "headers_wrong", "headers": {"x-rate-limit-reset": "a\r\nb"}}, "headers"),
        ({"fault": "headers_missing", "headers": []}, "headers"),
    ],
)
def test_a_fault_that_cant_be_armed_is_named_with_its_field(
    shared: Controlled, body: Any, field: str
) -> None:
    shared.clear()
    refused = shared.control("POST", "faults", body)
    assert len(refused.content) < 2000
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    (error,) = refused.json()["errors"]
    assert error["field"] == field
    assert error["allowed"]
    assert refused.json()["detail"].startswith(f"{field} is ")
    assert shared.sandbox.own("faults") == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 60_000, b'{"rate": NaN}', b"9" * 5000])
def test_a_body_that_is_no_json_is_refused(shared: Controlled, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {shared.token}", "Content-Type": "application/json"}
    for name in ("faults", "clock"):
        url = f"{shared.sandbox.url}/_sandbox/{name}"
        assert requests.post(url, data=body, headers=headers, timeout=10).status_code == 400
        assert requests.post(url, data=b" " * 70_000, headers=headers, timeout=10).status_code == 413
        assert requests.put(url, data=body, headers=headers, timeout=10).status_code == 405


NOW = "2030-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("now", "body"),
        ({"fleet0": NOW, "rate": 1}, "real0"),
        ({"real0": NOW, "rate": 1}, "fleet0"),
        ({"real0": NOW, "fleet0": NOW}, "rate"),
        ({"real0": NOW, "fleet0": NOW, "rate": 0}, "rate"),
        ({"real0": NOW, "fleet0": NOW, "rate": "fast"}, "rate"),
        ({"real0": NOW, "fleet0": "2030-01-01T00:00:00", "rate": 1}, "fleet0"),
        ({"real0": "noon", "fleet0": NOW, "rate": 1}, "real0"),
        ({"real0": NOW, "fleet0": NOW, "rate": 1, "zone": "UTC"}, "zone"),
    ],
)
def test_a_clock_that_cant_be_set_is_named_with_its_field(shared: Controlled, body: Any, field: str) -> None:
    refused = shared.control("POST", "clock", body)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["field"] == field


# Time


def test_everything_is_dated_in_the_sandboxs_time_and_signatures_in_their_clients(fresh: Controlled) -> None:
    ahead = datetime.now(UTC) + timedelta(days=400)
    assert fresh.set_clock(ahead).status_code == 200
    posted = fresh.post("From the future").answer()
    assert posted.status == 201
    post_id = json.loads(posted.body)["data"]["id"]
    created = datetime.fromtimestamp(((int(post_id) >> 22) + 1_288_834_974_657) / 1000, UTC)
    reset = datetime.fromtimestamp(int(posted.headers["x-rate-limit-reset"]), UTC)
    read = fresh.raw("GET", f"/2/tweets?ids={post_id}&tweet.fields=created_at").answer()
    times = [
        created,
        reset - timedelta(seconds=900),
        parsedate_to_datetime(posted.headers["date"]),
        datetime.fromisoformat(json.loads(read.body)["data"][0]["created_at"]),
        datetime.fromisoformat(fresh.sandbox.own("writes")[0]["at"]),
        datetime.fromisoformat(fresh.sandbox.own("requests")[0]["at"]),
        fresh.now(),
    ]
    assert all(abs(at - ahead) < timedelta(seconds=PATIENCE_S) for at in times)


def test_time_goes_on_where_it_was_after_a_kill(tmp_path: Path) -> None:
    with controlled(tmp_path / "x") as first:
        first.set_clock(datetime(2040, 1, 1, tzinfo=UTC), rate=1000)
        shown = first.now()
        first.sandbox.process.kill()
        first.sandbox.process.wait(5)
    with controlled(tmp_path / "x") as second:
        view = second.sandbox.own("clock")
        assert view["rate"] == 1000
        assert datetime.fromisoformat(view["now"]) > shown


def test_time_never_goes_back(fresh: Controlled) -> None:
    fresh.set_clock(datetime(2040, 1, 1, tzinfo=UTC))
    shown = fresh.now()
    refused = fresh.set_clock(shown - timedelta(minutes=5))
    assert refused.status_code == 409
    assert "never runs backwards" in refused.json()["detail"]
    assert fresh.now() >= shown


def test_a_slower_rate_that_joins_where_it_began_is_no_step_back(fresh: Controlled) -> None:
    now = datetime.now(UTC)
    assert fresh.set_clock(now + timedelta(days=1), rate=120, real0=now).status_code == 200
    began = datetime.now(UTC)
    joined = now + timedelta(days=1) + (began - now) * 120
    until(lambda: fresh.now() > joined + timedelta(minutes=1))
    shown = fresh.now()
    assert fresh.set_clock(joined, rate=1, real0=began).status_code == 200
    assert shown <= fresh.now() < shown + timedelta(minutes=10)


def test_windows_follow_the_sandboxs_time(fresh: Controlled) -> None:
    assert [me(fresh).status for _ in range(76)] == [200] * 75 + [429]
    fresh.advance(901)
    assert me(fresh).headers["x-rate-limit-remaining"] == "74"
    fresh.set_clock(fresh.now() + timedelta(seconds=1), rate=600)
    until(lambda: me(fresh).headers["x-rate-limit-remaining"] == "74")
    answer = me(fresh).headers
    left_s = int(answer["x-rate-limit-reset"]) - parsedate_to_datetime(answer["date"]).timestamp()
    assert 0 < left_s <= 900


# Counts


def limit(x: Controlled, endpoint: str) -> dict[str, Any]:
    (found,) = [one for one in x.sandbox.own("limits") if one["endpoint"] == endpoint]
    return found


def test_two_bursts_at_a_windows_border_show_in_a_rolling_window_only(tmp_path: Path) -> None:
    with controlled(tmp_path / "x") as first:
        me(first)
        first.advance(890)
        assert [me(first).status for _ in range(70)] == [200] * 70
        first.advance(15)
        assert [me(first).status for _ in range(76)] == [200] * 75 + [429]
        expected = {
            "account": "fleet",
            "endpoint": "users_me",
            "window_s": 900,
            "limit": 75,
            "fixed_max": 75,
            "rolling_max": 145,
            "refused": 1,
        }
        assert limit(first, "users_me") == expected
        first.sandbox.process.kill()
        first.sandbox.process.wait(5)
    with controlled(tmp_path / "x") as second:
        assert limit(second, "users_me") == expected


def test_every_window_of_an_endpoint_is_counted_for_each_caller(fresh: Controlled) -> None:
    fresh.post("One").answer()
    fresh.post("Two").answer()
    fresh.sandbox.bearer("GET", "/2/tweets?ids=1")
    fresh.raw("GET", "/2/tweets?ids=1").answer()
    found = {
        (one["account"], one["endpoint"], one["window_s"]): (one["limit"], one["rolling_max"])
        for one in fresh.sandbox.own("limits")
    }
    assert found["fleet", "post_tweet", 900] == (100, 2)
    assert found["fleet", "post_tweet", 86_400] == (10_000, 2)
    assert found["fleet", "get_tweets", 900] == (5000, 1)
    assert found["app", "get_tweets", 900] == (3500, 1)


# The record


def write_until_killed(
    x: Controlled, texts: "queue.Queue[str]", kept: list[tuple[str, str]], answered: threading.Semaphore
) -> None:
    while True:
        text = texts.get()
        try:
            answer = x.post(text).answer()
        except (OSError, http.client.HTTPException):  # cut off before the answer, or within
            return
        if answer.status == 201:
            kept.append((json.loads(answer.body)["data"]["id"], text))
            answered.release()


def test_a_kill_in_a_flow_of_writes_loses_none_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[tuple[str, str]] = []
    texts: queue.Queue[str] = queue.Queue()
    for number in range(1000):
        texts.put(f"Post {number}")
    chance = random.Random(7)
    for _ in range(5):
        answered = threading.Semaphore(0)
        with controlled(tmp_path / "x") as x:
            x.advance(901)
            writers = [
                threading.Thread(target=write_until_killed, args=(x, texts, acknowledged, answered))
                for _ in range(3)
            ]
            for writer in writers:
                writer.start()
            for _ in range(chance.randint(5, 40)):
                assert answered.acquire(timeout=PATIENCE_S)
            x.sandbox.process.kill()
            for writer in writers:
                writer.join(PATIENCE_S)
            assert not any(writer.is_alive() for writer in writers)
    with controlled(tmp_path / "x") as last:
        writes = last.sandbox.own("writes")
        recorded = Counter((write["id"], write["text"]) for write in writes)
        assert len(acknowledged) >= 25
        assert {one: recorded[one] for one in acknowledged} == dict.fromkeys(acknowledged, 1)
        assert max(Counter(write["text"] for write in writes).values()) == 1
        assert len(writes) - len(acknowledged) <= 5 * 3
        assert [write["seq"] for write in writes] == sorted(write["seq"] for write in writes)
        ids = ",".join(one for one, _ in acknowledged[-100:])
        found = json.loads(last.raw("GET", f"/2/tweets?ids={ids}").answer().body)
        assert {post["id"] for post in found["data"]} == set(ids.split(","))
