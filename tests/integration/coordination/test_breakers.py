"""Breakers: what fails is left alone for a while, and tried again by exactly one probe at a time."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.alerts import list_alerts
from coordination.breakers import (
    BreakerStatus,
    Passage,
    configure_breaker,
    get_breaker_status,
    reset_breaker,
)
from coordination.database import Database
from coordination.errors import BreakerOpenError, InvalidValueError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

ACCOUNT = "sandbox"
SERVICE = "weather"
QUICK: dict[str, Any] = {
    "first_backoff_s": 30.0,
    "longest_backoff_s": 120.0,
    "probe_lease_s": 60.0,
    "stuck_after_s": 600.0,
}


@pytest.fixture
def rule(console: Database, owner: Owner) -> Iterator[None]:
    """A service that is cut off after three failures."""
    configure(console, opens_after=3)
    yield
    owner.execute("DELETE FROM fleet.breaker_rules WHERE service = %s", (SERVICE,))


def configure(console: Database, service: str = SERVICE, **changes: Any) -> None:
    configure_breaker(console, "*", service, **{**QUICK, **changes}, actor="me", reason="test")


def fail(fleet: Fleet, times: int = 1, passage: Passage | None = None, **told: Any) -> str:
    state = ""
    for _ in range(times):
        asked = passage or Passage(allowed=True, state="closed", failures=0)
        state = fleet.breakers.record(ACCOUNT, SERVICE, asked, succeeded=False, error="timed out", **told)
    return state


def status(fleet: Fleet, service: str = SERVICE) -> BreakerStatus:
    [found] = [one for one in fleet.breakers.get_breaker_status() if one.service == service]
    return found


def opened(fleet: Fleet) -> None:
    assert fail(fleet, 3) == "open"


def probe(fleet: Fleet, fleet_database: FleetDatabase) -> Passage:
    """Take the probe of an open breaker when its time has come."""
    fleet_database.advance(121)
    passage = fleet.breakers.allow(ACCOUNT, SERVICE)
    assert passage.allowed
    assert passage.probe is not None
    return passage


def test_a_service_that_never_failed_is_let_through_without_a_row(fleet: Fleet, owner: Owner) -> None:
    passage = fleet.breakers.allow(ACCOUNT, SERVICE)
    assert passage == Passage(allowed=True, state="closed", failures=0)
    assert fleet.breakers.record(ACCOUNT, SERVICE, passage, succeeded=True) == "closed"
    assert value(owner, "SELECT count(*) FROM fleet.breakers") == 0


@pytest.mark.parametrize(("service", "failures"), [("posting", 15), ("browser", 5), ("weather", 10)])
def test_it_opens_after_as_many_failures_in_a_row_as_its_rule_says(
    fleet: Fleet, service: str, failures: int
) -> None:
    passage = Passage(allowed=True, state="closed", failures=0)
    for number in range(1, failures):
        state = fleet.breakers.record(ACCOUNT, service, passage, succeeded=False, status=503)
        assert (number, state) == (number, "closed")
    assert fleet.breakers.record(ACCOUNT, service, passage, succeeded=False, status=503) == "open"
    refused = fleet.breakers.allow(ACCOUNT, service)
    assert not refused.allowed
    assert 14 <= (refused.retry_after_s or 0) <= 30
    assert refused.reason is not None
    assert "open" in refused.reason
    assert status(fleet, service).opens_after == failures


@pytest.mark.usefixtures("rule")
def test_a_success_between_failures_begins_the_count_anew(fleet: Fleet) -> None:
    fail(fleet, 2)
    passage = fleet.breakers.allow(ACCOUNT, SERVICE)
    assert passage.failures == 2
    fleet.breakers.record(ACCOUNT, SERVICE, passage, succeeded=True)
    assert fail(fleet, 2) == "closed"
    assert status(fleet).failures_total == 4


@pytest.mark.usefixtures("rule")
@pytest.mark.parametrize("answer", [400, 401, 403, 404, 429, 499])
def test_answers_of_4xx_neither_open_it_nor_clear_the_count(fleet: Fleet, answer: int) -> None:
    assert fail(fleet, 20, status=answer) == "closed"
    fail(fleet, 2)
    fleet.breakers.record(
        ACCOUNT, SERVICE, fleet.breakers.allow(ACCOUNT, SERVICE), succeeded=False, status=answer
    )
    assert fail(fleet) == "open"


@pytest.mark.usefixtures("rule")
def test_accounts_and_services_have_breakers_of_their_own(fleet: Fleet) -> None:
    opened(fleet)
    assert not fleet.breakers.allow(ACCOUNT, SERVICE).allowed
    assert fleet.breakers.allow("default", SERVICE).allowed
    assert fleet.breakers.allow(ACCOUNT, "posting").allowed


@pytest.mark.usefixtures("rule")
def test_when_its_time_has_come_one_caller_is_the_probe_and_the_others_wait_i16(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    opened(fleet)
    passage = probe(fleet, fleet_database)
    assert passage.state == "half_open"
    with fleet_database.connect("other") as other:
        refused = other.breakers.allow(ACCOUNT, SERVICE)
        assert (refused.allowed, refused.state) == (False, "half_open")
        assert 1 <= (refused.retry_after_s or 0) <= 60
        assert not fleet.breakers.allow(ACCOUNT, SERVICE).allowed  # nor a second one for the prober
        assert fleet.breakers.record(ACCOUNT, SERVICE, passage, succeeded=True) == "closed"
        assert other.breakers.allow(ACCOUNT, SERVICE).allowed
    found = status(fleet)
    assert (found.state, found.failures, found.opens, found.opened_at) == ("closed", 0, 0, None)


@pytest.mark.usefixtures("rule")
def test_a_probe_that_fails_waits_twice_as_long_up_to_a_bound(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    opened(fleet)
    waits: list[float] = []
    for _ in range(5):
        waits.append(fleet.breakers.allow(ACCOUNT, SERVICE).retry_after_s or 0)
        passage = probe(fleet, fleet_database)
        assert fail(fleet, passage=passage) == "open"
    for waited, longest in zip(waits, (30, 60, 120, 120, 120), strict=True):
        assert longest / 2 - 1 <= waited <= longest
    found = status(fleet)
    assert (found.opens, found.opens_total, found.probes) == (6, 6, 5)
    assert found.next_probe_at is not None


@pytest.mark.usefixtures("rule")
@pytest.mark.parametrize("answer", [404, 429])
def test_a_probe_that_is_answered_with_4xx_closes_it(
    fleet_database: FleetDatabase, fleet: Fleet, answer: int
) -> None:
    opened(fleet)
    assert fail(fleet, passage=probe(fleet, fleet_database), status=answer) == "closed"


@pytest.mark.usefixtures("rule")
def test_a_probe_that_was_not_tried_is_the_next_callers(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    opened(fleet)
    passage = probe(fleet, fleet_database)
    assert fleet.breakers.record(ACCOUNT, SERVICE, passage, succeeded=None) == "open"
    again = fleet.breakers.allow(ACCOUNT, SERVICE)
    assert again.allowed
    assert again.probe != passage.probe


@pytest.mark.usefixtures("rule")
def test_only_the_newest_probe_decides(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    opened(fleet)
    late = probe(fleet, fleet_database)
    owner.execute("UPDATE fleet.breakers SET probe_expires_at = clock_timestamp()")
    with fleet_database.connect("other") as other:
        newest = other.breakers.allow(ACCOUNT, SERVICE)
        assert newest.allowed
        assert newest.probe != late.probe
        assert fleet.breakers.record(ACCOUNT, SERVICE, late, succeeded=True) == "half_open"
        assert fail(fleet, passage=late) == "half_open"
        # Nor does somebody who knows the number but has not the probe.
        assert fleet.breakers.record(ACCOUNT, SERVICE, newest, succeeded=True) == "half_open"
        assert other.breakers.record(ACCOUNT, SERVICE, newest, succeeded=True) == "closed"


def take_probe(keep: Callable[[object], None], dsn: str) -> int:
    fleet = connect(dsn, "victim")
    keep(fleet)
    passage = fleet.breakers.allow(ACCOUNT, SERVICE)
    assert passage.probe is not None
    return passage.probe


@pytest.mark.usefixtures("rule")
def test_the_probe_of_a_killed_process_passes_on_at_once(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    opened(fleet)
    fleet_database.advance(121)
    with victim(take_probe, fleet_database.dsn("worker")) as prober:
        assert not fleet.breakers.allow(ACCOUNT, SERVICE).allowed
        prober.kill()
        until(lambda: fleet.breakers.allow(ACCOUNT, SERVICE).allowed, 5)
    assert status(fleet).probes == prober.result + 1


@pytest.mark.usefixtures("rule")
def test_it_survives_a_crash_of_the_server_and_every_process(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    opened(fleet)
    assert value(owner, "SELECT relpersistence FROM pg_class WHERE oid = 'fleet.breakers'::regclass") == "p"
    fleet.close()
    with fleet_database.connect("next") as after:
        assert not after.breakers.allow(ACCOUNT, SERVICE).allowed


@pytest.mark.usefixtures("rule")
def test_opening_raises_an_alert_and_closing_takes_it_back(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    opened(fleet)
    [alert] = list_alerts(console)
    assert (alert["kind"], alert["severity"], alert["source"]) == ("breaker_open", "error", "tester/1")
    assert "timed out" in alert["message"]
    fleet.breakers.record(ACCOUNT, SERVICE, probe(fleet, fleet_database), succeeded=True)
    assert list_alerts(console) == []
    kinds = rows(owner, "SELECT kind FROM fleet.events WHERE kind LIKE 'breaker%%' ORDER BY id")
    assert kinds == [("breaker_open",), ("breaker_closed",)]


@pytest.mark.usefixtures("rule")
def test_one_that_stays_open_too_long_is_an_alert_of_its_own(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    opened(fleet)
    assert fleet.breakers.watch() == 0
    fleet_database.advance(601)
    assert fleet.breakers.watch() == 1
    assert fleet.breakers.watch() == 0
    stuck = [alert for alert in list_alerts(console) if alert["kind"] == "breaker_stuck"]
    assert [alert["severity"] for alert in stuck] == ["critical"]
    assert "socialfleet breakers reset" in stuck[0]["message"]
    assert status(fleet).is_stuck
    fleet.breakers.record(ACCOUNT, SERVICE, probe(fleet, fleet_database), succeeded=True)
    assert list_alerts(console) == []


@pytest.mark.usefixtures("rule")
def test_who_is_refused_tells_that_it_is_stuck(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    opened(fleet)
    for _ in range(6):
        fail(fleet, passage=probe(fleet, fleet_database))
    assert "breaker_stuck" in {alert["kind"] for alert in list_alerts(console)}


@pytest.mark.usefixtures("rule")
def test_a_person_resets_it_audited_and_counted(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    opened(fleet)
    passage = probe(fleet, fleet_database)
    answer = reset_breaker(console, ACCOUNT, SERVICE, actor="ann", reason="it is back")
    assert (answer["was"], answer["state"], answer["reset_attempts"]) == ("half_open", "closed", 1)
    assert fleet.breakers.allow(ACCOUNT, SERVICE) == Passage(allowed=True, state="closed", failures=0)
    assert fail(fleet, passage=passage) == "closed"  # the old probe's word counts for nothing
    assert status(fleet).failures == 0
    assert reset_breaker(console, ACCOUNT, SERVICE, actor="ann", reason="again")["reset_attempts"] == 2
    assert rows(owner, "SELECT actor, target, reason FROM fleet.audits WHERE action = 'reset_breaker'") == [
        ("ann", f"{ACCOUNT} {SERVICE}", "it is back"),
        ("ann", f"{ACCOUNT} {SERVICE}", "again"),
    ]
    assert list_alerts(console) == []


def test_a_reset_of_what_never_failed_names_what_did(fleet: Fleet, console: Database) -> None:
    fail(fleet)
    with pytest.raises(InvalidValueError) as refusal:
        reset_breaker(console, ACCOUNT, "wether", actor="ann", reason="it is back")
    assert_refused(refusal, "service", "wether")
    assert SERVICE in refusal.value.allowed


@pytest.mark.usefixtures("rule")
def test_under_a_guard_what_is_raised_is_a_failure_and_an_open_one_tries_nothing(fleet: Fleet) -> None:
    tried: list[int] = []

    def call(number: int) -> None:
        with fleet.breakers.guard(ACCOUNT, SERVICE):
            tried.append(number)
            raise TimeoutError("no answer")

    for number in range(3):
        with pytest.raises(TimeoutError):
            call(number)
    with pytest.raises(BreakerOpenError) as refusal:
        call(3)
    assert tried == [0, 1, 2]
    assert refusal.value.retry_after_s >= 1
    assert "no answer" in (status(fleet).last_error or "")


class AnsweredError(Exception):
    status = 404


def test_under_a_guard_an_answer_or_error_is_not_lost_to_a_breaker_that_others_hold(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    """What was paid for, or sent, is worth more than the breaker's count of it."""
    fail(fleet)
    owner.execute("ALTER FUNCTION fleet.record_call SET lock_timeout = '50ms'")
    try:
        with psycopg.connect(fleet_database.superuser_dsn) as holder:
            holder.execute("SELECT 1 FROM fleet.breakers FOR UPDATE")
            with fleet.breakers.guard(ACCOUNT, SERVICE):
                answer = "sunny"
            with pytest.raises(OSError, match="no route"), fleet.breakers.guard(ACCOUNT, SERVICE):
                raise OSError("no route")
    finally:
        owner.execute("ALTER FUNCTION fleet.record_call SET lock_timeout = '5s'")
    assert (answer, status(fleet).failures) == ("sunny", 1)


