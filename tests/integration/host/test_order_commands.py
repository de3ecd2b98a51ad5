"""start, stop, restart, pause, resume, drain, scale and worker set, with hosts that carry them out."""

import io
import sys
import threading
import time

import pytest

from coordination.desired import Part
from host.cli import order
from tests.fault_proxy import FaultProxy
from tests.integration.host.scripted_manager import Said, ScriptedManager, managing
from tests.integration.host.shell import Shell


def test_a_command_is_done_when_every_part_is(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)) as manager:
        assert shell.run("scale", "poster", "3", "--reason", "a busy day") == 0
        assert shell.lines() == ["poster/2 is done with start", "poster/3 is done with start"]
        assert shell.run("restart", "poster/2", "planner", "--reason", "new key") == 0
        assert shell.lines() == ["planner/1 is done with restart", "poster/2 is done with restart"]
    assert [(part.action, part.worker, part.slot) for part in manager.taken] == [
        ("start", "poster", 2),
        ("start", "poster", 3),
        ("restart", "planner", 1),
        ("restart", "poster", 2),
    ]
    audits = shell.rows("SELECT action, target, reason FROM fleet.audits ORDER BY id")
    assert audits == [
        ("scale", "poster", "a busy day"),
        ("restart", "planner,poster/2", "new key"),
    ] or audits[1] == ("restart", "poster/2,planner", "new key")


def test_stop_start_pause_and_resume_change_what_is_wanted(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("stop", "poster", "--reason", "holiday") == 0
        assert (
            shell.rows("SELECT enabled, stopped_reason FROM fleet.workers WHERE name = 'poster'")[0][0]
            is False
        )
        assert shell.run("start", "poster") == 0
        assert shell.rows("SELECT enabled FROM fleet.workers WHERE name = 'poster'") == [(True,)]
        assert shell.run("pause", "planner/1") == 0
        assert shell.rows("SELECT paused FROM fleet.slots WHERE worker = 'planner'") == [(True,)]
        assert shell.run("resume", "planner") == 0
        assert shell.rows("SELECT paused FROM fleet.slots WHERE worker = 'planner'") == [(False,)]


def test_a_worker_that_is_stopped_can_t_be_restarted_and_that_is_a_failure(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("stop", "poster", "--reason", "holiday") == 0
        shell.lines()
        assert shell.run("restart", "poster") == 1
        assert "holiday" in shell.lines()[0]


def test_a_part_that_failed_is_exit_code_5_beside_others_that_were_done_and_1_alone(shell: Shell) -> None:
    def answer(part: Part) -> Said:
        return Said(succeeded=part.slot == 1, text=f"{part.worker}/{part.slot} was asked")

    with managing(ScriptedManager(database=shell.database, answer=answer)):
        assert shell.run("restart", "poster") == 0
        assert shell.run("scale", "poster", "2") == 1
        shell.lines()
        assert shell.run("restart", "poster") == 5
        assert shell.lines()[:2] == ["poster/1 was asked", "poster/2 was asked (failed)"]
        assert shell.run("restart", "poster/2", "--json") == 1
        told = shell.json()
        assert (told["state"], told["parts"][0]["state"]) == ("failed", "failed")


def test_a_rolling_restart_takes_one_after_the_other_and_ends_at_the_first_that_fails(shell: Shell) -> None:
    def answer(part: Part) -> Said:
        return Said(succeeded=part.slot < 2 or part.action == "start", text=f"{part.worker}/{part.slot}")

    with managing(ScriptedManager(database=shell.database, answer=answer)) as manager:
        assert shell.run("scale", "poster", "3") == 0
        shell.lines()
        assert shell.run("restart", "poster", "--rolling") == 1
        *parts, last = shell.lines()
        restarted = [(part.slot, part.mode) for part in manager.taken if part.action == "restart"]
    assert restarted == [(1, "surge"), (2, "surge")]
    assert [line.rpartition(" (")[2].rstrip(")") for line in parts[1:]] == ["failed", "skipped"]
    assert last == "restart poster: aborted, 1 of 3 done"


def test_a_canary_is_watched_before_the_others_follow(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)) as manager:
        assert shell.run("scale", "poster", "2") == 0
        shell.lines()
        assert shell.run("restart", "poster", "--canary", "--watch", "1", "--json") == 0
        told = shell.json()
    assert [part["state"] for part in told["parts"]] == ["done", "done"]
    assert "as good as before" in told["parts"][0]["result"]
    assert [part.slot for part in manager.taken if part.action == "restart"] == [1, 2]


def test_without_a_manager_a_command_times_out_and_stays_asked_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "GRACE_S", 0.1)
    assert shell.run("stop", "poster", "--timeout", "0.2") == 5
    assert "stop poster was not done within 0.2 s (it stays asked for): is a manager running?" in (
        shell.complaint()
    )
    assert shell.run("restart", "planner", "--timeout", "0.2") == 5
    assert "restart planner was not done within 0.2 s (it is given up): is" in shell.complaint()
    assert shell.rows("SELECT enabled FROM fleet.workers WHERE name = 'poster'") == [(False,)]


