"""A worker under its manager: it is called by eventfd, and tells how it stands whatever the database does."""

import os
import signal
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any, ClassVar

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel

from config import Config
from coordination import connect, settings
from coordination.messages import Message
from host.wake_channel import WakeChannel
from tests.fault_proxy import FaultProxy
from tests.integration.conftest import FleetDatabase
from tests.integration.workers.managed import Birth, is_idle, managed
from tests.integration.workers.waiting import eventually
from workers.base import Worker
from workers.context import Context
from workers.handlers import handles
from workers.intervals import hours
from workers.lifecycle import Life
from workers.progress import Progress
from workers.progress_pipe import ProgressPipe, Word, WordReader
from workers.wake import Kind, Wake, Whom, wake

BIRTHS: tuple[Birth, ...] = ("fresh", "forked")
READY_S: dict[Birth, float] = {"fresh": 10, "forked": 0.5}
DRAINED_S: dict[Birth, float] = {"fresh": 2, "forked": 0.5}
"""An interpreter that imports all, and takes all down again, is as slow as the machine."""
CONNECT_S = 5.0
"""An attempt to connect that was under way when the database came back may last that long."""
SOON_S = 3.0
"""A beat and a little: what a change that nobody calls about may take, or a try to reconnect."""


class Called(BaseModel):
    number: int


class Callee(Worker):
    """Note when it is called."""

    name = "tester"
    every = hours(2)
    called: ClassVar[list[float]] = []
    stepped: ClassVar[list[float]] = []

    def step(self) -> None:
        self.stepped.append(monotonic())

    @handles("TASK_DELEGATION", Called)
    def take(self, _message: Message, _called: Called) -> None:
        self.called.append(monotonic())


@dataclass
class Under:
    """One life in a thread, under a manager that is the test."""

    database: FleetDatabase
    kind: type[Worker]
    words: list[Word] = field(default_factory=list[Word])

    def __post_init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.reader = WordReader(self._reading)
        self.draining, self.stir = Event(), Event()
        self.fleet = connect(self.database.dsn("worker"), self.kind.name, listens=False)
        self.error: Exception | None = None
        self.life = Life(
            self.kind,
            context=Context(config=Config(), account="sandbox"),
            fleet=self.fleet,
            draining=self.draining,
            stir=self.stir,
            progress=Progress(ProgressPipe(self._writing)),
            wake=Wake(self.fd),
        )
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.life.live()
        except Exception as error:  # noqa: BLE001  handed to the test
            self.error = error

    def until(self, right: Callable[[Word], bool], what: str, within_s: float = 60) -> Word:
        def look() -> Word | None:
            word = self.reader.read()
            if word is not None:
                self.words.append(word)
            return self.words[-1] if self.words and right(self.words[-1]) else None

        return eventually(look, what=what, within_s=within_s)

    def close(self) -> None:
        self.draining.set()
        self.stir.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.fleet.close()
        for fd in (self._reading, self._writing, self.fd):
            os.close(fd)


@pytest.fixture
def under(fleet_database: FleetDatabase) -> Iterator[Under]:
    Callee.called, Callee.stepped = [], []
    one = Under(fleet_database, Callee)
    eventually(lambda: Callee.stepped, what="the first step")
    one.until(is_idle, "ready")
    yield one
    one.close()


def state_of(tmp_path: Path, dsn: str) -> Path:
    state = tmp_path / "state"
    (state / "dsn").mkdir(parents=True)
    (state / "dsn" / "worker").write_text(dsn)
    return state


def pause(database: FleetDatabase, worker: str, reason: str | None) -> None:
    """What a person's command leaves in the rows."""
    with database.owner() as owner:
        owner.execute(
            "INSERT INTO fleet.workers (name, enabled, replicas, description, changed_by, reason, "
            "changed_at) VALUES (%s, true, 1, '', 'me', '', now()) ON CONFLICT DO NOTHING",
            (worker,),
        )
        owner.execute(
            "UPDATE fleet.workers SET paused = %s, paused_reason = %s WHERE name = %s",
            (reason is not None, reason, worker),
        )


# Calls


@pytest.mark.timed
def test_a_call_for_messages_has_the_handler_run_within_milliseconds_and_no_step(under: Under) -> None:
    sender = under.database.connect("sender")
    took_s: list[float] = []
    for number in range(1, 31):
        sent = sender.messages.send("TASK_DELEGATION", "tester", {"kind": "call", "number": number})
        called_at = monotonic()
        wake(under.fd, "mail")
        eventually(lambda n=number: len(Callee.called) >= n, what=f"message {sent}")
        took_s.append(Callee.called[-1] - called_at)
    sender.close()
    assert statistics.median(took_s) < 0.02
    assert len(Callee.stepped) == 1


