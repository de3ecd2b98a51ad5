"""WorkerManager: orders become processes, with stub workers that are real ones on a real keeper."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import manager
from host.slots.log_file import Rotation
from tests.integration.host.keeping import eventually, lives, living
from tests.integration.host.managing import LIVE, House, managing, part


@pytest.fixture(params=["fork", "spawn"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    with managing(tmp_path, spawn=request.param == "spawn") as made:
        yield made


def test_each_worker_is_a_process_of_its_own_with_its_own_log(house: House) -> None:
    house.script("planner", "print(os.environ['SOCIALFLEET_ACCOUNT'], flush=True); ready(); live()")
    house.want(planner=1, poster=2)
    house.until(lambda: house.are("READY", "planner") and house.are("READY", "poster", 1, 2))
    assert set(house.line.slots) == {("planner", 1), ("poster", 1), ("poster", 2)}
    assert len({slot.pid for slot in house.line.slots.values()}) == 3
    assert house.log("planner").read_text() == "sandbox\n"
    assert house.log("poster", 2).exists()


def test_what_the_program_does_not_have_is_left_alone(house: House) -> None:
    house.want(planner=1, foreign=1)
    house.until(lambda: house.are("READY", "planner"))
    assert set(house.line.slots) == {("planner", 1)}


def test_the_first_word_on_the_pipe_makes_it_ready_and_later_ones_tell_its_state(house: House) -> None:
    house.script("planner", "time.sleep(0.2); ready('PAUSED', reason='flag planner_enabled is off'); live()")
    house.want(planner=1)
    house.until(lambda: house.are("STARTING", "planner") and house.line.slots["planner", 1].pid)
    house.until(lambda: house.are("PAUSED", "planner"))
    assert house.reason("planner") == "flag planner_enabled is off"


@pytest.mark.timed
def test_a_killed_worker_is_noticed_within_50_ms_and_runs_again_within_its_backoff(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "REFRESH_S", 30.0)  # no look at all finds it sooner than its end is told
    house.ready(planner=1)
    noticed_s: list[float] = []
    back_s: list[float] = []
    for number in range(1, 6):  # a machine may have something else to do just then, and not five times
        pid = house.pid("planner")
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        house.until(lambda: house.are("BACKOFF", "planner"))
        noticed_s.append(time.monotonic() - began)
        assert house.reason("planner") == "killed by SIGKILL; starts again in 0.1 s"
        house.until(lambda: house.slot("planner").pid)  # another one: the killed process is none any more
        back_s.append(time.monotonic() - began)
        house.until(lambda: house.are("READY", "planner"))
        assert house.line.slots["planner", 1].restart_count == number
        house.clock.ahead_s += 61  # stable since, so the next backoff is the first again
        house.until(lambda: house.line.slots["planner", 1].failures == 0)
    assert min(noticed_s) < 0.05
    assert min(back_s) < 0.1 + 0.5


def test_killed_workers_come_back_without_the_database(house: House) -> None:
    house.ready(planner=1)
    pid = house.pid("planner")
    house.line.is_away = True
    os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.are("READY", "planner") and house.pid("planner") != pid)


@pytest.mark.timed
def test_every_end_is_proven_and_forgotten_by_the_keeper_only_once_the_proof_is_safe(house: House) -> None:
    house.ready(planner=1)
    killed = house.line.slots["planner", 1]
    house.line.is_away = True
    os.kill(house.pid("planner"), signal.SIGKILL)
    house.until(lambda: house.line.ends)
    end = house.line.ends[0]
    assert (end.worker, end.slot, end.pid, end.pid_started) == ("planner", 1, killed.pid, killed.pid_started)
    assert (end.exit_code, end.how) == (-signal.SIGKILL, "killed by SIGKILL")
    assert abs(time.clock_gettime(time.CLOCK_BOOTTIME) - end.ended_at_boottime_s) < 1
    # Not acknowledged: the next manager process is told again.
    house.follow_a_killed_manager()
    house.line.is_away = False
    house.until(lambda: [each.pid for each in house.line.ends] == [killed.pid])


def test_disabled_is_drained_and_enabled_comes_back(house: House) -> None:
    house.ready(planner=1)
    house.want(planner=0, reason="flag planner_enabled is off")
    house.until(lambda: house.are("STOPPED", "planner"))
    assert house.reason("planner") == "flag planner_enabled is off"
    house.ready(planner=1)


def test_fewer_replicas_leave_the_first_ones_untouched_and_are_forgotten(house: House) -> None:
    house.ready(poster=3)
    first, third = house.pid("poster", 1), house.pid("poster", 3)
    house.want(poster=1)
    house.until(lambda: set(house.line.slots) == {("poster", 1)})
    assert not lives(third)
    assert house.pid("poster", 1) == first


def test_a_restart_is_done_when_the_new_process_is_ready(house: House) -> None:
    house.ready(planner=1, poster=1)
    planner, poster = house.pid("planner"), house.pid("poster")
    house.order(part("restart", "poster"))
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (True, f"poster/1 is READY (pid {house.pid('poster')})")
    assert house.pid("poster") != poster
    assert house.pid("planner") == planner
    assert house.line.slots["poster", 1].failures == 0


def test_stop_and_start_are_done_when_it_is_so(house: House) -> None:
    house.ready(poster=1)
    house.want(part("stop", "poster"), poster=0)
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (True, "poster/1 is STOPPED")
    house.want(part("start", "poster", number="2"), poster=1)
    house.until(lambda: "2" in house.line.finished)
    assert house.line.finished["2"] == (True, f"poster/1 is READY (pid {house.pid('poster')})")


def test_a_start_before_the_stop_ended_settles_both(house: House) -> None:
    house.ready(stubborn=1)
    house.want(part("stop", "stubborn"), stubborn=0)
    house.until(lambda: house.are("DRAINING", "stubborn"))
    house.want(part("start", "stubborn", number="2"), stubborn=1)
    house.until(lambda: len(house.line.finished) == 2)
    assert house.line.finished["1"] == (False, "superseded by a later command")
    assert house.line.finished["2"] == (True, f"stubborn/1 is READY (pid {house.pid('stubborn')})")


def test_a_part_that_is_offered_again_is_not_begun_again(house: House) -> None:
    house.ready(stubborn=1)
    restart = part("restart", "stubborn")
    house.order(restart)
    house.until(lambda: house.are("DRAINING", "stubborn"))
    for _ in range(3):
        house.order(restart)
    house.until(lambda: house.line.finished)
    renewed = house.pid("stubborn")
    house.order(restart)
    house.turns(5)
    assert house.are("READY", "stubborn")
    assert house.pid("stubborn") == renewed


def test_parts_that_can_not_be_done_say_why(house: House) -> None:
    house.want(part("restart", "poster"), part("restart", "planner", 7, number="2"), poster=0, planner=1)
    house.until(lambda: len(house.line.finished) == 2)
    assert house.line.finished["1"] == (
        False,
        "poster is stopped: start it with: socialfleet start poster",
    )
    assert house.line.finished["2"] == (False, "planner/7 is not on this host")


def test_a_restart_that_fails_says_how(house: House) -> None:
    house.ready(planner=1)
    house.script("planner", "print('no key', flush=True); code = 78")
    house.order(part("restart", "planner"))
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (False, "planner/1 no key; starts again in 0.1 s")


def test_a_restart_out_of_a_crash_loop_is_done_when_the_new_process_is_ready(house: House) -> None:
    house.script("planner", "code = 1")
    house.want(planner=1)
    for number in range(1, 6):
        house.until(lambda number=number: len(house.line.ends) == number)
        house.clock.ahead_s += 1
    house.until(lambda: house.are("CRASH_LOOP", "planner"))
    house.script("planner", LIVE)
    house.order(part("restart", "planner"))
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (True, f"planner/1 is READY (pid {house.pid('planner')})")


def test_a_restart_that_the_fleets_stop_comes_before_says_so(house: House) -> None:
    house.script("planner", "time.sleep(1000)")
    house.want(planner=1)
    house.order(part("restart", "planner"))
    house.until(lambda: house.are("STARTING", "planner") and house.line.slots["planner", 1].pid)
    house.manager.stop()
    assert house.line.finished["1"] == (False, "the fleet was stopped")


def test_a_part_that_takes_too_long_says_so_itself_before_its_command_times_out(house: House) -> None:
    house.ready(planner=1)
    house.script("planner", "time.sleep(1000)")
    house.order(part("restart", "planner", remaining_s=1.5))
    house.until(lambda: house.line.finished)
    succeeded, text = house.line.finished["1"]
    assert not succeeded
    assert text.startswith("not done within ")
    assert text.endswith("planner/1 is STARTING")


def test_pause_and_resume_are_done_when_the_worker_says_so(house: House) -> None:
    house.script(
        "planner",
        "ready()\nwhile not Path('pause').exists(): time.sleep(0.01)\n"
        "say('PAUSED', reason='paused by a person')\nwhile Path('pause').exists(): time.sleep(0.01)\n"
        "say('READY', reason=''); live()",
    )
    house.ready(planner=1)
    house.want(part("pause", "planner"), planner=1, paused=True)
    house.turns(3)
    assert not house.line.finished
    (house.directory / "pause").touch()
    house.until(lambda: house.line.finished.get("1"))
    assert house.line.finished["1"] == (True, f"planner/1 is PAUSED (pid {house.pid('planner')})")
    (house.directory / "pause").unlink()
    house.want(part("resume", "planner", number="2"), planner=1)
    house.until(lambda: "2" in house.line.finished)
    assert house.line.finished["2"][1].startswith("planner/1 is READY")


@pytest.mark.timed
def test_a_drain_says_what_it_will_take_and_then_what_it_took(house: House) -> None:
    house.script(
        "planner",
        "ready()\nfor _ in range(3):\n"
        "    say('BUSY', step='step'); time.sleep(0.1); say('READY', step=None)\n"
        "    time.sleep(0.02)\nsay('BUSY', step='step'); live(drain_s=0.3)",
    )
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner"))
    process = house.slot("planner").process
    assert process
    house.until(lambda: process.usual_s("step"))
    house.until(lambda: house.are("BUSY", "planner"))
    house.want(part("drain", "planner"), planner=0)
    house.until(lambda: house.line.finished)
    assert house.line.told == ["1: planner/1 drains: step has run 0 s of the usual 0, about 1 s are left"]
    succeeded, text = house.line.finished["1"]
    assert succeeded
    took_s = float(text.removeprefix("planner/1 drained in ").partition(" s (said before: ")[0])
    assert 0.3 <= took_s < 2


def test_a_drain_that_had_to_be_ended_says_so_and_what_was_in_hand(house: House) -> None:
    house.script(
        "planner",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); say('BUSY', step='first_run')\n"
        "time.sleep(1000)",
    )
    house.want(planner=1)
    house.until(lambda: house.are("BUSY", "planner"))
    house.want(part("drain", "planner", remaining_s=3.0), planner=0)
    house.until(lambda: house.line.finished)
    succeeded, text = house.line.finished["1"]
    assert succeeded
    assert text.startswith(
        "planner/1 was killed: it did not drain within 1 s (a person stopped it); in hand was first_run"
    )


@pytest.mark.timed
def test_restarted_one_that_ignores_sigterm_is_killed_at_its_deadline(house: House) -> None:
    house.ready(stubborn=1)
    began = time.monotonic()
    house.order(part("restart", "stubborn"))
    house.until(lambda: house.line.ends)
    assert 1.0 <= time.monotonic() - began < 3
    house.until(lambda: house.line.finished)
    end = house.line.ends[0]
    assert end.exit_code == -signal.SIGKILL
    assert end.how == "killed: it did not drain within 1 s (a person restarts it)"
    assert house.line.slots["stubborn", 1].failures == 0


def test_the_tail_of_a_log_is_the_output_of_a_part(house: House) -> None:
    house.script("planner", "print(*range(300), sep='\\n', flush=True); ready(); live()")
    house.ready(planner=1)
    house.order(part("logs", "planner", lines=2))
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (True, "planner/1: 2 lines")
    assert house.line.outputs["1"] == "298\n299"


def test_a_wake_up_reaches_every_process_of_the_worker_and_no_other(house: House) -> None:
    script = (
        "from workers.wake import Wake\nwake = Wake.from_environment()\nready()\n"
        "while not draining.is_set():\n    woken = wake.take()\n"
        "    if woken: print(woken, flush=True)\n    time.sleep(0.01)"
    )
    house.script("poster", script)
    house.script("planner", script)
    house.ready(poster=2, planner=1)
    assert house.manager.wake("poster", "step")
    for slot in (1, 2):
        said = eventually(lambda slot=slot: house.log("poster", slot).read_text(), "it is woken")
        assert said == "Woken(mail=False, jobs=False, step=True, settings=False)\n"
    assert not house.log("planner").read_text()


def test_a_wake_up_of_one_goes_by_turns_and_the_others_are_the_rest(house: House) -> None:
    script = (
        "from workers.wake import Wake\nwake = Wake.from_environment()\nready()\n"
        "while not draining.is_set():\n    woken = wake.take()\n"
        "    if woken.mail: print('mail', flush=True)\n    if woken.jobs: print('jobs', flush=True)\n"
        "    time.sleep(0.01)"
    )
    house.script("poster", script)
    house.script("planner", script)
    house.ready(poster=3, planner=1)

    def heard() -> list[list[str]]:
        return [house.log("poster", slot).read_text().split() for slot in (1, 2, 3)]

    for round_ in range(1, 4):
        assert house.manager.wake("poster", "mail", "one")
        eventually(lambda n=round_: sum(map(len, heard())) == n, "one is woken")
    assert heard() == [["mail"]] * 3
    for whom in ("one", "others"):  # who was called ahead for the one takes nothing from the other
        assert house.manager.wake("poster", "mail", whom)
        assert house.manager.wake("poster", "jobs", whom)
    eventually(lambda: [sorted(slot) for slot in heard()] == [["jobs", "mail", "mail"]] * 3, "each once")
    assert not house.manager.wake("planner", "mail", "one")  # there are no others


@pytest.mark.timed
def test_stopping_all_waits_for_the_deadline_only_and_leaves_no_process(house: House) -> None:
    house.ready(planner=1, poster=2, stubborn=1)
    pids = [slot.pid for slot in house.line.slots.values() if slot.pid]
    began = time.monotonic()
    house.manager.stop()
    assert time.monotonic() - began < 3
    assert {slot.state for slot in house.line.slots.values()} == {"STOPPED"}
    assert "did not drain" in house.reason("stubborn")
    assert not living(pids)


def test_stopped_it_takes_no_more_orders(house: House) -> None:
    house.ready(planner=1)
    house.want(planner=1, poster=1)
    house.manager.stop()
    assert {slot.state for slot in house.line.slots.values()} == {"STOPPED"}
    assert ("poster", 1) not in house.line.slots


@pytest.mark.timed
def test_a_manager_that_follows_a_killed_one_goes_on_with_the_living_and_their_counts(house: House) -> None:
    house.ready(planner=1, poster=2)
    os.kill(house.pid("planner"), signal.SIGKILL)
    house.until(lambda: house.are("READY", "planner") and house.line.slots["planner", 1].restart_count == 1)

    def is_written() -> bool:
        told = json.loads((house.directory / "status.json").read_text())["slots"]
        return [(one["state"], one["restartCount"]) for one in told if one["name"] == "planner"] == [
            ("READY", 1)
        ]

    house.until(is_written)
    pids = {key: slot.pid for key, slot in house.line.slots.items()}
    since = house.line.slots["planner", 1].since
    house.line.is_away = True  # it needs no database for it
    house.follow_a_killed_manager()
    house.until(lambda: {key: slot.pid for key, slot in house.line.slots.items()} == pids)
    assert {slot.state for slot in house.line.slots.values()} == {"READY"}
    assert abs(house.line.slots["planner", 1].since - since) < 0.1
    assert house.line.slots["planner", 1].restart_count == 1
    assert house.line.slots["planner", 1].failures == 1
    house.until(lambda: house.are("READY", "planner") and house.are("READY", "poster", 1, 2))
    os.kill(house.pid("poster", 2), signal.SIGKILL)
    house.until(lambda: house.are("READY", "poster", 2) and house.pid("poster", 2) != pids["poster", 2])
    house.line.is_away = False
    house.want(planner=1, poster=2)
    house.turns(3)
    assert house.pid("planner") == pids["planner", 1]


def test_a_restart_that_an_earlier_manager_finished_is_not_done_twice(house: House) -> None:
    house.ready(planner=1)
    pid = house.pid("planner")
    house.order(part("restart", "planner", age_s=30.0))
    house.until(lambda: house.line.finished)
    assert house.line.finished["1"] == (True, f"planner/1 is READY (pid {pid})")


@pytest.mark.timed
def test_cut_off_from_the_database_what_acts_is_killed_at_once_and_the_others_wait(house: House) -> None:
    house.script(
        "poster", "ready('BUSY', step='step', acting=not Path('once').exists()); Path('once').touch(); live()"
    )
    house.want(poster=1, planner=1)
    house.until(lambda: house.are("BUSY", "poster") and house.are("READY", "planner"))
    acting, idle = house.pid("poster"), house.pid("planner")
    house.line.is_away, house.line.unanswered_s = True, 7.9
    house.turns(5)
    assert living([acting, idle]) == [acting, idle]
    house.line.unanswered_s = 8.1
    began = time.monotonic()
    house.until(lambda: not lives(acting))
    assert time.monotonic() - began < 0.5
    house.until(lambda: house.are("BUSY", "poster") and house.pid("poster") != acting)
    assert house.line.ends[0].how == "cut off from the database: stopped before its leases could be taken"
    assert house.line.slots["poster", 1].failures == 0
    assert house.pid("planner") == idle
    kind, told = house.line.events[0]
    assert (kind, told.data) == ("fenced", {"worker": "poster", "slot": 1, "pid": acting})


@pytest.mark.timed
def test_one_whose_own_beats_were_answered_is_not_cut_off_however_long_the_manager_stood_still(
    house: House,
) -> None:
    house.script(
        "poster",
        "ready('BUSY', step='step', acting=True)\n"
        "while not Path('cut').exists():\n"
        "    say(answered_at_s=time.clock_gettime(time.CLOCK_BOOTTIME)); time.sleep(0.05)\n"
        "say(answered_at_s=time.clock_gettime(time.CLOCK_BOOTTIME) - 7.5); live()",
    )
    house.want(poster=1)
    house.until(lambda: house.are("BUSY", "poster"))
    pid = house.pid("poster")
    house.line.unanswered_s = 30.0  # it has not asked since; the worker has
    began = time.monotonic()
    house.manager.run(lambda: time.monotonic() - began > 0.5)
    assert lives(pid)
    house.follow_a_killed_manager()  # it knows no more than what the worker says
    house.manager.run(lambda: time.monotonic() - began > 1.0)
    assert lives(pid)
    (house.directory / "cut").touch()
    house.until(lambda: house.line.ends, within_s=3)
    assert not lives(pid)
    assert house.line.ends[0].how == "cut off from the database: stopped before its leases could be taken"


def test_what_the_worker_said_while_the_manager_stood_still_comes_before_the_verdict(house: House) -> None:
    house.script(
        "poster",
        "at = time.clock_gettime(time.CLOCK_BOOTTIME)\n"
        "ready('BUSY', step='step', acting=True, answered_at_s=at - 100)\n"
        "while not Path('asks').exists(): time.sleep(0.01)\n"
        "say(answered_at_s=time.clock_gettime(time.CLOCK_BOOTTIME)); Path('asked').touch(); live()",
    )
    house.want(poster=1)
    house.until(lambda: house.are("BUSY", "poster"))
    pid = house.pid("poster")
    (house.directory / "asks").touch()
    eventually((house.directory / "asked").exists, "it asked")
    house.line.unanswered_s = 9.0
    house.clock.ahead_s += 9.0
    house.manager.tick()  # before a look at the pipe
    house.turns(5)
    assert lives(pid)


def test_the_snapshot_says_what_is_here_and_since_when_the_database_is_away(house: House) -> None:
    house.ready(planner=1)
    file = house.directory / "status.json"
    house.until(lambda: '"database": "up"' in file.read_text())
    house.line.is_away, house.line.unanswered_s = True, 3.0
    house.until(lambda: '"database": "away"' in file.read_text())
    text = file.read_text()
    assert f'"pid": {house.pid("planner")}' in text
    assert '"stale_since": "' in text
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_that_was_told_to_drain_by_a_killed_manager_is_no_failure_when_it_ends(house: House) -> None:
    house.script("planner", "ready(); live(drain_s=0.5)")
    house.ready(planner=1)
    pid = house.pid("planner")
    house.order(part("restart", "planner"))
    house.until(lambda: house.are("DRAINING", "planner"))
    house.follow_a_killed_manager()
    house.order()
    house.until(lambda: house.are("READY", "planner") and house.pid("planner") != pid)
    assert house.line.slots["planner", 1].failures == 0


def test_one_that_was_told_to_drain_and_ended_unseen_is_no_failure(house: House) -> None:
    house.script("planner", "ready(); live(drain_s=1.0)")
    house.ready(planner=1)
    pid = house.pid("planner")
    house.order(part("restart", "planner"))
    house.until(lambda: '"leaving": "a person restarts it"' in (house.directory / "status.json").read_text())
    os.kill(house.kept.manager_pid, signal.SIGSTOP)  # so that the end is seen by the next one only
    house.manager.leave()
    house.supervisor.__exit__(None, None, None)
    eventually(lambda: not lives(pid), "it has ended")
    os.kill(house.kept.manager_pid, signal.SIGKILL)
    house.kept.next_manager()
    house.line.forget()
    house.open()
    house.until(lambda: house.are("READY", "planner") and house.pid("planner") != pid)
    assert house.line.slots["planner", 1].failures == 0


def test_one_that_should_not_run_and_drains_without_end_has_its_deadline_under_the_next_manager(
    house: House,
) -> None:
    house.ready(stubborn=1)
    pid = house.pid("stubborn")
    house.want(stubborn=0)
    house.until(lambda: house.are("DRAINING", "stubborn"))
    house.until(lambda: '"runs": false' in (house.directory / "status.json").read_text())
    house.follow_a_killed_manager()
    house.order()
    house.until(lambda: house.are("STOPPED", "stubborn"))
    assert not lives(pid)
    assert house.line.ends[0].how == "killed: it did not drain within 1 s (a person stopped it)"


def test_an_end_that_nobody_was_there_to_see_is_proven_and_made_good(house: House) -> None:
    house.ready(planner=1)
    pid = house.pid("planner")
    house.until((house.directory / "status.json").exists)
    os.kill(house.kept.manager_pid, signal.SIGSTOP)  # so that the kill is seen by the next one only
    house.manager.leave()
    house.supervisor.__exit__(None, None, None)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not lives(pid), "it is dead")
    os.kill(house.kept.manager_pid, signal.SIGKILL)
    house.kept.next_manager()
    house.line.forget()
    house.open()
    house.until(lambda: house.line.ends)
    assert [end.pid for end in house.line.ends] == [pid]
    house.until(lambda: house.are("READY", "planner"))
    assert house.line.slots["planner", 1].failures == 1


def test_the_logs_of_all_slots_go_to_standard_output_too_where_that_is_wanted(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    house.manager.leave()
    house.supervisor.__exit__(None, None, None)
    house.open(to_stdout=True)
    house.script("poster", 'print(\'{"message": "said"}\', flush=True); ready(); live()')
    house.want(poster=2)
    house.until(lambda: house.are("READY", "poster", 1, 2))
    house.manager.stop()
    assert capfd.readouterr().out.splitlines() == ['{"message": "said"}'] * 2


def test_the_logs_of_the_host_are_rotated_while_a_manager_is_there(tmp_path: Path) -> None:
    with managing(tmp_path, rotation=Rotation(max_bytes=1000)) as house:
        house.script("poster", "print('x' * 2000, flush=True); ready(); live()")
        house.ready(poster=1)
        console = tmp_path / "logs" / "console.log"
        console.write_text("y" * 2000)
        logs = (house.log("poster"), console)
        house.until(lambda: all(log.with_name(f"{log.name}.1").exists() for log in logs))
        assert not console.read_text()


def test_stopped_before_it_took_over_it_drains_what_the_one_before_left(house: House) -> None:
    house.script("planner", "ready(); live()\nprint('drained', flush=True)")
    house.ready(planner=1)
    pid = house.pid("planner")
    house.follow_a_killed_manager()
    house.manager.stop()
    assert not lives(pid)
    assert house.log("planner").read_text() == "drained\n"
    assert house.line.ends[0].exit_code == 0