@pytest.mark.usefixtures("rule")
def test_under_a_guard_answers_count_by_their_status(fleet: Fleet) -> None:
    for _ in range(5):
        with pytest.raises(AnsweredError), fleet.breakers.guard(ACCOUNT, SERVICE):
            raise AnsweredError
    with pytest.raises(KeyboardInterrupt), fleet.breakers.guard(ACCOUNT, SERVICE):
        raise KeyboardInterrupt
    for _ in range(2):
        with fleet.breakers.guard(ACCOUNT, SERVICE) as call:
            call.status = 503
    assert status(fleet).failures == 2
    with fleet.breakers.guard(ACCOUNT, SERVICE) as call:
        call.untried()
    assert status(fleet).failures == 2
    with fleet.breakers.guard(ACCOUNT, SERVICE) as call:
        call.status = 200
    assert status(fleet).failures == 0


@pytest.mark.parametrize(
    ("change", "field", "given"),
    [
        ({"account": "*"}, "account", "*"),
        ({"account": None}, "account", None),
        ({"service": "No such"}, "service", "No such"),
        ({"service": None}, "service", None),
        ({"status": 7}, "status", "7"),
    ],
)
def test_bad_reports_are_refused_by_name(
    fleet: Fleet, change: dict[str, Any], field: str, given: str | None
) -> None:
    told: dict[str, Any] = {"account": ACCOUNT, "service": SERVICE, "succeeded": False, **change}
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("record_call", **told)
    assert_refused(refusal, field, given)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("opens_after", 0),
        ("first_backoff_s", 0),
        ("first_backoff_s", float("nan")),
        ("longest_backoff_s", 1),
        ("probe_lease_s", -1),
        ("stuck_after_s", float("inf")),
    ],
)
def test_bad_rules_are_refused_by_name(console: Database, owner: Owner, field: str, bad: float) -> None:
    before = rows(owner, "SELECT * FROM fleet.breaker_rules ORDER BY account, service")
    changes: dict[str, Any] = {"opens_after": 3, field: bad}
    with pytest.raises(InvalidValueError) as refusal:
        configure(console, **changes)
    assert refusal.value.field == field
    assert rows(owner, "SELECT * FROM fleet.breaker_rules ORDER BY account, service") == before