@pytest.mark.timed
def test_a_call_for_a_step_runs_it_at_once(under: Under) -> None:
    called_at = monotonic()
    wake(under.fd, "step")
    eventually(lambda: len(Callee.stepped) == 2, what="the step")
    assert Callee.stepped[1] - called_at < 0.5


def test_a_message_that_nobody_called_about_is_found_by_the_beat(under: Under) -> None:
    sender = under.database.connect("sender")
    sender.messages.send(
        "TASK_DELEGATION", "tester", {"kind": "call", "number": 1}
    )  # its NOTIFY finds no manager here
    eventually(lambda: Callee.called, what="the message", within_s=60)
    sender.close()


def test_what_a_killed_sibling_held_is_taken_by_the_next_beat_i8(fleet_database: FleetDatabase) -> None:
    Callee.called, Callee.stepped = [], []
    sender = fleet_database.connect("sender")
    sibling = fleet_database.connect("tester", slot=2)
    sender.messages.send("TASK_DELEGATION", "tester", {"kind": "call", "number": 1})
    assert len(sibling.messages.claim()) == 1
    one = Under(fleet_database, Callee)
    eventually(lambda: Callee.stepped, what="the first step")
    assert Callee.called == []
    sibling.incarnation.database.close()  # as a kill leaves it: the session is gone, nothing was said
    eventually(lambda: Callee.called, what="the message", within_s=60)
    one.close()
    sibling.database.close()
    sender.close()


def test_what_it_holds_itself_past_its_lease_is_taken_again(under: Under) -> None:
    sender = under.database.connect("sender")
    with under.database.owner() as owner, owner.transaction():
        owner.execute(
            "SELECT fleet.send_message(%s, 'TASK_DELEGATION', 'tester', "
            '\'{"kind": "call", "number": 1}\')',
            (sender.incarnation.id,),
        )
        owner.execute(
            "UPDATE fleet.messages SET state = 'claimed', attempts = 1, incarnation = %s, lease = 1, "
            "lease_expires_at = clock_timestamp() - interval '1 second'",
            (under.fleet.incarnation.id,),
        )
    eventually(lambda: Callee.called, what="the message", within_s=60)
    sender.close()


# Pause


@pytest.mark.timed
def test_a_paused_worker_does_nothing_and_says_why_until_it_may_go_on(under: Under) -> None:
    pause(under.database, "tester", "look first")
    wake(under.fd, "step")
    paused_at = monotonic()
    word = under.until(lambda word: word.state == "PAUSED", "paused")
    assert monotonic() - paused_at < 1
    assert "look first" in word.reason
    assert len(Callee.stepped) == 1
    sender = under.database.connect("sender")
    sender.messages.send("TASK_DELEGATION", "tester", {"kind": "call", "number": 1})
    wake(under.fd, "mail")
    under.until(lambda word: word.ticks > under.words[0].ticks + 1, "a turn of the loop")
    assert Callee.called == []
    pause(under.database, "tester", None)
    wake(under.fd, "step")
    eventually(lambda: Callee.called, what="the message after the pause", within_s=2)
    under.until(is_idle, "ready again")
    sender.close()


def test_one_slot_is_paused_without_its_siblings(under: Under) -> None:
    pause(under.database, "tester", None)
    with under.database.owner() as owner:
        for slot, paused in ((1, True), (2, False)):
            owner.execute(
                "INSERT INTO fleet.slots (worker, slot, state, reason, since, restart_count, seen_at, "
                "paused, paused_reason) "
                "VALUES ('tester', %s, 'READY', '', now(), 0, now(), %s, 'only this one')",
                (slot, paused),
            )
    wake(under.fd, "step")
    assert "only this one" in under.until(lambda word: word.state == "PAUSED", "paused").reason
    sibling = under.database.connect("tester", slot=2)
    assert sibling.heartbeats.beat(state="READY", progress=1).paused is None
    sibling.close()


# The words


def test_a_step_is_told_while_it_lasts_and_an_idle_worker_repeats_itself(under: Under) -> None:
    first = under.until(is_idle, "ready")
    again = under.until(lambda word: word is not first, "another word", within_s=60)
    assert (again.state, again.incarnation) == ("READY", str(under.fleet.incarnation.id))


