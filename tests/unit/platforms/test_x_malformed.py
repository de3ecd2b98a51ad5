"""No body of X's, however broken, gets past the parsers, nor takes its good items with it."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.platforms.x_bodies import (
    RANDOM,
    malform,
    page_of_posts,
    spoil_items,
    user,
    written,
    wrong_headers,
)
from workers.platforms.exchange import Answer
from workers.platforms.x_answers import ID, Outcome, Sent, read_body, sort_like, sort_post
from workers.platforms.x_errors import XError, XMalformed, XRateLimited
from workers.platforms.x_own_posts import find_own_post, posted_at
from workers.platforms.x_posts import Post
from workers.platforms.x_reads import Missing, Read, read_posts, read_user, read_users
from workers.platforms.x_users import User

RECORDINGS = Path(__file__).parents[4] / "shared/data/x/recordings"
needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"{RECORDINGS} is not there")
thoroughly = settings(
    max_examples=1_600,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
READS: tuple[Callable[..., Read[Any]], ...] = (read_posts, read_users, read_user)
SORTERS: tuple[Callable[[Answer], Sent], ...] = (sort_post, lambda answer: sort_like(answer, "20"))
REFUSALS = st.sampled_from([302, 400, 401, 402, 403, 408, 429, 429, 500])
STATUSES = st.sampled_from([200, 200, 201]) | REFUSALS


def test_a_read_of_a_malformed_body_raises_nothing_but_an_x_error_and_lets_in_only_what_is_sane() -> None:
    bodies: set[bytes] = set()
    kept: set[str] = set()

    @thoroughly
    @given(random=RANDOM)
    def read_all_ways(random: Random) -> None:
        body = malform(random)
        bodies.add(body)
        for parse in READS:
            try:
                read = parse(read_body(Answer(status=200, headers={}, body=body)), {})
            except XMalformed:
                continue
            require_sane(read)
            kept.update(item.reason for item in read.missing)

    read_all_ways()
    assert len(bodies) >= 1000
    assert len(kept) >= 100


@thoroughly
@given(random=RANDOM, status=REFUSALS)
def test_a_refusal_is_an_x_error_whatever_its_body_and_headers_say(random: Random, status: int) -> None:
    body, headers = malform(random), wrong_headers(random)
    with pytest.raises(XError) as caught:
        read_body(Answer(status=status, headers=headers, body=body))
    assert isinstance(caught.value, XRateLimited) == (status == 429)
    if isinstance(caught.value, XRateLimited):
        assert 1 <= caught.value.retry_after_s <= 86_400


@thoroughly
@given(random=RANDOM, status=STATUSES, fault=st.sampled_from([None, "it ended 3 bytes early"]))
@example(random=Random(205994), status=402, fault=None)  # a reason as long as may be, behind another one
def test_a_write_whose_answer_is_malformed_is_sorted_and_claims_nothing_without_proof(
    random: Random, status: int, fault: str | None
) -> None:
    body, headers = malform(random), wrong_headers(random)
    for sort in SORTERS:
        sent = sort(Answer(status=status, headers=headers, body=body, fault=fault))
        assert (sent.outcome is Outcome.POSTED) == (sent.platform_id is not None)
        assert (sent.outcome is Outcome.RATE_LIMITED) == (sent.retry_after_s is not None) == (status == 429)
        assert sent.retry_after_s is None or 1 <= sent.retry_after_s <= 86_400
        assert len(sent.reason) <= 300
        assert sent.reason.isprintable()
        if sent.outcome is Outcome.POSTED:
            data: Any = json.loads(body)["data"]
            assert data.get("liked") is True or ID.fullmatch(data["id"])


@thoroughly
@given(random=RANDOM)
def test_a_broken_item_is_kept_with_its_reason_and_its_neighbours_survive_whole(random: Random) -> None:
    whole, body, spoiled = spoil_items(random)
    try:
        parsed: Any = read_body(Answer(status=200, headers={}, body=body))
    except XError:  # what was written in is no JSON
        with pytest.raises((ValueError, RecursionError)):
            json.loads(body)
        return
    read = read_posts(parsed, {})
    before = read_posts(whole, {})
    require_sane(read)
    good = [post for position, post in enumerate(before.value) if ("data", position) not in spoiled]
    assert [post for post in read.value if post in good] == good
    for position, expected in enumerate(before.users.values()):
        if ("users", position) not in spoiled:
            assert expected in read.users.values()
    assert len(read.posts) == len(before.posts)
    sent: list[Any] = [*parsed["data"], *parsed["includes"]["users"], *parsed["errors"]]
    twice = len(parsed["includes"]["users"]) - len({json.dumps(one) for one in parsed["includes"]["users"]})
    assert len(read.value) + len(read.users) + len(read.missing) >= len(sent) - twice


def test_no_depth_of_nesting_gets_past_the_sorters_and_readers() -> None:
    """What one part can still read may be too deep for the next: so every depth up to the limit is tried."""
    for depth in (*range(10, 900, 90), *range(900, 1003, 3)):
        nested = b"[" * depth + b"]" * depth
        told = b'{"type":%b,"detail":%b,"errors":[{"code":%b}],"data":{"id":%b}}' % ((nested,) * 4)
        for status in (200, 403, 429):
            answer = Answer(status=status, headers={}, body=told)
            assert all(sort(answer).outcome is not Outcome.POSTED for sort in SORTERS)
            with suppress(XError):
                assert [item.id for item in read_posts(read_body(answer), {}).missing] == [None, None]


def require_sane(read: Read[Any]) -> None:
    """What was let in can be stored, compared and shown, and can be worked with."""
    value: Any = read.value
    values = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    posts = [*(value for value in values if isinstance(value, Post)), *read.posts.values()]
    users = [*(value for value in values if isinstance(value, User)), *read.users.values()]
    for value in (*posts, *users):
        shown = value.model_dump_json()
        assert shown.encode()
        assert "\\u0000" not in shown
    for post in posts:
        assert 0 <= int(post.id) < 2**63
        assert posted_at(post.id).tzinfo
        assert post.created_at is None or post.created_at.utcoffset() == UTC.utcoffset(None)
        counts = post.metrics.model_dump().values() if post.metrics else ()
        assert all(count is None or (type(count) is int and 0 <= count < 2**63) for count in counts)
        assert all(name == name.lower() for name in post.mentions)
        assert isinstance(post.is_reply, bool)
        assert isinstance(post.is_repost, bool)
        assert isinstance(post.canonical, str)
    for found in users:
        assert all(count is None or 0 <= count < 2**63 for count in (found.followers, found.following))
    own = find_own_post(posts, "number 1", datetime(2020, 1, 1, tzinfo=UTC), reply_to="1456012973835780000")
    assert own is None or own in posts
    assert all(key == value.id for kind in (read.users, read.posts) for key, value in kind.items())
    assert read.next_token is None or read.next_token.isprintable()
    for item in read.missing:
        assert item.id is None or ID.fullmatch(item.id)
        assert item.reason.strip()
        assert item.reason.isprintable()
        assert len(item.reason) <= 300


@pytest.mark.parametrize("new", [False, True])
def test_what_came_along_is_kept_by_id_in_both_namings(new: bool) -> None:
    read = read_posts(page_of_posts(new=new), {})
    assert [post.id[-3:] for post in read.value] == ["293", "294", "295", "296"]
    assert sorted(read.users) == ["1000", "1001", "1002", "1003"]
    assert [post.id[-3:] for post in read.posts.values()] == ["343", "344"]
    assert read.missing == (Missing(id="77", reason="Could not find tweet with referenced_tweets.id: [77]."),)
    assert read.next_token == "b26v89c19zqg8o3f"
    first = read.value[0]
    assert (first.replied_to, first.quoted, first.reposted) == (
        "1456012973835780000",
        "1456012973835780001",
        None,
    )
    assert (first.mentions, first.mentioned_ids) == (("person_1",), ("1001",))
    assert (first.is_reply, first.is_repost, first.lang) == (True, False, "en")
    assert first.metrics
    assert first.metrics.reposts == 4
    author = read.users[first.author_id or ""]
    assert (author.followers, author.following, author.verified) == (12, 3, False)
    assert author.description == "Maps & tea"


def test_a_broken_item_that_came_along_is_named_by_its_place() -> None:
    body = page_of_posts()
    body["includes"]["users"][1]["username"] = "no name"
    body["includes"]["tweets"][0] = None
    del body["errors"]
    read = read_posts(body, {})
    assert [item.id for item in read.missing] == ["1001", None]
    assert read.missing[0].reason.startswith("includes.users: username: ")
    assert read.missing[1].reason.startswith("includes.tweets: ")
    assert (len(read.value), len(read.users), len(read.posts)) == (4, 3, 1)


@pytest.mark.parametrize(
    ("includes", "reason"),
    [
        ([user(1)], "includes: must be an object"),
        (None, "includes: must be an object"),
        ({"users": user(1)}, "includes.users: must be a list"),
        ({"posts": "none"}, "includes.posts: must be a list"),
        ({"tweets": [7]}, "includes.tweets: item: must be an object"),
    ],
)
def test_includes_that_are_none_cost_no_item(includes: object, reason: str) -> None:
    read = read_posts({**page_of_posts(), "errors": [], "includes": includes}, {})
    assert (len(read.value), read.missing) == (4, (Missing(id=None, reason=reason),))
    assert (read.users, read.posts) == ({}, {})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"title": "Service Unavailable"},
        {"errors": {"0": {"detail": "Could not find tweet"}}},
        {"data": None},
        {"data": {"id": "20", "text": "just"}},
        {"data": "none", "meta": {}},
        {"data": 0},
        {"data": [], "meta": []},
        {"meta": {"result_count": 3}},
        {"data": None, "meta": {"result_count": 3}},
        {"data": [], "meta": {"next_token": 7}},
        {"data": [], "meta": {"next_token": "a\nb"}},
    ],
)
def test_a_body_of_which_nothing_can_be_told_or_continued_is_malformed(body: dict[str, Any]) -> None:
    """Neither may pass for "there is nothing" or "this was the last page": a reader would go on past it."""
    with pytest.raises(XError):
        read_posts(body, {})


@pytest.mark.parametrize("name", ["followers_count", "following_count"])
@pytest.mark.parametrize("value", [-1, "3", 1.5, True, 2**63])
def test_a_count_that_is_none_is_a_broken_user_and_null_is_not(name: str, value: object) -> None:
    read = read_users(
        {"data": [user(1, public_metrics={name: value}), user(2, public_metrics={name: None})]}, {}
    )
    assert ([found.id for found in read.value], [item.id for item in read.missing]) == (["1002"], ["1001"])
    assert read.value[0].followers is None


@needs_recordings
def test_every_recorded_page_gives_as_many_items_as_it_holds() -> None:
    counts = {"text": 0, "username": 0}
    for name, body in recorded_pages():
        items = items_of(body)
        key = "text" if "text" in items[0] else "username"
        page = {**body, "data": items}
        read: Read[Any] = (read_posts if key == "text" else read_users)(page, {})
        assert (name, len(read.value), read.missing) == (name, len(items), ())
        assert [(found.id, getattr(found, key)) for found in read.value] == [
            (item["id"], item[key]) for item in items
        ]
        assert read.next_token == body.get("meta", {}).get("next_token")
        require_sane(read)
        counts[key] += len(items)
    assert counts["text"] >= 300
    assert counts["username"] >= 400


@needs_recordings
def test_the_recorded_post_and_like_are_sorted_as_done() -> None:
    created, liked = (
        next(one["response"] for one in recorded(name) if one["request"]["method"] == "POST")
        for name in ("create_and_delete_tweet.json", "like_and_unlike.json")
    )
    sent = sort_post(Answer(status=created["status"], headers={}, body=written(created["body"])))
    assert (sent.outcome, sent.platform_id) == (Outcome.POSTED, "1456012973835788293")
    sent = sort_like(
        Answer(status=liked["status"], headers={}, body=written(liked["body"])), "1293593516040269825"
    )
    assert (sent.outcome, sent.platform_id) == (Outcome.POSTED, "1293593516040269825")


def recorded(name: str) -> list[Any]:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


def recorded_pages() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each recorded answer whose data are posts or users, with its file's name."""
    for path in sorted(RECORDINGS.glob("*.json")):
        for one in recorded(path.name):
            body: Any = one["response"]["body"]
            is_page = one["request"]["method"] == "GET" and bool(body) and bool(body.get("data"))
            if is_page and {"text", "username"} & set(items_of(body)[0]):
                yield path.name, body


def items_of(body: dict[str, Any]) -> list[Any]:
    data: Any = body["data"]
    return cast("list[Any]", data) if isinstance(data, list) else [data]
