"""Messages as workers get them: handlers, failures, drains, deaths, and the way through the coordinator."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from config import Config
from coordination import Fleet, connect
from coordination.errors import IncarnationLostError, LockLostError
from coordination.messages import Message, Reply
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import victim
from tests.integration.known_workers import ensure_worker
from tests.integration.workers.test_processes import Host
from tests.integration.workers.waiting import eventually
from workers import registry
from workers.base import Worker
from workers.context import Context
from workers.errors import NoGrantError, RegistryError
from workers.handlers import find, handles
from workers.inbox import LINGER_S, Inbox
from workers.intervals import hours
from workers.lifecycle import Life
from workers.progress import Progress
from workers.tasks import AnalysePost, ConflictDecision, PostAnalysed

ROOT = Path(__file__).parents[3]
TASK = "TASK_DELEGATION"
ASKED = AnalysePost(account="sandbox", post_id="1", mention_id="2")
FOUND = PostAnalysed(account="sandbox", post_id="1", mention_id="2", found=False, reason="it is gone")


class Anything(BaseModel):
    """A payload of any shape."""

    n: int = 0


class Reader(Worker):
    """Does with its messages what the test says."""

    name = "reader"
    every = hours(2)
    script: ClassVar[Callable[["Reader", Message, Any], Reply | None]]
    seen: ClassVar[list[tuple[str, str]]] = []
    steps: ClassVar[list[str]] = []

    def step(self) -> None:
        self.steps.append("step")

    @handles("TASK_DELEGATION", AnalysePost)
    def analyse(self, message: Message, task: AnalysePost) -> Reply | None:
        return self._see("analyse", message, task)

    @handles("TASK_DELEGATION", PostAnalysed)
    def take_finding(self, message: Message, task: PostAnalysed) -> Reply | None:
        return self._see("take_finding", message, task)

    @handles("STATE_SYNC", Anything)
    def sync(self, message: Message, task: Anything) -> Reply | None:
        return self._see("sync", message, task)

    def _see(self, method: str, message: Message, task: object) -> Reply | None:
        self.seen.append((method, message.id))
        return type(self).script(self, message, task)


def idle(_worker: Reader, _message: Message, _task: object) -> None: ...


def drain(worker: Reader, _message: Message, _task: object) -> None:
    worker.draining.set()


class Deaf(Worker):
    """Takes no messages."""

    name = "deaf"
    every = hours(2)
    steps: ClassVar[list[str]] = []

    def step(self) -> None:
        self.steps.append("step")


class Sleeper(Deaf):
    """Is woken for messages alone."""

    name = "sleeper"
    step_when_woken = False


class Running:
    """One life in a thread; `error` is what ended it."""

    def __init__(self, fleet: Fleet, kind: type[Worker]) -> None:
        self.draining, self.stir = Event(), Event()
        self.fleet = fleet
        self.error: Exception | None = None
        self._life = Life(
            kind,
            context=Context(config=Config(), account="sandbox"),
            fleet=fleet,
            draining=self.draining,
            stir=self.stir,
        )
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._life.live()
        except Exception as error:  # noqa: BLE001  handed to the test
            self.error = error

    def drain(self) -> None:
        self.draining.set()
        self.stir.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.fleet.close()


class Fleetlet:
    """A database, lives on it, and a sender."""

    def __init__(self, database: FleetDatabase) -> None:
        self.database = database
        self.lives: list[Running] = []
        self.sender = database.connect("sender")
        self.messages = self.sender.messages
        self.know("sender")

    def know(self, name: str, *roles: str) -> None:
        maintainer = self.database.database("maintainer")
        ensure_worker(maintainer, name, name, roles)
        maintainer.close()

    def live(self, kind: type[Worker], slot: int = 1) -> Running:
        self.know(kind.name, *kind.roles)
        life = Running(self.database.connect(kind.name, slot), kind)
        self.lives.append(life)
        return life

    def settled(self, kind: type[Worker]) -> Running:
        """A life that has done its first step and waits."""
        life = self.live(kind)
        eventually(
            lambda: self.rows(
                "SELECT 1 FROM fleet.runs WHERE step = 'step' AND outcome = 'done' "
                f"AND worker = '{kind.name}'"
            ),
            what="the first step",
        )
        return life

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.owner() as owner:
            return owner.execute(query.encode()).fetchall()

    def states(self) -> list[tuple[str, int]]:
        return self.rows("SELECT state, attempts FROM fleet.messages ORDER BY id")

    def runs(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT outcome, items, item_errors, error_class FROM fleet.runs "
            "WHERE step = 'messages' AND outcome <> 'running' ORDER BY id"
        )

    def events(self, kind: str) -> list[str]:
        return [
            row[0] for row in self.rows(f"SELECT message FROM fleet.events WHERE kind = '{kind}' ORDER BY id")
        ]

    def until_states(self, *expected: tuple[str, int]) -> None:
        eventually(lambda: self.states() == list(expected), what=f"messages being {expected}")

    def close(self) -> None:
        for life in self.lives:
            life.drain()
        self.sender.close()


@pytest.fixture
def there(fleet_database: FleetDatabase) -> Iterator[Fleetlet]:
    Reader.script = staticmethod(idle)
    for kind in (Reader, Deaf, Sleeper):
        kind.steps = []
    Reader.seen = []
    fleetlet = Fleetlet(fleet_database)
    yield fleetlet
    fleetlet.close()


# Handling


def test_a_message_wakes_its_addressee_and_is_handled_under_a_record_without_a_step(there: Fleetlet) -> None:
    there.settled(Reader)
    sent = there.messages.send(TASK, "reader", ASKED.model_dump())
    there.until_states(("acknowledged", 1))
    eventually(lambda: there.runs() == [("done", 1, 0, None)], what="the record")
    assert Reader.seen == [("analyse", sent)]
    assert Reader.steps == ["step"]


def test_each_kind_of_payload_goes_to_its_own_handler_in_order_of_priority(there: Fleetlet) -> None:
    there.know("reader")
    sync = there.messages.send(
        "STATE_SYNC", "reader", {"key": "k", "version": 7, "kind": "whatever"}, priority="low"
    )
    found = there.messages.send(TASK, "reader", FOUND.model_dump())
    asked = there.messages.send(TASK, "reader", ASKED.model_dump(), priority="high")
    there.settled(Reader)
    there.until_states(*[("acknowledged", 1)] * 3)
    assert Reader.seen == [("analyse", asked), ("take_finding", found), ("sync", sync)]


def test_a_handler_that_raises_has_its_message_again_later_and_the_others_go_on(there: Fleetlet) -> None:
    def script(_worker: Reader, message: Message, _task: object) -> None:
        if message.attempt < 3:
            raise ValueError(f"not on attempt {message.attempt}")

    Reader.script = staticmethod(script)
    life = there.settled(Reader)
    failing = there.messages.send(TASK, "reader", ASKED.model_dump())
    there.until_states(("waiting", 1))
    Reader.script = staticmethod(idle)
    there.messages.send(TASK, "reader", FOUND.model_dump())
    there.until_states(("waiting", 1), ("acknowledged", 1))
    Reader.script = staticmethod(script)
    there.database.advance(11)
    life.stir.set()
    there.until_states(("waiting", 2), ("acknowledged", 1))
    there.database.advance(21)
    life.stir.set()
    there.until_states(("acknowledged", 3), ("acknowledged", 1))
    assert Reader.seen.count(("analyse", failing)) == 3
    assert [(run[0], run[2], run[3]) for run in there.runs()][:2] == [
        ("failed", 1, "ValueError"),
        ("done", 0, None),
    ]
    ((errors,),) = there.rows(
        "SELECT errors FROM fleet.messages WHERE id = (SELECT min(id) FROM fleet.messages)"
    )
    assert [one["error"] for one in errors] == [f"ValueError: not on attempt {n}" for n in (1, 2)]


def test_the_loop_comes_back_for_a_retry_by_itself(there: Fleetlet) -> None:
    def script(_worker: Reader, message: Message, _task: object) -> None:
        if message.attempt == 1:
            raise ValueError("not yet")

    Reader.script = staticmethod(script)
    there.database.advance(0, rate=100)  # 10 s of fleet time
    there.settled(Reader)
    there.messages.send(TASK, "reader", ASKED.model_dump(), ttl_s=86_400)
    there.until_states(("acknowledged", 2))


def test_a_payload_that_does_not_fit_is_a_dead_letter_at_once_and_says_why(there: Fleetlet) -> None:
    there.settled(Reader)
    bad = {**FOUND.model_dump(), "score": "seven", "surprise": 1}
    there.messages.send(TASK, "reader", bad)
    there.until_states(("dead", 1))
    (told,) = there.events("dead_letter")
    assert "the payload is no PostAnalysed" in told
    assert "score is 'seven'" in told
    assert "surprise is 1" in told
    assert Reader.seen == []


def test_a_message_whose_answer_can_not_be_sent_is_not_handled_again(there: Fleetlet) -> None:
    """What its handler did is done: each further delivery would do it once more, and end as this one."""

    def script(_worker: Reader, _message: Message, _task: object) -> Reply:
        return Reply(payload={**FOUND.model_dump(), "reason": "x" * 70_000})

    Reader.script = staticmethod(script)
    there.settled(Reader)
    there.messages.send(TASK, "reader", ASKED.model_dump())
    there.until_states(("dead", 1))
    (told,) = there.events("dead_letter")
    assert "its answer can't be sent" in told
    assert len(Reader.seen) == 1


def test_a_message_that_no_handler_takes_is_a_dead_letter_and_says_what_is_taken(there: Fleetlet) -> None:
    there.settled(Reader)
    there.messages.send(TASK, "reader", {"kind": "make_tea"})
    there.until_states(("dead", 1))
    (told,) = there.events("dead_letter")
    assert (
        "taken are STATE_SYNC, TASK_DELEGATION of kind analyse_post, TASK_DELEGATION of kind post_analysed"
        in told
    )


def test_a_limit_that_says_wait_costs_the_message_no_attempt(there: Fleetlet) -> None:
    def script(_worker: Reader, message: Message, _task: object) -> None:
        if len(Reader.seen) < 3:
            raise NoGrantError("all used", retry_after_s=60)
        assert message.attempt == 1

    Reader.script = staticmethod(script)
    life = there.settled(Reader)
    there.messages.send(TASK, "reader", ASKED.model_dump(), max_attempts=1)
    for number in (1, 2):
        eventually(lambda n=number: len(there.runs()) == n, what=f"attempt {number}")
        there.until_states(("waiting", 0))
        there.database.advance(61)
        life.stir.set()
    there.until_states(("acknowledged", 1))


def test_who_lost_the_lease_while_it_worked_is_told_no_and_lives_on(there: Fleetlet) -> None:
    other = there.database.connect("reader", slot=2)

    def script(_worker: Reader, _message: Message, _task: object) -> None:
        if len(Reader.seen) == 1:
            with there.database.owner() as owner:
                owner.execute(
                    "UPDATE fleet.messages SET lease_expires_at = clock_timestamp() - interval '1 s'"
                )
            other.messages.acknowledge(other.messages.claim()[0])

    Reader.script = staticmethod(script)
    life = there.settled(Reader)
    there.messages.send(TASK, "reader", ASKED.model_dump())
    eventually(lambda: there.runs() == [("failed", 1, 1, "LockLostError")], what="the refused report")
    there.messages.send(TASK, "reader", FOUND.model_dump())
    there.until_states(("acknowledged", 2), ("acknowledged", 1))
    assert life.error is None
    other.close()


def test_a_life_that_is_lost_in_a_handler_leaves_the_message_to_its_heir(there: Fleetlet) -> None:
    def script(_worker: Reader, message: Message, _task: object) -> None:
        if message.attempt == 1:
            raise IncarnationLostError("cut off")

    Reader.script = staticmethod(script)
    life = there.live(Reader)
    there.messages.send(TASK, "reader", ASKED.model_dump())
    eventually(lambda: not life.thread.is_alive(), what="the life's end")
    assert isinstance(life.error, IncarnationLostError)
    life.fleet.close()
    there.live(Reader)
    there.until_states(("acknowledged", 2))


def test_a_drain_stops_between_messages_and_leaves_the_rest_untouched(there: Fleetlet) -> None:
    there.know("reader")
    for _ in range(3):
        there.messages.send(TASK, "reader", ASKED.model_dump())
    Reader.script = staticmethod(drain)
    life = there.live(Reader)
    eventually(there.runs, what="the first message")
    life.drain()
    assert there.states() == [("acknowledged", 1), ("waiting", 0), ("waiting", 0)]


def test_more_messages_than_a_batch_are_worked_off_and_the_step_is_not_starved(there: Fleetlet) -> None:
    there.know("reader")
    for _ in range(25):
        there.messages.send(TASK, "reader", ASKED.model_dump())
    seen_at_step: list[int] = []

    class Busy(Reader):
        """Counts."""

        name = "reader"

        def step(self) -> None:
            seen_at_step.append(len(Reader.seen))

    there.live(Busy)
    there.until_states(*[("acknowledged", 1)] * 25)
    assert seen_at_step == [10]


def test_a_worker_without_handlers_refuses_what_is_sent_to_it_and_passes_over_broadcasts(
    there: Fleetlet,
) -> None:
    there.settled(Deaf)
    there.messages.send(TASK, "deaf", ASKED.model_dump())
    eventually(lambda: there.events("dead_letter"), what="the refusal")
    assert "taken are none at all" in there.events("dead_letter")[0]
    there.messages.broadcast("SYSTEM_EVENT", {"kind": "news"})
    eventually(
        lambda: there.rows(
            "SELECT 1 FROM fleet.messages WHERE recipient = 'deaf' AND state = 'acknowledged'"
        ),
        what="the broadcast passed over",
    )
    assert Deaf.steps == ["step"]


def test_a_worker_may_say_that_no_wake_up_asks_for_its_step(there: Fleetlet) -> None:
    there.settled(Sleeper)
    there.sender.database.call("wake", worker="sleeper")
    there.messages.send(TASK, "sleeper", {"kind": "do"})  # a sign that the wake-up before it was heard
    eventually(lambda: there.events("dead_letter"), what="the message behind the wake-up")
    assert Sleeper.steps == ["step"]


def test_two_handlers_of_the_same_messages_are_refused_by_name() -> None:
    class Doubtful(Reader):
        """Has two."""

        @handles("STATE_SYNC", Anything)
        def sync_too(self, _message: Message, _task: Anything) -> None: ...

    with pytest.raises(RegistryError, match=r"Doubtful\.sync_too and \.sync both take STATE_SYNC"):
        find(Doubtful)


def test_an_answer_that_asks_for_nothing_is_passed_over_where_nobody_handles_it(there: Fleetlet) -> None:
    there.settled(Deaf)
    decision = ConflictDecision(
        conflict="1", thing="post 7", state="open", strategy="person", winner=None, grants=[], reason="equal"
    )
    there.messages.send("CONFLICT_RESOLUTION", "deaf", decision.model_dump())
    there.until_states(("acknowledged", 1))
    assert there.events("dead_letter") == []


class Lingering(Event):
    """A drain that is never asked for; what is waited for it is noted, and something happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._meanwhile = meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        if len(self.waits) == 1:
            self._meanwhile()
        return False