def test_a_hung_step_is_repeated_without_a_tick(
    fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Event()

    def hang(_worker: Callee) -> None:
        release.wait(60)

    monkeypatch.setattr(Callee, "step", hang)
    one = Under(fleet_database, Callee)
    first = one.until(lambda word: word.step == "step", "busy")
    count = len(one.words)
    again = one.until(lambda _word: len(one.words) > count, "another word", within_s=60)
    assert (again.state, again.step, again.ticks, again.acting) == ("BUSY", "step", first.ticks, True)
    release.set()
    one.close()


def test_the_declared_time_without_a_tick_is_told_and_changes_live(under: Under) -> None:
    under.database.know(under.kind)
    person = under.database.database("console")
    assert under.words[-1].stall_after_s == 120
    settings.set_setting(person, "tester_stall_after_s", 45, actor="me", reason="shorter steps")
    person.close()
    wake(under.fd, "step")
    under.until(lambda word: word.stall_after_s == 45, "the new time")


@pytest.mark.timed
def test_a_call_for_settings_takes_them_up_at_once_and_runs_no_step(under: Under) -> None:
    under.database.know(under.kind)
    person = under.database.database("console")
    stepped = len(Callee.stepped)
    settings.set_setting(person, "tester_stall_after_s", 45, actor="me", reason="shorter steps")
    person.close()
    wake(under.fd, "settings")  # as its manager does when it hears the database's call
    under.until(lambda word: word.stall_after_s == 45, "the new time", within_s=2)
    assert len(Callee.stepped) == stepped


@pytest.mark.timed
@pytest.mark.parametrize(("heard", "within_s"), [(True, 2.0), (False, 6.0)])
def test_a_setting_is_live_within_two_seconds_by_the_managers_channel_and_within_six_without(
    under: Under, heard: bool, within_s: float
) -> None:
    under.database.know(under.kind)
    person = under.database.database("console")
    listens = Event()

    def call(name: str, kind: Kind, _whom: Whom) -> bool:
        if name == "tester":
            wake(under.fd, kind)
        return False

    dsn = under.database.dsn("worker")
    channel = WakeChannel(lambda: dsn, attend=listens.set, wake_worker=call, workers=("tester",))
    if heard:
        channel.start()
        assert listens.wait(10)
    for seconds in (45, 50):
        settings.set_setting(person, "tester_stall_after_s", seconds, actor="me", reason="shorter steps")
        under.until(lambda word, s=seconds: word.stall_after_s == s, f"{seconds} s", within_s=within_s)
    channel.stop()
    person.close()


# The database


@pytest.mark.timed
@pytest.mark.parametrize("birth", BIRTHS)
def test_a_database_that_stops_ends_nobody_and_finds_all_back_soon(
    fleet_database: FleetDatabase, tmp_path: Path, birth: Birth
) -> None:
    state = state_of(tmp_path, fleet_database.dsn("worker"))
    with managed("monitoring", state=state, birth=birth) as one:
        before = one.until(is_idle, what="ready")
        fleet_database.server.immediate_stop()
        lost = one.until(lambda word: word.waits_for_database, what="it waits for the database", within_s=2)
        assert (lost.state, lost.incarnation, lost.acting) == ("STARTING", None, False)
        later = [one.until(lambda word: word.waits_for_database, what="it still waits") for _ in range(5)]
        assert later[-1].ticks > later[0].ticks  # its loop moves: it doesn't hang
        fleet_database.server.start()
        started_at = monotonic()
        after = one.until(is_idle, what="ready again")
        assert monotonic() - started_at < SOON_S
        assert after.incarnation not in {None, before.incarnation}
        one.signal(signal.SIGTERM)
        assert one.ended() == 0


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["black-hole", "half-open", "cut"])
def test_a_database_that_hangs_is_waited_for_and_found_again(
    fleet_database: FleetDatabase, tmp_path: Path, mode: Any
) -> None:
    with FaultProxy(upstream(fleet_database)) as proxy:
        state = state_of(tmp_path, proxy.dsn(fleet_database.dsn("worker")))
        with managed("monitoring", state=state, birth="forked") as one:
            before = one.until(is_idle, what="ready")
            proxy.switch(mode)
            one.until(lambda word: word.waits_for_database, what="it waits for the database", within_s=9)
            lost = one.until(lambda word: word.incarnation is None, what="its life is over", within_s=14)
            assert lost.waits_for_database
            proxy.switch("pass")
            after = one.until(is_idle, what="ready again", within_s=CONNECT_S + SOON_S)
            assert after.incarnation not in {None, before.incarnation}


