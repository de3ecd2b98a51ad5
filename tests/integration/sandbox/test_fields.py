"""Which fields are shown, under which names, and to whom."""

from typing import Any

import pytest

from tests.integration.sandbox.running import Sandbox, running, write_world

OTHERS = (("ada", "Tea & biscuits, @bob"), ("bob", "Hi"))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("fields")
    world = write_world(directory / "world.csv", OTHERS)
    with running(directory / "state", "--world", world, "--people", "5") as started:
        yield started


@pytest.fixture(scope="module")
def quote(sandbox: Sandbox) -> tuple[str, str]:
    tea = sandbox.bearer("GET", "/2/tweets/search/recent?query=tea").json()["data"][0]["id"]
    made = sandbox.call("POST", "/2/tweets", json={"text": "Look", "quote_tweet_id": tea})
    return made.json()["data"]["id"], tea


def test_the_older_names_are_answered_in_the_older_names(sandbox: Sandbox, quote: tuple[str, str]) -> None:
    own, tea = quote
    asked = "tweet.fields=public_metrics,referenced_tweets&expansions=referenced_tweets.id"
    answer = sandbox.bearer("GET", f"/2/tweets/{own}?{asked}").json()
    assert answer["data"]["referenced_tweets"] == [{"type": "quoted", "id": tea}]
    assert answer["data"]["edit_history_tweet_ids"] == [own]
    assert "retweet_count" in answer["data"]["public_metrics"]
    assert [one["id"] for one in answer["includes"]["tweets"]] == [tea]


def test_the_newer_names_are_answered_in_the_newer_names(sandbox: Sandbox, quote: tuple[str, str]) -> None:
    own, tea = quote
    asked = "post.fields=public_metrics,referenced_posts&expansions=referenced_posts.id"
    answer = sandbox.bearer("GET", f"/2/tweets/{own}?{asked}").json()
    assert answer["data"]["referenced_posts"] == [{"type": "quoted", "id": tea}]
    assert answer["data"]["edit_history_post_ids"] == [own]
    assert "repost_count" in answer["data"]["public_metrics"]
    assert "retweet_count" not in answer["data"]["public_metrics"]
    assert [one["id"] for one in answer["includes"]["posts"]] == [tea]
    user = sandbox.call("GET", "/2/users/me?user.fields=public_metrics").json()["data"]
    assert "tweet_count" in user["public_metrics"]


@pytest.mark.parametrize(
    ("fields", "refused"), [("tweet.fields", "referenced_posts"), ("post.fields", "retweet_count")]
)
def test_a_name_that_a_list_does_not_have_is_refused(sandbox: Sandbox, fields: str, refused: str) -> None:
    answer = sandbox.bearer("GET", f"/2/tweets?ids=1&{fields}={refused}")
    assert answer.status_code == 400
    assert f"[{refused}] is not one of" in answer.json()["errors"][0]["message"]


def test_private_metrics_are_the_authors_alone(sandbox: Sandbox, quote: tuple[str, str]) -> None:
    own, tea = quote
    path = f"/2/tweets?ids={own},{tea}&tweet.fields=non_public_metrics,organic_metrics"
    answer = sandbox.call("GET", path).json()
    shown = {post["id"]: post for post in answer["data"]}
    assert {"impression_count", "engagements", "user_profile_clicks"} <= set(shown[own]["non_public_metrics"])
    assert {"impression_count", "like_count", "retweet_count"} <= set(shown[own]["organic_metrics"])
    assert "non_public_metrics" not in shown[tea]
    assert [(one["resource_id"], one["field"]) for one in answer["errors"]] == [
        (tea, "non_public_metrics"),
        (tea, "organic_metrics"),
    ]
    assert answer["errors"][0]["title"] == "Field Authorization Error"
    assert answer["errors"][0]["type"].endswith("/problems/not-authorized-for-field")


