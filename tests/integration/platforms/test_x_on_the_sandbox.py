"""X's client on the sandbox: the real protocol, with signatures verified."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from tests.integration.platforms.sandboxed import Sandbox, running
from workers.platforms.x import Outcome, X, XUnauthorized, find_own_post

TEXTS = (
    "A plain one",
    "Fish & chips <b>, &amp; é e\u0301 日本語 😷",
    "Two lines\nand https://example.com/a?b=c&d=e as well",
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running(tmp_path_factory.mktemp("sandbox")) as started:
        yield started


def test_posts_arrive_byte_for_byte_and_are_found_again(sandbox: Sandbox) -> None:
    x = X(sandbox.url, sandbox.credentials)
    x.reachable()
    me = x.me()
    assert (me.value.id, me.value.username) == (sandbox.user_id, sandbox.username)
    ids: list[str] = []
    for text in TEXTS:
        sent = x.create_post(text)
        assert (sent.outcome, sent.status) == (Outcome.POSTED, 201), sent
        assert "x-rate-limit-remaining" in sent.headers
        assert sent.platform_id
        ids.append(sent.platform_id)
    writes: Any = requests.get(f"{sandbox.url}/_sandbox/writes", timeout=5).json()
    assert [(write["id"], write["text"]) for write in writes] == list(zip(ids, TEXTS, strict=True))
    since = datetime.now(UTC) - timedelta(minutes=5)
    timeline = x.own_posts(sandbox.user_id)
    for post_id, text in zip(ids, TEXTS, strict=True):
        found = find_own_post(timeline.value, text, since)
        assert found, text
        assert found.id == post_id
    assert [post.id for post in x.own_posts(sandbox.user_id, since_id=ids[0]).value] == ids[:0:-1]


def test_a_text_posted_twice_is_a_duplicate(sandbox: Sandbox) -> None:
    x = X(sandbox.url, sandbox.credentials)
    assert x.create_post("Said twice").outcome is Outcome.POSTED
    assert x.create_post("Said twice").outcome is Outcome.DUPLICATE


def test_posts_are_read_with_metrics_and_the_unknown_is_missing(sandbox: Sandbox) -> None:
    x = X(sandbox.url, sandbox.credentials)
    post_id = x.create_post("To be measured").platform_id
    assert post_id
    read = x.posts([post_id, "1"])
    assert [post.id for post in read.value] == [post_id]
    assert read.value[0].metrics
    assert read.value[0].metrics.likes is not None
    assert read.value[0].created_at
    assert [item.id for item in read.missing] == ["1"]
    assert "x-rate-limit-limit" in read.headers


def test_forged_credentials_are_unauthorized(sandbox: Sandbox) -> None:
    forged = sandbox.credentials.model_copy(update={"access_token_secret": sandbox.credentials.access_token})
    x = X(sandbox.url, forged)
    assert x.create_post("Forged").outcome is Outcome.REJECTED
    with pytest.raises(XUnauthorized):
        x.me()
