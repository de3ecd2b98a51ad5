"""What X answered, the sandbox answers: the recorded requests again, sent by tweepy's own client."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from sandbox.x.store.store import Store
from tests.integration.sandbox import recordings
from tests.integration.sandbox.recordings import Exchange, World
from tests.integration.sandbox.running import Sandbox, running

LISTS = "lists are no part of what a fleet does"
SPACES = "spaces are no part of what a fleet does"

# Recordings that fall on no served endpoint, and why.
UNSERVED = {
    "create_and_get_compliance_job_and_jobs.json": "compliance jobs are for holders of X's archive",
    "follow_and_unfollow_list.json": LISTS,
    "get_followed_lists.json": LISTS,
    "get_list.json": LISTS,
    "get_list_followers.json": LISTS,
    "get_list_members.json": LISTS,
    "get_list_memberships.json": LISTS,
    "get_list_tweets.json": LISTS,
    "get_owned_lists.json": LISTS,
    "get_space.json": SPACES,
    "get_spaces.json": SPACES,
    "manage_and_get_pinned_lists.json": LISTS,
    "search_spaces.json": SPACES,
}


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A sandbox with the recordings' world, tweepy's clients for it, and what ids are called there."""

    sandbox: Sandbox
    client: Any
    oauth2_client: Any
    world: World

    def id(self, recorded: str | int) -> str:
        """What a recorded id is called here."""
        return self.world.own_id(str(recorded), self.sandbox.keys["user_id"])


Call = Callable[[Replay], Any]
TWITTER, SUPPORT = 783214, 17874544

# One row a served recording: the calls of tweepy that send its requests, in their order.
SERVED: dict[str, list[Call]] = {
    "bookmarks.json": [
        lambda on: on.oauth2_client.get_me(user_auth=False),
        lambda on: on.oauth2_client.bookmark(1507070437557096461),
        lambda on: on.oauth2_client.get_bookmarks(),
        lambda on: on.oauth2_client.remove_bookmark(1507070437557096461),
    ],
    "create_and_delete_tweet.json": [
        lambda on: on.client.create_tweet(text="Test Tweet"),
        lambda on: on.client.delete_tweet(on.sandbox.own("writes")[-1]["id"]),
    ],
    "follow_and_unfollow_user.json": [
        lambda on: on.client.follow_user(on.id(SUPPORT)),
        lambda on: on.client.unfollow_user(on.id(SUPPORT)),
    ],
    "get_all_tweets_count.json": [lambda on: on.client.get_all_tweets_count("Tweepy")],
    "get_home_timeline.json": [lambda on: on.client.get_home_timeline()],
    "get_liked_tweets.json": [lambda on: on.client.get_liked_tweets(on.id(TWITTER))],
    "get_liking_users.json": [lambda on: on.client.get_liking_users(recordings.ANNOUNCEMENT)],
    "get_me.json": [lambda on: on.client.get_me()],
    "get_quote_tweets.json": [lambda on: on.client.get_quote_tweets(recordings.ANNOUNCEMENT)],
    "get_recent_tweets_count.json": [lambda on: on.client.get_recent_tweets_count("Tweepy")],
    "get_retweeters.json": [lambda on: on.client.get_retweeters(recordings.RELEASE)],
    "get_tweet.json": [lambda on: on.client.get_tweet(recordings.ANNOUNCEMENT)],
    "get_tweets.json": [
        lambda on: on.client.get_tweets([recordings.ANNOUNCEMENT, 1293595870563381249]),
    ],
    "get_user.json": [lambda on: on.client.get_user(username="Twitter")],
    "get_users.json": [lambda on: on.client.get_users(usernames=["Twitter", "TwitterDev"])],
    "get_users_followers.json": [lambda on: on.client.get_users_followers(on.id(TWITTER))],
    "get_users_following.json": [lambda on: on.client.get_users_following(on.id(TWITTER))],
    "get_users_mentions.json": [lambda on: on.client.get_users_mentions(on.id(TWITTER))],
    "get_users_tweets.json": [lambda on: on.client.get_users_tweets(on.id(TWITTER))],
    "hide_and_unhide_reply.json": [
        lambda on: on.client.hide_reply(recordings.REPLY),
        lambda on: on.client.unhide_reply(recordings.REPLY),
    ],
    "like_and_unlike.json": [
        lambda on: on.client.like(recordings.ANNOUNCEMENT),
        lambda on: on.client.unlike(recordings.ANNOUNCEMENT),
    ],
    "mute_get_muted_and_unmute.json": [
        lambda on: on.client.mute(on.id(SUPPORT)),
        lambda on: on.client.get_muted(),
        lambda on: on.client.unmute(on.id(SUPPORT)),
    ],
    "retweet_and_unretweet.json": [
        lambda on: on.client.retweet(recordings.RELEASE),
        lambda on: on.client.unretweet(recordings.RELEASE),
    ],
    "search_all_tweets.json": [lambda on: on.client.search_all_tweets("Tweepy")],
    "search_recent_tweets.json": [lambda on: on.client.search_recent_tweets("Tweepy")],
}