def test_what_a_manager_does_not_do_in_time_has_timed_out(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database, answer=lambda _: None)):
        assert shell.run("restart", "poster", "--timeout", "0.5") == 5
        assert shell.lines()[0].startswith("poster/1: not done in time")


def test_no_wait_gives_the_command_at_once(shell: Shell) -> None:
    assert shell.run("restart", "poster", "--no-wait", "--json") == 0
    told = shell.json()
    assert (told["state"], told["repeated"], len(told["parts"])) == ("pending", False, 1)
    assert shell.run("pause", "poster", "--no-wait") == 0
    assert shell.lines()[0].endswith("is asked for: pause poster")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stop", "poster"), ["would change: poster: should not run", "would stop poster/1"]),
        (("scale", "poster", "2"), ["would change: poster: from 1 to 2 slots", "would start poster/2"]),
        (("restart", "--all"), ["would restart planner/1", "would restart poster/1"]),
        (("worker", "set", "poster", "--nice", "5"), ["would change: poster: nice is 5"]),
    ],
)
def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    shell: Shell, arguments: tuple[str, ...], said: list[str]
) -> None:
    before = shell.rows("SELECT * FROM fleet.workers ORDER BY name")
    assert shell.run(*arguments, "--dry-run") == 0
    assert shell.lines() == said
    assert shell.run(*arguments, "--dry-run", "--json") == 0
    assert set(shell.json()) == {"parts", "changes"}
    assert shell.rows("SELECT * FROM fleet.workers ORDER BY name") == before
    assert shell.rows("SELECT count(*) FROM fleet.commands") == [(0,)]
    assert shell.rows("SELECT count(*) FROM fleet.audits") == [(0,)]


def test_worker_set_places_and_limits(shell: Shell) -> None:
    assert (
        shell.run(
            *("worker", "set", "poster", "--placement", "zone=a,gpu=yes", "--memory-limit-mb", "none"),
            *("--cpu-limit-percent", "50", "--nice", "3", "--reason", "a small machine"),
        )
        == 0
    )
    columns = "placement, memory_limit_mb, cpu_limit_percent, nice, reason"
    assert shell.rows(f"SELECT {columns} FROM fleet.workers WHERE name = 'poster'") == [
        ({"labels": {"zone": "a", "gpu": "yes"}}, None, 50, 3, "a small machine")
    ]
    assert "no host has zone=a,gpu=yes: poster runs nowhere until one does" in shell.complaint()
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("worker", "set", "poster", "--placement", "host=here") == 0
    assert shell.rows("SELECT placement FROM fleet.workers WHERE name = 'poster'") == [({"host": "here"},)]
    assert shell.run("worker", "set", "poster", "--placement", "any") == 0
    assert shell.rows("SELECT placement, nice FROM fleet.workers WHERE name = 'poster'") == [({}, 3)]


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("restart", "postr"), "worker is 'postr': did you mean poster?"),
    (("restart", "poster/2"), "slot is '2': allowed is a number from 1 to 1"),
    (("stop", "poster", "--host", "her"), "host is 'her': did you mean here?"),
    (("stop",), "name is missing"),
    (("stop", "poster", "--all"), "--all and poster: give one of them"),
    (("stop", "--all"), "stop every worker: give --yes where nobody can be asked"),
    (("stop", "--host", "here"), "stop every worker on here: give --yes where nobody can be asked"),
    (("drain", "--host", "here"), "drain every worker on here: give --yes where nobody can be asked"),
    (("drain", "--host", ""), "--host is '': allowed is the name of a host"),
    (("stop", "a" * 5000), f"worker is '{'a' * 60}...': allowed: planner, poster"),
    (
        ("restart", "metrics"),
        "worker metrics is in this program, but no fleet knows it yet",
    ),
    (
        ("stop", "poster", "--dry-run", "--reason", "a\x1b[2J"),
        r"--reason is 'a\x1b[2J': allowed is a sentence",
    ),
    (("stop", "poster", "--timeout", "nan"), "--timeout is 'nan'"),
    (("restart", "poster", "--watch", "5"), "--watch is for --canary"),
    (("restart", "poster", "--rolling", "--canary"), "not allowed with"),
    (("restart", "poster", "--rollin"), "there is no option --rollin: did you mean --rolling?"),
    (("scale", "poster", "-1"), "N"),
    (("scale", "*", "2"), "NAME is '*': allowed is a worker"),
    (("scale", "poster/1", "2"), "NAME is 'poster/1': allowed is a whole worker"),
    (("stop", "poster,planner"), "NAME is 'poster,planner'"),
    (("scale", "poster", "1001"), "N is '1001': allowed is a number from 0 to 1000"),
    (("worker", "set", "poster"), "nothing to set"),
    (("worker", "set", "poster", "--nice", "20"), "--nice is '20': allowed is a number from 0 to 19"),
    (("worker", "set", "poster", "--placement", "a"), "--placement is 'a': allowed are any, host=H"),
    (("worker", "set", "poster", "--placement", "labels:zone=a"), "--placement is 'labels:zone=a': allowed"),
    (("worker", "set", "poster", "--placement", "a\n=b"), "--placement is 'a\\n=b': allowed are any"),
    (("worker", "set", "poster", "--placement", "host=her"), "host is 'her': did you mean here?"),
    (("worker", "sit"), "action is 'sit': did you mean set?"),
    (("stop", "poster", "--reason", " "), "reason is"),
]


