"""What each access level allows, and the refusals that name the rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import tweepy

from tests.integration.sandbox.running import Sandbox, running, write_world

POSTS = (
    ("ada", "Tea in the morning"),
    ("ada", "What do you think of tea, @Fleet?"),
    ("bob", "Nothing about anybody"),
    ("bob", "@fleet, what about coffee?"),
)


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A sandbox at one access level, and the ids of its posts by their texts."""

    sandbox: Sandbox
    ids: dict[str, str]

    def post(self, **body: Any) -> requests.Response:
        return self.sandbox.call("POST", "/2/tweets", json=body)

    def reply(self, text: str, to: str) -> requests.Response:
        return self.post(text=text, reply={"in_reply_to_tweet_id": to})

    def on_user(self, name: str, body: dict[str, str]) -> requests.Response:
        path = f"/2/users/{self.sandbox.keys['user_id']}/{name}"
        return self.sandbox.call("POST", path, json=body)


def tier_fixture(name: str) -> Any:
    @pytest.fixture(scope="module")
    def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tier]:
        directory = tmp_path_factory.mktemp(name)
        # Whoever reads needs more than the free tier has: the ids come from a start without limits.
        world = write_world(directory / "world.csv", POSTS)
        state = directory / "state"
        with running(state, "--world", world) as open_to_all:
            found = open_to_all.bearer("GET", "/2/tweets/search/recent?query=from:ada OR from:bob")
            ids = {post["text"]: post["id"] for post in found.json()["data"]}
        with running(state, "--world", world, "--tier", name) as started:
            yield Tier(sandbox=started, ids=ids)

    return tier


free = tier_fixture("free")
pay_per_use = tier_fixture("pay_per_use")
enterprise = tier_fixture("enterprise")

NOT_SUMMONED = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise engaged by "
    "the author of the post you are replying to."
)


def test_enterprise_replies_quotes_likes_and_follows_unasked(enterprise: Tier) -> None:
    stranger = enterprise.ids["Nothing about anybody"]
    reply = enterprise.reply("Indeed", stranger)
    again = enterprise.reply("Indeed, once more", stranger)
    quote = enterprise.post(text="Look", quote_tweet_id=stranger)
    assert [one.status_code for one in (reply, again, quote)] == [201] * 3
    bob = enterprise.sandbox.bearer("GET", "/2/users/by/username/bob").json()["data"]["id"]
    assert enterprise.on_user("likes", {"tweet_id": stranger}).json() == {"data": {"liked": True}}
    assert enterprise.on_user("following", {"target_user_id": bob}).json()["data"]["following"]
    record = [(one["action"], one["target"], one["id"]) for one in enterprise.sandbox.own("writes")]
    assert record == [
        ("reply", stranger, reply.json()["data"]["id"]),
        ("reply", stranger, again.json()["data"]["id"]),
        ("quote", stranger, quote.json()["data"]["id"]),
        ("like", stranger, stranger),
        ("follow", bob, bob),
    ]


def test_pay_per_use_replies_where_its_name_was_called_and_once(pay_per_use: Tier) -> None:
    called = pay_per_use.ids["What do you think of tea, @Fleet?"]
    assert pay_per_use.reply("A lot", called).status_code == 201
    deleted = pay_per_use.sandbox.own("writes")[-1]["id"]
    assert pay_per_use.sandbox.call("DELETE", f"/2/tweets/{deleted}").status_code == 200
    once_more = pay_per_use.reply("A great lot", called)
    assert once_more.status_code == 403
    assert once_more.json()["title"] == "Forbidden"
    assert "already replied to this interaction" in once_more.json()["detail"]
    with pytest.raises(tweepy.Forbidden, match="have not been mentioned or otherwise engaged"):
        pay_per_use.sandbox.client().create_tweet(
            text="Me too", in_reply_to_tweet_id=pay_per_use.ids["Tea in the morning"]
        )
    refused = pay_per_use.reply("Hello", pay_per_use.ids["Nothing about anybody"])
    assert (refused.status_code, refused.json()["detail"]) == (403, NOT_SUMMONED)


def test_pay_per_use_goes_on_with_its_own_thread(pay_per_use: Tier) -> None:
    first = pay_per_use.post(text="One of two").json()["data"]["id"]
    second = pay_per_use.reply("Two of two", first).json()["data"]["id"]
    assert pay_per_use.reply("And a third", second).status_code == 201


