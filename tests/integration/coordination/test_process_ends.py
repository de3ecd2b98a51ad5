"""Process ends: what proves that a process is dead, and what does not."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import UUID

import pytest

from coordination import Fleet, hosts
from coordination.incarnation import ProcessIdentity
from coordination.process_ends import EndedProcess, record_process_ends, wake_heirs
from host.process_proof import ANOTHER_BOOT, NO_SUCH_PROCESS, proof_of_death
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.managers import Manager, managed, silence
from tests.integration.coordination.tables import Owner, kill_session, planted, rows, value


def life(owner: Owner, fleet: Fleet) -> dict[str, Any]:
    return dict(
        value(owner, "SELECT to_jsonb(i) FROM fleet.incarnations i WHERE id = %s", fleet.incarnation.id)
    )


def end(told: dict[str, Any], **changes: Any) -> EndedProcess:
    values: dict[str, Any] = {
        "worker": told["worker"],
        "slot": told["slot"],
        "pid": told["pid"],
        "pid_started": told["pid_started"],
        "boot_id": told["boot_id"],
        "pid_namespace": told["pid_namespace"],
        "exit_code": -9,
        "how": "killed by SIGKILL",
        "ago_s": 2.0,
    }
    return EndedProcess(**{**values, **changes})


def record(manager: Manager, *ends: EndedProcess) -> int:
    return record_process_ends(manager.database, manager.name, ends)


def is_dead(owner: Owner, incarnation: UUID) -> bool:
    return bool(value(owner, "SELECT fleet.is_dead(%s)", incarnation))


def test_a_reaped_process_is_dead_with_how_and_when(fleet_database: FleetDatabase, owner: Owner) -> None:
    with managed(fleet_database, "a") as (manager,), fleet_database.connect() as fleet:
        told = life(owner, fleet)
        assert not is_dead(owner, fleet.incarnation.id)
        assert record(manager, end(told)) == 1
        assert is_dead(owner, fleet.incarnation.id)
        after = life(owner, fleet)
        assert (after["death"], after["end_reason"]) == ("killed by SIGKILL", "killed by SIGKILL")
        assert value(
            owner,
            "SELECT extract(epoch FROM clock_timestamp() - died_at) BETWEEN 2 AND 10 FROM fleet.incarnations",
        )


@pytest.mark.parametrize(
    "another",
    [{"pid": 1}, {"pid_started": "1"}, {"pid_namespace": "another"}, {"boot_id": "another"}],
)
def test_the_end_of_another_process_with_the_same_number_proves_nothing(
    fleet_database: FleetDatabase, owner: Owner, another: dict[str, Any]
) -> None:
    with managed(fleet_database, "a") as (manager,), fleet_database.connect() as fleet:
        assert record(manager, end(life(owner, fleet), **another)) == 0
        assert not is_dead(owner, fleet.incarnation.id)


def test_the_test_above_fails_where_the_start_time_is_not_looked_at(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    change = (
        "i.pid, i.pid_started) = (e.boot_id, e.pid_namespace, e.pid, e.pid_started)",
        "i.pid) = (e.boot_id, e.pid_namespace, e.pid)",
    )
    with planted(owner, "record_process_ends", change), pytest.raises(AssertionError):
        test_the_end_of_another_process_with_the_same_number_proves_nothing(
            fleet_database, owner, {"pid_started": "1"}
        )


def test_who_takes_the_jobs_of_a_dead_process_is_woken_once_its_session_is_gone(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (manager,), fleet_database.connect("heir") as heir:
        holder = fleet_database.connect("holder")
        holder.jobs.enqueue("chore")
        assert len(holder.jobs.claim("chore")) == 1
        assert heir.jobs.claim("chore") == []  # and sleeps from now on
        owner.execute(  # told, it would be the end of this whole process's lives
            "UPDATE fleet.incarnations SET died_at = clock_timestamp(), ended_at = clock_timestamp() "
            "WHERE id = %s",
            (holder.incarnation.id,),
        )
        with closing(holder.incarnation.database), closing(holder.database):
            wake_heirs(manager.database)  # a claim would not find it: nobody is woken yet
            assert heir.jobs.claim("chore") == []
        wake_heirs(manager.database)
        assert "heir/jobs" in list(heir.incarnation.wake_ups(5))
        assert len(heir.jobs.claim("chore")) == 1
        wake_heirs(manager.database)
        assert list(heir.incarnation.wake_ups(0.2)) in (
            [],
            ["holder/jobs"],
        )  # the end of what was told before


def test_an_end_that_is_told_twice_is_kept_once(fleet_database: FleetDatabase, owner: Owner) -> None:
    with managed(fleet_database, "a") as (manager,), fleet_database.connect() as fleet:
        told = end(life(owner, fleet))
        assert [record(manager, told), record(manager, told)] == [1, 0]
        assert value(owner, "SELECT count(*) FROM fleet.process_ends") == 1


def test_one_call_may_tell_an_end_twice_and_who_reaped_it_is_believed(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (manager,), fleet_database.connect() as fleet:
        told = life(owner, fleet)
        found = end(told, exit_code=None, how=NO_SUCH_PROCESS)
        assert record(manager, found, end(told), end(told)) == 1
        assert value(owner, "SELECT exit_code FROM fleet.process_ends") == -9


def test_who_reaped_a_process_knows_better_than_who_found_it_gone(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (manager,), fleet_database.connect() as fleet:
        told = life(owner, fleet)
        gone = end(told, exit_code=None, how=NO_SUCH_PROCESS)
        for ends in (gone, end(told), gone):
            record(manager, ends)
        assert rows(owner, "SELECT exit_code, how FROM fleet.process_ends") == [(-9, "killed by SIGKILL")]


def test_a_life_that_ended_in_good_order_is_dead_only_with_its_process(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (manager,):
        fleet = fleet_database.connect()
        told = life(owner, fleet)
        fleet.close("drained")
        assert not is_dead(owner, fleet.incarnation.id)
        record(manager, end(told, exit_code=0, how="ended by itself"))
        assert is_dead(owner, fleet.incarnation.id)
        assert life(owner, fleet)["end_reason"] == "drained"


@pytest.mark.parametrize("who", ["the manager", "a person"])
def test_who_closes_several_lives_takes_them_by_key(
    fleet_database: FleetDatabase, owner: Owner, who: str
) -> None:
    low, high = UUID(int=1), UUID(int=2**128 - 1)
    lives = [
        {"worker": "alpha", "slot": n, "pid": n, "pid_started": "1", "boot_id": "b", "pid_namespace": "1"}
        for n in (1, 2)
    ]
    with (
        managed(fleet_database, "a") as (a,),
        ThreadPoolExecutor(1) as threads,
        closing(fleet_database.database("console")) as person,
    ):
        for name, told in zip((high, low), lives, strict=True):  # in the table the other way round
            owner.execute(
                "INSERT INTO fleet.incarnations (id, worker, slot, host, pid, pid_started, boot_id, "
                "pid_namespace, started_at) VALUES (%s, 'alpha', %s, 'a', %s, '1', 'b', '1', "
                "clock_timestamp() - interval '1 minute')",
                (name, told["slot"], told["pid"]),
            )
        if who == "a person":
            a.close()
            kill_session(owner, "test manager a")
            silence(owner, "a", 11)
        with owner.transaction():
            owner.execute("SELECT 1 FROM fleet.incarnations WHERE id = %s FOR UPDATE", (low,))
            if who == "a person":
                done = threads.submit(hosts.declare_host_gone, person, "a", actor="me", reason="it burnt")
            else:
                done = threads.submit(record, a, *map(end, lives))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not done.done() and not value(owner, waiting):
                pass
            assert not done.done()
            owner.execute("SELECT 1 FROM fleet.incarnations WHERE id = %s FOR UPDATE NOWAIT", (high,))
        done.result(10)
        assert is_dead(owner, low)
        assert is_dead(owner, high)


def test_a_life_that_nobody_knows_is_not_dead(owner: Owner) -> None:
    assert not is_dead(owner, UUID(int=7))


def test_a_manager_that_opens_is_told_the_undead_of_its_host_and_no_others(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with (
        managed(fleet_database, "a") as (manager,),
        fleet_database.connect("one") as first,
        fleet_database.connect("two") as second,
    ):
        owner.execute("UPDATE fleet.incarnations SET host = 'a'")
        owner.execute("UPDATE fleet.incarnations SET host = 'b' WHERE id = %s", (second.incarnation.id,))
        manager.close()
        kill_session(owner, "test manager a")  # the server may still be about to notice
        undead = rows(
            owner,
            "SELECT jsonb_array_elements(fleet.open_host('a', gen_random_uuid(), 'b', 'n', 1, '1', "
            "'m', '1', '{}', '[]')->'undead')->>'id'",
        )
        assert undead == [(str(first.incarnation.id),)]


HERE = ProcessIdentity.of_this_process()


def me(**changes: str) -> dict[str, Any]:
    return {
        "pid": HERE.pid,
        "pid_started": HERE.pid_started,
        "boot_id": HERE.boot_id,
        "pid_namespace": HERE.pid_namespace,
        **changes,
    }


@pytest.mark.parametrize(
    ("told", "same_machine", "proof"),
    [
        (me(), True, None),
        (me(pid_started="1"), True, NO_SUCH_PROCESS),
        (me(pid_started="1", pid_namespace="another"), True, None),  # a container that was started anew
        (me(boot_id="another"), True, ANOTHER_BOOT),
        (me(boot_id="another"), False, None),  # another machine of the same name: it may well run
        (me(boot_id=""), True, None),
    ],
)
def test_what_proc_proves(told: dict[str, Any], same_machine: bool, proof: str | None) -> None:
    assert proof_of_death(told, HERE, same_machine=same_machine) == proof
