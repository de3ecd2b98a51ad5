"""The sandbox as its own process, met over HTTP as the real X would be."""

import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import tweepy

from tests.integration.sandbox.running import (
    START_S,
    OAuth1,
    Sandbox,
    command,
    running,
    write_world,
)

OBAMA = Path(__file__).parents[4] / "shared/data/tweets/obama.csv"
STOP_S = 2
POSTS = (
    ("mira_bakes", "Sourdough, day 4: it bubbles. I am far too proud of flour & water. #baking"),
    ("jonas_codes", "The bug of the day is a timeout. #python"),
    ("tilda_maps", "@jonas_codes the map of the day is a promise"),
    ("old_harbour", "Ferry delayed by fog. The gulls are on time. Thanks, @jonas_codes"),
    *((f"reader_{number % 7}", f"The page {number} of the book") for number in range(30)),
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    directory = tmp_path_factory.mktemp("still")
    world = write_world(directory / "world.csv", POSTS)
    with running(directory / "state", "--world", world) as started:
        yield started


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Sandbox]:
    with running(tmp_path / "state") as started:
        yield started


def test_tweepy_posts_reads_and_finds_its_own_post(fresh: Sandbox) -> None:
    client = fresh.client()
    me = client.get_me(user_fields=["created_at", "public_metrics"]).data
    assert (me.username, me.name, str(me.id)) == ("fleet", "Fleet", fresh.keys["user_id"])
    text = 'Tea & "biscuits" <now> #ferry @mira_bakes 🔥'
    posted = client.create_tweet(text=text).data
    assert posted["text"] == text
    fields = {
        "tweet_fields": ["public_metrics", "created_at", "author_id", "entities"],
        "expansions": "author_id",
    }
    for answer in (
        client.get_users_tweets(me.id, **fields),
        client.get_tweets([posted["id"]], **fields),
        client.search_recent_tweets("#ferry from:fleet", **fields),
    ):
        (found,) = answer.data
        assert str(found.id) == posted["id"]
        assert found.text == 'Tea &amp; "biscuits" &lt;now&gt; #ferry @mira_bakes 🔥'
        assert found.author_id == me.id
        assert answer.includes["users"][0].username == "fleet"
        assert found.entities["hashtags"][0]["tag"] == "ferry"
        mention = found.entities["mentions"][0]
        assert found.text[mention["start"] : mention["end"]] == "@mira_bakes"
        assert set(found.public_metrics) >= {"retweet_count", "reply_count", "like_count", "quote_count"}


def test_the_record_holds_each_accepted_write_byte_for_byte_in_order(fresh: Sandbox) -> None:
    texts = ["First & <b>", "  spaced  \n\tout ", "Zoë 日本 👨‍👩‍👧‍👦"]
    ids = [fresh.call("POST", "/2/tweets", json={"text": text}).json()["data"]["id"] for text in texts]
    fresh.call("POST", "/2/tweets", json={"text": texts[0]})
    writes = fresh.own("writes")
    assert [write["text"] for write in writes] == texts
    assert [write["id"] for write in writes] == ids == sorted(ids, key=int)
    assert all(set(write) == {"seq", "at", "account", "action", "target", "id", "text"} for write in writes)
    assert [(write["seq"], write["account"], write["action"], write["target"]) for write in writes] == [
        (seq, "fleet", "post", None) for seq in (1, 2, 3)
    ]


def test_a_duplicate_is_refused_in_xs_words(fresh: Sandbox) -> None:
    assert fresh.call("POST", "/2/tweets", json={"text": "Once"}).status_code == 201
    refused = fresh.call("POST", "/2/tweets", json={"text": "Once"})
    assert refused.status_code == 403
    assert refused.json() == {
        "detail": "You are not allowed to create a Tweet with duplicate content.",
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
    }
    assert len(fresh.own("writes")) == 1


