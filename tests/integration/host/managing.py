"""A manager for a test: on a real keeper, with stub workers that are real processes and a scripted line."""

import os
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordination.desired import Limits, Part, WantedSlot
from host.orders import Orders, ProcessEnd, SlotState
from host.slots.log_file import Rotation
from host.slots.slot import Slot
from host.supervisor import Supervisor
from manager import WorkerManager
from tests.integration.host.keeping import Kept, keeping

WITHIN_S = 60.0
LIVE = "ready(); live()"
STUBS = """
    import faulthandler, os, signal, subprocess, sys, threading, time
    from pathlib import Path
    from workers.progress_pipe import ProgressPipe, Word

    def run(name, slot):
        pipe = ProgressPipe(int(os.environ["SOCIALFLEET_PROGRESS_FD"]))
        draining = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: draining.set())
        told = {"ticks": 0, "state": "STARTING"}

        def say(state=None, **fields):
            told.update(fields, state=state or told["state"], ticks=told["ticks"] + 1)
            pipe.tell(Word(**told))

        def beat():
            while True:
                time.sleep(0.05)
                pipe.tell(Word(**told))

        def ready(state="READY", **fields):
            say(state, **fields)
            threading.Thread(target=beat, daemon=True).start()

        def live(drain_s=0.0):
            while not draining.is_set():
                time.sleep(0.02)  # no lock is held here: the handler takes it
            say("DRAINING")
            time.sleep(drain_s)

        scripts = Path(f"{name}-{slot}.script"), Path(f"{name}.script")
        script = next(file for file in scripts if file.exists())
        scope = {**globals(), **locals(), "code": 0}
        exec(script.read_text(), scope)
        return scope["code"]
"""


class Clock:
    """Monotonic seconds that a test moves on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass
class Told:
    """An alert or an event."""

    severity: str
    text: str
    data: Mapping[str, Any]


@dataclass
class ScriptedLine:
    """The database as a test plays it, and what the manager said to it."""

    orders: list[Orders] = field(default_factory=list[Orders])
    slots: Mapping[tuple[str, int], SlotState] = field(default_factory=dict[tuple[str, int], SlotState])
    finished: dict[str, tuple[bool, str]] = field(default_factory=dict[str, tuple[bool, str]])
    outputs: dict[str, str | None] = field(default_factory=dict[str, str | None])
    told: list[str] = field(default_factory=list[str])
    ends: list[ProcessEnd] = field(default_factory=list[ProcessEnd])
    alerts: dict[str, Told] = field(default_factory=dict[str, Told])
    cleared: list[str] = field(default_factory=list[str])
    events: list[tuple[str, Told]] = field(default_factory=list[tuple[str, Told]])
    boxes: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    audits: list[tuple[str, str, str, str]] = field(default_factory=list[tuple[str, str, str, str]])
    keys: list[str] = field(default_factory=list[str])
    is_away: bool = False
    holds_back: bool = False  # it answers, and has not come to what was told it
    unanswered_s: float = 0.0
    _then: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def take(self) -> Orders | None:
        if self.is_away:
            return None
        if not self.holds_back:
            for then in self._then:
                then()
            self._then.clear()
        return self.orders.pop(0) if self.orders else None

    def forget(self) -> None:
        """It is another process's line from now on."""
        self._then.clear()
        self.slots = {}
        self.ends.clear()

    def report(self, slots: Sequence[SlotState]) -> None:
        self.slots = {(slot.worker, slot.slot): slot for slot in slots}

    def tell(self, part: str, text: str) -> None:
        self.told.append(f"{part}: {text}")

    def finish(self, part: str, *, succeeded: bool, text: str, output: str | None = None) -> None:
        self.finished[part] = (succeeded, text)
        self.outputs[part] = output

    def ended(self, end: ProcessEnd, then: Callable[[], None]) -> None:
        self.ends.append(end)
        self._then.append(then)

    def ask_black_box(
        self,
        worker: str,
        slot: int,
        incarnation: str | None,
        then: Callable[[Mapping[str, Any] | None], None],
    ) -> None:
        self._then.append(lambda: then({"asked_for": f"{worker}/{slot}", "incarnation": incarnation}))

    def black_box(
        self,
        worker: str,
        slot: int,
        incarnation: str | None,
        pid: int,
        reason: str,
        report: Mapping[str, Any],
    ) -> None:
        del worker, slot, incarnation, pid, reason
        self.boxes.append(report)

    def raise_alert(self, key: str, severity: str, message: str, data: Mapping[str, Any]) -> None:
        self.alerts[key] = Told(severity, message, data)

    def clear_alert(self, key: str) -> None:
        self.alerts.pop(key, None)
        self.cleared.append(key)

    def event(self, severity: str, kind: str, message: str, data: Mapping[str, Any]) -> None:
        self.events.append((kind, Told(severity, message, data)))

    def audit_later(
        self, action: str, name: str, actor: str, reason: str, then: Callable[[], None], *, key: str
    ) -> None:
        self.audits.append((action, name, actor, reason))
        self.keys.append(key)
        self._then.append(then)


