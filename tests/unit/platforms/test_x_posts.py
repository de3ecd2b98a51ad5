"""X's posts: both namings, and broken items beside good ones."""

from typing import Any

import pytest

from workers.platforms.x_posts import Post
from workers.platforms.x_reads import Read, read_posts


def post(text: str, **more: Any) -> Post:
    return Post.model_validate({"id": "20", "text": text, **more})


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