def test_a_forged_or_changed_request_is_unauthorized(sandbox: Sandbox) -> None:
    unauthorized = {"title": "Unauthorized", "type": "about:blank", "status": 401, "detail": "Unauthorized"}
    forged = sandbox.call("GET", "/2/users/me", secret="guess")
    auth = OAuth1(*(sandbox.keys[name] for name in list(sandbox.keys)[:4]))
    prepared = requests.Request("GET", f"{sandbox.url}/2/tweets?ids=1", auth=auth).prepare()
    with requests.Session() as session:
        good = session.send(prepared, timeout=10)
        replayed = session.send(prepared, timeout=10)
        prepared.url = f"{sandbox.url}/2/tweets?ids=2"
        changed = session.send(prepared, timeout=10)
    none = requests.get(f"{sandbox.url}/2/users/me", timeout=10)
    assert good.status_code == 200
    for refused in (forged, replayed, changed, none):
        assert (refused.status_code, refused.json()) == (401, unauthorized)
        assert "x-rate-limit-remaining" not in refused.headers


@pytest.mark.parametrize(("method", "path"), [("POST", "/2/tweets"), ("GET", "/2/users/me")])
def test_an_app_alone_is_no_user(sandbox: Sandbox, method: str, path: str) -> None:
    refused = sandbox.bearer(method, path, json={"text": "From nobody"} if method == "POST" else None)
    assert refused.status_code == 403
    assert refused.json()["title"] == "Unsupported Authentication"
    assert refused.json()["type"].endswith("/problems/unsupported-authentication")


def test_an_exhausted_window_answers_429_until_its_reset(fresh: Sandbox) -> None:
    remaining = [fresh.call("GET", "/2/users/me").headers["x-rate-limit-remaining"] for _ in range(75)]
    assert remaining == [str(left) for left in range(74, -1, -1)]
    refused = fresh.call("GET", "/2/users/me")
    assert refused.status_code == 429
    assert refused.json() == {
        "title": "Too Many Requests",
        "detail": "Too Many Requests",
        "type": "about:blank",
        "status": 429,
    }
    log = fresh.own("requests")
    assert [entry["status"] for entry in log] == [200] * 75 + [429]
    assert set(log[0]) == {"at", "method", "path", "account", "endpoint", "status"}
    assert {(entry["account"], entry["endpoint"]) for entry in log} == {("fleet", "users_me")}
    with pytest.raises(tweepy.TooManyRequests):
        fresh.client().get_me()


