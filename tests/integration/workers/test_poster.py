"""The poster's step over a whole queue, against a server that does exactly what a test says."""

import socket
from pathlib import Path
from threading import Event

import pytest

from config import Config
from coordination import Fleet
from coordination.intents import Action
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import Scripted, credentials, read_request, reply
from workers.context import Context
from workers.fleet.poster import Poster
from workers.outside import sending
from workers.platforms.x import X
from workers.progress import Progress

ME = reply(200, {"data": {"id": "42", "username": "fleet", "name": "Fleet"}})


@pytest.fixture
def poster(fleet: Fleet, server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Poster:
    # A busy machine may stand still for half a second; the limit itself has a test of its own.
    monkeypatch.setattr(sending, "WRITE_WITHIN_S", 30.0)
    context = Context(config=Config(socialfleet_state_dir=tmp_path), account="sandbox")
    context.__dict__["x"] = X(server.url, credentials(), deadline_s=1)
    return Poster(context=context, fleet=fleet, progress=Progress(), draining=Event())


def propose(fleet: Fleet, action: Action, target: str) -> str:
    text = "" if action == "like" else f"Well said, {target}"
    origin = {"author_id": "7", "handle": "ada"}
    return fleet.ledger.propose("sandbox", action, target, text, origin=origin).id


def answers(server: Scripted, *each: bytes) -> None:
    """One answer a request, in order."""
    left = iter(each)

    def act(connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        connection.sendall(next(left))

    server.act = act


def states(fleet: Fleet, *intents: str) -> list[str]:
    found = [fleet.ledger.get(intent) for intent in intents]
    return [str(intent["state"]) for intent in found if intent is not None]


def test_likes_that_must_wait_hold_up_no_answer(
    fleet: Fleet, fleet_database: FleetDatabase, server: Scripted, poster: Poster
) -> None:
    console = fleet_database.database("console")
    console.call("configure_rate_limit", account="sandbox", endpoint="like_tweet", requests=1, window_s=900)
    console.close()
    assert fleet.rate_limits.can_make_request("like_tweet", "tester/1", account="sandbox").grant_id
    likes = [propose(fleet, "like", f"190000000000000000{n}") for n in range(3)]
    answer = propose(fleet, "reply", "1900000000000000009")
    answers(server, ME, reply(201, {"data": {"id": "1234567890123456789", "text": "Well said"}}))
    poster.step()
    assert states(fleet, answer) == ["posted"]
    assert states(fleet, *likes) == ["retry_at", "ready", "ready"]


def test_a_platform_that_refuses_one_endpoint_is_asked_for_the_other(
    fleet: Fleet, server: Scripted, poster: Poster
) -> None:
    likes = [propose(fleet, "like", f"190000000000000000{n}") for n in range(2)]
    answer = propose(fleet, "reply", "1900000000000000009")
    refused = reply(429, {"title": "Too Many Requests", "status": 429, "type": "about:blank"})
    answers(server, ME, refused, reply(201, {"data": {"id": "1234567890123456789", "text": "Well said"}}))
    poster.step()
    assert states(fleet, *likes, answer) == ["retry_at", "ready", "posted"]