@pytest.mark.timed
@pytest.mark.parametrize("birth", BIRTHS)
def test_a_drain_while_the_database_hangs_ends_within_seconds(
    fleet_database: FleetDatabase, tmp_path: Path, birth: Birth
) -> None:
    with FaultProxy(upstream(fleet_database)) as proxy:
        state = state_of(tmp_path, proxy.dsn(fleet_database.dsn("worker")))
        with managed("monitoring", state=state, birth=birth) as one:
            one.until(is_idle, what="ready")
            proxy.switch("black-hole")
            one.signal(signal.SIGTERM)
            asked_at = monotonic()
            assert one.ended() == 0
            assert monotonic() - asked_at < SOON_S


@pytest.mark.timed
@pytest.mark.parametrize("birth", BIRTHS)
def test_a_drain_while_it_starts_with_a_database_that_hangs_ends_at_once(
    fleet_database: FleetDatabase, tmp_path: Path, birth: Birth
) -> None:
    with FaultProxy(upstream(fleet_database)) as proxy:
        proxy.switch("black-hole")
        state = state_of(tmp_path, proxy.dsn(fleet_database.dsn("worker")))
        with managed("monitoring", state=state, birth=birth) as one:
            one.until(lambda word: word.state == "STARTING", what="its first word")
            eventually(lambda: has_handler(one.pid), what="its own handler of SIGTERM")
            one.signal(signal.SIGTERM)
            asked_at = monotonic()
            assert one.ended() == 0
            assert monotonic() - asked_at < 1
            # Another thread writes that it drains: after that it has drained, or not any more.
            assert "drained" in {line["message"] for line in one.lines()[-2:]}


def has_handler(pid: int) -> bool:
    """Whether a process catches SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def upstream(database: FleetDatabase) -> str | tuple[str, int]:
    """Where the server listens."""
    told = conninfo_to_dict(database.dsn("worker"))
    host, port = str(told["host"]), int(str(told.get("port", 5432)))
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


# The drain and the start


@pytest.mark.timed
@pytest.mark.parametrize("birth", BIRTHS)
def test_an_idle_worker_drains_at_once_and_is_ready_soon_after_its_birth(
    fleet_database: FleetDatabase, tmp_path: Path, birth: Birth
) -> None:
    state = state_of(tmp_path, fleet_database.dsn("worker"))
    with managed("monitoring", state=state, birth=birth) as one:
        one.until(lambda word: word.state in {"READY", "BUSY"}, what="ready")
        assert monotonic() - one.started_at < READY_S[birth]
        one.until(is_idle, what="idle")
        one.signal(signal.SIGTERM)
        asked_at = monotonic()
        assert one.ended() == 0
        assert monotonic() - asked_at < DRAINED_S[birth]
    with fleet_database.owner() as owner:
        assert set(owner.execute("SELECT end_reason FROM fleet.incarnations")) == {("closed",)}


def test_a_life_is_known_by_the_hosts_given_name_and_its_processs_own_mark(
    fleet_database: FleetDatabase, tmp_path: Path
) -> None:
    state = state_of(tmp_path, fleet_database.dsn("worker"))
    with managed("monitoring", state=state, birth="forked", SOCIALFLEET_HOST="alpha") as one:
        word = one.until(is_idle, what="ready")
        stat = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
        with fleet_database.owner() as owner:
            known = owner.execute(
                "SELECT id::text, host, pid, pid_started FROM fleet.incarnations"
            ).fetchall()
        assert known == [(word.incarnation, "alpha", one.pid, stat[19])]


# The log


@pytest.mark.parametrize("birth", BIRTHS)
def test_a_log_that_was_renamed_goes_on_in_a_new_file(
    fleet_database: FleetDatabase, tmp_path: Path, birth: Birth
) -> None:
    state = state_of(tmp_path, fleet_database.dsn("worker"))
    with managed("monitoring", state=state, birth=birth) as one:
        one.until(is_idle, what="ready")
        old = one.log.rename(one.log.with_suffix(".1"))
        before = old.read_text()
        one.signal(signal.SIGTERM)
        assert one.ended() == 0
        assert old.read_text() == before
        assert "draining" in [line["message"] for line in one.lines()]
        assert one.lines()[-1]["message"] == "drained"
        assert one.log.stat().st_mode & 0o777 == 0o600