def test_a_mistake_changes_nothing_and_says_what_is_allowed(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        for arguments, hint in MISTAKES:
            assert shell.run(*arguments) == 2, arguments
            assert hint in shell.complaint()
    assert shell.rows("SELECT count(*) FROM fleet.commands") == [(0,)]


def test_everything_is_stopped_with_yes_and_on_one_host_with_its_name(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("stop", "--all", "--yes") == 0
        assert len(shell.lines()) == 2
        assert shell.run("start", "planner", "poster") == 0
        shell.lines()
        assert shell.run("restart", "--host", "here", "--yes") == 0
        assert shell.lines() == ["planner/1 is done with restart", "poster/1 is done with restart"]


def test_an_acknowledgement_that_is_lost_does_not_double_the_command(shell: Shell) -> None:
    """The network fails between the commit and its answer."""
    with shell.database.owner() as owner, managing(ScriptedManager(database=shell.database)) as manager:
        place = f"{owner.info.host}/.s.PGSQL.{owner.info.port}"
        upstream = place if place.startswith("/") else (owner.info.host, owner.info.port)
        with FaultProxy(upstream) as proxy:
            shell.state.put("dsn/console", proxy.dsn(shell.database.dsn("console")))
            # The shares' lock holds the request back until the answer's way is slow.
            owner.execute("SELECT pg_advisory_lock(fleet.lock_key('hosts', 'shares'))")

            def lose_the_answer() -> None:
                until(shell, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                proxy.switch("delay", delay_s=60)
                owner.execute("SELECT pg_advisory_unlock(fleet.lock_key('hosts', 'shares'))")
                until(shell, "SELECT 1 FROM fleet.commands")
                proxy.switch("cut")
                proxy.switch("pass")

            fault = threading.Thread(target=lose_the_answer)
            fault.start()
            try:
                assert shell.run("restart", "poster") == 0
            finally:
                fault.join()
    assert shell.lines() == ["poster/1 is done with restart"]
    assert shell.rows("SELECT count(*) FROM fleet.commands") == [(1,)]
    assert shell.rows("SELECT count(*) FROM fleet.audits") == [(1,)]
    assert len(manager.taken) == 1


def test_an_order_whose_database_goes_away_says_that_its_outcome_is_not_known(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("host.cli.order.GRACE_S", 0.0)
    with shell.database.owner() as owner:
        place = f"{owner.info.host}/.s.PGSQL.{owner.info.port}"
        upstream = place if place.startswith("/") else (owner.info.host, owner.info.port)
        with FaultProxy(upstream) as proxy:
            shell.state.put("dsn/console", proxy.dsn(shell.database.dsn("console")))

            def go() -> None:
                until(shell, "SELECT 1 FROM fleet.commands")
                proxy.stop()

            fault = threading.Thread(target=go)
            fault.start()
            try:
                assert shell.run("restart", "poster", "--timeout", "3") == 4
            finally:
                fault.join()
    said = capsys.readouterr().err
    assert "what came of restart poster is not known: look at socialfleet status" in said


def until(shell: Shell, statement: str) -> None:
    """Look until it gives a row."""
    deadline = time.monotonic() + 20
    while not shell.rows(statement):
        assert time.monotonic() < deadline, statement
        time.sleep(0.02)


def test_how_far_a_wait_is_is_told_on_a_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    asked = threading.Event()

    def answer(part: Part) -> Said | None:
        if part.age_s < 0.5:
            asked.set()
            return None
        return Said(text="poster/1 has drained")

    with managing(ScriptedManager(database=shell.database, answer=answer)):
        assert shell.run("drain", "poster") == 0
    captured = shell.printed.readouterr()
    assert captured.out == "poster/1 has drained\n"
    assert "socialfleet: 0 of 1 done" in captured.err
    assert asked.is_set()


@pytest.mark.parametrize(("said", "code", "stopped"), [("y\n", 0, 2), ("\n", 1, 0)])
def test_all_asks_at_a_terminal(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, said: str, code: int, stopped: int
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdin, "readline", lambda: said, raising=False)
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("stop", "--all") == code
    assert "stop every worker? [y/N]" in shell.printed.readouterr().err
    assert shell.rows("SELECT count(*) FROM fleet.workers WHERE NOT enabled") == [(stopped,)]


def test_a_whole_host_is_asked_for_on_a_terminal_and_left_alone_without_a_yes(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with managing(ScriptedManager(database=shell.database)):
        monkeypatch.setattr(sys, "stdin", Answering("n\n"))
        assert shell.run("drain", "--host", "here") == 1
        assert shell.printed.readouterr().err.startswith("drain every worker on here? [y/N] socialfleet: ")
        assert shell.rows("SELECT draining FROM fleet.hosts") == [(False,)]
        monkeypatch.setattr(sys, "stdin", Answering("y\n"))
        assert shell.run("stop", "--host", "here") == 0
    assert shell.rows("SELECT bool_and(stopped) FROM fleet.slots") == [(True,)]


class Answering(io.StringIO):
    """A person at a terminal who answers so."""

    def isatty(self) -> bool:
        return True


def test_a_worker_without_slots_says_how_it_gets_one(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("scale", "poster", "0") == 0
        shell.lines()
        assert shell.run("restart", "poster") == 0
        assert "poster has no slots: give it some with socialfleet scale poster 1" in shell.complaint()
        assert shell.run("stop", "poster/1") == 2
        assert "poster has no slots" in shell.complaint()
        assert shell.run("scale", "poster", "1") == 0


def test_an_order_to_a_host_that_is_lost_or_left_says_so(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        pass
    for state, said in (("lost", "host here is lost (silent for"), ("left", "host here has left")):
        with shell.database.owner() as owner:
            owner.execute(
                "UPDATE fleet.hosts SET state = %s, seen_at = clock_timestamp() - interval '1 min'", (state,)
            )
        assert shell.run("drain", "--host", "here", "--yes", "--no-wait") == 0
        assert said in shell.complaint()
        assert shell.rows("SELECT draining FROM fleet.hosts") == [(True,)]
        assert shell.run("hosts", "undrain", "here") == 0
        (line,) = shell.lines()[-1:]
        assert line.startswith(f"here takes work again when it is back; {said}")
        assert shell.rows("SELECT draining FROM fleet.hosts") == [(False,)]


def test_while_no_host_admits_a_slot_an_order_for_it_says_why_and_waits_on(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("worker", "set", "poster", "--placement", "gpu=yes") == 0
        until(shell, "SELECT 1 FROM fleet.slots WHERE worker = 'poster' AND host IS NULL AND leaving IS NULL")
        shell.printed.readouterr()
        assert shell.run("restart", "poster", "planner", "--timeout", "4") == 5
        said = shell.printed.readouterr()
    assert said.err.splitlines()[0] == (
        "socialfleet: poster/1 is LOST: no live host admits it: it is placed on hosts with gpu=yes"
    )
    assert "planner/1 is done with restart" in said.out
    assert "planner" not in said.err
