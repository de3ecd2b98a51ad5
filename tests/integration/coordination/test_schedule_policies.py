"""What becomes of missed slots, of other lines for one name, of pauses and of schedules that stand still."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Thread
from typing import Any, cast

import pytest

from coordination import Fleet, alerts, connect
from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.schedules import CronLine, Policy, Slot, get_schedule_status, pause_schedule
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import PROCESSES, together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

HOURLY = CronLine(line="0 * * * *")
DAY_S = 86_400.0


def at_full_hour(fleet_database: FleetDatabase, owner: Owner, plus_s: float = 1) -> datetime:
    """Move to just after the next full hour; give it."""
    now = value(owner, "SELECT fleet.now()").astimezone(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    fleet_database.advance((hour - now).total_seconds() + plus_s)
    return hour


def decided(owner: Owner, name: str) -> list[tuple[datetime, str]]:
    found = rows(
        owner, "SELECT slot_at, state FROM fleet.schedule_slots WHERE schedule = %s ORDER BY slot_at", name
    )
    return [(slot.astimezone(UTC), state) for slot, state in found]


def test_a_cron_lines_first_slot_is_the_next_one(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    first = fleet.schedules.fire("nightly", HOURLY)
    assert not first.fired
    assert 0 < first.wait_s <= 3600
    hour = at_full_hour(fleet_database, owner)
    fired = fleet.schedules.fire("nightly", HOURLY)
    assert (fired.fired, fired.slot_at.astimezone(UTC), fired.skipped) == (True, hour, 0)
    assert 1 <= fired.late_s < 60
    assert not fleet.schedules.fire("nightly", HOURLY).fired


@pytest.mark.parametrize(
    ("policy", "fires", "skipped"),
    [("skip", [], 5), ("fire_once", [5], 4), ("fire_all", [3, 4, 5], 2)],
)
def test_missed_slots_of_a_cron_line_go_by_the_policy_each_decided_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, policy: str, fires: list[int], skipped: int
) -> None:
    chosen = cast("Policy", policy)
    fleet.schedules.fire("s", HOURLY, policy=chosen, catch_up=3)
    start = at_full_hour(fleet_database, owner, plus_s=-10) - timedelta(hours=1)
    fleet_database.advance(4 * 3600 + 1000)  # five slots were due, the last one a quarter of an hour ago
    fired: list[datetime] = []
    counted = 0
    for _ in range(10):
        slot = fleet.schedules.fire("s", HOURLY, policy=chosen, catch_up=3)
        counted += slot.skipped
        if not slot.fired:
            assert slot.wait_s > 0
            break
        fired.append(slot.slot_at.astimezone(UTC))
    assert fired == [start + timedelta(hours=n) for n in fires]
    assert counted == skipped
    assert decided(owner, "s") == [
        (start + timedelta(hours=n), "fired" if n in fires else "skipped") for n in range(1, 6)
    ]


def test_a_slot_a_minute_late_is_not_missed(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.schedules.fire("s", HOURLY, policy="skip")
    at_full_hour(fleet_database, owner, plus_s=60)
    assert fleet.schedules.fire("s", HOURLY, policy="skip").fired


def test_all_go_by_the_line_registered_last_and_no_slot_is_lost(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    half_past = CronLine(line="30 * * * *")
    assert not fleet.schedules.fire("s", HOURLY).fired
    with fleet_database.connect("newer") as newer:
        newer.schedules.fire("s", half_past)
        hour = at_full_hour(fleet_database, owner)
        # The older program's line has a slot now; it asks, and is told when the newer line's is.
        asked = fleet.schedules.fire("s", HOURLY)
        assert not asked.fired
        if asked.next_at.astimezone(UTC) < hour:
            pytest.fail("the slot is not after the present")
        assert asked.next_at.minute == 30
        fleet_database.advance(1800)
        fired = [one.schedules.fire("s", line).fired for one, line in ((fleet, HOURLY), (newer, half_past))]
        assert fired == [True, False]
    told = rows(owner, "SELECT message FROM fleet.events WHERE kind = 'schedule_changed'")
    assert told == [("schedule s goes by 30 * * * * in UTC from now on, before by 0 * * * * in UTC",)]


def test_a_long_absence_of_a_fine_schedule_is_bounded(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.schedules.fire("fine", 1)
    fleet.schedules.fire("minutely", CronLine(line="* * * * *"), policy="fire_once")
    fleet_database.advance(30 * DAY_S)
    seconds = fleet.schedules.fire("fine", 1)
    minutes = fleet.schedules.fire("minutely", CronLine(line="* * * * *"), policy="fire_once")
    assert seconds.fired
    assert abs(seconds.skipped - 30 * DAY_S) < 20
    assert minutes.fired
    assert abs(minutes.skipped - 30 * 1440) <= 2
    assert value(owner, "SELECT count(*) FROM fleet.schedule_slots") <= 2003


def test_a_paused_schedule_fires_nothing_and_goes_on_with_its_next_slot(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    fleet.schedules.fire("s", 60)
    pause_schedule(console, "s", paused=True, actor="me", reason="look first")
    fleet_database.advance(600)
    asked = fleet.schedules.fire("s", 60)
    assert (asked.fired, asked.paused, asked.skipped) == (False, True, 0)
    assert 0 < asked.wait_s <= 60
    pause_schedule(console, "s", paused=False, actor="me", reason="seen")
    waits = fleet.schedules.fire("s", 60)
    assert not waits.fired
    fleet_database.advance(waits.wait_s + 1)
    went_on = fleet.schedules.fire("s", 60)
    assert (went_on.fired, went_on.skipped) == (True, 0)
    assert rows(owner, "SELECT action, target FROM fleet.audits ORDER BY id") == [
        ("pause_schedule", "s"),
        ("resume_schedule", "s"),
    ]
    with pytest.raises(InvalidValueError, match="name"):
        pause_schedule(console, "none", paused=True, actor="me", reason="why")


def test_a_schedule_that_stands_still_is_an_alert_until_it_fires_again(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    fleet.schedules.fire("still", 60)
    fleet.schedules.fire("runs", 3600)
    assert fleet.schedules.check() == 0
    fleet_database.advance(3700)
    assert fleet.schedules.fire("runs", 3600).fired  # whoever fires looks at the others
    (alert,) = alerts.list_alerts(console)
    assert (alert["key"], alert["kind"]) == ("schedule:still", "schedule_stopped")
    assert "every 60 s" in str(alert["message"])
    assert fleet.schedules.check() == 0  # told once
    (status,) = [one for one in get_schedule_status(console) if one["name"] == "still"]
    assert status["stands_still"]
    assert status["overdue_s"] > 3500
    assert fleet.schedules.fire("still", 60).fired
    assert alerts.list_alerts(console) == []


def test_a_stopped_workers_schedule_is_no_alert(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    owner.execute(
        "INSERT INTO fleet.workers (name, enabled, replicas, description, changed_by, reason, changed_at) "
        "VALUES ('tester', false, 1, '', 'me', 'why', now())"
    )
    fleet.schedules.fire("s", 60)
    fleet_database.advance(3700)
    assert fleet.schedules.check() == 0
    owner.execute("UPDATE fleet.workers SET enabled = true")
    assert fleet.schedules.check() == 1


def test_a_schedule_that_no_program_has_any_more_is_removed_after_a_while(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    fleet.schedules.fire("removed", 60)
    with fleet_database.connect("away") as away:
        away.schedules.fire("down", 60)
    fleet_database.advance(3700)
    assert fleet.schedules.check() == 2
    names = "SELECT name FROM fleet.schedules WHERE name <> 'kept' ORDER BY name"
    fleet.heartbeats.beat(state="READY", progress=1)
    owner.execute("UPDATE fleet.incarnations SET started_at = started_at - interval '1 day'")
    owner.execute("UPDATE fleet.schedules SET told_at = told_at - interval '4 days'")
    assert fleet.schedules.check() == 0
    assert rows(owner, names) == [("down",), ("removed",)]  # a life that lives, and asks for none
    fleet.schedules.fire("kept", 60)
    fleet.schedules.check()
    assert rows(owner, names) == [("down",), ("removed",)]  # it may be about to ask
    fleet_database.advance(3700)
    fleet.schedules.fire("kept", 60)
    owner.execute("UPDATE fleet.schedules SET told_at = told_at + interval '2 days'")
    fleet.schedules.check()
    assert rows(owner, names) == [("down",), ("removed",)]
    owner.execute("UPDATE fleet.schedules SET told_at = told_at - interval '2 days'")
    fleet.schedules.check()
    assert rows(owner, names) == [("down",)]  # its worker may only be down
    assert [alert["key"] for alert in alerts.list_alerts(console)] == ["schedule:down"]
    assert value(owner, "SELECT count(*) FROM fleet.schedule_slots WHERE schedule = 'removed'") == 0
    assert "every 60 s" in value(owner, "SELECT message FROM fleet.events WHERE kind = 'schedule_retired'")
    owner.execute("UPDATE fleet.schedules SET told_at = told_at - interval '27 days'")
    fleet.schedules.check()
    assert rows(owner, names) == []
    assert fleet.schedules.fire("removed", 60).fired  # a program that has it again registers it anew


def test_who_asks_for_a_schedule_while_it_is_removed_registers_it_anew(fleet: Fleet, owner: Owner) -> None:
    fleet.schedules.fire("removed", 3600)
    found, slots = "    is_new := FOUND;", list[Slot]()
    with planted(owner, "fire_slot", (found, f"{found} PERFORM pg_sleep(0.5);")):
        asking = Thread(target=lambda: slots.append(fleet.schedules.fire("removed", 60)))
        asking.start()
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(lambda: value(owner, asleep) == 1, 10)
        owner.execute("DELETE FROM fleet.schedule_slots; DELETE FROM fleet.schedules")
        asking.join()
    assert [slot.fired for slot in slots] == [True]
    assert rows(owner, "SELECT name, interval_s FROM fleet.schedules") == [("removed", 60)]


def test_the_status_tells_how_well_slots_are_kept(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    fleet.schedules.fire("s", 60)
    fleet_database.advance(240)
    fleet.schedules.fire("s", 60)
    (status,) = get_schedule_status(console)
    assert (status["fired"], status["skipped"], status["quality"], status["line"]) == (
        2,
        3,
        0.4,
        "every 60 s",
    )
    assert 0 <= status["latest_s"] <= status["late_s"] <= 120
    assert status["worker"] == "tester"


def test_bad_lines_are_refused_by_name(fleet: Fleet, owner: Owner) -> None:
    for every, field in (
        (CronLine(line="0 0 30 2 *"), "cron"),
        (CronLine(line="0 0 * *"), "cron"),
        (CronLine(line="0 0 * * *", zone="Mars/Olympus"), "zone"),
        (CronLine(line="0 0 * * *", zone="FOO+3"), "zone"),
        (CronLine(line="0 0 * * *", zone=""), "zone"),
        (float("nan"), "interval_s"),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.schedules.fire("s", every)
        assert refusal.value.field == field
        assert_refused(refusal, field, refusal.value.value)
    for options, field in (({"policy": "never"}, "policy"), ({"catch_up": 0}, "catch_up")):
        with pytest.raises(InvalidValueError) as refusal:
            cast("Any", fleet.schedules.fire)("s", HOURLY, **options)
        assert refusal.value.field == field
    assert value(owner, "SELECT count(*) FROM fleet.schedules") == 0


# A month


MONTH_S = 31 * DAY_S
PARIS = "Europe/Paris"
LINES: dict[str, tuple[float | CronLine, Policy]] = {
    "night": (CronLine(line="30 2 * * *", zone=PARIS), "fire_all"),
    "hour": (CronLine(line="15 * * * *", zone="America/New_York"), "fire_all"),
    "week": (CronLine(line="0 9 * * mon-fri", zone=PARIS), "fire_once"),
    "half": (1800, "skip"),
}


def _keep_schedules(start: Callable[[], int], dsn: str, ends_at: str) -> dict[str, list[float]]:
    """Ask as a worker's loop does, each time when it was told to, until fleet time is over."""
    fired: dict[str, list[float]] = {name: [] for name in LINES}
    pause = PROCESSES.Event()
    ends = datetime.fromisoformat(ends_at)
    with connect(dsn, "keeper") as fleet:
        start()
        open_ones = set(LINES)
        while open_ones:
            wait_s = 1.0
            for name in sorted(open_ones):
                every, policy = LINES[name]
                slot = fleet.schedules.fire(name, every, policy=policy, catch_up=1000)
                wait_s = min(wait_s, slot.wait_s)
                if slot.fired:
                    fired[name].append(slot.slot_at.timestamp())
                if slot.next_at > ends:
                    open_ones.discard(name)
            pause.wait(wait_s)
    return fired