# Many at once

LIVES = 8


def race_for_the_probe(start: Callable[[], None], dsn: str) -> int | None:
    with connect(dsn, "prober") as fleet:
        start()
        passage = fleet.breakers.allow(ACCOUNT, SERVICE)
        start()  # nobody goes before all have asked
        return passage.probe


def probes_at_once(fleet_database: FleetDatabase) -> list[int]:
    asked = together(race_for_the_probe, LIVES, fleet_database.dsn("worker"))
    return [number for number in asked if number is not None]


@pytest.mark.usefixtures("rule")
def test_of_many_at_once_one_is_the_probe_i16(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    opened(fleet)
    fleet_database.advance(121)
    assert len(probes_at_once(fleet_database)) == 1
    owner.execute(
        "UPDATE fleet.breakers SET state = 'open', probe_incarnation = NULL, probe_expires_at = NULL, "
        "next_probe_at = fleet.now()"
    )
    unlocked = (
        "b.service = ask_breaker.service FOR UPDATE;",
        "b.service = ask_breaker.service; PERFORM pg_sleep(0.5);",
    )
    with planted(owner, "ask_breaker", unlocked):
        assert len(probes_at_once(fleet_database)) > 1


def fail_together(start: Callable[[], None], dsn: str, times: int) -> int:
    with connect(dsn, "failer") as fleet:
        start()
        began = time.monotonic()
        fail(fleet, times)
        return int(time.monotonic() - began)


def test_failures_of_many_processes_are_all_counted_and_open_it_once(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, opens_after=LIVES * 10)
    together(fail_together, LIVES, fleet_database.dsn("worker"), 10)
    [found] = get_breaker_status(console)
    assert (found.state, found.failures, found.failures_total, found.opens_total) == (
        "open",
        LIVES * 10,
        LIVES * 10,
        1,
    )
    owner.execute("DELETE FROM fleet.breaker_rules WHERE service = %s", (SERVICE,))
    assert not fleet.breakers.allow(ACCOUNT, SERVICE).allowed


def probe_again_and_again(start: Callable[[], None], dsn: str) -> list[tuple[float, float]]:
    """Ask a hundred times; give when this process was the probe, in the machine's monotonic seconds."""
    spans: list[tuple[float, float]] = []
    with connect(dsn, "prober") as fleet:
        start()
        for number in range(100):
            passage = fleet.breakers.allow(ACCOUNT, SERVICE)
            if passage.probe is None:
                assert not passage.allowed
                continue
            began = time.monotonic()
            fleet.settings.under("poster_")  # what a probe does takes a while
            spans.append((began, time.monotonic()))
            outcome = None if number % 3 == 0 else False
            fleet.breakers.record(ACCOUNT, SERVICE, passage, succeeded=outcome)
    return spans


def test_no_two_probes_are_ever_under_way_together_i16(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, opens_after=1, first_backoff_s=0.002, longest_backoff_s=0.004)
    fail(fleet)
    found = together(probe_again_and_again, LIVES, fleet_database.dsn("worker"))
    owner.execute("DELETE FROM fleet.breaker_rules WHERE service = %s", (SERVICE,))
    spans = sorted(span for life in found for span in life)
    assert len(spans) > LIVES
    for (_, ended), (began, _) in itertools.pairwise(spans):
        assert ended <= began
    assert status(fleet).probes == len(spans)
