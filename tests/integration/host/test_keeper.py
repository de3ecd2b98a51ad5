"""The keeper: births, ends, and manager processes and guardians that come and go; all processes are real."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from host.keeper.client import send_signal
from host.keeper.wire import Birth, Ended, Refused, Started
from tests.integration.host.keeping import (
    SLEEPER,
    Kept,
    children_named,
    eventually,
    keeping,
    lives,
    living,
)

TALKER = """
    import os, signal, sys, time

    def run(name, slot):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(slot)))
        print(f"{name}/{slot} {os.getpid()}", flush=True)
        while True:
            time.sleep(0.02)
            os.write(int(os.environ["SOCIALFLEET_PROGRESS_FD"]), b"word\\n")
"""


FORKS = """
    import errno, os, signal, time
    from pathlib import Path

    from host.keeper import newborn

    forked = newborn.fork

    def fork(body):
        if Path("no-room").exists():
            raise OSError(errno.EAGAIN, "no room")
        pid = forked(body)
        if Path("signal-in-between").exists():
            Path("signal-in-between").unlink()
            os.kill(os.getpid(), signal.SIGTERM)
        return pid

    pidfd_open = os.pidfd_open

    def open_pidfd(pid):
        if Path("no-file").exists():
            raise OSError(errno.EMFILE, "too many open files")
        return pidfd_open(pid)

    os.pidfd_open = open_pidfd
    newborn.fork = fork  # this module is loaded by the keeper, which forks

    def run(name, slot):
        time.sleep(1000)
"""


HASTY = """
    import time
    from host.keeper import keep, vigil

    # This module is loaded by the keeper.
    vigil.HANGS_AFTER_S, vigil.LONGEST_TURN_S, keep.SWEEP_S = 3.0, 0.5, 0.2

    def run(name, slot):
        time.sleep(1000)