@dataclass
class House:
    """A manager whose workers do what scripts say."""

    kept: Kept
    line: ScriptedLine
    clock: Clock
    directory: Path
    rotation: Rotation = field(default_factory=Rotation)
    workers: Sequence[str] = ("planner", "poster", "stubborn", "lone")
    spread: float = 0.1
    drain_s: float = 1.0
    supervisor: Supervisor = field(init=False)
    manager: WorkerManager = field(init=False)
    wanted: dict[tuple[str, int], WantedSlot] = field(default_factory=dict[tuple[str, int], WantedSlot])

    def open(self, *, to_stdout: bool = False) -> None:
        """Be the (next) manager process."""
        self.supervisor = Supervisor(self.kept.keeper)
        self.supervisor.__enter__()
        self.manager = WorkerManager(
            self.supervisor,
            self.line,
            keeper=self.kept.keeper,
            workers=self.workers,
            logs=self.directory / "logs",
            state=self.directory,
            environment={"SOCIALFLEET_ACCOUNT": "sandbox"},
            to_stdout=to_stdout,
            stop_timeout_s=self.drain_s,
            clock=self.clock,
            spread=lambda: self.spread,
            rotation=self.rotation,
        )

    def follow_a_killed_manager(self) -> None:
        """End as kill -9 does, and be the manager process that the keeper makes in its place."""
        os.kill(self.kept.manager_pid, signal.SIGKILL)
        self.manager.leave()
        self.supervisor.__exit__(None, None, None)
        self.kept.next_manager()
        self.line.forget()
        self.open()

    def script(self, name: str, text: str) -> None:
        """What a worker (`poster`) or one slot (`poster-2`) does from its next start on."""
        (self.directory / f"{name}.script").write_text(text)

    def want(
        self,
        *parts: Part,
        limits: Limits | None = None,
        paused: bool = False,
        reason: str = "a person stopped it",
        **replicas: int,
    ) -> None:
        """Order so many running replicas of each worker; 0 is one slot that is stopped."""
        self._wish(replicas, limits=limits or Limits(), paused=paused, reason=reason)
        self.order(*parts)

    def _wish(self, replicas: Mapping[str, int], *, limits: Limits, paused: bool, reason: str) -> None:
        for worker, number in replicas.items():
            for slot in range(1, max(number, 1) + 1):
                self.wanted[worker, slot] = WantedSlot(
                    worker=worker,
                    slot=slot,
                    runs=number > 0,
                    reason="" if number else reason,
                    paused=paused,
                    singleton=worker == "lone",
                    limits=limits,
                )
            for key in [key for key in self.wanted if key[0] == worker and key[1] > max(number, 1)]:
                del self.wanted[key]

    def order(self, *parts: Part, ages: Mapping[tuple[str, int], float] | None = None) -> None:
        """Give the present wishes again, with these parts."""
        self.line.orders.append(
            Orders(slots=list(self.wanted.values()), parts=parts, progress_ages=ages or {})
        )
        self.supervisor.wake()

    def until(self, reached: Callable[[], object], within_s: float = WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        self.manager.run(lambda: bool(reached()) or time.monotonic() > deadline)
        living = {
            slot.name: [process.pid for process in slot.processes] for slot in self.manager.slots.values()
        }
        assert reached(), f"not within {within_s} s: {dict(self.line.slots)}, {living}"

    def turns(self, number: int) -> None:
        """Let the manager go round."""
        for _ in range(number):
            self.supervisor.wait(0.02)
            self.manager.attend()

    def slot(self, worker: str, slot: int = 1) -> Slot:
        return self.manager.slots[worker, slot]

    def state(self, worker: str, slot: int = 1) -> str:
        return self.line.slots[worker, slot].state if (worker, slot) in self.line.slots else "unknown"

    def reason(self, worker: str, slot: int = 1) -> str:
        return self.line.slots[worker, slot].reason

    def pid(self, worker: str, slot: int = 1) -> int:
        pid = self.line.slots[worker, slot].pid
        assert pid is not None
        return pid

    def are(self, state: str, worker: str, *slots: int) -> bool:
        return all(self.state(worker, slot) == state for slot in slots or (1,))

    def ready(self, **replicas: int) -> None:
        """Want these, and wait until they are ready."""
        self._wish(replicas, limits=Limits(), paused=False, reason="")
        self.order()
        self.until(
            lambda: all(
                self.are("READY", worker, *range(1, number + 1)) for worker, number in replicas.items()
            )
        )

    def log(self, worker: str, slot: int = 1) -> Path:
        return self.directory / "logs" / f"{worker}-{slot}.jsonl"


def part(
    action: str,
    worker: str,
    slot: int = 1,
    *,
    number: str = "1",
    mode: str = "plain",
    remaining_s: float = 60.0,
    age_s: float = 0.0,
    **args: object,
) -> Part:
    return Part(
        id=number,
        command=f"c{number}",
        action=action,
        worker=worker,
        slot=slot,
        mode=mode,  # pyright: ignore[reportArgumentType]  tests give plain strings
        args=args,
        remaining_s=remaining_s,
        age_s=age_s,
    )


@contextmanager
def managing(
    directory: Path,
    *,
    rotation: Rotation | None = None,
    spread: float = 0.1,
    drain_s: float = 1.0,
    spawn: bool = False,
) -> Generator[House]:
    """A house with an open manager; its workers live until SIGTERM unless scripts say otherwise.

    What drains gets `drain_s` seconds: short where a test is about what does not.
    With `spawn` each of them is an interpreter of its own, else a fork.
    """
    with keeping(directory, source=STUBS, spawn=spawn) as kept:
        house = House(
            kept,
            ScriptedLine(),
            Clock(),
            directory,
            rotation=rotation or Rotation(),
            spread=spread,
            drain_s=drain_s,
        )
        for name in house.workers:
            house.script(name, LIVE)
        house.script("stubborn", "ready(); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)")
        house.open()
        try:
            yield house
        finally:
            house.line.is_away = False
            house.manager.stop()
            house.supervisor.__exit__(None, None, None)
