"""One send, against a server that does exactly what a test says, and a real ledger."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from coordination import Fleet, kill_switch
from coordination.errors import DatabaseUnavailableError, IncarnationLostError, TransitionRefusedError
from coordination.intents import Action, Clearance
from coordination.ledger import decide
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import Scripted, read_request, reply, reset
from tests.integration.workers.sender import (
    ACCOUNT,
    TARGET,
    TOWARDS,
    accepted,
    claimed,
    claimed_towards,
    created,
    free_content,
    state,
)
from workers.errors import NeedNotMetError
from workers.outside.fence import Fence
from workers.outside.sending import Sending


def test_a_post_is_sent_once_and_its_text_is_the_frozen_one(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    text = "Fish & chips <b> é 日本語 😷\nsecond line"
    claim = claimed(fleet, text)
    server.answers(created())
    assert sending.send(claim)
    intent = state(fleet, claim)
    assert (intent["state"], intent["platform_id"], intent["attempt"]) == ("posted", "1234567890123456789", 1)
    assert [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests] == [{"text": text}]
    assert free_content(fleet, claim)
    assert fleet.engagement.get_engagement_stats().posts == 1


def test_sending_is_committed_before_the_first_byte(
    fleet_database: FleetDatabase, fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    """I6: no outside write without an earlier committed `sending`."""
    claim = claimed(fleet)
    seen: list[tuple[str, int]] = []

    def act(connection: socket.socket) -> None:
        assert read_request(connection)
        with fleet_database.owner() as owner:
            row = owner.execute("SELECT state, attempt FROM fleet.intents").fetchone()
        assert row is not None
        seen.append(row)
        connection.sendall(created())

    server.act = act
    assert sending.send(claim)
    assert seen == [("sending", 1)]


@pytest.mark.parametrize("fault", ["hangs up", "resets", "500", "503", "garbled 201", "says nothing"])
def test_an_outcome_that_nobody_knows_is_parked_and_never_sent_again_by_itself(
    fleet: Fleet, server: Scripted, sending: Sending, fault: str
) -> None:
    claim = claimed(fleet)

    def act(connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        match fault:
            case "resets":
                reset(connection)
            case "500" | "503":
                connection.sendall(reply(int(fault), {"title": "no"}))
            case "garbled 201":
                connection.sendall(reply(201, b"{not json"))
            case "says nothing":
                server.over.wait(3)
            case _:
                pass

    server.act = act
    assert not sending.send(claim)
    intent = state(fleet, claim)
    assert intent["state"] == "parked"
    assert "nobody knows" in intent["reason"]
    fleet.ledger.tidy(ACCOUNT)
    assert fleet.ledger.claim(ACCOUNT, "tester/1") is None
    assert len(server.requests) == 1


def test_where_nothing_left_the_machine_the_gate_is_never_asked(
    fleet: Fleet, fleet_database: FleetDatabase, sending: Sending, server: Scripted
) -> None:
    claim = claimed(fleet)
    server.close()
    assert not sending.send(claim)
    intent = state(fleet, claim)
    assert (intent["state"], intent["attempt"]) == ("retry_at", 0)
    assert fleet.rate_limits.get_remaining_capacity("post_tweet", ACCOUNT).used == 0
    assert free_content(fleet, claim)
    fleet_database.advance(120)
    fleet.ledger.tidy(ACCOUNT)
    again = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert again is not None
    assert again.intent == claim.intent


def test_an_answer_of_the_gate_that_is_too_old_sends_nothing(
    fleet: Fleet, server: Scripted, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was stopped between `begin_send` and the first byte."""
    monkeypatch.setattr("workers.outside.sending.WRITE_WITHIN_S", 0.5)
    clock = iter([100.0, 100.6])
    monkeypatch.setattr("workers.outside.sending._boot_time_s", lambda: next(clock))
    claim = claimed(fleet)
    server.answers(created())
    assert not sending.send(claim)
    intent = state(fleet, claim)
    assert intent["state"] == "ready"
    assert "not written" in intent["reason"]
    server.finished(1)
    assert server.requests == [b""]
    assert fleet.rate_limits.get_remaining_capacity("post_tweet", ACCOUNT).used == 0


