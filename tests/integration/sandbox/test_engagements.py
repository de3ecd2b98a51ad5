"""Replies, quotes, likes, reposts, follows, bookmarks, hiding and deleting, by tweepy's own client."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import tweepy

from tests.integration.sandbox.running import Sandbox, running, write_world

Paginator: Any = tweepy.Paginator

POSTS = (
    ("ada", "Tea in the morning"),
    ("bob", "Coffee at noon, says @ada"),
    ("carl", "Cocoa at night"),
    *(("dora", f"Cup number {number}") for number in range(12)),
)


@dataclass(frozen=True, kw_only=True)
class Met:
    """A running sandbox, tweepy's client, and the ids of its posts by their texts."""

    sandbox: Sandbox
    client: Any
    posts: dict[str, int]

    def metrics(self, post_id: int) -> dict[str, int]:
        """A post's public metrics."""
        found = self.client.get_tweet(post_id, tweet_fields="public_metrics").data.public_metrics
        return {name.removesuffix("_count"): count for name, count in found.items()}

    def user(self, name: str) -> Any:
        """Somebody, with how many follow them."""
        return self.client.get_user(username=name, user_fields=["public_metrics"]).data

    def writes(self) -> list[tuple[str, str | None]]:
        """What the record says was done."""
        return [(one["action"], one["target"]) for one in self.sandbox.own("writes")]


@pytest.fixture
def met(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Met]:
    directory = tmp_path_factory.mktemp("met")
    world = write_world(directory / "world.csv", POSTS)
    with running(directory / "state", "--world", world, "--people", "5") as started:
        client = started.client()
        posts = {
            post.text: post.id
            for post in client.search_recent_tweets(
                "from:ada OR from:bob OR from:carl OR from:dora", max_results=100
            ).data
        }
        yield Met(sandbox=started, client=client, posts=posts)


def test_a_reply_joins_the_conversation_and_is_counted(met: Met) -> None:
    tea = met.posts["Tea in the morning"]
    reply = int(met.client.create_tweet(text="Gladly", in_reply_to_tweet_id=tea).data["id"])
    deeper = int(met.client.create_tweet(text="And again", in_reply_to_tweet_id=reply).data["id"])
    found = met.client.get_tweet(
        deeper,
        tweet_fields=["conversation_id", "referenced_tweets", "in_reply_to_user_id"],
        expansions=["referenced_tweets.id", "referenced_tweets.id.author_id", "in_reply_to_user_id"],
    )
    assert found.data.conversation_id == tea
    assert [(one.type, one.id) for one in found.data.referenced_tweets] == [("replied_to", reply)]
    assert [one.id for one in found.includes["tweets"]] == [reply]
    assert [one.username for one in found.includes["users"]] == ["fleet"]
    assert (met.metrics(tea)["reply"], met.metrics(reply)["reply"]) == (1, 1)
    thread = met.client.search_recent_tweets(f"conversation_id:{tea}").data
    assert [one.id for one in thread] == [deeper, reply]
    assert met.writes() == [("reply", str(tea)), ("reply", str(reply))]


def test_a_quote_is_listed_counted_and_expanded(met: Met) -> None:
    tea = met.posts["Tea in the morning"]
    quote = int(met.client.create_tweet(text="How true", quote_tweet_id=tea).data["id"])
    listed = met.client.get_quote_tweets(tea, tweet_fields=["referenced_tweets"]).data
    assert [(one.id, one.referenced_tweets[0].type) for one in listed] == [(quote, "quoted")]
    assert met.metrics(tea)["quote"] == 1
    assert met.client.search_recent_tweets("true is:quote").data[0].id == quote


def test_what_is_gone_is_neither_answered_nor_quoted_nor_liked(met: Met) -> None:
    own = met.client.create_tweet(text="Not for long").data["id"]
    assert met.client.delete_tweet(own).data == {"deleted": True}
    for gone in (own, "404"):
        with pytest.raises(tweepy.Forbidden, match="deleted or not visible to you"):
            met.client.create_tweet(text="Too late", in_reply_to_tweet_id=gone)
        with pytest.raises(tweepy.Forbidden, match="deleted or not visible to you"):
            met.client.create_tweet(text="Too late", quote_tweet_id=gone)
        with pytest.raises(tweepy.BadRequest, match="This tweet cannot be found"):
            met.client.like(gone)
        assert met.client.get_tweet(gone).errors[0]["detail"] == f"Could not find tweet with id: [{gone}]."


def test_a_like_counts_once_and_can_be_taken_back(met: Met) -> None:
    tea, me = met.posts["Tea in the morning"], met.client.get_me().data
    assert [met.client.like(tea).data for _ in range(2)] == [{"liked": True}] * 2
    assert met.metrics(tea)["like"] == 1
    assert [one.id for one in met.client.get_liked_tweets(me.id).data] == [tea]
    assert [one.username for one in met.client.get_liking_users(tea).data] == ["fleet"]
    assert [met.client.unlike(tea).data for _ in range(2)] == [{"liked": False}] * 2
    assert met.metrics(tea)["like"] == 0
    assert met.client.get_liked_tweets(me.id).data is None
    assert met.writes() == [("like", str(tea)), ("unlike", str(tea))]