def test_pay_per_use_neither_quotes_nor_likes_nor_follows(pay_per_use: Tier) -> None:
    before = len(pay_per_use.sandbox.own("writes"))
    post = pay_per_use.ids["@fleet, what about coffee?"]
    quote = pay_per_use.post(text="Look", quote_tweet_id=post)
    assert (quote.status_code, quote.json()["detail"]) == (
        403,
        "Quote posts through the API are available to enterprise access only.",
    )
    for refused in (
        pay_per_use.on_user("likes", {"tweet_id": post}),
        pay_per_use.on_user("following", {"target_user_id": "1"}),
    ):
        assert refused.status_code == 403
        assert refused.json()["reason"] == "client-not-enrolled"
        assert refused.json()["required_enrollment"] == "Enterprise"
    assert len(pay_per_use.sandbox.own("writes")) == before


def test_pay_per_use_searches_and_reposts(pay_per_use: Tier) -> None:
    found = pay_per_use.sandbox.bearer("GET", "/2/tweets/search/recent?query=coffee").json()["data"]
    assert pay_per_use.on_user("retweets", {"tweet_id": found[0]["id"]}).json() == {
        "data": {"retweeted": True}
    }


def test_free_posts_deletes_and_looks_up(free: Tier) -> None:
    user_id = free.sandbox.keys["user_id"]
    made = free.post(text="From the free tier").json()["data"]["id"]
    for path in (
        "/2/users/me",
        f"/2/users/{user_id}/tweets",
        f"/2/tweets/{made}",
        f"/2/tweets?ids={made}",
        f"/2/users/{user_id}",
        "/2/users/by/username/ada",
    ):
        assert free.sandbox.call("GET", path).json()["data"], path
    assert free.sandbox.call("DELETE", f"/2/tweets/{made}").json() == {"data": {"deleted": True}}


@pytest.mark.parametrize(
    "path",
    [
        "/2/tweets/search/recent?query=tea",
        "/2/tweets/counts/recent?query=tea",
        "/2/users/{user_id}/mentions",
        "/2/users/{user_id}/timelines/reverse_chronological",
        "/2/users/{user_id}/liked_tweets",
        "/2/users/{user_id}/followers",
        "/2/users/1/tweets",
        "/2/tweets/1/quote_tweets",
    ],
)
def test_free_reads_nobody_elses_posts(free: Tier, path: str) -> None:
    refused = free.sandbox.call("GET", path.format(**free.sandbox.keys))
    assert refused.status_code == 403
    body = refused.json()
    assert set(body) == {
        "client_id",
        "detail",
        "reason",
        "registration_url",
        "required_enrollment",
        "title",
        "type",
    }
    assert (body["title"], body["reason"]) == ("Client Forbidden", "client-not-enrolled")
    assert body["type"].endswith("/problems/client-forbidden")
    assert "x-rate-limit-remaining" in refused.headers


def test_free_answers_quotes_likes_and_follows_nobody(free: Tier) -> None:
    called = free.ids["@fleet, what about coffee?"]
    for refused in (
        free.reply("It is hot", called),
        free.reply("To nobody", "1"),
        free.post(text="Look", quote_tweet_id=called),
        free.on_user("likes", {"tweet_id": called}),
        free.on_user("following", {"target_user_id": "1"}),
        free.on_user("retweets", {"tweet_id": called}),
    ):
        assert refused.status_code == 403
        assert refused.json()["reason"] == "client-not-enrolled"


@pytest.mark.parametrize("text", ["$TSLA and $AAPL", "$tsla, once more $TSLA"])
def test_two_cashtags_are_too_many_at_any_tier(
    text: str, free: Tier, pay_per_use: Tier, enterprise: Tier
) -> None:
    for tier in (free, pay_per_use, enterprise):
        refused = tier.post(text=text)
        assert (refused.status_code, "one cashtag" in refused.json()["detail"]) == (403, True)
    assert enterprise.post(text=f"$TSLA for $50: {len(text)}").status_code == 201


def test_health_names_the_tier(pay_per_use: Tier) -> None:
    assert pay_per_use.sandbox.own("health")["tier"] == "pay_per_use"


def test_a_quote_of_the_accounts_post_summons_it_too(tmp_path: Path) -> None:
    from sandbox.x import tiers  # noqa: PLC0415 - the rule itself, without a server
    from sandbox.x.posts import Post, User  # noqa: PLC0415
    from sandbox.x.store.store import Store  # noqa: PLC0415

    store = Store(tmp_path / "x.sqlite", User(id=12, username="fleet", name="Fleet", created_ms=0))
    own = store.accept_post("Mine", lang="en", at_ms=1_780_000_000_000)
    quote = Post(id=1, author_id=2, text="Look", created_ms=0, lang="en", quote_of=own.id)
    assert tiers.is_summons(store, quote)
    answer = Post(id=2, author_id=2, text="Look", created_ms=0, lang="en", reply_to=own.id)
    assert not tiers.is_summons(store, answer)
    store.close()