def test_a_429_waits_for_its_reset_and_closes_the_endpoint(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet)
    server.answers(
        reply(
            429,
            {"title": "Too Many Requests", "status": 429, "type": "about:blank"},
            "Date: Sun, 01 Mar 2026 12:00:00 GMT",
            "x-rate-limit-limit: 100",
            "x-rate-limit-remaining: 0",
            "x-rate-limit-reset: 1772366700",
        )
    )
    assert not sending.send(claim)
    assert state(fleet, claim)["state"] == "retry_at"
    refused = fleet.rate_limits.can_make_request("post_tweet", "tester/1", account=ACCOUNT)
    assert not refused.allowed
    assert refused.retry_after_seconds is not None
    assert 290 <= refused.retry_after_seconds <= 300


def test_a_definite_no_is_rejected_with_the_platforms_reason(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet)
    server.answers(reply(400, {"title": "Invalid Request", "detail": "One cashtag at most."}))
    assert sending.send(claim)
    intent = state(fleet, claim)
    assert intent["state"] == "rejected"
    assert "One cashtag at most." in intent["reason"]


def test_with_the_kill_switch_on_not_one_byte_leaves(
    fleet: Fleet, fleet_database: FleetDatabase, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet)
    person = fleet_database.database("console")
    kill_switch.set_kill_switch(person, on=True, actor="me", reason="stop")
    server.answers(created())
    assert sending.send(claim)
    assert state(fleet, claim)["state"] == "ready"
    assert fleet.ledger.claim(ACCOUNT, "tester/1") is None
    server.finished(1)
    assert server.requests == [b""]
    kill_switch.set_kill_switch(person, on=False, actor="me", reason="go on")
    person.close()
    assert fleet.ledger.claim(ACCOUNT, "tester/1") is not None


@pytest.mark.parametrize("action", TOWARDS)
def test_whoever_opted_out_after_the_proposal_gets_not_one_byte(
    fleet: Fleet, server: Scripted, sending: Sending, action: Action
) -> None:
    claim = claimed_towards(fleet, action)
    fleet.opt_outs.record(ACCOUNT, "7", "ada", "1900000000000000009", "stop")
    server.answers(accepted(action))
    assert sending.send(claim)
    intent = state(fleet, claim)
    assert (intent["state"], intent["reason"]) == ("rejected", "policy: its author asked to be left alone")
    server.finished(1)
    assert server.requests == [b""]
    assert fleet.rate_limits.get_remaining_capacity(claim.endpoint, ACCOUNT).used == 0
    assert free_content(fleet, claim)


