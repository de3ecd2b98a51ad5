"""What the command line does while the database is away: this host's manager does it, by its own line."""

import json
import select
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from host.cli import order, person
from host.local_line import LocalLine, Request, RequestRefusedError
from host.state_directory import StateDirectory
from tests.fault_proxy import FaultProxy
from tests.integration.host.shell import Shell

STALE_SINCE = "2030-01-01T08:00:00+00:00"
AWAY = "postgresql://me:secret@127.0.0.1:1/none"


@dataclass(kw_only=True)
class LocalManager:
    """The answering half of a manager: it has poster/1 and planner/1, and ends or starts their processes."""

    state: Path
    pids: dict[str, int | None] = field(default_factory=lambda: {"planner": 11, "poster": 22})
    asked: list[Request] = field(default_factory=list[Request])
    leaving: Event = field(default_factory=Event)
    drains: bool = True

    def answer(self, request: Request) -> dict[str, Any]:
        named = [name for name in self.pids if request.name in {"*", name, f"{name}/1"}]
        if not named:
            raise RequestRefusedError(f"{request.name} has no slot on this host")
        if request.do != "status":
            self.asked.append(request)
            for name in named:
                self._carry_out(request.do, name)
        slots = [self._item(name) for name in named]
        return {"ok": True, "text": "as asked", "slots": slots, "stale_since": STALE_SINCE}

    def run(self, opened: Event) -> None:
        watched: dict[int, Callable[[], None]] = {}

        def unwatch(fd: int) -> None:
            watched.pop(fd, None)

        line = LocalLine(self.state, self.answer, watch=watched.__setitem__, unwatch=unwatch)
        line.open()
        opened.set()
        while not self.leaving.is_set():
            for fd in select.select(list(watched), [], [], 0.02)[0]:
                watched[fd]()
        line.close()

    def _carry_out(self, do: str, name: str) -> None:
        if do == "stop":
            self.pids[name] = None if self.drains else self.pids[name]
        else:
            self.pids[name] = (self.pids[name] or 0) + 1

    def _item(self, name: str) -> dict[str, Any]:
        pid = self.pids[name]
        return {
            "name": name,
            "slot": 1,
            "state": "READY" if pid else "STOPPED",
            "reason": "" if pid else "stopped by a person\x1b[2J",
            "pid": pid,
            "healthy": True,
            "memoryBytes": 64 << 20,
            "cpuPercent": 1.5,
        }


@contextmanager
def listening(shell: Shell) -> Generator[LocalManager]:
    manager, opened = LocalManager(state=shell.state.path), Event()
    thread = Thread(target=manager.run, args=(opened,))
    thread.start()
    try:
        assert opened.wait(10)
        yield manager
    finally:
        manager.leaving.set()
        thread.join()


@pytest.fixture
def away(shell: Shell) -> Shell:
    """The shell of a fleet whose database can't be reached."""
    shell.state.put("dsn/console", AWAY)
    return shell


def test_status_shows_what_the_manager_knows_and_exits_4(away: Shell) -> None:
    with listening(away):
        assert away.run("status", "--check") == 4
        out, err = away.printed.readouterr()
        stale, _, planner, poster = out.splitlines()
        assert stale.startswith("stale since 20")
        assert planner.split()[:5] == ["planner/1", "READY", "yes", "here", "11"]
        assert "1.5%" in poster
        assert "64 MB" in poster
        assert "PostgreSQL can't be reached" in err
        assert "secret" not in err
        assert away.run("status", "--json") == 4
        slots = away.json()
        assert [(slot["name"], slot["host"], slot["staleSince"]) for slot in slots] == [
            ("planner", "here", STALE_SINCE),
            ("poster", "here", STALE_SINCE),
        ]


def test_without_a_manager_status_reads_what_it_wrote_last(away: Shell) -> None:
    told = {
        "at": STALE_SINCE,
        "database": "up",
        "stale_since": None,
        "slots": [{"name": "poster", "state": "READY"}],
    }
    (away.state.path / "status.json").write_text(json.dumps(told))
    with away.state.locked():  # a fleet runs; its manager process is just being replaced
        assert away.run("status") == 4
    stale, _, poster = away.lines()
    assert stale.startswith("stale since 20")
    assert poster.split()[:2] == ["poster/1", "READY"]