pytestmark = pytest.mark.skipif(
    not recordings.FOLDER.exists(), reason="X's recorded answers are not beside the checkout"
)


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    directory = tmp_path_factory.mktemp("recordings")
    world = recordings.world()
    world.write(directory / "world.csv")
    arguments = ("--world", directory / "world.csv")
    with running(directory / "state", *arguments) as first:
        keys = first.keys
    # The file has no likes, follows, reposts and quotes: they are put into the state of a stopped sandbox.
    with closing(Store(directory / "state/x.sqlite", recordings.account(keys))) as store:
        recordings.tie(store, world)
    with running(directory / "state", *arguments) as started:
        token = started.authorize("tweet.read", "users.read", "bookmark.read", "bookmark.write")
        yield Replay(
            sandbox=started,
            client=started.client(return_type=requests.Response),
            oauth2_client=started.oauth2_client(token["access_token"], return_type=requests.Response),
            world=world,
        )


def test_each_recording_is_replayed_or_has_its_reason() -> None:
    names = {path.name for path in recordings.FOLDER.glob("*.json")}
    assert SERVED.keys() | UNSERVED.keys() == names
    assert SERVED.keys() & UNSERVED.keys() == set()


@pytest.mark.parametrize("name", SERVED)
def test_the_sandbox_answers_as_x_did(replay: Replay, name: str) -> None:
    exchanges = recordings.read(name)
    assert len(SERVED[name]) == len(exchanges)
    for call, exchange in zip(SERVED[name], exchanges, strict=True):
        made = "create_and_delete" in name
        compare(replay, exchange, call(replay), made=made)


def compare(replay: Replay, exchange: Exchange, response: requests.Response, *, made: bool) -> None:
    """The request is the recorded one; the answer has its status, its shape and its headers."""
    request = response.request
    parts = urlsplit(str(request.url))
    assert request.method == exchange.method
    if not made:  # what is deleted has the id that it was given here
        assert parts.path == "/".join(replay.id(part) for part in exchange.path.split("/"))
    assert dict(parse_qsl(parts.query)) == {
        name: ",".join(replay.id(one) for one in value.split(",")) for name, value in exchange.query.items()
    }
    body: Any = request.body
    sent = json.loads(body) if body else None
    expected = exchange.sent and {
        name: replay.id(value) if isinstance(value, str) else value for name, value in exchange.sent.items()
    }
    assert sent == expected
    assert response.status_code == exchange.status
    assert recordings.shape(response.json()) == recordings.shape(exchange.answer)
    internal = {"x-tsa-request-body-time"}
    assert exchange.headers.keys() - internal <= {name.lower() for name in response.headers}
    assert response.headers["content-type"] == exchange.headers["content-type"]
    for name in ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"):
        assert response.headers[name].isdigit()
    assert datetime.strptime(response.headers["date"][:-4], "%a, %d %b %Y %H:%M:%S")  # noqa: DTZ007 - its form only
    counted(exchange, response)


def counted(exchange: Exchange, response: requests.Response) -> None:
    """A list is neither empty nor longer than X's pages."""
    data: Any = response.json()["data"]
    if isinstance(exchange.answer["data"], list) and "counts" not in exchange.path:
        assert 0 < len(data) <= 100
