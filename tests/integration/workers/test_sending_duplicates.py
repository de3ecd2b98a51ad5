"""A post that the platform calls a duplicate: ours, or somebody said it before."""

import socket

import pytest

from coordination import Fleet
from coordination.intents import Action
from coordination.ledger import decide
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import Scripted, read_request, reply
from tests.integration.workers.sender import (
    ACCOUNT,
    DUPLICATE,
    TARGET,
    claimed,
    claimed_towards,
    posts_on_timeline,
    snowflake_of_now,
    state,
)
from workers.outside.sending import Sending


def duplicate_then_timeline(server: Scripted, timeline: bytes) -> None:
    def act(connection: socket.socket) -> None:
        request = read_request(connection)
        server.requests.append(request)
        connection.sendall(reply(403, DUPLICATE) if request.startswith(b"POST") else timeline)

    server.act = act


def test_a_duplicate_that_is_our_own_post_is_posted(fleet: Fleet, server: Scripted, sending: Sending) -> None:
    claim = claimed(fleet, "Fish & chips")
    post_id = snowflake_of_now(fleet)
    duplicate_then_timeline(server, posts_on_timeline("Fish &amp; chips", post_id))
    assert sending.send(claim)
    intent = state(fleet, claim)
    assert (intent["state"], intent["platform_id"]) == ("posted", post_id)


@pytest.mark.parametrize(("action", "kind"), [("reply", "replied_to"), ("quote", "quoted")])
@pytest.mark.parametrize("where", ["there", "elsewhere", "nowhere"])
def test_a_duplicate_reply_or_quote_is_ours_only_with_its_reference(
    fleet: Fleet, server: Scripted, sending: Sending, action: Action, kind: str, where: str
) -> None:
    claim = claimed_towards(fleet, action)
    post_id = snowflake_of_now(fleet)
    references = {
        "there": [{"type": kind, "id": TARGET}],
        "elsewhere": [{"type": kind, "id": "1900000000000000002"}],
        "nowhere": [],
    }[where]
    post = {"id": post_id, "text": "Well said", "referenced_tweets": references}
    duplicate_then_timeline(server, reply(200, {"data": [post], "meta": {"result_count": 1}}))
    assert sending.send(claim)
    intent = state(fleet, claim)
    expected = ("posted", post_id) if where == "there" else ("rejected", None)
    assert (intent["state"], intent["platform_id"]) == expected


def test_a_duplicate_of_an_old_post_is_rejected_not_adopted(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet, "Fish & chips")
    duplicate_then_timeline(server, posts_on_timeline("Fish &amp; chips", "1234567890"))
    assert sending.send(claim)
    assert state(fleet, claim)["state"] == "rejected"


def test_a_duplicate_whose_timeline_can_not_be_read_is_parked(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet)
    duplicate_then_timeline(server, reply(503, {}))
    sending.send(claim)
    assert state(fleet, claim)["state"] == "parked"


def test_after_an_attempt_that_may_have_posted_a_duplicate_not_found_is_parked(
    fleet: Fleet, fleet_database: FleetDatabase, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet)
    server.answers(reply(500, {}))
    sending.send(claim)
    person = fleet_database.database("console")
    decide(person, claim.intent, "resume", actor="me", reason="try once more")
    person.close()
    again = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert again is not None
    duplicate_then_timeline(server, reply(200, {"meta": {"result_count": 0}}))
    sending.send(again)
    intent = state(fleet, claim)
    assert (intent["state"], intent["attempt"]) == ("parked", 2)