"""


@pytest.fixture(params=["fork", "spawn"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    with keeping(tmp_path, source=TALKER, spawn=request.param == "spawn") as running:
        yield running


def resumed(event: object) -> Started | None:
    return event if isinstance(event, Started) and event.resumed else None


class TestChildren:
    def test_a_worker_is_born_talks_is_signalled_by_its_pidfd_and_its_end_is_told(self, kept: Kept) -> None:
        started = kept.worker("poster", 7)
        assert kept.said("poster", 7) == [f"poster/7 {started.pid}"]
        assert (started.worker, started.slot, started.request, started.resumed) == ("poster", 7, 1, False)
        send_signal(started, signal.SIGTERM)
        end = kept.ended(started)
        assert (end.exit_code, end.worker, end.slot) == (7, "poster", 7)
        assert end.pid_started == started.pid_started
        send_signal(started, signal.SIGTERM)  # the file means this process, whoever has its number by now

    @pytest.mark.timed
    def test_a_killed_child_is_told_at_once_with_the_signal(self, kept: Kept) -> None:
        started = kept.worker()
        kept.said()
        began = time.monotonic()
        os.kill(started.pid, signal.SIGKILL)
        assert kept.ended(started).exit_code == -signal.SIGKILL
        assert time.monotonic() - began < 0.5

    def test_its_pipe_reaches_the_manager_process(self, kept: Kept) -> None:
        started = kept.worker()
        progress = started.progress
        assert progress is not None

        def read() -> bytes | None:
            with suppress(BlockingIOError):
                return os.read(progress, 100)
            return None

        assert eventually(read, "a word").startswith(b"word\n")

    def test_a_group_is_killed_whole_and_a_foreign_process_is_not(self, kept: Kept) -> None:
        program = kept.shell("sleep 1000 & echo $!; wait")
        inner = int(kept.said("program", 0)[0])
        kept.keeper.kill_group(os.getpid())
        kept.keeper.kill_group(program.pid)
        assert kept.ended(program).exit_code == -signal.SIGKILL
        eventually(lambda: not lives(inner), "the inner process is gone")

    @pytest.mark.timed
    def test_what_a_child_leaves_behind_ends_with_it_in_whatever_session_it_is(self, kept: Kept) -> None:
        # The same group; a session of its own; an orphan while the child lives.
        program = kept.shell("sleep 1000 & echo $!; setsid sleep 1001 & echo $!; sleep 0.1; exit 5")
        left = [int(line) for line in kept.said("program", 0, lines=2)]
        assert kept.ended(program).exit_code == 5
        eventually(lambda: not living(left), "what it left is gone", within_s=2)

    def test_an_orphan_of_a_living_child_is_ended(self, kept: Kept) -> None:
        program = kept.shell("(setsid sleep 1000 & echo $!); exec sleep 1002", name="parent")
        orphan = int(kept.said("parent", 0)[0])
        eventually(lambda: not lives(orphan), "the orphan is gone", within_s=15)
        assert lives(program.pid)

    def test_a_program_has_the_environment_it_was_given_and_its_log(self, kept: Kept) -> None:
        environment = {"PATH": os.environ["PATH"], "GIVEN": "é"}
        program = kept.shell("env; echo on stderr >&2; exit 3", environment=environment)
        assert kept.ended(program).exit_code == 3
        said = kept.log("program", 0).read_text().splitlines()
        assert "GIVEN=é" in said
        assert "on stderr" in said
        assert not any(line.startswith("HOME=") for line in said)
        assert (program.progress, program.wake, program.stacks) == (None, None, None)

    def test_a_program_that_is_not_there_says_so_in_its_log(self, kept: Kept) -> None:
        birth = Birth(name="none", argv=("/no/such/program",), log=kept.log("none", 0))
        assert kept.ended(kept.born(birth)).exit_code == 127
        assert "/no/such/program can't be started: No such file" in kept.log("none", 0).read_text()

    def test_a_birth_without_a_place_for_its_log_is_refused_with_the_reason(self, kept: Kept) -> None:
        (kept.directory / "file").write_text("")
        request = kept.keeper.start(Birth(name="a", argv=("true",), log=kept.directory / "file" / "log"))
        refused = kept.await_(lambda event: event if isinstance(event, Refused) else None, "a refusal")
        assert (refused.request, refused.name) == (request, "a")
        assert f"its log {kept.directory}/file/log can't be written" in refused.error

    def test_one_that_can_not_be_held_is_refused_and_does_not_live(self, tmp_path: Path) -> None:
        with keeping(tmp_path, source=FORKS) as running:
            first = running.worker()
            (tmp_path / "no-file").touch()
            request = running.keeper.start(Birth(name="b/1", worker="b", slot=1, log=running.log("b", 1)))
            refused = running.await_(lambda event: event if isinstance(event, Refused) else None, "a refusal")
            assert (refused.request, refused.name) == (request, "b/1")
            assert "no room for it (too many open files)" in refused.error
            assert children_named(running.process.pid, "b/1") == []
            assert lives(first.pid)

    def test_more_arguments_than_a_packet_holds_are_refused_here(self, kept: Kept) -> None:
        kept.keeper.start(Birth(name="a", argv=("echo", "x" * 4_000_000), log=kept.log("a", 0)))
        refused = kept.await_(lambda event: event if isinstance(event, Refused) else None, "a refusal")
        assert "larger than a packet" in refused.error
        assert kept.worker().pid > 0

    def test_a_hundred_births_at_once_lose_nothing(self, kept: Kept) -> None:
        births = [
            Birth(name=f"p/{n}", argv=("true",), environment={"E": "e" * 5000}, log=kept.log("p", 0))
            for n in range(100)
        ]
        for birth in births:
            kept.keeper.start(birth)

        def all_ended() -> bool:
            kept.events += kept.keeper.take()
            return sum(isinstance(event, Ended) for event in kept.events) == 100

        eventually(all_ended, "all ends", within_s=30)
        assert {event.name for event in kept.events if isinstance(event, Ended)} == {b.name for b in births}


class TestManagerProcess:
    def test_killed_it_is_followed_by_one_that_gets_every_living_child_and_none_is_touched(
        self, kept: Kept
    ) -> None:
        worker, program = kept.worker("poster", 3), kept.shell("exec sleep 1000")
        kept.said("poster", 3)
        os.kill(kept.manager_pid, signal.SIGKILL)
        keeper = kept.next_manager()
        assert (keeper.generation, keeper.predecessor) == (2, "killed by SIGKILL")
        told = {event.name: event for event in keeper.take() if isinstance(event, Started)}
        kept.events += told.values()
        assert {name: event.pid for name, event in told.items()} == {
            "poster/3": worker.pid,
            "program": program.pid,
        }
        assert all(event.resumed and event.request is None and event.age_s > 0 for event in told.values())
        assert told["poster/3"].pid_started == worker.pid_started
        assert living([worker.pid, program.pid]) == [worker.pid, program.pid]
        send_signal(told["poster/3"], signal.SIGTERM)
        assert kept.ended(worker).exit_code == 3

    def test_ends_while_it_is_away_are_told_until_they_are_acknowledged(self, kept: Kept) -> None:
        first, second = kept.worker("a", 1), kept.worker("b", 2)
        kept.said("b", 2)
        os.kill(first.pid, signal.SIGKILL)
        before = kept.ended(first)
        assert before.exit_code == -signal.SIGKILL  # heard, and not acknowledged
        os.kill(kept.manager_pid, signal.SIGKILL)
        os.kill(second.pid, signal.SIGKILL)
        kept.events.clear()
        kept.next_manager()
        again = [kept.ended(first), kept.ended(second)]
        assert [end.pid for end in again] == [first.pid, second.pid]
        assert again[0] == before
        assert again[0].ago_s > 0
        for end in again:
            kept.keeper.acknowledge(end)
        eventually(lambda: not kept.keeper.take(), "quiet")
        os.kill(kept.manager_pid, signal.SIGKILL)
        assert kept.next_manager().take() == []

    def test_five_deaths_within_a_minute_end_the_keeper_with_1_and_every_child(self, kept: Kept) -> None:
        worker = kept.worker()
        for _ in range(4):
            os.kill(kept.manager_pid, signal.SIGSEGV)
            kept.next_manager()
        assert kept.keeper.predecessor == "killed by SIGSEGV"
        assert lives(worker.pid)
        os.kill(kept.manager_pid, signal.SIGRTMIN + 1)  # one that has no name
        assert kept.process.wait(10) == 1
        assert not lives(worker.pid)

    def test_its_own_end_is_the_keepers_with_its_code_and_nobody_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STOPPED_WITH", "4")
        with keeping(tmp_path, source=SLEEPER) as running:
            program = running.shell("setsid sleep 1000 & echo $!; exec sleep 1001")
            inner = int(running.said("program", 0)[0])
            worker = running.worker()
            everyone = [running.manager_pid, program.pid, worker.pid, inner]
            everyone += children_named(running.process.pid, "fleet-guardian")
            assert len(everyone) == 5
            running.process.send_signal(signal.SIGINT)  # it is passed on
            assert running.process.wait(10) == 4
            assert living(everyone) == []

    def test_asked_to_stop_while_there_is_none_and_no_room_for_one_the_keeper_ends(
        self, tmp_path: Path
    ) -> None:
        with keeping(tmp_path, source=FORKS) as running:
            worker = running.worker()
            (tmp_path / "no-room").touch()
            os.kill(running.manager_pid, signal.SIGKILL)
            eventually(lambda: not Path(f"/proc/{running.manager_pid}").exists(), "its end is noted")
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(5) == 128 + signal.SIGTERM
            assert not lives(worker.pid)

    def test_asked_to_stop_while_one_is_being_made_that_one_is_told(self, tmp_path: Path) -> None:
        with keeping(tmp_path, source=FORKS) as running:
            worker = running.worker()
            (tmp_path / "signal-in-between").touch()
            os.kill(running.manager_pid, signal.SIGKILL)
            # It may have been told before it could end by itself.
            assert running.process.wait(5) in {0, 128 + signal.SIGTERM}
            assert not lives(worker.pid)

    def test_one_that_does_not_turn_any_more_is_followed_and_no_worker_is_touched(
        self, tmp_path: Path
    ) -> None:
        with keeping(tmp_path, source=HASTY) as running:
            worker, hung = running.worker(), running.manager_pid
            running.keeper.answered_at_s = 4711.5
            running.keeper.establish()
            running.keeper.turn()
            os.kill(hung, signal.SIGSTOP)  # and the test, whose line it is, says nothing
            running.next_manager()
            assert not lives(hung)
            assert running.keeper.predecessor == "it hung and was killed"
            assert running.keeper.answered_at_s == 4711.5
            (told,) = [event for event in running.keeper.take() if isinstance(event, Started)]
            running.events.append(told)
            assert (told.pid, lives(worker.pid)) == (worker.pid, True)

    def test_one_that_turns_lives_on_and_so_does_one_that_was_stopped_together_with_the_keeper(
        self, tmp_path: Path
    ) -> None:
        with keeping(tmp_path, source=HASTY) as running:
            running.worker()
            running.keeper.establish()
            until = time.monotonic() + 6.0

            def turned() -> bool:
                running.keeper.turn()
                return time.monotonic() > until

            eventually(turned, "turns for longer than one may be silent")
            os.kill(running.process.pid, signal.SIGSTOP)
            gone_until = time.monotonic() + 4.0
            eventually(lambda: time.monotonic() > gone_until, "silent for longer, as the keeper is stopped")
            os.kill(running.process.pid, signal.SIGCONT)
            running.worker("another", 2)  # the keeper has had its turns
            running.keeper.turn()
            assert lives(running.manager_pid)
            assert running.keeper.generation == 1

    def test_before_the_fleet_is_established_it_may_be_silent(self, tmp_path: Path) -> None:
        with keeping(tmp_path, source=HASTY) as running:
            running.keeper.turn()
            until = time.monotonic() + 5.0
            eventually(lambda: time.monotonic() > until, "a start that takes its time")
            assert running.worker().pid
            assert lives(running.manager_pid)

    def test_nonsense_from_it_ends_nobody(self, kept: Kept) -> None:
        worker = kept.worker()
        kept.keeper._line.send("birth", {"request": "x"})  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        kept.keeper._line.send("dance", {})  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        assert kept.worker("other", 2).pid != worker.pid
        assert lives(worker.pid)


class TestGuardian:
    @pytest.mark.timed
    def test_killed_it_is_followed_by_one_that_knows_the_children(self, kept: Kept) -> None:
        kept.worker("first", 1)  # the template is warm now, and the guardian forked from that
        program = kept.shell("sleep 1000 & echo $!; wait")
        inner = int(kept.said("program", 0)[0])
        (first,) = children_named(kept.process.pid, "fleet-guardian")
        os.kill(first, signal.SIGKILL)
        guardians = eventually(
            lambda: [p for p in children_named(kept.process.pid, "fleet-guardian") if p != first], "another"
        )
        assert len(guardians) == 1
        kept.process.kill()
        eventually(lambda: not living([program.pid, inner]), "all are gone", within_s=2)
        eventually(lambda: not living(guardians), "the guardian is gone", within_s=5)

    def test_a_request_to_stop_does_not_end_it(self, kept: Kept) -> None:
        kept.worker("first", 1)  # the template is warm now, and the guardian forked from that
        (guardian,) = children_named(kept.process.pid, "fleet-guardian")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(guardian, number)
        worker = kept.worker()  # after these were delivered
        assert children_named(kept.process.pid, "fleet-guardian") == [guardian]
        assert lives(worker.pid)
