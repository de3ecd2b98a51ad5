"""What persons set (settings, flags), and what workers leave behind: beats, runs, failed items, readings."""

import contextlib
import threading
from typing import Any

import psycopg
import pytest

from coordination import Fleet
from coordination.audits import EventTail
from coordination.database import Database
from coordination.errors import IncarnationLostError, InvalidValueError
from coordination.flags import set_flag
from coordination.settings import seed_setting, set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import acts
from tests.integration.coordination.crowd import until
from tests.integration.coordination.tables import Owner, assert_refused, kill_session, rows, value


def beat(fleet: Fleet, **changes: Any) -> int:
    """The version that a beat gives."""
    told: dict[str, Any] = {"state": "READY", "progress": 1, **changes}
    return fleet.heartbeats.beat(**told).version


def test_settings_are_read_by_prefix_versioned_and_audited(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    assert fleet.settings.under("planner_") == {}
    before = beat(fleet)
    set_setting(console, "planner_queue_target", 3, actor="me", reason="first")
    first = beat(fleet)
    set_setting(console, "planner_queue_target", 2, actor="you", reason="second")
    set_setting(console, "poster_interval_s", None, actor="me", reason="other")
    assert before < first < beat(fleet)
    assert fleet.settings.under("planner_") == {"planner_queue_target": 2}
    audits = rows(owner, "SELECT actor, login, action, target, reason, details FROM fleet.audits ORDER BY id")
    changed = {"value": 2, "before": 3}
    assert audits[1] == ("you", "fleet_console", "set_setting", "planner_queue_target", "second", changed)


def test_a_first_value_leaves_what_persons_set_alone(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    maintainer = fleet_database.database("maintainer")
    assert seed_setting(maintainer, "planner_spacing_s", 1, actor="manager", reason="start")
    set_setting(console, "planner_spacing_s", 2, actor="me", reason="why")
    assert not seed_setting(maintainer, "planner_spacing_s", 3, actor="manager", reason="start")
    assert fleet.settings.under("planner_spacing_s") == {"planner_spacing_s": 2}
    maintainer.close()


def test_flags_are_on_until_somebody_switches_them_off(fleet: Fleet, console: Database, owner: Owner) -> None:
    assert fleet.flags.enabled("poster_enabled")
    before = beat(fleet)
    set_flag(console, "poster_enabled", enabled=False, actor="me", reason="pause")
    assert not fleet.flags.enabled("poster_enabled")
    assert beat(fleet) > before
    set_flag(console, "poster_enabled", enabled=True, actor="me", reason="go on")
    assert fleet.flags.enabled("poster_enabled")
    assert value(owner, "SELECT count(*) FROM fleet.audits WHERE action = 'set_flag'") == 2


def test_a_change_that_commits_late_is_still_noticed_by_who_saw_a_newer_one(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    quick = threading.Thread(
        target=set_setting, args=(console, "planner_spacing_s", 1), kwargs={"actor": "me", "reason": "quick"}
    )
    with psycopg.connect(fleet_database.dsn("console")) as late:
        late.execute("SELECT fleet.set_setting('planner_queue_target', '1', 'me', 'slow commit')")
        quick.start()
        quick.join(0.3)  # with versions in any order it is through by now, and its version seen
        seen = beat(fleet)
        late.commit()
        after = beat(fleet)
    quick.join()
    assert after > seen
    assert fleet.settings.under("planner_") == {"planner_queue_target": 1, "planner_spacing_s": 1}


def test_bad_settings_and_flags_are_refused_by_name(console: Database, owner: Owner) -> None:
    key, flag = "planner_queue_target", "poster_enabled"
    for change, field, given in (
        (lambda: set_setting(console, "A", 1, actor="me", reason="x"), "key", "A"),
        (lambda: console.call("set_setting", key=None, value="1", actor="me", reason="x"), "key", None),
        (lambda: console.call("set_setting", key=key, value=None, actor="me", reason="x"), key, None),
        (lambda: set_setting(console, key, 1, actor="", reason="x"), "actor", ""),
        (lambda: set_setting(console, key, 1, actor="me", reason=""), "reason", ""),
        (lambda: set_flag(console, "A b", enabled=True, actor="me", reason="x"), "name", "A b"),
        (lambda: console.call("set_flag", name=flag, enabled=None, actor="me", reason="x"), "enabled", None),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            change()
        assert_refused(refusal, field, given)
    assert value(owner, "SELECT count(*) FROM fleet.audits") == 0


def test_a_beat_tells_progress_and_when_it_last_changed(fleet: Fleet, owner: Owner) -> None:
    beat(fleet, progress=1)
    beat(fleet, progress=1, state="BUSY", step="post", memory_bytes=7, health={"database": True})
    assert rows(
        owner,
        "SELECT state, step, progress, memory_bytes, health, progressed_at < beat_at FROM fleet.heartbeats",
    ) == [("BUSY", "post", 1, 7, {"database": True}, True)]
    beat(fleet, progress=2)
    assert value(owner, "SELECT progressed_at = beat_at FROM fleet.heartbeats")
    for state in ("DEAD", None):
        with pytest.raises(InvalidValueError) as refusal:
            beat(fleet, state=state)
        assert_refused(refusal, "state", state)


def test_a_life_that_ended_beats_no_more(fleet: Fleet, owner: Owner) -> None:
    owner.execute("UPDATE fleet.incarnations SET ended_at = clock_timestamp()")
    for act in (lambda: beat(fleet), lambda: fleet.engagement.request_lock("1", "w", "quote")):
        with pytest.raises(IncarnationLostError, match="connect again"):
            act()


def test_runs_tell_what_each_step_did(fleet: Fleet, owner: Owner) -> None:
    done = fleet.runs.start("plan", "trace1")
    fleet.runs.finish(done, items=3, item_errors=1)
    failed = fleet.runs.start("plan", "trace2")
    fleet.runs.finish(failed, items=0, item_errors=0, error_class="ValueError", error="no")
    fleet.runs.finish(failed, items=9, item_errors=9)  # once only
    assert rows(
        owner,
        "SELECT outcome, items, item_errors, items_per_minute > 0, error_class, error FROM fleet.runs "
        "ORDER BY id",
    ) == [("done", 3, 1, True, None, None), ("failed", 0, 0, False, "ValueError", "no")]


def test_the_run_of_a_process_that_died_is_cut_by_its_successor_and_of_a_living_one_not(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with contextlib.ExitStack() as lives:

        def run(trace: str, slot: int = 1) -> None:
            lives.enter_context(fleet_database.connect("poster", slot)).runs.start("post", trace)

        run("t1")
        run("t2")
        kill_session(owner, "poster/1 incarnation")  # both
        run("t3", slot=2)
        assert value(owner, "SELECT count(*) FROM fleet.open_runs") == 3
        run("t4")
        run("t5")
        assert rows(owner, "SELECT trace_id, outcome FROM fleet.runs ORDER BY id") == [
            ("t1", "cut"),
            ("t2", "cut"),
        ]
        assert rows(owner, "SELECT trace_id FROM fleet.open_runs ORDER BY id") == [("t3",), ("t4",), ("t5",)]


def test_an_item_that_fails_n_times_is_dead_until_it_works_again(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    for item in ("short", "long " * 200):
        assert [fleet.failed_items.fail(item, ValueError("no"), max_attempts=3) for _ in range(4)] == [
            False, False, True, True,
        ]  # fmt: skip
        assert fleet.failed_items.among([item, "other"]) == {item: "dead"}
        with fleet_database.connect("other") as other:
            assert other.failed_items.among([item]) == {}
        fleet.failed_items.clear(item)
        assert fleet.failed_items.among([item]) == {}
    assert fleet.failed_items.fail("fragile", ValueError(), max_attempts=1)
    assert value(owner, "SELECT error FROM fleet.failed_items") == "ValueError"
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'dead_letter'") == 3


@pytest.fixture
def post(fleet: Fleet, console: Database, owner: Owner) -> str:
    acts.plentiful(console)
    act = acts.sending(fleet)
    fleet.ledger.settle(act.claim.intent, 1, "posted", "tester/1", platform_id="p1")
    owner.execute("UPDATE fleet.tracked_posts SET next_reading_at = fleet.now()")
    return "p1"


def test_readings_are_appended_and_never_overwritten(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, post: str
) -> None:
    for number in (1, 2, 3):
        (due,) = fleet.readings.claim_due("sandbox", 10)
        assert (due.platform_id, due.readings) == (post, number - 1)
        assert fleet.readings.claim_due("sandbox", 10) == []
        assert fleet.readings.append("sandbox", post, {"likes": number}, next_in_s=60) == number
        fleet_database.advance(61)
    assert rows(owner, "SELECT number, metrics FROM fleet.readings ORDER BY number") == [
        (n, {"likes": n}) for n in (1, 2, 3)
    ]


def test_a_reading_whose_worker_died_is_due_again_after_its_lease(
    fleet_database: FleetDatabase, fleet: Fleet, post: str
) -> None:
    assert len(fleet.readings.claim_due("sandbox", 10, lease_s=60)) == 1
    fleet_database.advance(61)
    assert [due.platform_id for due in fleet.readings.claim_due("sandbox", 10)] == [post]


def test_a_post_that_is_missed_three_times_running_is_gone(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, post: str
) -> None:
    def miss() -> bool:
        return fleet.readings.miss("sandbox", post, "not found", next_in_s=1)

    assert [miss(), miss()] == [False, False]
    fleet.readings.append("sandbox", post, {}, next_in_s=1)
    assert [miss(), miss(), miss()] == [False, False, True]
    fleet_database.advance(3600)
    assert fleet.readings.claim_due("sandbox", 10) == []
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'post_gone'") == 1


def test_bad_readings_are_refused_by_name(fleet: Fleet, post: str) -> None:
    for account, platform_id in (("sandbox", "p2"), ("default", post)):
        with pytest.raises(InvalidValueError) as refusal:
            fleet.readings.append(account, platform_id, {}, next_in_s=1)
        assert_refused(refusal, "platform_id", platform_id)
    with pytest.raises(InvalidValueError) as refusal:
        fleet.readings.claim_due("sandbox", 0)
    assert_refused(refusal, "n", "0")


def test_a_worker_tells_events_and_is_woken_by_name(fleet: Fleet, console: Database, owner: Owner) -> None:
    fleet.audit.event("info", "test", "something happened", {"n": 1})
    assert rows(owner, "SELECT severity, kind, source, message, data FROM fleet.events") == [
        ("info", "test", "tester/1", "something happened", {"n": 1})
    ]
    with pytest.raises(InvalidValueError, match="severity"):
        fleet.audit.event("loud", "test", "x")  # pyright: ignore[reportArgumentType]
    console.call("wake", worker="poster")
    heard: list[str] = []
    until(lambda: bool(heard.extend(fleet.incarnation.wake_ups(0.2)) or heard), 5)
    assert heard == ["poster"]


def test_an_event_that_commits_after_a_newer_one_is_not_left_out_by_who_follows(
    fleet: Fleet, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    fleet.audit.event("info", "kind", "zeroth")
    tail = EventTail(value(owner, "SELECT max(id) FROM fleet.events"))
    fleet.audit.event("info", "kind", "first")
    with fleet_database.owner() as late, late.transaction():
        late.execute("SELECT fleet.emit('info', 'kind', 'tester', 'late')")
        fleet.audit.event("info", "kind", "second")
        assert [event["message"] for event in tail.new(console)] == ["first", "second"]
        assert not tail.is_whole
        assert tail.new(console) == []
    assert [event["message"] for event in tail.new(console)] == ["late"]
    assert tail.is_whole
    fleet.audit.event("info", "kind", "third")
    assert [event["message"] for event in tail.new(console)] == ["third"]