def test_a_repost_counts_once_stands_in_the_timeline_and_can_be_taken_back(met: Met) -> None:
    tea, me = met.posts["Tea in the morning"], met.client.get_me().data
    assert [met.client.retweet(tea).data for _ in range(2)] == [{"retweeted": True}] * 2
    (repost,) = met.client.get_users_tweets(me.id, tweet_fields=["referenced_tweets"]).data
    assert repost.text == "RT @ada: Tea in the morning"
    assert [(one.type, one.id) for one in repost.referenced_tweets] == [("retweeted", tea)]
    assert met.client.get_users_tweets(me.id, exclude=["retweets"]).data is None
    assert [one.username for one in met.client.get_retweeters(tea).data] == ["fleet"]
    assert met.metrics(tea)["retweet"] == 1
    assert met.client.search_recent_tweets("tea -is:retweet").data[0].id == tea
    met.client.unretweet(tea)
    assert met.metrics(tea)["retweet"] == 0
    assert met.client.get_users_tweets(me.id).data is None
    assert met.writes() == [("retweet", str(tea)), ("unretweet", str(tea))]


def test_a_follow_counts_once_and_fills_the_home_timeline(met: Met) -> None:
    ada, me = met.user("ada"), met.client.get_me().data
    before = ada.public_metrics["followers_count"]
    for _ in range(2):
        assert met.client.follow_user(ada.id).data == {"following": True, "pending_follow": False}
    assert met.user("ada").public_metrics["followers_count"] == before + 1
    assert [one.id for one in met.client.get_users_following(me.id).data] == [ada.id]
    assert me.id in [one.id for one in met.client.get_users_followers(ada.id).data]
    assert [one.text for one in met.client.get_home_timeline().data] == ["Tea in the morning"]
    met.client.unfollow_user(ada.id)
    assert met.user("ada").public_metrics["followers_count"] == before
    assert met.writes() == [("follow", str(ada.id)), ("unfollow", str(ada.id))]


def test_nobody_follows_oneself_or_acts_for_another(met: Met) -> None:
    me, ada = met.client.get_me().data, met.user("ada")
    with pytest.raises(tweepy.Forbidden, match="yourself"):
        met.client.follow_user(me.id)
    refused = met.sandbox.call("POST", f"/2/users/{ada.id}/likes", json={"tweet_id": "1"})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["message"] == (
        f"The `id` query parameter value [{ada.id}] must be the same as the authenticating user [{me.id}]"
    )


def test_only_a_reply_in_an_own_conversation_is_hidden(met: Met) -> None:
    with pytest.raises(tweepy.Forbidden, match="not a reply to one of your conversations"):
        met.client.hide_reply(met.posts["Cocoa at night"])
    own = met.client.create_tweet(text="Whose turn?").data["id"]
    reply = met.client.create_tweet(text="Mine", in_reply_to_tweet_id=own).data["id"]
    assert met.client.hide_reply(reply).data == {"hidden": True}
    assert met.client.hide_reply(reply).data == {"hidden": True}
    assert met.client.unhide_reply(reply).data == {"hidden": False}
    assert met.writes()[2:] == [("hide", reply), ("unhide", reply)]


def test_another_ones_post_is_not_deleted(met: Met) -> None:
    with pytest.raises(tweepy.Forbidden, match="not permitted to perform this action"):
        met.client.delete_tweet(met.posts["Cocoa at night"])


def test_a_deleted_reply_no_longer_counts_and_its_text_may_be_posted_again(met: Met) -> None:
    tea = met.posts["Tea in the morning"]
    reply = met.client.create_tweet(text="Gladly", in_reply_to_tweet_id=tea).data["id"]
    met.client.delete_tweet(reply)
    assert met.metrics(tea)["reply"] == 0
    assert met.client.search_recent_tweets("gladly").data is None
    assert met.client.create_tweet(text="Gladly").data["text"] == "Gladly"


def test_an_author_may_limit_who_replies(met: Met) -> None:
    own = met.client.create_tweet(text="Only for a few, @ada", reply_settings="mentionedUsers").data["id"]
    found = met.client.get_tweet(own, tweet_fields=["reply_settings"]).data
    assert found.reply_settings == "mentionedUsers"
    assert met.client.create_tweet(text="Going on", in_reply_to_tweet_id=own).data


def test_pages_of_people_and_likes_join_without_gap_or_repeat(met: Met) -> None:
    me = met.client.get_me().data
    cups = [post_id for text, post_id in met.posts.items() if text.startswith("Cup")]
    for post_id in cups:
        met.client.like(post_id)
    pages = Paginator(met.client.get_liked_tweets, me.id, max_results=5)
    assert [[one.id for one in page.data] for page in pages] == [cups[:5], cups[5:10], cups[10:]]
    ada = met.user("ada")
    for name in ("bob", "carl", "dora", "ada"):
        met.client.follow_user(met.user(name).id)
    people: list[int] = []
    for page in Paginator(met.client.get_users_following, me.id, max_results=3):
        found: list[Any] = page.data or []
        people += [one.id for one in found]
    assert people == sorted(people, reverse=True)
    assert len(people) == len(set(people)) == 4
    assert ada.id in people


def test_likes_have_a_window_of_a_day_too(met: Met) -> None:
    path = f"/2/users/{met.sandbox.keys['user_id']}/likes"
    headers = met.sandbox.call("POST", path, json={"tweet_id": "404"}).headers
    assert (headers["x-rate-limit-limit"], headers["x-user-limit-24hour-limit"]) == ("50", "1000")
    assert headers["x-user-limit-24hour-remaining"] == "999"
    assert int(headers["x-user-limit-24hour-reset"]) - int(headers["x-rate-limit-reset"]) == 86_400 - 900
