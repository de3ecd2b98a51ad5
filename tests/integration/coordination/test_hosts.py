"""Hosts: each wanted slot is one living, admissible host's, whatever happens to hosts."""

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from coordination import hosts, status
from coordination.commands import request_command
from coordination.database import Database
from coordination.errors import HostTakenError, InvalidValueError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.managers import Manager, Slot, managed, settle, silence
from tests.integration.coordination.tables import (
    Owner,
    assert_refused,
    kill_session,
    planted,
    rows,
    value,
)

WHO: Any = {"actor": "me", "reason": "test"}


def owners(managers: Sequence[Manager]) -> dict[Slot, str]:
    """Which manager runs what; asserts that none is run twice."""
    found: dict[Slot, str] = {}
    for manager in managers:
        for slot in manager.runs if manager.is_up else ():
            assert slot not in found, f"{slot} runs on {found[slot]} and on {manager.name}"
            found[slot] = manager.name
    return found


def scale(console: Database, worker: str, replicas: int) -> None:
    request_command(console, "scale", selector=worker, args={"replicas": replicas}, **WHO)


def place(console: Database, worker: str, placement: dict[str, object]) -> None:
    request_command(console, "set", selector=worker, args={"placement": placement}, **WHO)


def test_slots_are_shared_evenly_and_then_nothing_moves(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a", "b", "c") as managers:
        scale(console, "alpha", 9)
        settle(managers)
        shares = [len(manager.held) for manager in managers]
        assert shares == [3, 3, 3]
        before = owners(managers)
        moved = value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'slot_moved'")
        settle(managers, 10)
        assert owners(managers) == before
        assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'slot_moved'") == moved


def test_what_is_stopped_weighs_nothing(fleet_database: FleetDatabase, console: Database) -> None:
    with managed(fleet_database, "a", "b", workers=("alpha", "beta")) as managers:
        scale(console, "beta", 6)
        scale(console, "alpha", 4)
        request_command(console, "stop", selector="beta", **WHO)
        settle(managers)
        assert [len(manager.held) for manager in managers] == [2, 2]
        request_command(console, "stop", selector="beta,alpha/1", **WHO)
        request_command(console, "start", selector="beta", **WHO)
        settle(managers, 12)
        assert sorted(len(manager.held) for manager in managers) == [4, 5]


def test_an_exchange_in_which_nothing_changed_writes_the_hosts_row_alone(
    fleet_database: FleetDatabase,
) -> None:
    with managed(fleet_database, "a", workers=("alpha", "beta")) as managers:
        settle(managers, 3)
        written = (
            "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables "
            "WHERE schemaname = 'fleet' AND n_tup_ins + n_tup_upd + n_tup_del > 0"
        )
        (manager,) = managers
        with psycopg.connect(fleet_database.superuser_dsn) as fresh:  # with counts of its own
            fresh.execute(
                "SELECT fleet.report_host('a', %s, 1, NULL, 'ok'), fleet.get_share('a', %s)",
                (manager.session, manager.session),
            )
            assert rows(fresh, written) == [("hosts", 1)]


def test_a_killed_managers_slots_move_once_its_session_is_gone_and_it_was_silent_for_3_s(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    with managed(fleet_database, "a", "b") as (a, b):
        scale(console, "alpha", 4)
        settle([a, b])
        a.close()
        kill_session(owner, "test manager a")
        b.exchange()
        assert len(b.held) == 2  # it may be a moment's trouble of the network
        silence(owner, "a", 3.5)
        b.exchange()
        assert len(b.held) == 4
        (lost,) = rows(owner, "SELECT severity, cleared_at FROM fleet.alerts WHERE key = 'host_lost:a'")
        assert lost == ("error", None)
        a.open()
        settle([a, b])
        assert value(owner, "SELECT cleared_at IS NOT NULL FROM fleet.alerts WHERE key = 'host_lost:a'")
        assert [len(a.held), len(b.held)] == [2, 2]


def test_a_paused_manager_that_keeps_its_session_is_lost_after_10_s_and_gives_way_when_it_wakes(
    fleet_database: FleetDatabase, owner: Owner, console: Database
) -> None:
    with managed(fleet_database, "a", "b") as (a, b):
        scale(console, "alpha", 4)
        settle([a, b])
        had = set(a.held)
        silence(owner, "a", 9)
        b.exchange()
        assert len(b.held) == 2
        silence(owner, "a", 10.5)
        b.exchange()
        assert len(b.held) == 4
        # It wakes: what it says about slots that are another's by now is passed over, and it gives them up.
        a.report(alpha="BACKOFF")
        states = rows(owner, "SELECT host, state FROM fleet.slots ORDER BY slot")
        assert all(state != "BACKOFF" for _, state in states)
        a.ask()
        assert not had & set(a.held) or set(a.held) <= set(owners([a, b]))
        settle([a, b])
        assert [len(a.held), len(b.held)] == [2, 2]


def test_a_slot_that_moves_starts_only_when_its_old_host_has_ended_it(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a", drain_passes=2) as (a,):
        scale(console, "alpha", 4)
        a.exchange()
        assert len(a.held) == 4
        with managed(fleet_database, "b") as (b,):
            b.exchange()
            b.exchange()
            assert not b.held
            assert rows(owner, "SELECT host, leaving FROM fleet.slots WHERE leaving IS NOT NULL") == [
                ("b", "a")
            ]
            shown = [slot for slot in status.list_slots(console) if "moves from a to b" in slot.reason]
            assert len(shown) == 1
            for _ in range(20):
                a.exchange()
                owners([a, b])
                b.exchange()
                owners([a, b])
            assert [len(a.held), len(b.held)] == [2, 2]


def test_two_owners_are_seen_where_the_old_host_need_not_drain_first(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    change = ("s.host = h.name AND s.leaving IS NULL AND", "s.host = h.name AND")
    with planted(owner, "get_share", change), pytest.raises(AssertionError):
        test_a_slot_that_moves_starts_only_when_its_old_host_has_ended_it(fleet_database, console, owner)


def test_a_host_name_that_a_living_manager_holds_is_refused(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (a,):
        second = Manager(fleet_database, "a")
        with pytest.raises(HostTakenError, match="SOCIALFLEET_HOST"):
            second.open()
        a.exchange()
        # One that was silent for long enough is displaced, and notices.
        silence(owner, "a", 10.5)
        second.open()
        with pytest.raises(HostTakenError, match="taken it over"):
            a.exchange()
        second.exchange()
        second.close()
    assert value(owner, "SELECT count(*) FROM fleet.slots") == 1


def test_the_same_manager_may_come_back_before_the_server_noticed_that_it_lost_its_connection(
    fleet_database: FleetDatabase,
) -> None:
    with managed(fleet_database, "a") as (a,):
        a.exchange()
        zombie = a.database
        a.open(as_new_process=False)
        assert a.exchange().slots
        zombie.close()


def test_a_host_that_left_in_good_order_gives_its_slots_at_once(
    fleet_database: FleetDatabase, console: Database
) -> None:
    with managed(fleet_database, "a", "b") as (a, b):
        scale(console, "alpha", 4)
        settle([a, b])
        a.leave()
        b.exchange()
        assert len(b.held) == 4


def test_a_host_that_is_drained_gives_its_slots_and_takes_none_until_it_may_again(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a", "b") as (a, b):
        scale(console, "alpha", 4)
        settle([a, b])
        hosts.drain_host(console, "a", draining=True, **WHO)
        settle([a, b])
        assert [len(a.held), len(b.held)] == [0, 4]
        assert [host.draining for host in hosts.list_hosts(console)] == [True, False]
        hosts.drain_host(console, "a", draining=False, **WHO)
        settle([a, b])
        assert [len(a.held), len(b.held)] == [2, 2]
    assert value(owner, "SELECT count(*) FROM fleet.audits WHERE action LIKE '%%drain_host'") == 2


def test_a_worker_whose_slots_are_few_among_many_is_not_moved_as_a_whole(
    fleet_database: FleetDatabase, console: Database
) -> None:
    workers = ("alpha", "beta", "gamma", "delta", "epsilon")
    with managed(fleet_database, "a", "b", workers=workers) as (a, b):
        scale(console, "alpha", 4)
        settle([a, b])
        hosts.drain_host(console, "b", draining=True, **WHO)
        settle([a, b])
        hosts.drain_host(console, "b", draining=False, **WHO)
        settle([a, b], 12)
        assert sorted(worker for worker, _ in b.held).count("alpha") == 2
        assert len(b.held) == 4


def test_placement_by_host_and_by_label_and_what_nobody_admits_says_so(
    fleet_database: FleetDatabase, console: Database
) -> None:
    both = ("alpha", "beta")
    with (
        managed(fleet_database, "a", "b", workers=both) as managers,
        managed(fleet_database, "c", workers=both, labels={"zone": "x"}) as (c,),
    ):
        everyone = [*managers, c]
        scale(console, "alpha", 3)
        place(console, "alpha", {"host": "b"})
        place(console, "beta", {"labels": {"zone": "x"}})
        settle(everyone)
        assert owners(everyone) == {
                ("alpha", 1): "b", ("alpha", 2): "b", ("alpha", 3): "b", ("beta", 1): "c",
            }  # fmt: skip
        place(console, "beta", {"labels": {"zone": "y", "gpu": "yes"}})
        settle(everyone)
        (shown,) = [slot for slot in status.list_slots(console) if slot.name == "beta"]
        assert (shown.state, shown.assigned, shown.host) == ("LOST", False, None)
        assert shown.reason == "no live host admits it: it is placed on hosts with gpu=yes, zone=y"
        place(console, "beta", {})
        settle(everyone)
        assert ("beta", 1) in owners(everyone)


def test_a_worker_goes_only_where_the_program_has_it(
    fleet_database: FleetDatabase, console: Database
) -> None:
    with (
        managed(fleet_database, "a", workers=("alpha", "beta")) as (a,),
        managed(fleet_database, "b", workers=("alpha",)) as (b,),
    ):
        settle([a, b])
        assert owners([a, b])["beta", 1] == "a"
        a.leave()
        settle([b])
        assert owners([b]) == {("alpha", 1): "b"}
        (shown,) = [slot for slot in status.list_slots(console) if slot.name == "beta"]
        assert shown.state == "LOST"


def test_a_lost_hosts_slot_that_nobody_else_may_have_waits_for_it_and_is_shown_as_lost(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a", "b") as (a, b):
        place(console, "alpha", {"host": "a"})
        settle([a, b])
        a.close()
        kill_session(owner, "test manager a")
        silence(owner, "a", 16)
        settle([b])
        (shown,) = status.list_slots(console)
        assert (shown.state, shown.host, shown.healthy) == ("LOST", "a", False)
        assert "its manager is silent: host a" in shown.reason
        assert [host.state for host in hosts.list_hosts(console)] == ["lost", "live"]
        a.open()
        a.exchange()
        assert owners([a, b]) == {("alpha", 1): "a"}


def test_the_only_hosts_silence_is_shown_though_no_other_host_notices(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (a,):
        a.exchange()
        a.exchange()
        silence(owner, "a", 16)
        (shown,) = status.list_slots(console)
        assert shown.state == "LOST"
        assert [host.state for host in hosts.list_hosts(console)] == ["lost"]


def test_a_singleton_has_one_slot_at_most_and_more_are_refused(
    fleet_database: FleetDatabase, console: Database
) -> None:
    with managed(fleet_database, "a", "b", singletons=("alpha",)) as (a, b):
        with pytest.raises(InvalidValueError, match="singleton") as refusal:
            scale(console, "alpha", 2)
        assert_refused(refusal, "replicas", "2")
        settle([a, b])
        assert len(owners([a, b])) == 1
        assert [slot.singleton for manager in (a, b) for slot in manager.exchange().slots] == [True]


def test_work_and_readiness_are_no_events_and_trouble_is(fleet_database: FleetDatabase, owner: Owner) -> None:
    with managed(fleet_database, "a") as (a,):
        settle([a], 3)
        told = "SELECT count(*) FROM fleet.events WHERE source = 'alpha/1'"
        before = value(owner, told)
        for state in ("BUSY", "READY", "BUSY", "READY"):
            a.report(alpha=state)
        assert value(owner, told) == before
        a.report(alpha="STALLED")
        assert rows(owner, "SELECT severity FROM fleet.events WHERE kind = 'slot_stalled'") == [("error",)]


def test_a_person_says_that_a_silent_host_is_gone_and_a_living_one_is_not(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a", "b") as (a, b):
        settle([a, b])
        with fleet_database.connect("alpha") as fleet:
            owner.execute("UPDATE fleet.incarnations SET host = 'a' WHERE id = %s", (fleet.incarnation.id,))
            with pytest.raises(InvalidValueError, match="manager ended"):
                hosts.declare_host_gone(console, "a", **WHO)
            a.close()
            kill_session(owner, "test manager a")
            silence(owner, "a", 11)
            owner.execute(
                "UPDATE fleet.incarnations SET started_at = clock_timestamp() - interval '1 minute'"
            )
            assert hosts.declare_host_gone(console, "a", **WHO) == {"host": "a", "incarnations": 1}
            assert value(owner, "SELECT fleet.is_dead(%s)", fleet.incarnation.id)
        assert value(owner, "SELECT count(*) FROM fleet.audits WHERE action = 'declare_host_gone'") == 1
        with pytest.raises(InvalidValueError, match="one of a, b"):
            hosts.declare_host_gone(console, "nowhere", **WHO)
        a.open()
        settle([a, b])
        assert [host.state for host in hosts.list_hosts(console)] == ["live", "live"]


WORKERS = ("alpha", "beta", "gamma")
PLACEMENTS: list[dict[str, object]] = [
    {},
    {},
    {"host": "a"},
    {"host": "b"},
    {"labels": {"zone": "x"}},
    {"labels": {"zone": "z"}},
]
LABELS = {"a": {"zone": "x"}, "b": {"zone": "y"}, "c": {"zone": "x", "disk": "big"}}


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def test_nobody_waits_in_a_circle(fleet_database: FleetDatabase, console: Database, owner: Owner) -> None:
    passes, before = 60, value(owner, DEADLOCKS)  # tests of this database make some on purpose
    with (
        managed(fleet_database, "a", "b", workers=("alpha", "beta")) as managers,
        ThreadPoolExecutor(4) as threads,
    ):
        scale(console, "*", 8)
        over = threading.Event()

        def live(manager: Manager) -> int:
            exchanged = 0
            while not over.is_set():
                for part in manager.parts():
                    manager.finish(part)
                exchanged += 1
            return exchanged

        def drain(person: Database) -> None:
            for number in range(passes):
                for name in ("a", "b"):
                    hosts.drain_host(person, name, draining=number % 2 == 0, **WHO)

        def order(person: Database) -> None:
            for number in range(passes):
                action = ("restart", "drain", "start", "stop")[number % 4]
                request_command(person, action, selector="*", **WHO)

        living = [threads.submit(live, manager) for manager in managers]
        with closing(fleet_database.database("console")) as other:
            persons = [threads.submit(drain, console), threads.submit(order, other)]
            try:
                for person in persons:
                    person.result(60)
            finally:
                over.set()
        assert all(future.result(10) > 20 for future in living)
        settle(managers)
    assert value(owner, DEADLOCKS) == before


def test_who_moves_slots_takes_the_hosts_before_them_as_a_host_that_reports_does(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a", "b") as (a, b), ThreadPoolExecutor(1) as threads:
        scale(console, "alpha", 4)
        settle([a, b])
        hosts.drain_host(console, "a", draining=True, **WHO)
        with owner.transaction():
            owner.execute("SELECT 1 FROM fleet.hosts WHERE name = 'a' FOR UPDATE")
            moving = threads.submit(b.ask)
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not moving.done() and not value(owner, waiting):
                moving.done()
            assert not moving.done()
            owner.execute("SELECT 1 FROM fleet.slots WHERE host = 'a' FOR UPDATE NOWAIT")
        moving.result(10)


class Chaos:
    """Three hosts and everything that may happen to them, in an order that a seed gives."""

    def __init__(self, database: FleetDatabase, console: Database, owner: Owner, seed: int) -> None:
        self.random = random.Random(seed)
        self.console, self.owner = console, owner
        self.managers = {
            name: Manager(database, name, workers=WORKERS, labels=labels, drain_passes=1).open()
            for name, labels in LABELS.items()
        }

    def step(self) -> None:  # noqa: C901  one line a kind of thing
        """One thing happens."""
        name = self.random.choice(list(self.managers))
        manager = self.managers[name]
        worker = self.random.choice(WORKERS)
        event = self.random.choice(
            ("exchange",) * 6 + ("scale", "place", "kill", "leave", "pause", "drain", "stop", "start", "slot")
        )
        if event in {"kill", "leave", "pause", "exchange"} and not manager.is_up:
            manager.open()
        elif event == "exchange":
            manager.exchange()
        elif event == "kill":
            manager.close()
            manager.held, manager.draining = {}, {}
            kill_session(self.owner, f"test manager {name}")
            silence(self.owner, name, 4)
        elif event == "leave":
            manager.leave()
        elif event == "pause":
            # Its fence: a cut-off manager ends what acts before others may start it.
            manager.held, manager.draining = {}, {}
            silence(self.owner, name, 11)
        elif event == "scale":
            scale(self.console, worker, self.random.randrange(5))
        elif event == "place":
            place(self.console, worker, self.random.choice(PLACEMENTS))
        elif event == "drain":
            if value(self.owner, "SELECT count(*) FROM fleet.hosts WHERE name = %s", name):
                hosts.drain_host(self.console, name, draining=self.random.random() < 0.4, **WHO)
        elif event == "slot":
            if value(self.owner, "SELECT replicas FROM fleet.workers WHERE name = %s", worker):
                action = "stop" if self.random.random() < 0.5 else "pause"
                request_command(self.console, action, selector=f"{worker}/1", **WHO)
        else:
            request_command(self.console, "start" if event == "start" else "stop", selector=worker, **WHO)
        owners(list(self.managers.values()))

    def admitting(self, worker: str) -> set[str]:
        """The hosts that may have it, worked out from the rows without the functions."""
        placement, draining = (
            value(self.owner, "SELECT placement FROM fleet.workers WHERE name = %s", worker),
            {name for (name,) in rows(self.owner, "SELECT name FROM fleet.hosts WHERE draining")},
        )
        return {
            name
            for name, manager in self.managers.items()
            if manager.is_up
            and name not in draining
            and placement.get("host", name) == name
            and set(placement.get("labels", {}).items()) <= set(LABELS[name].items())
        }

    def check(self) -> None:  # noqa: C901  one sentence of the promise after the other
        """After a while of quiet all is as wanted."""
        for manager in self.managers.values():
            if not manager.is_up:
                silence(self.owner, manager.name, 12)
        for _ in range(30):
            for manager in self.managers.values():
                if manager.is_up:
                    manager.exchange()
                    owners(list(self.managers.values()))
        runs = owners(list(self.managers.values()))
        loads = {name: 0 for name, manager in self.managers.items() if manager.is_up}
        assigned: dict[Slot, str] = {}
        for worker, slot, host, leaving in rows(
            self.owner,  # but for what is kept because of what a person said of it
            "SELECT s.worker, s.slot, s.host, s.leaving FROM fleet.slots s "
            "JOIN fleet.workers w ON w.name = s.worker WHERE NOT (s.slot > w.replicas AND s.host IS NULL "
            "AND s.leaving IS NULL AND (s.stopped OR s.paused))",
        ):
            assert leaving is None
            assigned[worker, slot] = host
        for host in runs.values():
            loads[host] += 1
        for worker, enabled, replicas in rows(
            self.owner, "SELECT name, enabled, replicas FROM fleet.workers"
        ):
            may = self.admitting(worker)
            assert {slot for name, slot in assigned if name == worker} == set(range(1, replicas + 1))
            for slot in range(1, replicas + 1):
                host = assigned[worker, slot]
                stopped = value(
                    self.owner,
                    "SELECT stopped FROM fleet.slots WHERE worker = %s AND slot = %s",
                    worker,
                    slot,
                )
                if may:
                    assert host in may
                    assert runs.get((worker, slot)) == (host if enabled and not stopped else None)
                    if (worker, slot) in runs:
                        assert not any(loads[host] - loads[other] > 1 for other in may), (loads, worker)
                else:
                    assert (worker, slot) not in runs

    def close(self) -> None:
        for manager in self.managers.values():
            manager.close()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_each_wanted_slot_ends_up_on_one_living_admissible_host(
    fleet_database: FleetDatabase, console: Database, owner: Owner, seed: int
) -> None:
    chaos = Chaos(fleet_database, console, owner, seed)
    try:
        for _ in range(6):
            for _ in range(25):
                chaos.step()
            chaos.check()
    finally:
        chaos.close()
