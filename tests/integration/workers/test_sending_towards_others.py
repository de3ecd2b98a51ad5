"""Replies, quotes and likes: what is sent to others, and what becomes of it."""

import json
import socket

import pytest

from coordination import Fleet
from coordination.intents import Action
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import Scripted, read_request, reply, reset
from tests.integration.workers.sender import (
    ACCOUNT,
    DUPLICATE,
    TARGET,
    TOWARDS,
    accepted,
    claimed_towards,
    free_content,
    state,
)
from workers.outside.sending import Sending


@pytest.mark.parametrize(
    ("action", "path", "body", "platform_id"),
    [
        (
            "reply",
            b"/2/tweets",
            {"text": "Well said", "reply": {"in_reply_to_tweet_id": TARGET}},
            "2000000000000000001",
        ),
        ("quote", b"/2/tweets", {"text": "Well said", "quote_tweet_id": TARGET}, "2000000000000000001"),
        ("like", b"/2/users/42/likes", {"tweet_id": TARGET}, TARGET),
    ],
)
def test_each_action_is_its_own_request_and_leaves_its_own_history(
    fleet: Fleet,
    fleet_database: FleetDatabase,
    server: Scripted,
    sending: Sending,
    action: Action,
    path: bytes,
    body: dict[str, object],
    platform_id: str,
) -> None:
    claim = claimed_towards(fleet, action)
    assert claim.content == TARGET  # whoever wants the post, wants this lock
    server.answers(accepted(action))
    assert sending.send(claim)
    intent = state(fleet, claim)
    assert (intent["state"], intent["platform_id"]) == ("posted", platform_id)
    [request] = server.requests
    head, _, sent = request.partition(b"\r\n\r\n")
    assert head.split()[:2] == [b"POST", path]
    assert json.loads(sent) == body
    assert free_content(fleet, claim)
    stats = fleet.engagement.get_engagement_stats()
    assert (stats.replies, stats.quote_tweets, stats.likes, stats.posts) == (
        int(action == "reply"), int(action == "quote"), int(action == "like"), 0
    )  # fmt: skip
    used = {
        endpoint: fleet.rate_limits.get_remaining_capacity(endpoint, ACCOUNT).used
        for endpoint in ("post_tweet", "like_tweet")
    }
    assert used == {"post_tweet": int(action != "like"), "like_tweet": int(action == "like")}
    with fleet_database.owner() as owner:
        tracked = owner.execute("SELECT platform_id FROM fleet.tracked_posts").fetchall()
    assert tracked == ([] if action == "like" else [(platform_id,)])  # a like has no numbers of its own


@pytest.mark.parametrize("action", TOWARDS)
@pytest.mark.parametrize("fault", ["hangs up", "resets", "503", "garbled", "says nothing", "half an answer"])
def test_towards_others_too_what_nobody_knows_is_parked(
    fleet: Fleet, server: Scripted, sending: Sending, action: Action, fault: str
) -> None:
    claim = claimed_towards(fleet, action)

    def act(connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        match fault:
            case "resets":
                reset(connection)
            case "503":
                connection.sendall(reply(503, {"title": "no"}))
            case "garbled":
                connection.sendall(reply(200, b'{"data": {"liked": '))
            case "half an answer":
                connection.sendall(accepted(action)[:-9])
            case "says nothing":
                server.over.wait(3)
            case _:
                pass

    server.act = act
    assert not sending.send(claim)
    assert state(fleet, claim)["state"] == "parked"
    fleet.ledger.tidy(ACCOUNT)
    assert fleet.ledger.claim(ACCOUNT, "tester/1") is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("action", TOWARDS)
def test_towards_others_too_a_definite_no_is_rejected_with_its_reason(
    fleet: Fleet, server: Scripted, sending: Sending, action: Action
) -> None:
    claim = claimed_towards(fleet, action)
    server.answers(reply(403, {"title": "Forbidden", "detail": "You were not summoned.", "status": 403}))
    assert sending.send(claim)
    intent = state(fleet, claim)
    assert intent["state"] == "rejected"
    assert "You were not summoned." in intent["reason"]


def test_a_like_that_is_there_already_is_posted(fleet: Fleet, server: Scripted, sending: Sending) -> None:
    claim = claimed_towards(fleet, "like")
    server.answers(reply(403, DUPLICATE))
    assert sending.send(claim)
    assert (state(fleet, claim)["state"], state(fleet, claim)["platform_id"]) == ("posted", TARGET)
    assert len(server.requests) == 1  # no timeline shows a like: none is read


def test_a_like_that_was_not_taken_is_not_posted(fleet: Fleet, server: Scripted, sending: Sending) -> None:
    claim = claimed_towards(fleet, "like")
    server.answers(reply(200, {"data": {"liked": False}}))
    sending.send(claim)
    assert state(fleet, claim)["state"] != "posted"


def test_a_like_of_an_account_that_nobody_asked_who_it_is_waits_and_takes_no_grant(
    fleet: Fleet, fleet_database: FleetDatabase, server: Scripted, sending: Sending
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.accounts SET platform_user_id = NULL, handle = NULL")
    claim = claimed_towards(fleet, "like")
    assert sending.send(claim)
    assert state(fleet, claim)["state"] == "retry_at"
    assert server.connections == 0
    assert fleet.rate_limits.get_remaining_capacity("like_tweet", ACCOUNT).used == 0


def test_a_like_that_X_limits_closes_likes_and_not_posts(  # noqa: N802  X is a name
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    claim = claimed_towards(fleet, "like")
    server.answers(reply(429, {"title": "Too Many Requests", "status": 429, "type": "about:blank"}))
    assert not sending.send(claim)
    assert state(fleet, claim)["state"] == "retry_at"
    assert not fleet.rate_limits.can_make_request("like_tweet", "tester/1", account=ACCOUNT).allowed
    assert fleet.rate_limits.can_make_request("post_tweet", "tester/1", account=ACCOUNT).allowed