def test_a_lost_acknowledgement_of_begin_send_sends_nothing_and_is_taken_back(
    fleet: Fleet, server: Scripted, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit arrived, its acknowledgement did not: the ledger says sending, and nothing was written."""
    claim = claimed(fleet)
    real = fleet.ledger.begin_send

    def committed_but_unheard(*arguments: Any, **named: Any) -> Clearance:
        assert real(*arguments, **named).sending
        raise DatabaseUnavailableError("the connection was lost")

    monkeypatch.setattr(fleet.ledger, "begin_send", committed_but_unheard)
    server.answers(created())
    with pytest.raises(DatabaseUnavailableError):
        sending.send(claim)
    assert state(fleet, claim)["state"] == "ready"
    server.finished(1)
    assert server.requests == [b""]
    assert free_content(fleet, claim)


def test_a_process_that_lost_its_session_lock_sends_nothing(
    fleet: Fleet, fleet_database: FleetDatabase, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet)
    backend = fleet.incarnation.database.told_pid()
    with fleet_database.owner() as owner:
        owner.execute("SELECT 1")
    import psycopg  # noqa: PLC0415  the superuser ends the session

    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
    server.answers(created())
    with pytest.raises(IncarnationLostError):
        sending.send(claim)
    server.finished(1)
    assert server.requests == [b""]
    assert state(fleet, claim)["state"] == "ready"


def test_the_answer_is_kept_while_the_database_is_away(
    fleet: Fleet, server: Scripted, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed(fleet)
    real = fleet.ledger.settle
    away = iter([True, True, True, False])

    def settle(*arguments: Any, **named: Any) -> dict[str, Any]:
        if next(away):
            raise DatabaseUnavailableError("away")
        return real(*arguments, **named)

    monkeypatch.setattr(fleet.ledger, "settle", settle)
    server.answers(created())
    assert sending.send(claim)
    assert state(fleet, claim)["state"] == "posted"
    assert len(server.requests) == 1


def test_a_database_restored_from_a_backup_is_not_acted_on(
    fleet: Fleet, fleet_database: FleetDatabase, server: Scripted, sending: Sending, tmp_path: Path
) -> None:
    (tmp_path / "fence").write_text("1000\n")
    claim = claimed(fleet)
    server.answers(created())
    assert sending.send(claim)
    intent = state(fleet, claim)
    assert intent["state"] == "ready"
    assert "restored from a backup" in intent["reason"]
    server.finished(1)
    assert server.requests == [b""]
    # Not by itself, however often it is tried: a person looks first.
    for _ in range(1100):
        assert fleet.ledger.claim(ACCOUNT, "tester/1") is None
    person = fleet_database.database("console")
    assert "restored from a backup" in kill_switch.get_kill_switch(person)["reason"]
    kill_switch.set_kill_switch(person, on=False, actor="me", reason="compared the timeline")
    person.close()
    again = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert again is not None
    assert again.fencing_token > 1000
    assert sending.send(again)
    assert state(fleet, claim)["state"] == "posted"


def test_the_fence_only_rises_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence")
    assert fence.read() == 0
    fence.keep(7)
    fence.keep(3)
    assert fence.read() == 7
    (tmp_path / "fence").write_text("seven")
    with pytest.raises(ValueError, match="a whole number"):
        fence.read()


def test_one_act_costs_five_round_trips_at_most(
    fleet: Fleet, server: Scripted, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.ledger.propose(ACCOUNT, "post", "plan:1", "Hello, world")
    server.answers(created())
    calls: list[str] = []
    real = fleet.database.call

    def counted(function: Any, **named: Any) -> Any:
        calls.append(function)
        return real(function, **named)

    monkeypatch.setattr(fleet.database, "call", counted)
    claim = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert claim is not None
    sending.send(claim)
    assert calls == ["claim_intent", "can_make_request", "begin_send", "settle"]


def test_a_like_costs_no_more_round_trips(
    fleet: Fleet, server: Scripted, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.ledger.propose(ACCOUNT, "like", TARGET, "", origin={"author_id": "7"})
    server.answers(accepted("like"))
    calls: list[str] = []
    real = fleet.database.call

    def counted(function: Any, **named: Any) -> Any:
        calls.append(function)
        return real(function, **named)

    monkeypatch.setattr(fleet.database, "call", counted)
    claim = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert claim is not None
    sending.send(claim)
    assert calls == ["claim_intent", "can_make_request", "begin_send", "settle"]


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x00garbage\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nDate: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        (
            b"HTTP/1.1 403 No\r\nx-rate-limit-limit: 1\x00\r\nContent-Length: 25\r\n\r\n"
            b'{"title": "a\\u0000\\ud800"}'
        ),
    ],
)
def test_hostile_bytes_in_an_answer_never_leave_an_act_in_the_air(
    fleet: Fleet, server: Scripted, sending: Sending, answer: bytes
) -> None:
    claim = claimed(fleet)
    server.answers(answer)
    sending.send(claim)
    assert state(fleet, claim)["state"] in {"parked", "rejected"}


def test_a_posts_id_is_kept_though_the_answers_headers_can_not_be(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    claim = claimed(fleet)
    body = b'{"data": {"id": "1234567890123456789", "text": "x"}}'
    head = f"HTTP/1.1 201 Created\r\nx-rate-limit-limit: 1\x00\r\nContent-Length: {len(body)}\r\n\r\n"
    server.answers(head.encode() + body)
    sending.send(claim)
    intent = state(fleet, claim)
    assert (intent["state"], intent["platform_id"]) == ("posted", "1234567890123456789")


def test_a_fence_that_can_not_be_kept_sends_nothing_and_leaves_nothing_sending(
    fleet: Fleet, server: Scripted, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fence: Fence, _number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Fence, "keep", full)
    claim = claimed(fleet)
    server.answers(created())
    with pytest.raises(OSError, match="No space left"):
        sending.send(claim)
    assert state(fleet, claim)["state"] == "ready"
    server.finished(1)
    assert server.requests == [b""]


def test_an_act_that_its_own_sender_left_unsettled_is_parked(fleet: Fleet, server: Scripted) -> None:
    claim = claimed(fleet)
    grant = fleet.rate_limits.can_make_request("post_tweet", "tester/1", account=ACCOUNT)
    assert grant.grant_id is not None
    assert fleet.ledger.begin_send(claim, grant.grant_id, "tester/1", http_deadline_s=1, fence_seen=0).sending
    assert fleet.ledger.park_orphan(ACCOUNT, grace_s=3600) == claim.intent
    assert state(fleet, claim)["state"] == "parked"
    assert server.requests == []


@pytest.mark.parametrize(("status", "raises"), [(401, True), (402, False)])
def test_a_refusal_of_the_account_keeps_the_post_and_ends_the_round(
    fleet: Fleet, server: Scripted, sending: Sending, status: int, raises: bool
) -> None:
    claim = claimed(fleet)
    server.answers(reply(status, {"title": "No", "detail": "not like this"}))
    if raises:
        with pytest.raises(NeedNotMetError, match="X_CONSUMER_KEY"):
            sending.send(claim)
    else:
        assert not sending.send(claim)
    intent = state(fleet, claim)
    assert intent["state"] == "retry_at"
    assert "not like this" in intent["reason"]


def test_an_act_that_the_accounts_access_lacks_waits_and_ends_the_round_for_its_like(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    claim = claimed_towards(fleet, "like")
    server.answers(reply(403, {"title": "Client Forbidden", "reason": "client-not-enrolled"}))
    assert not sending.send(claim)
    intent = state(fleet, claim)
    assert intent["state"] == "retry_at"
    assert "includes no like: is its tier right?" in intent["reason"]


def test_a_post_that_its_sender_reported_late_can_not_be_sent_again(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    claim = claimed(fleet)
    grant = fleet.rate_limits.can_make_request("post_tweet", "tester/1", account=ACCOUNT)
    begun = fleet.ledger.begin_send(claim, grant.grant_id or "", "tester/1", http_deadline_s=1, fence_seen=0)
    fleet.ledger.park_orphan(ACCOUNT, grace_s=0)
    fleet.ledger.settle(claim.intent, begun.attempt, "posted", "tester/1", platform_id="77")
    assert state(fleet, claim)["state"] == "parked"
    person = fleet_database.database("console")
    with pytest.raises(TransitionRefusedError, match=r"mark-posted .* --platform-id 77"):
        decide(person, claim.intent, "resume", actor="me", reason="did not look")
    assert (
        decide(person, claim.intent, "mark_posted", actor="me", reason="it is there", platform_id="77")[
            "state"
        ]
        == "posted"
    )
    person.close()
