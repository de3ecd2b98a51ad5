"""X's posts: both namings, broken items, and finding one's own."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from workers.platforms.x_own_posts import find_own_post, posted_at
from workers.platforms.x_posts import Post
from workers.platforms.x_reads import Read, read_posts

RECORDINGS = Path(__file__).parents[4] / "shared/data/x/recordings"
SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)


def snowflake(at: datetime) -> str:
    return str((int(at.timestamp() * 1000) - 1_288_834_974_657) << 22)


def post(text: str, after_s: float = 1, /, **more: Any) -> Post:
    return Post.model_validate({"id": snowflake(SINCE + timedelta(seconds=after_s)), "text": text, **more})


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"{RECORDINGS} is not there")
def test_every_recorded_post_is_read() -> None:
    count = 0
    for body in recorded_bodies():
        data: Any = body["data"]
        items = cast("list[Any]", data if isinstance(data, list) else [data])
        if "text" not in items[0]:
            continue
        read = read_posts(body, {})
        assert read.missing == ()
        assert [post.id for post in read.value] == [item["id"] for item in items]
        assert [post.text for post in read.value] == [item["text"] for item in items]
        count += len(read.value)
    assert count >= 300


def recorded_bodies() -> Iterator[dict[str, Any]]:
    """Each recorded answer's body that has data."""
    for path in sorted(RECORDINGS.glob("*.json")):
        recordings: list[Any] = json.loads(path.read_text(encoding="utf-8"))
        for recorded in recordings:
            body: Any = recorded["response"]["body"]
            if body and body.get("data"):
                yield body


@pytest.mark.parametrize(
    "names", [("retweet_count", "referenced_tweets"), ("repost_count", "referenced_posts")]
)
def test_both_namings_are_read(names: tuple[str, str]) -> None:
    metrics, references = names
    read = post(
        "a", public_metrics={metrics: 4, "like_count": 0}, **{references: [{"type": "quoted", "id": "9"}]}
    )
    assert read.metrics
    assert (read.metrics.reposts, read.metrics.likes, read.metrics.replies) == (4, 0, None)
    assert [(reference.kind, reference.id) for reference in read.references] == [("quoted", "9")]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        [],
        {},
        {"id": 5, "text": "a"},
        {"id": "5", "text": 5},
        {"id": "5/6", "text": "a"},
        {"id": "5", "text": "a", "public_metrics": {"like_count": -1}},
        {"id": "5", "text": "a", "public_metrics": {"like_count": "3"}},
        {"id": "5", "text": "a", "entities": {"urls": [{"no": "url"}]}},
    ],
)
def test_a_bad_item_is_set_aside_with_its_reason_and_the_others_go_on(bad: object) -> None:
    good = {"id": "20", "text": "just"}
    read = read_posts({"data": [good, bad, good]}, {})
    assert [post.id for post in read.value] == ["20", "20"]
    assert [item.reason != "" for item in read.missing] == [True]


@pytest.mark.parametrize(
    "body", [{"meta": {"result_count": 0}}, {"data": None, "meta": {}}, {"data": []}, {"errors": []}]
)
def test_a_body_without_posts_has_none(body: dict[str, Any]) -> None:
    assert read_posts(body, {}) == Read(value=(), headers={})


def test_an_id_tells_when_it_was_made() -> None:
    assert posted_at("1456012973835788293").replace(microsecond=0) == datetime(
        2021, 11, 3, 21, 38, 39, tzinfo=UTC
    )


def test_the_own_post_is_found_though_x_changed_its_text() -> None:
    url = {
        "url": "https://t.co/x1",
        "expanded_url": "https://a.example/b",
        "display_url": "a.example/b",
        "start": 0,
        "end": 9,
    }
    media = {"url": "https://t.co/p1", "expanded_url": "https://x.com/m/status/1/photo/1", "media_key": "3_1"}
    returned = post("Fish &amp; https://t.co/x1 https://t.co/p1", entities={"urls": [url, media]})
    assert find_own_post([post("Other"), returned], "Fish & https://a.example/b", SINCE) == returned


def test_an_older_post_of_the_same_text_is_never_taken() -> None:
    assert find_own_post([post("Same", -0.001)], "Same", SINCE) is None
    at_once = post("Same", 0)
    assert find_own_post([at_once], "Same", SINCE) == at_once


def test_of_several_the_earliest_is_taken() -> None:
    first, second = post("Same", 5), post("Same", 9)
    assert find_own_post([second, first], "Same", SINCE) == first


@pytest.mark.parametrize("kind", ["replied_to", "retweeted"])
def test_a_reply_or_repost_of_the_same_text_is_no_original(kind: str) -> None:
    answering = post("Same", referenced_tweets=[{"type": kind, "id": "9"}])
    assert find_own_post([answering], "Same", SINCE) is None
    assert find_own_post([post("Same", referenced_tweets=[{"type": "quoted", "id": "9"}])], "Same", SINCE)