@pytest.mark.parametrize(
    ("path", "user", "app"),
    [
        ("/2/tweets?ids=1", "5000", "3500"),
        ("/2/tweets/search/recent?query=tea", "300", "450"),
        ("/2/users/{user_id}/mentions", "300", "450"),
        ("/2/users/{user_id}/tweets", "900", "900"),
    ],
)
def test_user_and_app_have_limits_of_their_own(sandbox: Sandbox, path: str, user: str, app: str) -> None:
    path = path.format(**sandbox.keys)
    assert sandbox.call("GET", path).headers["x-rate-limit-limit"] == user
    assert sandbox.bearer("GET", path).headers["x-rate-limit-limit"] == app


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "$.text: is missing"),
        ({"text": 5}, "$.text: is [5], string expected"),
        ({"text": " \n"}, "$.text: is empty"),
        ({"text": "a\ufeffb"}, "$.text: has U+FFFE, U+FEFF"),
        ({"text": "a\ud800b"}, "half a surrogate"),
        ({"text": "a" * 281}, "Your Tweet text is too long."),
        ({"text": "日" * 141}, "Your Tweet text is too long."),
        ({"text": "Hi", "colour": "red"}, "$.colour: is not defined in the schema"),
        ({"text": "Hi", "\ud800": 1}, "is not defined in the schema"),
        ({"text": "Hi", "reply": {"in_reply_to_tweet_id": 1}}, "$.reply.in_reply_to_tweet_id: is [1]"),
        ({"text": "Hi", "reply": {}}, "$.reply.in_reply_to_tweet_id: is missing"),
        ({"text": "Hi", "reply": {"to": "1", "in_reply_to_tweet_id": "1"}}, "$.reply.to: is not defined"),
        ({"text": "Hi", "quote_tweet_id": "one"}, '$.quote_tweet_id: is ["one"]'),
        ({"text": "Hi", "media": {"media_ids": []}}, "$.media.media_ids: has 0 items, 1 to 4"),
        ({"text": "Hi", "media": {"media_ids": ["1"]}, "quote_tweet_id": "1"}, "together with media"),
        ({"text": "Hi", "media": {"media_ids": ["1"]}}, "Your media IDs are invalid."),
        ({"text": "Hi", "reply_settings": "friends"}, "$.reply_settings: does not have a value"),
        ({"text": "Hi", "made_with_ai": "yes"}, '$.made_with_ai: is ["yes"], boolean expected'),
        ({"text": None}, "$.text: null found, string expected"),
        ({"text": "Hi", "poll": {}}, "$.poll: is not served by this sandbox yet"),
        (["text"], "expected an object"),
    ],
)
def test_a_body_that_is_no_plain_post_is_refused_by_name(sandbox: Sandbox, body: Any, named: str) -> None:
    refused = sandbox.call("POST", "/2/tweets", json=body)
    assert refused.status_code == 400
    assert refused.json()["title"] == "Invalid Request"
    assert refused.json()["type"].endswith("/problems/invalid-request")
    assert named in refused.json()["errors"][0]["message"]
    assert sandbox.own("writes") == []


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b'{"text":"Hi"}', "text/plain", 400),
        (b" " * 70_000, "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_is_refused(
    sandbox: Sandbox, data: bytes, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type}
    assert sandbox.call("POST", "/2/tweets", data=data, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("path", "parameter", "message"),
    [
        ("/2/tweets", "ids", "can not be empty"),
        ("/2/tweets?ids=", "ids", "can not be empty"),
        ("/2/tweets?ids=1,x", "ids", "[x] is not valid"),
        (
            "/2/tweets?ids=" + ",".join(map(str, range(1, 102))),
            "ids",
            "101 values, which is not between 1 and 100",
        ),
        ("/2/tweets?ids=1&tweet.fields=id,colour", "tweet.fields", "[colour] is not one of [article,"),
        ("/2/tweets?ids=1&colour=red", "colour", "[colour] is not one of ["),
        ("/2/tweets?ids=1&ids=2", "ids", "more than once"),
        ("/2/tweets/search/recent?query=tea&max_results=9", "max_results", "[9] is not between 10 and 100"),
        (
            "/2/tweets/search/recent?query=tea&max_results=ten",
            "max_results",
            "[ten] is not between 10 and 100",
        ),
        ("/2/tweets/search/recent", "query", "can not be empty"),
        ("/2/tweets/search/recent?query=place:x", "query", "place:x"),
        ("/2/tweets/search/recent?query=tea&start_time=yesterday", "start_time", "YYYY-MM-DDTHH:mm:ssZ"),
        ("/2/tweets/search/recent?query=tea&next_token=x", "next_token", "[x] is not valid"),
        ("/2/users/{user_id}/tweets?max_results=4", "max_results", "[4] is not between 5 and 100"),
        ("/2/users/{user_id}/mentions?since_id=99999999999999999999", "since_id", "is not valid"),
        ("/2/users/fleet/tweets", "id", "[fleet] is not valid"),
        ("/2/users/me?user.fields=age", "user.fields", "[age] is not one of ["),
    ],
)
def test_a_bad_parameter_is_named_with_its_value_and_what_is_allowed(
    sandbox: Sandbox, path: str, parameter: str, message: str
) -> None:
    refused = sandbox.call("GET", path.format(**sandbox.keys))
    assert refused.status_code == 400
    (error,) = refused.json()["errors"]
    assert list(error["parameters"]) == [parameter]
    assert message in error["message"]


def test_missing_posts_and_users_stand_beside_what_was_found(sandbox: Sandbox) -> None:
    known = sandbox.bearer("GET", "/2/tweets/search/recent?query=sourdough").json()["data"][0]
    answer = sandbox.bearer("GET", f"/2/tweets?ids={known['id']},404").json()
    assert answer["data"] == [known]
    assert set(known) == {"id", "text", "edit_history_tweet_ids"}
    assert answer["errors"] == [
        {
            "value": "404",
            "detail": "Could not find tweet with ids: [404].",
            "title": "Not Found Error",
            "resource_type": "tweet",
            "parameter": "ids",
            "resource_id": "404",
            "type": "https://api.twitter.com/2/problems/resource-not-found",
        }
    ]
    nobody = sandbox.bearer("GET", "/2/users/404/tweets")
    assert nobody.status_code == 200
    assert nobody.json()["errors"][0]["detail"] == "Could not find user with id: [404]."


def test_an_unknown_path_is_not_found(sandbox: Sandbox) -> None:
    assert sandbox.call("GET", "/2/moon").json() == {
        "title": "Not Found",
        "detail": "Not Found",
        "type": "about:blank",
        "status": 404,
    }


