"""A platform that fails is left alone: what is due waits, nothing is lost, one act at a time tries again."""

import pytest

from coordination import Fleet
from coordination.breakers import BreakerStatus, configure_breaker
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import Scripted, reply
from tests.integration.workers.sender import ACCOUNT, claimed, created, state
from workers.errors import CutOffError
from workers.outside.reads import READING, read
from workers.outside.sending import POSTING, Sending
from workers.platforms.x import Read, XRefused, XUnavailable


def breaker(fleet: Fleet, service: str = POSTING) -> BreakerStatus | None:
    found = {one.service: one for one in fleet.breakers.get_breaker_status()}
    return found.get(service)


def quick(fleet_database: FleetDatabase, service: str, opens_after: int = 2) -> None:
    person = fleet_database.database("console")
    configure_breaker(person, "*", service, opens_after=opens_after, actor="me", reason="sooner")
    person.close()


def send(fleet: Fleet, sending: Sending, number: int) -> dict[str, object]:
    """Propose, claim and send; give the intent as it is then."""
    claim = claimed(fleet, f"Hello {number}", f"plan:{number}")
    sending.send(claim)
    return state(fleet, claim)


def test_after_15_answers_of_5xx_what_is_due_waits_and_nothing_is_asked(
    fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    for number in range(15):
        server.answers(reply(503, {"title": "no"}))
        assert send(fleet, sending, number)["state"] == "parked"
    found = breaker(fleet)
    assert found is not None
    assert (found.state, found.failures, found.last_status) == ("open", 15, 503)
    asked = len(server.requests)
    waiting = send(fleet, sending, 15)
    assert waiting["state"] == "retry_at"
    assert "breaker of posting is open" in str(waiting["reason"])
    assert len(server.requests) == asked == 15
    assert fleet.rate_limits.get_remaining_capacity("post_tweet", ACCOUNT).used == 15


def test_what_waited_is_the_probe_and_is_posted_when_the_platform_is_well(
    fleet_database: FleetDatabase, fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    quick(fleet_database, POSTING)
    for number in range(2):
        server.answers(reply(500, {"title": "no"}))
        send(fleet, sending, number)
    waiting = send(fleet, sending, 2)
    assert waiting["state"] == "retry_at"
    fleet_database.advance(61)
    fleet.ledger.tidy(ACCOUNT)
    claim = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert claim is not None
    assert claim.intent == waiting["id"]
    assert claim.passage.state == "half_open"
    server.answers(created())
    assert sending.send(claim)
    assert state(fleet, claim)["state"] == "posted"
    found = breaker(fleet)
    assert found is not None
    assert (found.state, found.failures) == ("closed", 0)


def test_a_probe_that_fails_keeps_it_open_and_parks_no_more_than_itself(
    fleet_database: FleetDatabase, fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    quick(fleet_database, POSTING)
    for number in range(3):
        fleet_database.advance(61)
        server.answers(reply(500, {"title": "no"}))
        assert send(fleet, sending, number)["state"] == "parked"
    assert send(fleet, sending, 3)["state"] == "retry_at"
    found = breaker(fleet)
    assert found is not None
    assert (found.state, found.opens) == ("open", 2)


@pytest.mark.parametrize("answer", [400, 401, 402, 403, 404])
def test_refusals_open_nothing(
    fleet_database: FleetDatabase, fleet: Fleet, server: Scripted, sending: Sending, answer: int
) -> None:
    quick(fleet_database, POSTING, 1)
    server.answers(reply(answer, {"title": "no", "detail": "no"}))
    try:
        send(fleet, sending, 1)
    except Exception as error:  # noqa: BLE001  credentials that are refused stop the worker
        assert answer == 401, error  # noqa: PT017
    assert breaker(fleet) is None


def test_a_platform_that_can_not_be_reached_opens_it_too(
    fleet_database: FleetDatabase, fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    quick(fleet_database, POSTING)
    server.close()
    for number in range(2):
        assert send(fleet, sending, number)["state"] == "retry_at"
    found = breaker(fleet)
    assert found is not None
    assert (found.state, found.last_status) == ("open", None)


def test_a_probe_that_the_gate_refuses_is_the_next_acts(
    fleet_database: FleetDatabase, fleet: Fleet, server: Scripted, sending: Sending
) -> None:
    quick(fleet_database, POSTING, 1)
    server.answers(reply(500, {"title": "no"}))
    send(fleet, sending, 1)
    fleet_database.advance(61)
    with fleet_database.owner() as owner:
        claim = claimed(fleet, "Hello 2", "plan:2")
        assert claim.passage.probe is not None
        owner.execute("UPDATE fleet.kill_switch SET is_on = true")
        owner.execute(
            "INSERT INTO fleet.kill_switch (scope, is_on, reason, changed_by, changed_at) "
            "VALUES ('global', true, 'test', 'me', now()) ON CONFLICT DO NOTHING"
        )
        sending.send(claim)
        owner.execute("UPDATE fleet.kill_switch SET is_on = false")
    assert state(fleet, claim)["state"] == "ready"
    again = fleet.ledger.claim(ACCOUNT, "tester/1")
    assert again is not None
    assert again.passage.probe == claim.passage.probe + 1
    server.answers(created())
    assert sending.send(again)


def test_reads_have_a_breaker_of_their_own_and_wait_as_for_a_grant(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    quick(fleet_database, READING)
    asked: list[str] = []

    def ask(fault: Exception | None) -> object:
        def call() -> Read[str]:
            asked.append("x")
            if fault is not None:
                raise fault
            return Read(value="here", headers={})

        return read(fleet, "search_tweets", call, account=ACCOUNT, worker_id="tester/1").value

    for _ in range(3):
        with pytest.raises(XRefused):
            ask(XRefused(404, "not there", {}))
    assert breaker(fleet, READING) is None
    for _ in range(2):
        with pytest.raises(XUnavailable):
            ask(XUnavailable(503, "no", {}))
    with pytest.raises(CutOffError, match="left alone") as refusal:
        ask(None)
    assert refusal.value.retry_after_s is not None
    assert len(asked) == 5
    assert breaker(fleet, POSTING) is None
    fleet_database.advance(61)
    assert ask(None) == "here"
    found = breaker(fleet, READING)
    assert found is not None
    assert found.state == "closed"