def test_where_no_fleet_runs_status_says_so_and_shows_nobody_alive(away: Shell) -> None:
    slots = [
        {"name": "poster", "state": "BUSY", "pid": 22, "healthy": True, "enabled": True, "step": "send"},
        {"name": "planner", "state": "STOPPED", "reason": "a person stopped it", "enabled": False},
    ]
    told = {"at": STALE_SINCE, "database": "up", "stale_since": None, "slots": slots}
    (away.state.path / "status.json").write_text(json.dumps(told))
    assert away.run("status") == 4
    said, _, poster, planner = away.lines()
    assert said.startswith("no fleet runs on this host since 20")
    assert poster.split()[:4] == ["poster/1", "STOPPED", "no", "here"]
    assert poster.endswith("it was BUSY (pid 22)")
    assert planner.split()[:3] == ["planner/1", "STOPPED", "yes"]
    assert planner.endswith("a person stopped it")
    assert away.run("status", "--json") == 4
    assert [slot["pid"] for slot in away.json()] == [None, None]


def test_with_neither_it_is_one_sentence_and_4(away: Shell) -> None:
    for broken in (None, "[]", "{", '{"slots": 7}'):
        if broken is not None:
            (away.state.path / "status.json").write_text(broken)
        assert away.run("status") == 4
        assert "no manager of this host has said anything" in away.complaint()


def test_stop_start_and_restart_go_to_the_manager_and_are_waited_for(away: Shell) -> None:
    with listening(away) as manager:
        assert away.run("stop", "poster", "--reason", "it must not post") == 0
        out, err = away.printed.readouterr()
        assert out == "poster/1 is STOPPED: stopped by a person\N{REPLACEMENT CHARACTER}[2J\n"
        assert "it will be audited afterwards" in err
        assert away.run("start", "poster/1") == 0
        assert away.run("restart", "--all", "--yes", "--json") == 0
    assert [(one.do, one.name) for one in manager.asked] == [
        ("stop", "poster"),
        ("start", "poster/1"),
        ("restart", "*"),
    ]
    assert manager.asked[0].reason == "it must not post"
    assert manager.asked[0].actor.endswith("@here")


def test_what_the_manager_does_not_do_in_time_is_exit_code_5(away: Shell) -> None:
    with listening(away) as manager:
        manager.drains = False
        assert away.run("stop", "poster", "--timeout", "0.3") == 5
        assert "stop poster/1 was not done within 0.3 s; it goes on" in away.printed.readouterr().err
        assert away.run("stop", "poster", "--no-wait") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("stop", "postr"), 2, "worker is 'postr': did you mean poster?"),
        (("stop", "poster", "--host", "other"), 4, "host is 'other', and the database is away"),
        (("restart", "poster", "--rolling"), 4, "--rolling and --canary need the database"),
        (("pause", "poster"), 4, "PostgreSQL can't be reached"),
        (("scale", "poster", "2"), 4, "PostgreSQL can't be reached"),
    ],
)
def test_what_needs_the_database_says_so(
    away: Shell, arguments: tuple[str, ...], code: int, said: str
) -> None:
    with listening(away) as manager:
        assert away.run(*arguments) == code
        assert said in away.complaint()
        assert manager.asked == []


def test_a_dry_run_asks_for_nothing(away: Shell) -> None:
    with listening(away) as manager:
        assert away.run("stop", "--all", "--dry-run") == 0
        assert [line.split(" on ")[0] for line in away.lines()] == [
            "would stop planner/1",
            "would stop poster/1",
        ]
        assert manager.asked == []


def test_without_a_manager_a_stop_is_4(away: Shell) -> None:
    assert away.run("stop", "poster") == 4
    assert "no manager" in away.complaint()


def test_a_state_directory_deeper_than_a_sockets_address_is_reached(
    away: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = StateDirectory(tmp_path / ("d" * 100) / ("e" * 100))
    deep.make()
    deep.put("dsn/console", AWAY)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(deep.path))
    there = replace(away, state=deep)
    with listening(there):
        assert there.run("stop", "poster") == 0


def test_a_database_that_takes_a_request_and_never_answers_is_away(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person, "ANSWER_S", 0.5)
    monkeypatch.setattr(order, "RETRY_S", 0.1)
    with shell.database.owner() as owner:
        place = f"{owner.info.host}/.s.PGSQL.{owner.info.port}"
        upstream = place if place.startswith("/") else (owner.info.host, owner.info.port)
        with FaultProxy(upstream) as proxy:
            shell.state.put("dsn/console", proxy.dsn(shell.database.dsn("console")))
            owner.execute("SELECT pg_advisory_lock(fleet.lock_key('hosts', 'shares'))")
            assert shell.run("restart", "poster") == 4
            assert "whether restart poster was asked for is not known" in shell.complaint()
            owner.execute("SELECT pg_advisory_unlock_all()")
            assert shell.run("restart", "poster", "--no-wait") == 0