def test_pages_of_a_search_join_without_gap_or_repeat(sandbox: Sandbox) -> None:
    whole = sandbox.bearer("GET", "/2/tweets/search/recent?query=the&max_results=100").json()["data"]
    ids: list[str] = []
    path = "/2/tweets/search/recent?query=the&max_results=10"
    token = ""
    while True:
        page = sandbox.bearer("GET", path + token).json()
        ids += [post["id"] for post in page["data"]]
        assert page["meta"]["result_count"] == len(page["data"])
        assert (page["meta"]["newest_id"], page["meta"]["oldest_id"]) == (
            page["data"][0]["id"],
            page["data"][-1]["id"],
        )
        if "next_token" not in page["meta"]:
            break
        token = f"&next_token={page['meta']['next_token']}"
    assert ids == [post["id"] for post in whole]
    assert ids == sorted(ids, key=int, reverse=True)
    since = sandbox.bearer("GET", f"/2/tweets/search/recent?query=the&since_id={ids[2]}").json()
    assert [post["id"] for post in since["data"]] == ids[:2]


def test_mentions_are_other_peoples_posts_that_name_the_user(sandbox: Sandbox) -> None:
    path = "/2/tweets/search/recent?query=@jonas_codes&expansions=author_id"
    found = sandbox.bearer("GET", path).json()
    jonas = sandbox.bearer(
        "GET", "/2/tweets/search/recent?query=from:jonas_codes&expansions=author_id"
    ).json()["includes"]["users"][0]
    mentions = sandbox.bearer("GET", f"/2/users/{jonas['id']}/mentions").json()["data"]
    assert [post["id"] for post in mentions] == [post["id"] for post in found["data"]]


def test_a_page_shows_a_post_as_text_only(fresh: Sandbox) -> None:
    text = '<script>alert(1)</script> & "more"'
    post_id = fresh.call("POST", "/2/tweets", json={"text": text}).json()["data"]["id"]
    for path in ("/", f"/posts/{post_id}"):
        page = requests.get(fresh.url + path, timeout=10)
        assert page.status_code == 200
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; " in page.text
        assert "<script>" not in page.text
    assert requests.get(f"{fresh.url}/posts/404", timeout=10).status_code == 404
    assert requests.get(f"{fresh.url}/posts/moon", timeout=10).status_code == 404


@pytest.mark.parametrize(
    "path", ["/_sandbox/writes", "/_sandbox/requests", "/_sandbox/health", "/", "/posts/1"]
)
def test_a_page_of_a_strangers_reads_nothing_under_its_own_name(sandbox: Sandbox, path: str) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "api.x.com.evil.example:80", "localhost:x"):
        refused = requests.get(sandbox.url + path, headers={"Host": host}, timeout=10)
        assert (refused.status_code, refused.headers["content-type"]) == (421, "application/problem+json")
        assert refused.json()["detail"].startswith(f"Host is '{host}': allowed are 127.0.0.1")
    for host in ("localhost:8790", "[::1]", "api.x.com", "API.twitter.com:443"):
        assert requests.get(sandbox.url + path, headers={"Host": host}, timeout=10).status_code in {200, 404}


