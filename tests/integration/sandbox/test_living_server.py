"""A living world in a real sandbox process: its options, its clock, its death."""

import json
import re
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandbox.controlled import Controlled
from tests.integration.sandbox.running import Sandbox, command, running

SMALL = ("--people", "120", "--posts", "1200")
TEXT = "What do you drink before a release of your open source project: coffee or tea? Asking for a friend."


@contextmanager
def living(state: Path, *arguments: str | Path) -> Generator[Controlled]:
    """A sandbox with its control token."""
    with running(state, *arguments) as sandbox:
        token = (state / "sandbox.token").read_text().strip()
        yield Controlled(sandbox=sandbox, state=state, token=token)


def mentions(sandbox: Sandbox, **parameters: Any) -> list[dict[str, Any]]:
    """The account's mentions, newest first."""
    path = f"/2/users/{sandbox.keys['user_id']}/mentions"
    answer = sandbox.call(
        "GET", path, params={"max_results": 100, "tweet.fields": "created_at", **parameters}
    )
    assert answer.status_code == 200, answer.text
    return answer.json().get("data", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--people", "0"), "--people is 0: expected 1 to 20000"),
        (("--posts", "0"), "--posts is 0: expected 1 to 1000000"),
        (("--posts", "1000001"), "--posts is 1000001: expected 1 to 1000000"),
        (("--seed", "-1"), "--seed is -1: expected 0 to 9223372036854775807"),
        (("--mentions", "3601"), "--mentions is 3601: expected 0 to 3600"),
        (("--people", "many"), "argument --people: invalid int value: 'many'"),
        (("--world", "w.csv", "--posts", "5"), "--posts is 5: leave it out"),
    ],
)
def test_numbers_that_make_no_world_are_refused_by_name(arguments: tuple[str, ...], said: str) -> None:
    refused = subprocess.run(
        command("--port", "0", *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_default_world_has_what_a_fleet_looks_for(tmp_path: Path) -> None:
    with running(tmp_path / "state") as sandbox:
        assert sandbox.own("health")["posts"] == 6000
        for topic in ("open source", "remote work", "coffee", "city cycling", "good books"):
            found = sandbox.call(
                "GET",
                "/2/tweets/search/recent",
                params={
                    "query": f"{topic} -is:retweet lang:en",
                    "max_results": 100,
                    "tweet.fields": "public_metrics,created_at",
                    "expansions": "author_id",
                    "user.fields": "public_metrics,description",
                },
            ).json()
            assert len(found["data"]) >= 50
            counts = [post["public_metrics"] for post in found["data"]]
            assert any(count["like_count"] > 3 for count in counts)
            assert any(user["public_metrics"]["followers_count"] > 100 for user in found["includes"]["users"])
            assert all(user["description"] for user in found["includes"]["users"])
        old = mentions(sandbox)
        assert 5 < len(old) < 60


def test_as_the_clock_runs_people_name_the_account_and_react_to_it(tmp_path: Path) -> None:
    with living(tmp_path / "state", *SMALL) as held:
        before = mentions(held.sandbox)
        posted = held.sandbox.call("POST", "/2/tweets", json={"text": TEXT}).json()["data"]["id"]
        held.advance(600)
        new = mentions(held.sandbox, since_id=before[0]["id"] if before else 1)
        assert len(new) >= 9  # and a quote, which names nobody
        texts = [post["text"] for post in new]
        link = next(found[1] for text in texts if (found := re.search(r"x\.com/\w+/status/(\d+)", text)))
        assert held.sandbox.call("GET", f"/2/tweets?ids={link}").json()["data"][0]["id"] == link
        # Who sees a post, and when, is chance: within the hour somebody does.
        for _ in range(5):
            counts = reading(held.sandbox, posted)
            if counts["impression_count"]:
                break
            held.advance(600)
        else:
            counts = reading(held.sandbox, posted)
        assert counts["impression_count"] > 0
        held.advance(86_400)
        later = reading(held.sandbox, posted)
        assert all(later[name] >= count for name, count in counts.items())
        assert later["impression_count"] > counts["impression_count"]


def test_a_killed_world_goes_on_where_it_was(tmp_path: Path) -> None:
    with living(tmp_path / "state", *SMALL) as held:
        held.sandbox.call("POST", "/2/tweets", json={"text": TEXT})
        held.advance(1200)
        seen = mentions(held.sandbox)
        held.sandbox.process.send_signal(signal.SIGKILL)
        held.sandbox.process.wait(5)
    with running(tmp_path / "state", *SMALL) as again:
        after = mentions(again)
        ids = [post["id"] for post in seen]
        assert [post["id"] for post in after][-len(ids) :] == ids
        assert len({post["id"] for post in after}) == len(after) <= len(seen) + 4


def test_a_files_world_stays_silent_but_for_the_laws_replies(tmp_path: Path) -> None:
    world = tmp_path / "world.csv"
    world.write_text("created_at,text,user,likes\n2026-01-01T10:00:00Z,Tea,ada,7\n")
    with living(tmp_path / "state", "--world", world) as held:
        held.advance(3600)
        assert mentions(held.sandbox) == []
        found = held.sandbox.call(
            "GET", "/2/tweets/search/recent?query=tea&tweet.fields=public_metrics"
        ).json()["data"]
        assert [post["public_metrics"]["like_count"] for post in found] == [7]
        posted = held.sandbox.call("POST", "/2/tweets", json={"text": TEXT}).json()["data"]["id"]
        held.advance(86_400)
        counts = reading(held.sandbox, posted)
        assert counts["impression_count"] > 20
        replies = [post for post in mentions(held.sandbox) if not post["text"].startswith("RT")]
        assert len(replies) >= counts["reply_count"]


def reading(sandbox: Sandbox, post_id: str) -> dict[str, int]:
    """A post's public metrics."""
    answer = sandbox.call("GET", f"/2/tweets?ids={post_id}&tweet.fields=public_metrics")
    return json.loads(answer.text)["data"][0]["public_metrics"]
