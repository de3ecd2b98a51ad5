"""Control: orders and reports through a real database, also when it goes away, hangs, or forgets to wake."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from coordination import alerts, black_boxes, hosts, status
from coordination.commands import get_command, request_command
from coordination.database import Database
from coordination.desired import Part, WantedSlot
from coordination.errors import InvalidValueError
from coordination.flags import set_flag
from coordination.incarnation import ProcessIdentity
from host import tending, wake_channel
from host.control import Control, Orders, ProcessEnd, SlotState
from host.process_proof import boottime_s
from tests.fault_proxy import FaultProxy
from tests.integration.conftest import FleetDatabase
from workers.wake import Kind, Whom

WITHIN_S = 60.0
WHO: Any = {"actor": "me", "reason": "test"}


@dataclass
class Desk:
    """The main thread's side of a control, and a person's."""

    control: Control
    woken: threading.Event
    person: Database
    said: list[str]
    told: list[Mapping[str, Any]]
    calls: list[tuple[str, str, str]]
    taken: list[Orders] = field(default_factory=list[Orders])

    def until(self, reached: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        while not reached():
            assert time.monotonic() < deadline, f"not within {within_s} s; it said {self.said}"
            self.woken.wait(0.05)
            self.woken.clear()
            if orders := self.control.take():
                self.taken.append(orders)

    def slots(self) -> dict[str, WantedSlot]:
        return {slot.worker: slot for slot in self.taken[-1].slots} if self.taken else {}

    def part(self, command: Mapping[str, Any]) -> Part:
        """The part of a one-slot command, once it was given."""
        found = list[Part]()

        def given() -> bool:
            found.extend(
                p for p in (self.taken[-1].parts if self.taken else ()) if p.command == command["id"]
            )
            return bool(found)

        self.until(given)
        return found[0]

    def shown(self, worker: str = "poster") -> status.SlotStatus:
        (shown,) = [shown for shown in status.list_slots(self.person) if shown.name == worker]
        return shown


class Desks:
    """Makes controls on one database, and ends them."""

    def __init__(self, database: FleetDatabase, stack: ExitStack) -> None:
        self.database = database
        self._stack = stack

    def __call__(
        self,
        host: str = "here",
        *,
        dsn: str | None = None,
        workers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Desk:
        woken, said, told = threading.Event(), list[str](), list[Mapping[str, Any]]()
        calls = list[tuple[str, str, str]]()

        def call(name: str, kind: Kind, whom: Whom) -> bool:
            calls.append((name, kind, whom))
            return name == "planner"  # which has more processes than one

        found = dsn or self.database.dsn("maintainer")
        made = Control(
            lambda: found,
            workers or {"poster": "Sends posts.", "planner": "Writes posts."},
            wake=woken.set,
            say=lambda line, _kind: said.append(line),
            tell=told.append,
            wake_worker=call,
            host=host,
            **options,
        )
        person = self.database.database("console")
        self._stack.callback(person.close)
        made.start()
        self._stack.callback(made.stop)
        return Desk(made, woken, person, said, told, calls)


@pytest.fixture
def desks(fleet_database: FleetDatabase) -> Iterator[Desks]:
    with ExitStack() as stack:
        yield Desks(fleet_database, stack)


@pytest.fixture
def desk(desks: Desks) -> Desk:
    made = desks()
    made.until(lambda: bool(made.slots()))
    return made


def slot(**changes: Any) -> SlotState:
    values: dict[str, Any] = {
        "worker": "poster",
        "slot": 1,
        "state": "READY",
        "reason": "",
        "pid": 4711,
        "restart_count": 0,
        "since": time.monotonic() - 5,
    }
    return SlotState(**{**values, **changes})


def end(**changes: Any) -> ProcessEnd:
    values: dict[str, Any] = {
        "worker": "poster",
        "slot": 1,
        "pid": 4711,
        "pid_started": "1",
        "exit_code": -9,
        "how": "killed by SIGKILL",
        "ended_at_boottime_s": boottime_s(),
    }
    return ProcessEnd(**{**values, **changes})


def test_the_programs_workers_become_the_hosts_share(desk: Desk) -> None:
    assert {name: slot.runs for name, slot in desk.slots().items()} == {"planner": True, "poster": True}
    assert [host.name for host in hosts.list_hosts(desk.person)] == ["here"]


@pytest.mark.timed
def test_a_stop_comes_with_the_desired_state_that_it_changed_at_once(desk: Desk) -> None:
    began = time.monotonic()
    asked = request_command(desk.person, "stop", selector="poster", **WHO)
    desk.person.call("wake", worker="manager")
    part = desk.part(asked)
    assert time.monotonic() - began < 0.9  # not by the next poll only
    assert (part.action, part.worker, part.slot) == ("stop", "poster", 1)
    assert not desk.slots()["poster"].runs
    assert desk.slots()["poster"].reason == "stopped by me: test"
    assert desk.slots()["planner"].runs


def test_a_lost_wake_up_costs_one_poll(desk: Desk) -> None:
    desk.part(request_command(desk.person, "restart", selector="poster", **WHO))


def test_a_flag_that_is_switched_off_and_on_stops_and_starts_the_worker(desk: Desk) -> None:
    set_flag(desk.person, "poster_enabled", enabled=False, actor="ann", reason="it repeats itself")
    desk.until(lambda: not desk.slots()["poster"].runs)
    assert desk.slots()["poster"].reason == "flag poster_enabled is off: ann: it repeats itself"
    set_flag(desk.person, "poster_enabled", enabled=True, actor="ann", reason="repaired")
    desk.until(lambda: desk.slots()["poster"].runs)


def test_replicas_limits_and_pauses_reach_the_manager_live(desk: Desk) -> None:
    request_command(desk.person, "scale", selector="poster", args={"replicas": 3}, **WHO)
    desk.until(lambda: len([s for s in desk.taken[-1].slots if s.worker == "poster"]) == 3)
    limits = {"memory_limit_mb": 64, "cpu_limit_percent": 50, "nice": 5}
    request_command(desk.person, "set", selector="poster", args=limits, **WHO)
    desk.until(lambda: desk.slots()["poster"].limits.memory_mb == 64)
    found = desk.slots()["poster"].limits
    assert (found.cpu_percent, found.nice) == (50, 5)
    request_command(desk.person, "set", selector="poster", args={"memory_limit_mb": None}, **WHO)
    request_command(desk.person, "pause", selector="poster/2", **WHO)
    desk.until(lambda: desk.slots()["poster"].limits.memory_mb is None)
    desk.until(lambda: any(s.paused for s in desk.taken[-1].slots))
    paused = {s.slot: (s.paused, s.reason) for s in desk.taken[-1].slots if s.worker == "poster"}
    assert paused == {1: (False, ""), 2: (True, "paused by me: test"), 3: (False, "")}


def test_a_finished_part_is_told_with_its_output(desk: Desk) -> None:
    asked = request_command(desk.person, "logs", selector="poster/1", args={"lines": 5}, **WHO)
    part = desk.part(asked)
    assert part.args == {"lines": 5}
    desk.control.tell(part.id, "reads")
    desk.until(lambda: get_command(desk.person, asked["id"])["parts"][0]["result"] == "reads")
    desk.control.finish(part.id, succeeded=True, text="5 lines", output="é" * 100_000)
    desk.until(lambda: get_command(desk.person, asked["id"])["state"] == "done")
    (told,) = get_command(desk.person, asked["id"])["parts"]
    assert len(told["output"].encode()) == 65_536
    desk.until(lambda: not desk.taken[-1].parts)


def test_what_is_done_is_shown_by_the_slot_before_the_command_says_so(
    fleet_database: FleetDatabase, desk: Desk
) -> None:
    desk.control.report([slot()])
    desk.until(lambda: desk.shown().state == "READY")
    asked = request_command(desk.person, "stop", selector="poster/1", **WHO)
    part = desk.part(asked)
    with fleet_database.owner() as looking, fleet_database.owner() as one, fleet_database.owner() as other:

        def is_held_by(holder: psycopg.Connection) -> bool:
            found = looking.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))",
                (holder.info.backend_pid,),
            ).fetchone()
            return bool(found and found[0])

        with other.transaction():
            with one.transaction():
                one.execute("SELECT 1 FROM fleet.hosts FOR UPDATE")
                desk.until(lambda: is_held_by(one))  # an older report is on its way
                desk.control.report([slot(state="STOPPED", pid=None)])
                desk.control.finish(part.id, succeeded=True, text="poster/1 is STOPPED")
                other.execute("SELECT 1 FROM fleet.slots FOR UPDATE")
            desk.until(lambda: is_held_by(other))  # the report that shows it
            assert get_command(desk.person, asked["id"])["state"] == "running"
        desk.until(lambda: get_command(desk.person, asked["id"])["state"] == "done")
    assert desk.shown().state == "STOPPED"


def test_a_part_is_offered_until_it_is_finished_also_to_a_manager_that_is_new(
    desks: Desks, desk: Desk
) -> None:
    asked = request_command(desk.person, "restart", selector="poster", **WHO)
    part = desk.part(asked)
    desk.taken.clear()
    desk.until(lambda: bool(desk.taken) and desk.taken[-1].parts[0].id == part.id)
    desk.control.stop()
    again = desks()
    taken_up = again.part(asked)
    assert taken_up.id == part.id
    assert taken_up.age_s > part.age_s


def test_slots_are_reported_and_their_changes_become_events(desk: Desk) -> None:
    desk.control.follow()
    desk.control.report([slot()])
    desk.until(lambda: desk.shown().pid == 4711)
    desk.control.report([slot(state="BACKOFF", reason="killed by SIGKILL", pid=None, failures=2)])
    desk.until(lambda: any("killed by SIGKILL" in event["message"] for event in desk.told))
    shown = desk.shown()
    assert (shown.state, shown.reason, shown.healthy) == ("BACKOFF", "killed by SIGKILL", False)
    assert (shown.failures, shown.host, shown.assigned) == (2, "here", True)
    assert shown.since is not None


def test_the_last_report_is_made_before_it_ends(desk: Desk) -> None:
    desk.control.report([slot(state="STOPPED", reason="the fleet was stopped", pid=None)])
    desk.control.stop()
    assert (desk.shown().state, desk.shown().reason) == ("STOPPED", "the fleet was stopped")
    assert [host.state for host in hosts.list_hosts(desk.person)] == ["left"]


def test_an_end_is_acknowledged_once_its_row_is_there(desk: Desk) -> None:
    done = list[str]()
    desk.control.ended(end(), lambda: done.append("first"))
    desk.control.ended(end(pid=4712), lambda: done.append("second"))
    desk.until(lambda: len(done) == 2)
    ends = desk.person.rows("list_process_ends", worker="poster", n=10)
    assert {(row["pid"], row["exit_code"], row["how"]) for row in ends} == {
        (4711, -9, "killed by SIGKILL"),
        (4712, -9, "killed by SIGKILL"),
    }


@pytest.mark.parametrize("words", ["cut off\0\0\0", "half a pair \ud800"])
def test_words_that_postgresql_cannot_hold_keep_no_end_and_no_order_back(desk: Desk, words: str) -> None:
    done = list[bool]()
    desk.control.ended(end(how=words), lambda: done.append(True))
    desk.until(lambda: bool(done))
    (row,) = desk.person.rows("list_process_ends", worker="poster", n=10)
    assert row["how"].startswith(words[:7])
    part = desk.part(request_command(desk.person, "logs", selector="poster", **WHO))
    desk.control.tell(part.id, words)
    desk.control.finish(part.id, succeeded=True, text=words, output=words)
    desk.until(lambda: get_command(desk.person, part.command)["state"] == "done")


def test_an_end_that_the_database_refuses_holds_nothing_up(desk: Desk) -> None:
    done = list[str]()
    desk.control.ended(end(pid=1 << 40), lambda: done.append("no process's number"))
    desk.control.ended(end(), lambda: done.append("an end like others"))
    desk.until(lambda: len(done) == 2)
    assert [row["pid"] for row in desk.person.rows("list_process_ends", worker="poster", n=10)] == [4711]
    assert any("did not take how poster/1 ended" in line for line in desk.said)
    desk.taken.clear()
    desk.until(lambda: bool(desk.slots()))


def test_alerts_black_boxes_and_overrides_are_told(desk: Desk) -> None:
    life = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    desk.control.raise_alert("crash_loop:poster/1", "error", "poster/1 crashes", {"failures": 5})
    desk.control.black_box("poster", 1, life, 4711, "stalled", {"stacks": "here"})
    desk.until(lambda: bool(black_boxes.list_black_boxes(desk.person)))
    (alert,) = alerts.list_alerts(desk.person)
    assert (alert["key"], alert["kind"], alert["source"]) == ("crash_loop:poster/1", "crash_loop", "here")
    desk.control.clear_alert("crash_loop:poster/1")
    desk.until(lambda: not alerts.list_alerts(desk.person))
    views = list[Mapping[str, Any] | None]()
    desk.control.ask_black_box("poster", 1, life, views.append)
    desk.until(lambda: bool(views))
    assert views[0] is not None
    assert set(views[0]) == {"sessions", "locks", "intents", "leases"}


def test_a_stop_on_the_host_becomes_desired_state_with_the_orders_that_follow(desk: Desk) -> None:
    states = list[bool]()
    desk.control.audit_later("stop", "poster", "ann", "at the machine", lambda: states.append(True))
    desk.until(lambda: bool(states))
    assert not desk.slots()["poster"].runs
    assert "ann: at the machine" in desk.slots()["poster"].reason
    (command,) = desk.person.rows("list_commands", n=10)
    assert (command["state"], command["requested_by"], command["host"]) == ("done", "ann", "here")


def test_what_the_database_will_never_take_is_said_and_holds_nothing_up(desk: Desk) -> None:
    done = list[bool]()
    desk.control.event("dreadful", "kind", "what")  # pyright: ignore[reportArgumentType]
    desk.control.audit_later("stop", "nobody", "ann", "x\0", lambda: done.append(True))
    desk.until(lambda: bool(done))
    assert any("dreadful" in line for line in desk.said)
    (command,) = desk.person.rows("list_commands", n=10)
    assert command["state"] == "failed"
    assert "nobody" in command["result"]


def test_a_host_whose_main_thread_hangs_is_not_reported_as_alive_until_it_turns_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tending, "TURN_S", 1.0)
    desk.taken.clear()
    desk.until(lambda: bool(desk.slots()))
    deadline = time.monotonic() + WITHIN_S
    while hosts.list_hosts(desk.person)[0].silent_s < 3:  # and nobody takes anything
        assert time.monotonic() < deadline, "the host is reported as alive"
        desk.woken.wait(0.1)
        desk.woken.clear()
    assert desk.control.unanswered_s > 2  # so that what acts is stopped here when it turns
    assert any("not reported as alive" in line for line in desk.said)
    desk.until(lambda: hosts.list_hosts(desk.person)[0].silent_s < 1)
    assert desk.said[-1] == "orders are taken again"


@pytest.mark.timed
def test_a_manager_process_that_follows_counts_from_when_the_database_answered_the_one_before(
    desks: Desks,
) -> None:
    cut_off = desks(
        dsn="host=127.0.0.1 port=9 dbname=x user=x",  # nobody is there
        answered_at_s=boottime_s() - 7.0,
    )
    assert cut_off.control.is_away
    assert 7.0 <= cut_off.control.unanswered_s < 8.0
    back = desks("there", answered_at_s=boottime_s() - 7.0)
    back.until(lambda: bool(back.slots()))
    assert back.control.unanswered_s < 3


def test_a_second_manager_of_the_same_name_is_refused_and_takes_over_when_the_first_is_gone(
    desks: Desks, desk: Desk
) -> None:
    stranger = ProcessIdentity(host="here", pid=1, pid_started="1", boot_id="other", pid_namespace="1")
    second = desks(identity=stranger)
    second.until(lambda: second.control.refusal is not None)
    second.until(lambda: second.control.refused_s > 1)
    assert "SOCIALFLEET_HOST" in second.said[0]
    assert len(second.said) == 1
    assert second.control.is_away
    before = len(status.list_slots(desk.person))
    desk.control.stop()
    second.until(lambda: bool(second.slots()))
    assert (second.control.refusal, second.control.refused_s) == (None, 0)
    assert len(status.list_slots(desk.person)) == before == 2


def test_three_controls_share_the_slots_and_one_that_stops_gives_its_own(desks: Desks) -> None:
    made = [desks(name) for name in ("a", "b", "c")]
    made[0].until(lambda: bool(made[0].taken))  # the workers are known by now
    request_command(made[0].person, "scale", selector="*", args={"replicas": 3}, **WHO)

    def shares() -> list[int]:
        for one in made:
            orders = one.control.take()
            if orders is not None:
                one.taken.append(orders)
            if one.taken:  # also where `until` took them
                one.control.report(
                    [slot(worker=s.worker, slot=s.slot, since=0.0) for s in one.taken[-1].slots if s.runs]
                )
        return [len(one.taken[-1].slots) if one.taken else 0 for one in made]

    made[0].until(lambda: shares() == [2, 2, 2])
    made[2].control.stop()
    made[0].until(lambda: shares()[:2] == [3, 3])


def test_what_the_program_calls_a_singleton_is_one_in_the_fleet(desks: Desks) -> None:
    desk = desks(workers={"coordination": "Keeps the fleet in order."})
    desk.until(lambda: bool(desk.slots()))
    assert desk.slots()["coordination"].singleton
    with pytest.raises(InvalidValueError, match="singleton"):
        request_command(desk.person, "scale", selector="coordination", args={"replicas": 2}, **WHO)


def test_an_exchange_in_which_nothing_changed_is_two_round_trips(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.until(lambda: hosts.list_hosts(desk.person)[0].wake_channel == "ok")
    desk.control.report([slot()])
    desk.until(lambda: desk.shown().pid == 4711)
    trips = list[str]()
    call = Database.call

    def counted(self: Database, function: Any, **arguments: Any) -> Any:
        if threading.current_thread().name == "control":
            trips.append(function)
        return call(self, function, **arguments)

    monkeypatch.setattr(Database, "call", counted)
    began = time.monotonic()
    desk.until(lambda: len(trips) >= 6)
    assert time.monotonic() - began > 1.5
    exchange = ["report_host", "get_share"]
    at = trips.index(exchange[0])
    assert trips[at : at + 4] == exchange * 2


def test_a_wake_up_names_its_worker_and_what_there_is_for_it(desk: Desk) -> None:
    desk.until(lambda: hosts.list_hosts(desk.person)[0].wake_channel == "ok")
    desk.person.call("wake", worker="poster")
    desk.person.call("wake", worker="poster/messages")
    desk.person.call("wake", worker="planner/settings")
    desk.until(lambda: len(desk.calls) >= 3)
    assert desk.calls == [
        ("poster", "step", "all"),
        ("poster", "mail", "one"),
        ("planner", "settings", "all"),
    ]


def test_of_a_workers_processes_one_goes_ahead_for_a_message_or_a_job_and_the_others_follow_by_themselves(
    desk: Desk,
) -> None:
    desk.until(lambda: hosts.list_hosts(desk.person)[0].wake_channel == "ok")
    for there, kind in (("messages", "mail"), ("jobs", "jobs")):
        desk.calls.clear()
        desk.person.call("wake", worker=f"planner/{there}")
        desk.until(lambda: len(desk.calls) >= 2)
        assert desk.calls == [("planner", kind, "one"), ("planner", kind, "others")]


def test_a_wake_channel_that_went_deaf_is_noticed_said_and_made_anew(
    desk: Desk, fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.until(lambda: hosts.list_hosts(desk.person)[0].wake_channel == "ok")
    # Deaf: the session is there, and listens to nothing any more. Only its own login could do that.
    heard = threading.Event()
    sound = wake_channel.WakeChannel._hear  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  what is broken here
    deaf = [True]

    def hear(self: wake_channel.WakeChannel, payload: str) -> None:
        if deaf[0]:
            heard.set()
        else:
            sound(self, payload)

    monkeypatch.setattr(wake_channel.WakeChannel, "_hear", hear)
    monkeypatch.setattr(wake_channel, "TEST_EVERY_S", 0.0)
    channel = desk.control._channel  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  tests itself in 30 s
    channel._due_at = 0.0  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    desk.until(lambda: hosts.list_hosts(desk.person)[0].wake_channel == "broken")
    assert heard.is_set()
    # The poll goes on as the truth meanwhile.
    desk.part(request_command(desk.person, "restart", selector="poster", **WHO))
    deaf[0] = False
    desk.until(lambda: hosts.list_hosts(desk.person)[0].wake_channel == "ok")
    missed = {("poster", "step", "all"), ("planner", "step", "all")}  # they may have missed something
    assert missed <= set(desk.calls)
    with psycopg.connect(fleet_database.superuser_dsn) as owner:
        row = owner.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%wake channel' "
            "AND datname = current_database()"
        ).fetchone()
    assert row == (1,)


def test_what_a_predecessor_left_is_settled_by_what_proc_says(
    desks: Desks, fleet_database: FleetDatabase
) -> None:
    with fleet_database.connect("poster") as alive, fleet_database.connect("planner") as dead:
        other = fleet_database.connect("stranger")
        with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as owner:
            owner.execute("UPDATE fleet.incarnations SET host = 'here'")
            owner.execute(
                "UPDATE fleet.incarnations SET pid_started = '1' WHERE id = %s", (dead.incarnation.id,)
            )
            owner.execute(
                "UPDATE fleet.incarnations SET pid_started = '1', pid_namespace = 'another' WHERE id = %s",
                (other.incarnation.id,),
            )
            desk = desks()
            desk.until(lambda: bool(desk.slots()))
            found = dict(owner.execute("SELECT id, fleet.is_dead(id) FROM fleet.incarnations").fetchall())
        assert found == {
            alive.incarnation.id: False,
            dead.incarnation.id: True,
            other.incarnation.id: False,  # its numbers mean other processes there
        }
        other.close()


@pytest.mark.parametrize(
    ("before", "now", "is_dead"), [("m", "m", True), ("m", "another", False), ("", "", False)]
)
def test_another_boot_proves_a_life_dead_only_on_a_machine_that_is_known_to_be_the_same(
    desks: Desks, fleet_database: FleetDatabase, before: str, now: str, is_dead: bool
) -> None:
    first = desks(machine=before)
    first.until(lambda: bool(first.slots()))
    first.control.stop()
    with fleet_database.connect("poster") as life:
        with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as owner:
            owner.execute("UPDATE fleet.incarnations SET host = 'here', boot_id = 'an earlier one'")
            then = desks(machine=now)
            then.until(lambda: bool(then.slots()))
            found = owner.execute("SELECT fleet.is_dead(%s)", (life.incarnation.id,)).fetchone()
        assert found == (is_dead,)


def test_a_database_that_goes_away_and_comes_back_is_told_once_and_taken_up_again(
    desk: Desk, fleet_database: FleetDatabase
) -> None:
    done, views = list[bool](), list[Mapping[str, Any] | None]()
    fleet_database.server.immediate_stop()
    try:
        desk.until(lambda: bool(desk.said))
        assert desk.control.is_away
        desk.control.report([slot(pid=4712)])
        desk.control.ended(end(), lambda: done.append(True))
        desk.control.raise_alert("x:1", "error", "told later")
        desk.control.ask_black_box("poster", 1, None, views.append)
        desk.until(lambda: views == [None])  # nobody waits for a view of what is over
        assert not done
    finally:
        fleet_database.server.start()
    desk.until(lambda: "the database is back" in desk.said)
    assert len([line for line in desk.said if "away" in line]) == 1
    assert not desk.control.is_away
    desk.until(lambda: bool(done))
    person = fleet_database.database("console")
    desk.until(lambda: any(shown.pid == 4712 for shown in status.list_slots(person)))
    desk.until(lambda: bool(alerts.list_alerts(person)))
    assert [alert["key"] for alert in alerts.list_alerts(person)] == ["x:1"]
    person.close()


@pytest.mark.timed
def test_a_database_that_does_not_answer_is_away_though_its_connection_stands(
    desks: Desks, fleet_database: FleetDatabase
) -> None:
    with FaultProxy(proxied(fleet_database)) as proxy:
        desk = desks(dsn=proxy.dsn(fleet_database.dsn("maintainer")))
        desk.until(lambda: bool(desk.slots()))
        assert desk.control.unanswered_s < 3
        proxy.switch("black-hole")
        desk.until(lambda: desk.control.is_away)
        assert 3 <= desk.control.unanswered_s < 8
        desk.until(lambda: desk.control.unanswered_s > 8)  # when a cut-off manager stops what acts
        proxy.switch("pass")
        desk.until(lambda: not desk.control.is_away, within_s=30)


def proxied(database: FleetDatabase) -> Any:
    """Where the server is, as the proxy takes it."""
    parts = conninfo_to_dict(database.dsn("maintainer"))
    host, port = str(parts["host"]), int(parts.get("port") or 5432)
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
