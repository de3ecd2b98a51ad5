"""The engagement loop's calls on the sandbox: mentions and searches read, replies, quotes and likes made."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.platforms.sandboxed import Sandbox, running
from workers.platforms.x import Outcome, Post, find_own_post

COLUMNS = ("created_at", "user", "text", "retweets", "replies", "favorites", "impressions")
ASKERS = 7
SINCE = timedelta(minutes=5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven people who ask the account something, a minute apart, and one who does not."""
    path = tmp_path_factory.mktemp("world") / "world.csv"
    start = datetime.now(UTC) - timedelta(hours=1)
    rows = [
        (f"asker_{number}", f"@fleet what about maps & tea, {number}? cc @mira") for number in range(ASKERS)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        sheet.writerow(COLUMNS)
        for position, (user, text) in enumerate([*rows, ("mira", "A map leaves things out. #maps")]):
            at = start + timedelta(minutes=position)
            sheet.writerow([at.strftime("%Y-%m-%dT%H:%M:%SZ"), user, text, 1, 2, 3, 400])
    return path


@pytest.fixture(scope="module")
def enterprise(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running(tmp_path_factory.mktemp("enterprise"), "--world", str(world)) as started:
        yield started


@pytest.fixture(scope="module")
def self_serve(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    state = tmp_path_factory.mktemp("self_serve")
    with running(state, "--world", str(world), "--tier", "pay_per_use") as started:
        yield started


def written(sandbox: Sandbox) -> list[tuple[str, str, str]]:
    """What the sandbox's record says of the account's acts: what, on which post, giving which id."""
    writes: Any = requests.get(f"{sandbox.url}/_sandbox/writes", timeout=5).json()
    return [(write["action"], write.get("target"), write["id"]) for write in writes]


def oldest_mention(sandbox: Sandbox) -> Post:
    return sandbox.x.mentions(sandbox.user_id).value[-1]


def test_mentions_are_read_by_pages_without_a_gap_or_a_repeat(enterprise: Sandbox) -> None:
    x, pages = enterprise.x, [enterprise.x.mentions(enterprise.user_id, max_results=5)]
    while pages[-1].next_token:
        pages.append(x.mentions(enterprise.user_id, max_results=5, page=pages[-1].next_token))
    mentions = [mention for page in pages for mention in page.value]
    assert [len(page.value) for page in pages] == [5, 2]
    assert [
        f", {number}? " in mention.text for number, mention in zip(range(6, -1, -1), mentions, strict=True)
    ]
    assert all(mention.mentions == ("fleet", "mira") for mention in mentions)
    assert all(enterprise.user_id in mention.mentioned_ids for mention in mentions)
    for page in pages:
        assert page.missing == ()
        assert {page.users[mention.author_id or ""].username[:6] for mention in page.value} == {"asker_"}
    newer = x.mentions(enterprise.user_id, mentions[3].id)
    assert [mention.id for mention in newer.value] == [mention.id for mention in mentions[:3]]
    older = x.mentions(enterprise.user_id, until_id=mentions[3].id)
    assert [mention.id for mention in older.value] == [mention.id for mention in mentions[4:]]


def test_a_search_finds_posts_with_their_authors_from_its_start_on(enterprise: Sandbox) -> None:
    x = enterprise.x
    found = x.search("#maps", max_results=10)
    assert [post.text for post in found.value] == ["A map leaves things out. #maps"]
    author = found.users[found.value[0].author_id or ""]
    assert (author.username, author.verified) == ("mira", False)
    created_at = found.value[0].created_at
    assert created_at
    assert x.search("#maps", start_time=created_at + timedelta(minutes=1)).value == ()
    assert x.search("#maps", start_time=created_at - timedelta(minutes=1)).value == found.value
    assert x.search("nobodyeversaidthis").value == ()


def test_users_are_read_by_their_ids(enterprise: Sandbox) -> None:
    author_id = oldest_mention(enterprise).author_id
    assert author_id
    read = enterprise.x.users([author_id, "1"])
    assert [(found.username, found.followers is None) for found in read.value] == [("asker_0", False)]
    assert [item.id for item in read.missing] == ["1"]


def test_a_reply_is_made_once_and_found_again(enterprise: Sandbox) -> None:
    mention, text = oldest_mention(enterprise), "@asker_0 They & their legends, gladly"
    sent = enterprise.x.create_post(text, reply_to=mention.id)
    assert sent.outcome is Outcome.POSTED, sent
    assert ("reply", mention.id, sent.platform_id) in written(enterprise)
    timeline = enterprise.x.own_posts(enterprise.user_id).value
    since = datetime.now(UTC) - SINCE
    found = find_own_post(timeline, text, since, reply_to=mention.id)
    assert found
    assert (found.id, found.replied_to, found.is_reply) == (sent.platform_id, mention.id, True)
    assert (found.in_reply_to_user_id, found.conversation_id) == (mention.author_id, mention.conversation_id)
    assert find_own_post(timeline, text, since) is None
    assert find_own_post(timeline, text, since, quote_of=mention.id) is None


def test_a_quote_is_made_once_found_again_and_comes_with_what_it_quotes(enterprise: Sandbox) -> None:
    mention, text = oldest_mention(enterprise), "Worth a look"
    sent = enterprise.x.create_post(text, quote_of=mention.id)
    assert sent.outcome is Outcome.POSTED, sent
    assert ("quote", mention.id, sent.platform_id) in written(enterprise)
    timeline = enterprise.x.own_posts(enterprise.user_id).value
    found = find_own_post(timeline, text, datetime.now(UTC) - SINCE, quote_of=mention.id)
    assert found
    assert (found.id, found.quoted, found.is_reply) == (sent.platform_id, mention.id, False)
    read = enterprise.x.posts([found.id], with_context=True)
    assert read.posts[mention.id].text == mention.text
    assert {enterprise.username, "asker_0"} <= {user.username for user in read.users.values()}


def test_a_like_is_given_once_however_often_it_is_asked_for(enterprise: Sandbox) -> None:
    mention = oldest_mention(enterprise)
    for _ in range(2):
        sent = enterprise.x.like(enterprise.user_id, mention.id)
        assert (sent.outcome, sent.platform_id) == (Outcome.POSTED, mention.id), sent
    likes = [write for write in written(enterprise) if write[0] == "like"]
    assert likes == [("like", mention.id, mention.id)]


def test_a_like_for_another_or_of_nothing_is_rejected(enterprise: Sandbox) -> None:
    assert enterprise.x.like("5", oldest_mention(enterprise).id).outcome is Outcome.REJECTED
    assert enterprise.x.like(enterprise.user_id, "1").outcome is Outcome.REJECTED


def test_a_reply_to_or_quote_of_nothing_is_rejected_in_xs_words(enterprise: Sandbox) -> None:
    for sent in (
        enterprise.x.create_post("To nobody", reply_to="1"),
        enterprise.x.create_post("Of nothing", quote_of="1"),
    ):
        assert (sent.outcome, sent.status) == (Outcome.REJECTED, 403)
        assert "deleted or not visible" in sent.reason


def test_self_serve_access_answers_where_it_was_summoned_and_nowhere_else(self_serve: Sandbox) -> None:
    x, mention = self_serve.x, oldest_mention(self_serve)
    unsummoned = x.search("#maps").value[0]
    before = written(self_serve)
    refused = {
        "reply": x.create_post("Uninvited", reply_to=unsummoned.id),
        "quote": x.create_post("Worth a look", quote_of=mention.id),
        "like": x.like(self_serve.user_id, mention.id),
    }
    assert {act: (sent.outcome, sent.status) for act, sent in refused.items()} == {
        "reply": (Outcome.REJECTED, 403),
        "quote": (Outcome.REJECTED, 403),
        "like": (Outcome.NOT_ENROLLED, 403),
    }
    assert "mentioned" in refused["reply"].reason
    assert "enterprise" in refused["quote"].reason
    assert "Forbidden" in refused["like"].reason
    assert written(self_serve) == before
    assert x.create_post("Gladly", reply_to=mention.id).outcome is Outcome.POSTED
    assert x.create_post("Once more", reply_to=mention.id).outcome is Outcome.REJECTED