def test_a_killed_sandbox_forgets_nothing_it_accepted(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(state) as first:
        for number in range(5):
            assert first.call("POST", "/2/tweets", json={"text": f"Post {number}"}).status_code == 201
        last = first.call("POST", "/2/tweets", json={"text": "The last"})
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(STOP_S)
        keys = first.keys
    with running(state) as second:
        assert second.keys == keys
        writes = second.own("writes")
        assert [write["text"] for write in writes] == [*(f"Post {number}" for number in range(5)), "The last"]
        assert second.call("POST", "/2/tweets", json={"text": "The last"}).status_code == 403
        after = second.call("POST", "/2/tweets", json={"text": "After"})
        assert int(after.json()["data"]["id"]) > int(last.json()["data"]["id"])
        assert second.own("writes")[-1]["seq"] == 7
        assert after.headers["x-rate-limit-remaining"] == str(100 - 8)


def test_another_world_replaces_the_last_and_leaves_the_accounts_posts(tmp_path: Path) -> None:
    state, world = tmp_path / "state", tmp_path / "world.csv"
    with running(state) as built_in:
        built_in.call("POST", "/2/tweets", json={"text": "Mine, about tea"})
        name = built_in.own("health")["world"]
    world.write_text("created_at,text,user\n2026-01-01T10:00:00Z,Tea,ada\nnever,Tea,ada\n")
    with running(state, "--world", world) as small:
        health = small.own("health")
        found = small.bearer("GET", "/2/tweets/search/recent?query=tea OR sourdough").json()["data"]
        small.process.terminate()
        assert small.process.stderr
        assert "world.csv:3: column 'created_at' is 'never': expected a time" in small.process.stderr.read()
    assert health == {
        "sandbox": "x",
        "world": "world.csv",
        "posts": 2,
        "rejected_rows": 1,
        "tier": "enterprise",
    }
    assert [post["text"] for post in found] == ["Mine, about tea", "Tea"]
    with running(state) as again:
        health = again.own("health")
    assert health["world"] == name
    assert health["posts"] > 6000, "its week, the account's own, and what was posted since"


def test_what_it_keeps_is_for_its_owner_alone(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--people", "5", "--posts", "20") as started:
        started.call("POST", "/2/tweets", json={"text": "Private"})
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.timed
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_at_once_when_told_and_takes_a_forgotten_state_along(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        command("--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with process:
        assert process.stdout
        assert process.stderr
        assert select.select([process.stdout], [], [], START_S)[0]
        address = process.stdout.readline().split()[3]
        assert re.fullmatch(r"sandbox: control token [\w-]{43}\n", process.stdout.readline())
        with requests.Session() as kept_open:
            assert kept_open.get(f"{address}/_sandbox/health", timeout=10).json()["sandbox"] == "x"
            assert [path.name.startswith("sandbox-x-") for path in tmp_path.iterdir()] == [True]
            process.send_signal(number)
            assert process.wait(STOP_S) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    assert list(tmp_path.iterdir()) == []


def refused(*arguments: str | Path) -> str:
    ended = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=START_S, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_port_that_is_taken_is_refused_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} on 127.0.0.1 can't be used" in refused("--port", port)


def empty_world(path: Path) -> None:
    path.write_bytes(b"")


def world_without_columns(path: Path) -> None:
    path.write_text("when,what\n1,2\n")


def world_of_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def world_of_bad_rows(path: Path) -> None:
    path.write_text("created_at,text,user\nnever,Tea,ada\n")


def no_world(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (no_world, "can't be read (No such file or directory)"),
        (empty_world, "is empty"),
        (world_without_columns, "has no column created_at"),
        (world_of_bytes, "is not text"),
        (world_of_bad_rows, "has no row that is a post"),
    ],
)
def test_a_bad_world_is_refused_and_the_last_one_stays(
    tmp_path: Path, make: Callable[[Path], None], named: str
) -> None:
    state, world = tmp_path / "state", tmp_path / "world.csv"
    with running(state):
        pass
    make(world)
    assert named in refused("--port", "0", "--state", state, "--world", world)
    with sqlite3.connect(state / "x.sqlite") as store:
        assert store.execute("SELECT count(*) FROM posts").fetchone()[0] >= 24
    store.close()


def test_a_state_that_is_no_directory_or_in_use_is_refused(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    assert "can't be used" in refused("--port", "0", "--state", occupied)
    assert "can't be used" in refused("--port", "0", "--state", occupied / "below")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "x.sqlite").write_bytes(b"not a database" * 100)
    assert "x.sqlite can't be used" in refused("--port", "0", "--state", damaged)
    with running(tmp_path / "state"):
        assert "in use by another sandbox" in refused("--port", "0", "--state", tmp_path / "state")


@pytest.mark.skipif(not OBAMA.exists(), reason=f"the real posts of {OBAMA.name} are not beside the checkout")
def test_real_posts_are_found_with_their_counts(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--world", OBAMA) as started:
        health = started.own("health")
        assert (health["posts"], health["rejected_rows"]) == (3207, 0)
        (found,) = (
            started.client()
            .search_recent_tweets(
                'from:BarackObama "Liberty Medal" -is:retweet', tweet_fields=["public_metrics", "created_at"]
            )
            .data
        )
        assert found.id == 920061541986250758
        assert found.created_at.isoformat() == "2017-10-16T22:59:00+00:00"
        counts = [found.public_metrics[f"{name}_count"] for name in ("reply", "retweet", "like")]
        assert counts == [17064, 89916, 641842]