def _keep_until_killed(keep: Callable[[object], None], dsn: str) -> int:
    """Fire a few, then begin to fire, and be killed before the commit."""
    fleet = connect(dsn, "keeper")
    keep(fleet)
    return sum(
        fleet.schedules.fire(name, every, policy=policy, catch_up=1000).fired
        for name, (every, policy) in LINES.items()
        for _ in range(3)
    )


@pytest.mark.timed
@pytest.mark.parametrize("begins", ["2027-03-10T00:00:00+00:00", "2027-10-10T00:00:00+00:00"])
def test_a_month_across_a_change_of_clocks_is_kept_by_three_processes_one_killed_i21(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, begins: str
) -> None:
    begin = datetime.fromisoformat(begins)
    fleet_database.advance((begin - value(owner, "SELECT fleet.now()")).total_seconds())
    for name, (every, policy) in LINES.items():
        fleet.schedules.fire(name, every, policy=policy, catch_up=1000)
    began = time.monotonic()
    with victim(_keep_until_killed, fleet_database.dsn("worker")) as doomed:
        fleet_database.advance(3 * DAY_S, rate=MONTH_S / 10)  # a month goes by in ten seconds
        doomed.kill()
        end = begin + timedelta(days=31)
        kept = together(_keep_schedules, 2, fleet_database.dsn("worker"), end.isoformat())
    assert time.monotonic() - began < 60
    for name, (every, policy) in LINES.items():
        slots = rows(
            owner,
            "SELECT extract(epoch FROM slot_at)::double precision, state FROM fleet.schedule_slots "
            "WHERE schedule = %s AND slot_at <= %s ORDER BY slot_at",
            name,
            end,
        )
        told = sorted(at for one in kept for at in one[name] if at <= end.timestamp())
        assert len(set(told)) == len(told), name  # nothing fires twice
        assert set(told) <= {at for at, state in slots if state == "fired"}, name
        if isinstance(every, CronLine):
            expected = value(
                owner, "SELECT fleet.cron_slots(%s, %s, %s, %s, 100000)", every.line, every.zone, begin, end
            )
            assert [at for at, _ in slots] == [at.timestamp() for at in expected], (
                name
            )  # each is decided, once
        else:
            assert {round(b - a) for (a, _), (b, _) in pairwise(slots)} == {round(every)}
        if policy == "fire_all":
            assert {state for _, state in slots} == {"fired"}, name