@pytest.mark.parametrize(("number", "looks_again"), [(1, False), (3, True)])
def test_a_busy_inbox_looks_once_more_before_it_sleeps_and_nobody_is_woken_for_that(
    there: Fleetlet, number: int, looks_again: bool
) -> None:
    told: list[bool] = []

    def send_more() -> None:
        told.append(there.sender.database.call("wake", worker="reader/messages"))
        there.messages.send(TASK, "reader", ASKED.model_dump())

    draining = Lingering(send_more)
    there.know("reader")
    with there.database.connect("reader") as fleet:
        worker = Reader(
            context=Context(config=Config(), account="sandbox"),
            fleet=fleet,
            progress=Progress(),
            draining=draining,
        )
        for _ in range(number):
            there.messages.send(TASK, "reader", ASKED.model_dump())
        Inbox(worker, fleet, recorded).work_off()
        assert there.sender.database.call("wake", worker="reader/messages")  # it sleeps in the end
    assert draining.waits == ([LINGER_S] * 2 if looks_again else [])
    assert told == ([False] if looks_again else [])
    assert len(Reader.seen) == number + looks_again


def recorded(_step: str, method: Callable[[], None], _trace: str) -> Exception | None:
    method()
    return None


# Leases


def test_a_handler_that_takes_longer_than_a_lease_keeps_its_message_as_long_as_it_ticks(
    there: Fleetlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.handlers.LEASE_S", 1.0)
    claimed = there.database.connect("reader", slot=2)
    first_is_over = "SELECT 1 FROM fleet.messages WHERE clock_timestamp() > sent_at + interval '1.5 seconds'"
    told: list[str] = []

    def script(worker: Reader, _message: Message, _task: object) -> None:
        def stolen() -> object:
            worker.progress.tick()
            return claimed.messages.claim() or there.rows(first_is_over)

        eventually(stolen, what="the end of the first lease")
        assert there.states() == [("claimed", 1)]
        there.rows("UPDATE fleet.messages SET lease = lease + 1 RETURNING 1")
        try:
            eventually(worker.progress.tick, what="the loss")
        except LockLostError as error:
            told.append(str(error))
            raise

    Reader.script = staticmethod(script)
    progress = Progress()
    progress.allow(0.1)
    with there.database.connect("reader") as fleet, claimed:
        worker = Reader(
            context=Context(config=Config(), account="sandbox"),
            fleet=fleet,
            progress=progress,
            draining=Event(),
        )
        there.messages.send(TASK, "reader", ASKED.model_dump())
        Inbox(worker, fleet, told_failure).work_off()
    assert len(told) == 1
    assert "lost" in told[0]
    assert there.states() == [("claimed", 1)]
    assert progress.ticked is None


def told_failure(_step: str, method: Callable[[], None], _trace: str) -> Exception | None:
    try:
        method()
    except Exception as error:  # noqa: BLE001  as a life does
        return error
    return None


# Deaths


def _die_in_a_handler(keep: Callable[[object], None], dsn: str, at: str) -> str:
    """Live until a handler has written its effect (a message), then hold still."""
    written, never = Event(), Event()
    fleet = connect(dsn, "reader")

    def script(worker: Reader, message: Message, _task: object) -> None:
        if at == "report":
            worker.fleet.messages.send(
                "STATE_SYNC", "sender", {"key": "k", "version": 1}, dedupe_key=f"effect of {message.id}"
            )
        written.set()
        never.wait()

    Reader.script = staticmethod(script)
    keep(Running(fleet, Reader))
    assert written.wait(30)
    return str(fleet.incarnation.id)


@pytest.mark.parametrize("at", ["effect", "report"])
def test_kill_9_before_or_after_the_effect_delivers_again_and_the_effect_stands_once_i15(
    there: Fleetlet, at: str
) -> None:
    there.know("reader")
    there.messages.send(TASK, "reader", ASKED.model_dump())
    with victim(_die_in_a_handler, there.database.dsn("worker"), at) as doomed:
        assert there.rows("SELECT incarnation::text FROM fleet.messages WHERE id = 1") == [(doomed.result,)]
        doomed.kill()

        def effect(worker: Reader, message: Message, _task: object) -> None:
            worker.fleet.messages.send(
                "STATE_SYNC", "sender", {"key": "k", "version": 1}, dedupe_key=f"effect of {message.id}"
            )

        Reader.script = staticmethod(effect)
        there.live(Reader, slot=2)
        eventually(lambda: there.states()[:1] == [("acknowledged", 2)], what="handled again")
    assert there.rows("SELECT count(*) FROM fleet.messages WHERE recipient = 'sender'") == [(1,)]
    assert there.rows("SELECT errors->0->>'error' FROM fleet.messages WHERE id = 1") == [
        ("its holder ended or ran out of its lease",)
    ]


# The coordinator


def test_a_coordinator_process_routes_to_two_workers_of_a_role_and_a_handler_answers(
    there: Fleetlet, tmp_path: Path
) -> None:
    """Sender, coordinator and reader are three; of two with the role the one that runs is asked."""
    (tmp_path / "dsn").mkdir()
    (tmp_path / "dsn" / "worker").write_text(there.database.dsn("worker"))
    there.know("deaf", "content_analysis")
    Reader.roles = ("content_analysis",)

    def answer(_worker: Reader, _message: Message, _task: object) -> Reply:
        return Reply(payload=FOUND.model_dump())

    Reader.script = staticmethod(answer)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    coordinator = subprocess.Popen(
        [sys.executable, "-m", "manager", "worker", "run", "coordination"],
        cwd=ROOT,
        env={**kept, "SOCIALFLEET_STATE_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(
            lambda: there.rows("SELECT 1 FROM fleet.runs WHERE worker = 'coordination' AND outcome = 'done'"),
            what="the coordinator",
        )
        there.settled(Reader)
        sent = [
            there.messages.send(TASK, "content_analysis", ASKED.model_dump(), to="role") for _ in range(2)
        ]
        answers: list[Message] = []
        eventually(lambda: answers.extend(there.messages.claim()) or answers, what="an answer", within_s=60)
        routed = dict(
            there.rows("SELECT id::text, routed_to FROM fleet.messages WHERE recipient_kind = 'role'")
        )
        assert routed == dict.fromkeys(sent, "reader")
        assert answers[0].reply_to == sent[0]
        assert answers[0].payload == FOUND.model_dump()
    finally:
        Reader.roles = ()
        coordinator.terminate()
        coordinator.wait(20)


def test_a_delegation_goes_through_coordinator_and_discovery_and_its_finding_comes_back(
    there: Fleetlet, tmp_path: Path
) -> None:
    """Four processes: the sender here, coordination, discovery and the sandbox's X."""
    host = Host(tmp_path / "state", there.database)
    try:
        there.know("discovery", *registry.roles("discovery"))
        host.worker("coordination")
        host.worker("discovery")
        ((post,),) = eventually(
            lambda: there.rows("SELECT platform_id FROM fleet.candidates LIMIT 1"), what="a post", within_s=60
        )
        asked = AnalysePost(account="sandbox", post_id=post, mention_id="2")
        gone = AnalysePost(account="sandbox", post_id="1", mention_id="2")
        sent = {
            there.messages.send(TASK, "content_analysis", one.model_dump(), to="role"): one
            for one in (asked, gone)
        }
        answers: list[Message] = []
        eventually(
            lambda: answers.extend(there.messages.claim(2)) or len(answers) == 2,
            what="two findings",
            within_s=60,
        )
        findings = {answer.reply_to: PostAnalysed.model_validate(answer.payload) for answer in answers}
        assert findings.keys() == sent.keys()
        for message, task in sent.items():
            finding = findings[message]
            assert (finding.post_id, finding.mention_id) == (task.post_id, "2")
            assert (finding.found, finding.score is not None) == (
                (True, True) if task is asked else (False, False)
            )
    finally:
        host.close()
