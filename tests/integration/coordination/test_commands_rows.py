"""Commands: audited, taken once, in order, timed out, superseded; a canary is judged by what it did."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from coordination import status
from coordination.commands import get_command, preview_command, request_command
from coordination.database import Database
from coordination.desired import Part
from coordination.errors import InvalidValueError
from coordination.flags import set_flag
from coordination.hosts import adopt_override
from coordination.process_ends import EndedProcess, record_process_ends
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.managers import Manager, managed, settle, silence
from tests.integration.coordination.tables import (
    Owner,
    assert_refused,
    kill_session,
    planted,
    rows,
    value,
)

WHO: Any = {"actor": "me", "reason": "test"}


@pytest.fixture
def pair(fleet_database: FleetDatabase, console: Database) -> Iterator[list[Manager]]:
    """Two hosts with two slots of alpha each."""
    with managed(fleet_database, "a", "b") as managers:
        request_command(console, "scale", selector="alpha", args={"replicas": 4}, **WHO)
        settle(managers)
        for manager in managers:
            for part in manager.parts():
                manager.finish(part)
        yield managers


def states(console: Database, command: dict[str, Any]) -> list[str]:
    return [part["state"] for part in get_command(console, command["id"])["parts"]]


def ask(console: Database, action: Any, selector: str | None, **options: Any) -> dict[str, Any]:
    return request_command(console, action, selector=selector, **{**WHO, **options})


def taken(managers: list[Manager]) -> list[tuple[Manager, Part]]:
    return [(manager, part) for manager in managers for part in manager.parts()]


def restart(console: Database, strategy: str, **options: Any) -> dict[str, Any]:
    return ask(console, "restart", "alpha", args={"strategy": strategy, **options})


def _take(manager: Manager) -> tuple[Manager, list[Part]]:
    return manager, manager.parts()


def _finish(entry: tuple[Manager, list[Part]]) -> None:
    for part in entry[1]:
        entry[0].finish(part)


def _pause_all(person: Database) -> dict[str, Any]:
    return ask(person, "pause", "*", idempotency_key="k")


def expire(owner: Owner, command: dict[str, Any]) -> None:
    owner.execute("UPDATE fleet.commands SET expires_at = clock_timestamp() WHERE id = %s", (command["id"],))


@pytest.mark.usefixtures("pair")
def test_a_command_is_audited_with_who_why_and_what_it_changes(console: Database, owner: Owner) -> None:
    asked = ask(console, "stop", "alpha", actor="ann", reason="too loud")
    (told,) = rows(owner, "SELECT actor, reason, target, details FROM fleet.audits WHERE action = 'stop'")
    assert told[:3] == ("ann", "too loud", "alpha")
    assert told[3]["command"] == int(asked["id"])
    assert told[3]["changes"] == ["alpha: should not run"]
    for bad in ({"actor": ""}, {"reason": ""}):
        with pytest.raises(InvalidValueError):
            ask(console, "start", "alpha", **bad)
    assert not value(owner, "SELECT enabled FROM fleet.workers")


def test_each_part_goes_to_the_host_that_has_the_slot_and_is_taken_by_nobody_else(
    pair: list[Manager], console: Database
) -> None:
    asked = restart(console, "at_once")
    found = taken(pair)
    assert {(manager.name, part.slot) for manager, part in found} == {
        (part["host"], part["slot"]) for part in asked["parts"]
    }
    assert {part.mode for _, part in found} == {"plain"}
    for manager, part in found:
        manager.finish(part, text=f"alpha/{part.slot} is READY")
    done = get_command(console, asked["id"])
    assert done["state"] == "done"
    assert done["result"] == "alpha/1 is READY, alpha/2 is READY, alpha/3 is READY, alpha/4 is READY"


def test_hosts_that_take_at_the_same_moment_take_each_part_once(
    fleet_database: FleetDatabase, console: Database
) -> None:
    with managed(fleet_database, "a", "b", "c", "d") as managers, ThreadPoolExecutor(4) as threads:
        ask(console, "scale", "alpha", args={"replicas": 20})
        settle(managers, 12)
        for _ in range(5):
            asked = restart(console, "at_once")
            given = list(threads.map(_take, managers))
            slots = [part.slot for _, parts in given for part in parts if part.command == asked["id"]]
            assert sorted(slots) == list(range(1, 21))
            list(threads.map(_finish, given))
            assert get_command(console, asked["id"])["state"] == "done"


def test_a_rolling_restart_goes_slot_by_slot_across_hosts(pair: list[Manager], console: Database) -> None:
    asked = restart(console, "rolling")
    order = list[int]()
    for _ in range(4):
        ((manager, part),) = taken(pair)
        assert part.mode == "surge"
        order.append(part.slot)
        assert taken(pair)[0][1].id == part.id  # the same, until it is finished
        manager.finish(part)
    assert order == [1, 2, 3, 4]
    assert get_command(console, asked["id"])["state"] == "done"


def test_a_rolling_restart_that_did_not_wait_would_be_seen(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    with (
        planted(owner, "take_parts", ("o.ordinal < p.ordinal", "false")),
        pytest.raises(ValueError, match="unpack"),
    ):
        test_a_rolling_restart_goes_slot_by_slot_across_hosts(pair, console)


def test_a_bad_replacement_aborts_a_rolling_restart_and_the_rest_stays_as_it_was(
    pair: list[Manager], console: Database
) -> None:
    asked = restart(console, "rolling")
    ((manager, part),) = taken(pair)
    manager.finish(part)
    ((manager, part),) = taken(pair)
    manager.finish(part, succeeded=False, text="the replacement did not get ready")
    assert states(console, asked) == ["done", "failed", "skipped", "skipped"]
    told = get_command(console, asked["id"])
    assert told["state"] == "aborted"
    assert "alpha/3: left as it was: alpha/2 failed" in told["result"]
    assert not taken(pair)


def test_singletons_stop_first(fleet_database: FleetDatabase, console: Database) -> None:
    with managed(fleet_database, "a", singletons=("alpha",)) as managers:
        settle(managers, 2)
        for strategy in ("at_once", "rolling"):
            asked = restart(console, strategy)
            ((manager, part),) = [found for found in taken(managers) if found[1].command == asked["id"]]
            assert part.mode == "stop_first"
            manager.finish(part)


class Canary:
    """A canary restart of alpha, its first slot restarted and being watched."""

    def __init__(self, managers: list[Manager], console: Database, owner: Owner) -> None:
        self.managers, self.console, self.owner = managers, console, owner
        self.asked = restart(console, "canary", watch_s=60)
        ((self.manager, part),) = taken(managers)
        assert (part.slot, part.mode) == (1, "surge" if len(managers) > 1 else part.mode)
        self.manager.finish(part)
        assert states(console, self.asked)[0] == "watching"
        assert not taken(managers)

    def pass_time(self) -> list[str]:
        self.owner.execute(
            "UPDATE fleet.command_parts SET watch_from = watch_from - interval '60 seconds', "
            "watch_until = watch_until - interval '60 seconds'"
        )
        settle(self.managers, 1)
        return states(self.console, self.asked)


def ran(owner: Owner, slot: int, outcome: str, times: int, *, ago_s: float = 0) -> None:
    """Steps that a slot of alpha did."""
    for _ in range(times):
        owner.execute(
            "INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, "
            "ended_real_at, outcome) SELECT 'alpha', %s, gen_random_uuid(), 'step', 't', t, t, t, %s "
            "FROM (SELECT clock_timestamp() - make_interval(secs => %s) AS t) x",
            (slot, outcome, ago_s),
        )


def test_a_canary_that_does_as_well_as_its_siblings_lets_the_rest_follow(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    canary = Canary(pair, console, owner)
    ran(owner, 1, "failed", 2)
    ran(owner, 1, "done", 2)
    ran(owner, 2, "failed", 4)
    ran(owner, 3, "done", 4)
    assert canary.pass_time()[0] == "done"
    for _ in range(3):
        ((manager, part),) = taken(pair)
        manager.finish(part)
    told = get_command(console, canary.asked["id"])
    assert told["state"] == "done"
    assert "as good as before" in told["result"]


def test_a_canary_whose_runs_fail_more_than_its_siblings_aborts_before_its_time(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    canary = Canary(pair, console, owner)
    ran(owner, 1, "failed", 2)
    ran(owner, 1, "done", 2)
    ran(owner, 2, "done", 4)
    settle(pair, 1)
    assert states(console, canary.asked) == ["failed", "skipped", "skipped", "skipped"]
    told = get_command(console, canary.asked["id"])
    assert told["state"] == "aborted"
    assert "2 of 4 runs of alpha/1 failed, of its siblings' 0 of 4" in told["result"]


def test_a_canary_that_crashes_more_than_its_siblings_aborts(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    canary = Canary(pair, console, owner)
    end = EndedProcess(
        worker="alpha", slot=1, pid=7, pid_started="7", boot_id="b", pid_namespace="n", exit_code=1,
        how="ended with exit code 1", ago_s=0,
    )  # fmt: skip
    record_process_ends(canary.manager.database, canary.manager.name, [end])
    settle(pair, 1)
    assert states(console, canary.asked)[0] == "failed"
    assert "alpha/1 ended 1 times" in get_command(console, canary.asked["id"])["result"]


def test_a_canary_in_trouble_aborts_at_once(pair: list[Manager], console: Database, owner: Owner) -> None:
    canary = Canary(pair, console, owner)
    canary.manager.report(alpha="CRASH_LOOP")
    settle(pair[1:] if canary.manager is not pair[1] else pair[:1], 1)
    assert states(console, canary.asked)[0] == "failed"


@pytest.mark.parametrize(("before", "verdict"), [("failed", "done"), ("done", "failed")])
def test_a_canary_without_siblings_is_held_against_itself_before(
    fleet_database: FleetDatabase, console: Database, owner: Owner, before: str, verdict: str
) -> None:
    with managed(fleet_database, "a") as managers:
        settle(managers, 2)
        ran(owner, 1, before, 5, ago_s=100)
        canary = Canary(managers, console, owner)
        ran(owner, 1, "failed", 3)
        assert canary.pass_time() == [verdict]


@pytest.mark.usefixtures("pair")
def test_the_same_key_is_the_same_command_and_another_command_may_not_have_it(
    console: Database, owner: Owner
) -> None:
    first = ask(console, "restart", "alpha/1", idempotency_key="deploy-7")
    again = ask(console, "restart", "alpha/1", idempotency_key="deploy-7")
    assert (again["id"], again["repeated"], first["repeated"]) == (first["id"], True, False)
    assert value(owner, "SELECT count(*) FROM fleet.audits WHERE action = 'restart'") == 1
    with pytest.raises(InvalidValueError) as refusal:
        ask(console, "restart", "alpha/2", idempotency_key="deploy-7")
    assert_refused(refusal, "idempotency_key", "deploy-7")


@pytest.mark.usefixtures("pair")
def test_two_who_ask_with_one_key_at_the_same_moment_get_one_command(fleet_database: FleetDatabase) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(4) as threads:
        persons = [fleet_database.database("console") for _ in range(4)]
        for person in persons:
            stack.callback(person.close)
        asked = list(threads.map(_pause_all, persons))
    assert len({command["id"] for command in asked}) == 1
    assert [command["repeated"] for command in asked].count(False) == 1


def test_what_is_not_done_in_time_times_out_and_says_why(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    asked = restart(console, "at_once")
    found = taken(pair)
    for manager, part in found[:3]:
        manager.finish(part)
    expire(owner, asked)
    settle(pair, 1)
    assert sorted(states(console, asked)) == ["done", "done", "done", "timed_out"]
    assert get_command(console, asked["id"])["state"] == "partial"
    manager, part = found[3]
    manager.finish(part)  # too late
    assert "timed_out" in states(console, asked)


def test_a_command_for_a_slot_that_no_host_has_times_out_and_names_the_reason(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    told = ask(console, "set", "alpha", args={"placement": {"labels": {"zone": "nowhere"}}, "nice": 3})
    assert told["result"] == 'alpha: nice is 3, placement is {"labels": {"zone": "nowhere"}}'
    settle(pair)
    asked = ask(console, "restart", "alpha/1")
    expire(owner, asked)
    settle(pair, 1)
    told = get_command(console, asked["id"])
    assert told["state"] == "timed_out"
    assert "no live host has it" in told["result"]


def test_a_later_command_supersedes_what_an_earlier_one_still_wants(
    pair: list[Manager], console: Database
) -> None:
    restarts = restart(console, "rolling")
    ((manager, part),) = taken(pair)
    stop = ask(console, "stop", "alpha")
    assert set(states(console, restarts)) == {"superseded"}
    told = get_command(console, restarts["id"])
    assert told["state"] == "failed"
    assert f"superseded by command {stop['id']}" in told["result"]
    manager.finish(part)
    assert set(states(console, restarts)) == {"superseded"}
    for manager, part in taken(pair):
        assert part.action == "stop"
        manager.finish(part)
    assert get_command(console, stop["id"])["state"] == "done"


@pytest.mark.usefixtures("pair")
def test_reading_logs_supersedes_nothing_and_is_not_superseded(console: Database) -> None:
    logs = ask(console, "logs", "alpha/1", args={"lines": 3})
    restarts = ask(console, "restart", "alpha/1")
    assert states(console, logs) + states(console, restarts) == ["waiting", "waiting"]


def test_a_part_whose_host_is_lost_goes_to_the_slots_new_one(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    asked = restart(console, "at_once")
    a, b = pair
    assert len(a.parts()) == 2
    for part in b.parts():
        b.finish(part)
    a.close()
    kill_session(owner, "test manager a")
    silence(owner, "a", 4)
    settle([b], 3)
    assert len(b.parts()) == 2
    for part in b.parts():
        b.finish(part)
    assert get_command(console, asked["id"])["state"] == "done"


@pytest.mark.usefixtures("pair")
def test_a_command_for_what_is_stopped_or_switched_off_fails_at_once_and_says_by_whom(
    console: Database,
) -> None:
    ask(console, "stop", "alpha", actor="ann", reason="too loud")
    asked = ask(console, "restart", "alpha")
    assert (asked["state"], set(states(console, asked))) == ("failed", {"failed"})
    assert "stopped by ann: too loud" in asked["result"]
    with pytest.raises(InvalidValueError, match="start alpha"):
        ask(console, "start", "alpha/1")
    set_flag(console, "alpha_enabled", enabled=False, actor="ann", reason="never mind")
    assert "flag alpha_enabled is off" in ask(console, "start", "alpha")["result"]
    set_flag(console, "alpha_enabled", enabled=True, actor="ann", reason="again")
    assert ask(console, "start", "alpha")["state"] == "pending"


def test_one_slot_is_stopped_and_started_alone_and_a_start_of_the_whole_starts_it_too(
    pair: list[Manager], console: Database
) -> None:
    ask(console, "stop", "alpha/2", actor="ann", reason="odd")
    settle(pair, 2)
    stopped = [slot for manager in pair for slot in manager.exchange().slots if not slot.runs]
    assert [(slot.slot, slot.reason) for slot in stopped] == [(2, "stopped by ann: odd")]
    ask(console, "start", "alpha")
    settle(pair, 2)
    assert all(slot.runs for manager in pair for slot in manager.exchange().slots)


def test_a_pause_and_its_end_leave_the_process_running(pair: list[Manager], console: Database) -> None:
    ask(console, "pause", "alpha", actor="ann", reason="X is slow")
    slots = [slot for manager in pair for slot in manager.exchange().slots]
    assert {(slot.runs, slot.paused, slot.reason) for slot in slots} == {
        (True, True, "paused by ann: X is slow")
    }
    ask(console, "resume", "alpha")
    assert not any(slot.paused for manager in pair for slot in manager.exchange().slots)


def test_a_selector_names_workers_slots_lists_hosts_or_all(
    fleet_database: FleetDatabase, console: Database
) -> None:
    with managed(fleet_database, "a", "b", workers=("alpha", "beta")) as managers:
        ask(console, "scale", "*", args={"replicas": 2})
        settle(managers)

        def meant(selector: str | None, host: str | None = None) -> list[str]:
            plan = preview_command(console, "restart", selector=selector, host=host)
            return [f"{part['worker']}/{part['slot']}" for part in plan["parts"]]

        assert meant("*") == ["alpha/1", "alpha/2", "beta/1", "beta/2"]
        assert meant("alpha/2, beta") == ["alpha/2", "beta/1", "beta/2"]
        on_a = meant(None, "a")
        assert len(on_a) == 2
        assert sorted(on_a + meant("*", "b")) == meant("*")
        for selector, host, field in (
            ("gamma", None, "worker"),
            ("alpha/3", None, "slot"),
            ("alpha/x", None, "slot"),
            ("alpha", "c", "host"),
            (None, None, "selector"),
        ):
            with pytest.raises(InvalidValueError) as refusal:
                meant(selector, host)
            assert refusal.value.field == field


@pytest.mark.usefixtures("pair")
def test_a_preview_tells_parts_and_changes_and_changes_nothing(console: Database, owner: Owner) -> None:
    audits = value(owner, "SELECT count(*) FROM fleet.audits")
    plan = preview_command(console, "scale", selector="alpha", args={"replicas": 2})
    assert plan["changes"] == ["alpha: from 4 to 2 slots"]
    assert [(part["slot"], part["action"]) for part in plan["parts"]] == [(3, "drain"), (4, "drain")]
    assert value(owner, "SELECT replicas FROM fleet.workers") == 4
    assert value(owner, "SELECT count(*) FROM fleet.audits") == audits


def test_fewer_and_more_slots_are_done_when_they_are_gone_or_up(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    fewer = ask(console, "scale", "alpha", args={"replicas": 1})
    settle(pair, 3)
    assert get_command(console, fewer["id"])["state"] == "done"
    assert value(owner, "SELECT count(*) FROM fleet.slots") == 1
    more = ask(console, "scale", "alpha", args={"replicas": 2})
    settle(pair, 2)
    ((manager, part),) = taken(pair)
    assert (part.action, part.slot) == ("start", 2)
    manager.finish(part)
    assert get_command(console, more["id"])["state"] == "done"


def test_a_drained_host_hears_of_it_when_its_slots_are_taken_though_anothers_pass_is_on_its_way(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    asked = ask(console, "drain", None, host="a")
    with owner.transaction():
        owner.execute("SELECT pg_advisory_xact_lock(fleet.lock_key('hosts', 'shares'))")
        share = pair[0].exchange()
        assert [slot.runs for slot in share.slots] == [True, True]
        assert not share.parts
    share = pair[0].exchange()
    assert not share.slots
    assert [part.command for part in share.parts] == [asked["id"]] * 2


def test_a_host_that_is_drained_by_command_is_done_when_nothing_is_left_on_it(
    pair: list[Manager], console: Database
) -> None:
    asked = ask(console, "drain", None, host="a")
    assert {part["host"] for part in asked["parts"]} == {"a"}
    settle(pair, 3)
    told = get_command(console, asked["id"])
    assert told["state"] == "done"
    assert "it runs on b now" in told["result"]
    assert not pair[0].held
    ask(console, "start", None, host="a")
    settle(pair)
    assert [len(manager.held) for manager in pair] == [2, 2]


@pytest.mark.parametrize(
    ("action", "args", "field"),
    [
        ("scale", {}, "replicas"),
        ("scale", {"replicas": -1}, "replicas"),
        ("scale", {"replicas": "many"}, "replicas"),
        ("scale", {"replicas": 1.5}, "replicas"),
        ("set", {}, "args"),
        ("set", {"colour": 1}, "args"),
        ("set", {"memory_limit_mb": 3}, "memory_limit_mb"),
        ("set", {"nice": None}, "nice"),
        ("set", {"placement": {"host": 3}}, "placement"),
        ("set", {"placement": {"labels": {}}}, "placement"),
        ("set", {"placement": {"labels": {"a\n": "b"}}}, "placement"),
        ("set", {"placement": {"labels": {"labels:zone": "b"}}}, "placement"),
        ("set", {"placement": {"host": "nowhere"}}, "host"),
        ("set", {"placement": {"host": "a", "labels": {"x": "y"}}}, "placement"),
        ("restart", {"strategy": "hope"}, "strategy"),
        ("restart", {"watch_s": 0}, "watch_s"),
        ("start", {"x": 1}, "args"),
        ("fly", {}, "action"),
    ],
)
@pytest.mark.usefixtures("pair")
def test_what_a_command_can_not_be_is_refused_by_name_and_changes_nothing(
    console: Database, owner: Owner, action: str, args: dict[str, Any], field: str
) -> None:
    before = rows(owner, "SELECT to_jsonb(w) FROM fleet.workers w")
    with pytest.raises(InvalidValueError) as refusal:
        ask(console, action, "alpha", args=args)
    assert refusal.value.field == field
    assert refusal.value.allowed
    assert rows(owner, "SELECT to_jsonb(w) FROM fleet.workers w") == before


def test_what_was_done_on_a_host_without_the_database_is_its_slots_desired_state_and_audited(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    a = pair[0]
    had = {number for _, number in a.held}
    adopt_override(a.database, "a", action="stop", selector="alpha", actor="ann", reason="at the machine")
    settle(pair, 2)
    told = {slot.slot: slot.runs for manager in pair for slot in manager.exchange().slots}
    assert {number for number, runs in told.items() if not runs} == had
    (audit,) = rows(owner, "SELECT actor, details FROM fleet.audits WHERE action = 'stop'")
    assert audit[0] == "ann"
    assert audit[1]["told_afterwards"] is True
    shown = [slot for slot in status.list_slots(console) if not slot.enabled]
    assert {slot.slot for slot in shown} == had


def test_what_was_done_on_a_host_and_cannot_be_taken_over_is_audited_as_a_failed_command(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    ask(console, "stop", "alpha")
    told = adopt_override(pair[0].database, "a", action="start", selector="alpha/1", actor="", reason="\n")
    assert "stopped as a whole" in told["refused"]
    shown = get_command(console, told["command"])
    assert (shown["state"], shown["requested_by"]) == ("failed", "somebody")
    assert "stopped as a whole" in shown["result"]
    (details,) = [row[0] for row in rows(owner, "SELECT details FROM fleet.audits WHERE action = 'start'")]
    assert details["refused"] == told["refused"]
    assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'order_refused'") == 1


def test_what_was_done_on_a_host_does_not_lift_a_stop_of_the_whole_worker_and_says_so(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    ask(console, "stop", "alpha")
    told = adopt_override(pair[0].database, "a", action="start", selector="alpha", actor="ann", reason="x")
    assert told["refused"] == "alpha is stopped as a whole (stopped by me: test): start alpha"
    assert get_command(console, told["command"])["state"] == "failed"
    assert not value(owner, "SELECT enabled FROM fleet.workers WHERE name = 'alpha'")


@pytest.mark.parametrize(
    ("ordered", "undone", "selector", "host", "refusal"),
    [
        ("stop", "start", "alpha", "a", "alpha is stopped as a whole (stopped by me: test): start alpha"),
        ("pause", "resume", "alpha", "a", "alpha is paused as a whole (paused by me: test): resume alpha"),
        ("pause", "resume", "alpha/1", None, "alpha is paused as a whole (paused by me: test): resume alpha"),
    ],
)
def test_what_holds_for_the_whole_worker_is_not_lifted_for_less_and_says_what_lifts_it(
    pair: list[Manager],
    console: Database,
    owner: Owner,
    ordered: str,
    undone: str,
    selector: str,
    host: str | None,
    refusal: str,
) -> None:
    ask(console, ordered, "alpha")
    settle(pair)
    before = rows(owner, "SELECT * FROM fleet.slots ORDER BY worker, slot")
    told = ask(console, undone, selector, host=host)
    assert {part["state"] for part in told["parts"]} == {"failed"}
    assert {part["result"] for part in told["parts"]} == {refusal}
    assert rows(owner, "SELECT * FROM fleet.slots ORDER BY worker, slot") == before
    assert preview_command(console, undone, selector=selector, host=host)["changes"] == []  # pyright: ignore[reportArgumentType]
    assert {part["state"] for part in ask(console, undone, "alpha")["parts"]} == {"waiting"}


def test_what_was_done_on_a_host_is_taken_down_once_however_often_it_is_told(
    pair: list[Manager], console: Database, owner: Owner
) -> None:
    order: Any = {"action": "stop", "selector": "*", "actor": "ann", "reason": "x", "idempotency_key": "k"}
    first = adopt_override(pair[0].database, "a", **order)
    ask(console, "start", "alpha")
    assert adopt_override(pair[0].database, "a", **order) == {"command": first["command"], "repeated": True}
    assert value(owner, "SELECT count(*) FROM fleet.audits WHERE action = 'stop'") == 1
    assert value(owner, "SELECT bool_or(stopped) FROM fleet.slots") is False


def test_a_stop_right_after_a_scale_holds_though_no_host_has_made_the_slot_yet(
    pair: list[Manager], console: Database
) -> None:
    ask(console, "scale", "alpha", args={"replicas": 6})
    ask(console, "stop", "alpha/6")
    settle(pair)
    told = {slot.slot: slot.runs for manager in pair for slot in manager.exchange().slots}
    assert told == {1: True, 2: True, 3: True, 4: True, 5: True, 6: False}


def test_a_persons_stop_of_a_slot_outlives_that_it_was_not_wanted_for_a_while(
    pair: list[Manager], console: Database
) -> None:
    ask(console, "stop", "alpha/3")
    ask(console, "scale", "alpha", args={"replicas": 1})
    settle(pair)
    assert [slot.slot for slot in status.list_slots(console)] == [1]
    told = ask(console, "scale", "alpha", args={"replicas": 3})
    settle(pair)
    assert {slot.slot: slot.runs for manager in pair for slot in manager.exchange().slots} == {
        1: True, 2: True, 3: False,
    }  # fmt: skip
    assert "stopped by" in next(part["result"] for part in told["parts"] if part["slot"] == 3)
    ask(console, "start", "alpha")
    settle(pair)
    assert all(slot.runs for manager in pair for slot in manager.exchange().slots)


def test_a_part_whose_slot_moves_meanwhile_is_its_new_hosts_and_no_failure_of_the_old_one(
    pair: list[Manager], console: Database
) -> None:
    a, b = pair
    asked = ask(console, "restart", "alpha/1")
    (part,) = a.parts()
    ask(console, "set", "alpha", args={"placement": {"host": "b"}})
    b.exchange()  # its pass takes the slots from a, which drains them first
    a.finish(part, succeeded=False, text="it is not this host's to run any more")
    assert states(console, asked) == ["waiting"]
    settle(pair, 3)
    for part in b.parts():
        b.finish(part)
    assert states(console, asked) == ["done"]