def test_private_metrics_are_not_for_the_app_alone(sandbox: Sandbox, quote: tuple[str, str]) -> None:
    own, _ = quote
    answer = sandbox.bearer("GET", f"/2/tweets/{own}?tweet.fields=non_public_metrics").json()
    assert "non_public_metrics" not in answer["data"]
    assert answer["errors"][0]["field"] == "non_public_metrics"


def test_mentioned_users_are_included(sandbox: Sandbox) -> None:
    path = "/2/tweets/search/recent?query=tea&expansions=entities.mentions.username,author_id"
    answer = sandbox.bearer("GET", path).json()
    assert [one["username"] for one in answer["includes"]["users"]] == ["ada", "bob"]


def test_a_missing_reference_is_an_error_beside_the_data(sandbox: Sandbox) -> None:
    first = sandbox.call("POST", "/2/tweets", json={"text": "Soon gone"}).json()["data"]["id"]
    body = {"text": "An answer", "reply": {"in_reply_to_tweet_id": first}}
    reply = sandbox.call("POST", "/2/tweets", json=body).json()["data"]["id"]
    sandbox.call("DELETE", f"/2/tweets/{first}")
    answer = sandbox.bearer("GET", f"/2/tweets?ids={reply}&expansions=referenced_tweets.id").json()
    assert answer["data"][0]["referenced_tweets"] == [{"type": "replied_to", "id": first}]
    assert answer["errors"][0]["detail"] == f"Could not find tweet with referenced_tweets.id: [{first}]."


@pytest.mark.parametrize("path", ["/2/users/404", "/2/users/by/username/nobody", "/2/users?ids=404"])
def test_a_missing_user_is_an_error_of_a_200(sandbox: Sandbox, path: str) -> None:
    answer = sandbox.bearer("GET", path)
    assert answer.status_code == 200
    assert answer.json()["errors"][0]["resource_type"] == "user"
    assert "data" not in answer.json()


def test_users_are_found_by_id_and_by_name_in_any_case(sandbox: Sandbox) -> None:
    asked = "user.fields=description,verified,verified_type,public_metrics,profile_image_url,protected"
    ada = sandbox.bearer("GET", f"/2/users/by/username/ADA?{asked}").json()["data"]
    assert (ada["username"], ada["verified"], ada["verified_type"]) == ("ada", False, "none")
    both = sandbox.bearer("GET", "/2/users/by?usernames=bob,ada,nobody").json()
    assert [one["username"] for one in both["data"]] == ["bob", "ada"]
    assert both["errors"][0]["detail"] == "Could not find user with usernames: [nobody]."
    assert sandbox.bearer("GET", f"/2/users/{ada['id']}?{asked}").json()["data"] == ada
    refused = sandbox.bearer("GET", "/2/users/by/username/no-name")
    assert "[no-name] does not match" in refused.json()["errors"][0]["message"]


def test_labels_come_back_as_they_were_given(sandbox: Sandbox) -> None:
    body = {"text": "Made by a machine", "made_with_ai": True, "paid_partnership": True}
    made = sandbox.call("POST", "/2/tweets", json=body)
    post_id = made.json()["data"]["id"]
    assert made.headers["location"] == f"https://api.twitter.com/2/tweets/{post_id}"
    fields = "tweet.fields=made_with_ai,paid_partnership,reply_settings,conversation_id"
    found = sandbox.bearer("GET", f"/2/tweets/{post_id}?{fields}").json()["data"]
    assert (found["made_with_ai"], found["paid_partnership"]) == (True, True)
    assert (found["reply_settings"], found["conversation_id"]) == ("everyone", post_id)


def test_counts_add_up_and_join(sandbox: Sandbox) -> None:
    sandbox.call("POST", "/2/tweets", json={"text": "Countable words"})
    answer = sandbox.bearer("GET", "/2/tweets/counts/recent?query=countable&granularity=day").json()
    assert answer["meta"] == {"total_tweet_count": 1}
    assert sum(one["tweet_count"] for one in answer["data"]) == 1
    ends = [one["end"] for one in answer["data"]]
    assert ends[:-1] == [one["start"] for one in answer["data"]][1:]
