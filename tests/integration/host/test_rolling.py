"""Rolling restarts: the replacement is ready before the old process drains, and a bad one changes nothing."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.keeper.wire import Birth
from tests.integration.host.keeping import lives, living
from tests.integration.host.managing import House, managing, part


@pytest.fixture(params=["fork", "spawn"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    with managing(tmp_path, spawn=request.param == "spawn", drain_s=10.0) as made:
        yield made


def test_a_rolling_restart_never_has_fewer_ready_processes_than_before(house: House) -> None:
    house.ready(poster=3)
    before = [house.pid("poster", slot) for slot in (1, 2, 3)]
    fewest = 3

    def settled(number: str) -> bool:
        nonlocal fewest
        at_work = [
            process
            for slot in house.manager.slots.values()
            for process in slot.processes
            if process.is_at_work and lives(process.pid)
        ]
        fewest = min(fewest, len(at_work))
        return number in house.line.finished

    for slot in (1, 2, 3):  # each part waits until the one before it is done
        number = str(slot)
        house.order(part("restart", "poster", slot, mode="surge", number=number))
        house.until(lambda number=number: settled(number))
        pid = house.pid("poster", slot)
        assert house.line.finished[number] == (True, f"poster/{slot} is READY (pid {pid})")
    assert fewest == 3
    assert not living(before)
    assert not {house.pid("poster", slot) for slot in (1, 2, 3)} & set(before)
    assert {slot.failures for slot in house.line.slots.values()} == {0}
    assert all(end.how.startswith("replaced by pid ") for end in house.line.ends)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('no such module', flush=True); code = 1", "ended with exit code 1: no such module"),
        ("ready(); time.sleep(0.2); os._exit(1)", "ended with exit code 1"),
        ("ready(healthy=False, reason='no account'); live()", "the replacement is not healthy: no account"),
    ],
)
def test_a_bad_replacement_is_ended_the_old_process_goes_on_and_the_part_fails_with_the_reason(
    house: House, script: str, reason: str
) -> None:
    house.ready(poster=1)
    pid = house.pid("poster")
    house.script("poster", script)
    house.order(part("restart", "poster", mode="surge"))
    house.until(lambda: house.line.finished)
    succeeded, text = house.line.finished["1"]
    assert not succeeded
    assert reason in text
    assert text.endswith("the old process goes on")
    assert house.are("READY", "poster")
    assert house.pid("poster") == pid
    assert lives(pid)
    assert house.line.slots["poster", 1].failures == 0
    assert [kind for kind, _ in house.line.events] == ["replacement_failed"]


def test_a_replacement_that_is_never_ready_is_given_up(house: House) -> None:
    house.ready(poster=1)
    pid = house.pid("poster")
    house.script("poster", "signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(1000)")
    house.order(part("restart", "poster", mode="surge"))
    house.until(lambda: house.slot("poster").succession and house.slot("poster").succession.process)  # pyright: ignore[reportOptionalMemberAccess]
    house.clock.ahead_s += 31
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (
        False,
        "poster/1: the replacement was not ready within 30 s; the old process goes on",
    )
    assert house.pid("poster") == pid


def test_a_replacement_that_is_born_after_it_was_given_up_leaves_and_hides_nobody(house: House) -> None:
    house.ready(poster=1)
    pid = house.pid("poster")
    keeper = house.kept.process
    keeper.send_signal(signal.SIGSTOP)  # as on a machine without room: the birth comes late
    try:
        house.order(part("restart", "poster", mode="surge"))
        house.until(lambda: house.slot("poster").succession)
        house.clock.ahead_s += 31
        house.until(lambda: house.line.finished)
    finally:
        keeper.send_signal(signal.SIGCONT)
    house.until(lambda: house.line.ends)
    (end,) = house.line.ends
    assert end.how == "it was born after it was given up"
    assert end.pid != pid
    assert house.are("READY", "poster")
    assert [process.pid for process in house.slot("poster").processes] == [pid]
    assert lives(pid)
    assert house.line.slots["poster", 1].restart_count == 0


def test_a_refusal_of_a_replacement_that_was_given_up_is_nobodys_matter(house: House) -> None:
    house.ready(poster=1)
    pid = house.pid("poster")
    keeper = house.kept.process
    keeper.send_signal(signal.SIGSTOP)
    try:
        house.order(part("restart", "poster", mode="surge"))
        house.until(lambda: house.slot("poster").succession)
        house.clock.ahead_s += 31
        house.until(lambda: house.line.finished)
        house.log("poster").unlink()
        house.log("poster").mkdir()  # it can't be born
    finally:
        keeper.send_signal(signal.SIGCONT)
    house.ready(planner=1)  # the keeper came to this after the other
    assert house.supervisor._untaken == []  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert house.pid("poster") == pid


def test_of_three_that_a_killed_manager_left_in_one_slot_none_is_hidden(house: House) -> None:
    house.ready(poster=1)
    pid = house.pid("poster")
    for _ in range(2):
        house.kept.keeper.start(Birth(name="poster/1", worker="poster", slot=1, log=house.log("poster")))
    house.follow_a_killed_manager()
    house.order()
    house.until(lambda: len(house.line.ends) == 2 and house.are("READY", "poster"))
    assert {end.how.partition(" pid ")[0] for end in house.line.ends} == {
        "replaced by",
        "one too many was left by an earlier manager",
    }
    assert house.pid("poster") not in {pid, *(end.pid for end in house.line.ends)}
    assert [process.pid for process in house.slot("poster").processes] == [house.pid("poster")]


def test_of_a_singleton_the_old_process_stops_first(house: House) -> None:
    house.script(
        "lone",
        "from fcntl import *\nlock = open('lone.lock', 'w'); flock(lock, LOCK_EX | LOCK_NB)\n"
        "ready(); live(0.2)",
    )
    house.ready(lone=1)
    pid = house.pid("lone")
    house.order(part("restart", "lone", mode="surge"))
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"][0]
    assert house.pid("lone") != pid
    assert house.line.slots["lone", 1].failures == 0  # the second would have failed beside the first


def test_an_old_process_that_dies_meanwhile_is_followed_by_its_replacement(house: House) -> None:
    house.ready(poster=1)
    pid = house.pid("poster")
    house.script("poster", "while not Path('go').exists(): time.sleep(0.01)\nready(); live()")
    house.order(part("restart", "poster", mode="surge"))
    house.until(lambda: house.slot("poster").succession and house.slot("poster").succession.process)  # pyright: ignore[reportOptionalMemberAccess]
    os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.are("STARTING", "poster"))
    (house.directory / "go").touch()
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"][0]
    assert house.line.slots["poster", 1].restart_count == 1


def test_one_that_is_not_at_work_is_simply_started_anew(house: House) -> None:
    house.script("poster", "code = 1")
    house.spread = 1.0
    house.want(poster=1)
    house.until(lambda: house.are("BACKOFF", "poster"))
    house.script("poster", "ready(); live()")
    house.order(part("restart", "poster", mode="surge"))
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (True, f"poster/1 is READY (pid {house.pid('poster')})")


def follow_with_a_replacement_on_its_way(house: House) -> None:
    """The manager dies while one waits for the file `go` to be ready, and the next is given the same part."""
    house.script("poster", "while not Path('go').exists(): time.sleep(0.01)\nready(); live()")
    restart = part("restart", "poster", mode="surge")
    house.order(restart)
    house.until(lambda: house.slot("poster").succession and house.slot("poster").succession.process)  # pyright: ignore[reportOptionalMemberAccess]
    house.follow_a_killed_manager()
    house.order(restart)


def test_a_replacement_on_its_way_survives_its_manager(house: House) -> None:
    house.ready(poster=1)
    pid = house.pid("poster")
    follow_with_a_replacement_on_its_way(house)
    (house.directory / "go").touch()
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"][0]
    assert house.pid("poster") != pid
    assert not lives(pid)
    assert len(list(house.slot("poster").processes)) == 1


def test_stopped_in_the_middle_no_process_is_left(house: House) -> None:
    house.ready(poster=1)
    house.script("poster", "while not draining.is_set(): time.sleep(0.01)")
    house.order(part("restart", "poster", mode="surge"))
    house.until(lambda: house.slot("poster").succession and house.slot("poster").succession.process)  # pyright: ignore[reportOptionalMemberAccess]
    pids = [process.pid for process in house.slot("poster").processes]
    assert len(pids) == 2
    house.want(poster=0)
    house.until(lambda: house.are("STOPPED", "poster") and house.slot("poster").is_idle)
    assert not living(pids)
    assert house.line.finished["1"] == (False, "superseded by a later command")


def test_an_old_process_that_said_nothing_to_the_next_manager_yet_works_until_its_replacement_does(
    house: House,
) -> None:
    house.script("poster", "say('READY')\nwhile not draining.is_set(): time.sleep(0.01)")
    house.ready(poster=1)
    pid = house.pid("poster")
    follow_with_a_replacement_on_its_way(house)
    house.until(lambda: not house.line.orders)
    house.turns(5)
    assert lives(pid)
    assert house.slot("poster").process
    assert house.slot("poster").process.leaving is None  # pyright: ignore[reportOptionalMemberAccess]
    (house.directory / "go").touch()
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"][0]
    assert not lives(pid)


def test_a_stall_of_the_old_process_does_not_end_its_replacement(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host.slots.black_box.DATABASE_WITHIN_S", 60.0)
    house.script(
        "poster",
        "ready(stall_after_s=0.4)\nsay('BUSY', step='step', stall_after_s=0.4)\n"
        "while not Path('hang').exists(): say(); time.sleep(0.02)\n"
        "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    )
    house.want(poster=1)
    house.until(lambda: house.are("BUSY", "poster"))
    old, slot = house.pid("poster"), house.slot("poster")
    house.script(
        "poster", "Path('waits').touch()\nwhile not Path('go').exists(): time.sleep(0.01)\nready(); live()"
    )
    house.order(part("restart", "poster", mode="surge"))
    house.until(lambda: slot.succession and slot.succession.process and (house.directory / "waits").exists())
    assert slot.succession
    replacement = slot.succession.process
    assert replacement
    house.line.holds_back = True  # the old one's black box waits for the database's part
    (house.directory / "hang").touch()
    house.until(lambda: house.are("STALLED", "poster"))
    (house.directory / "go").touch()
    house.until(lambda: replacement.ready_at)
    house.clock.ahead_s += 1.0
    assert slot.succession.may_take_over(house.clock())
    house.turns(2)
    assert not house.line.boxes
    assert slot.pid == old
    house.line.holds_back = False
    house.until(lambda: house.line.boxes and house.line.finished)
    assert house.pid("poster") == replacement.pid
    assert replacement.leaving is None
    assert house.line.slots["poster", 1].failures == 0
