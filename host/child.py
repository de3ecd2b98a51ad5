"""A supervised program of `up` (console, sandbox): started, watched, started again with backoff, drained.

STOPPED --start--> STARTING --alive for a while--> READY --stop, restart--> DRAINING --ended--> STOPPED
                      ^                              |
                      +-------- BACKOFF <--ended-----+

The keeper gives birth to it and holds it, so that it outlives this process; nothing here blocks.
"""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from host.backoff import Backoff
from host.keeper.client import Event, Keeper, send_signal
from host.keeper.wire import Birth, Ended, Refused, Started
from host.slots.log_tail import explain, last_words

State = Literal["STARTING", "READY", "DRAINING", "BACKOFF", "STOPPED"]

STABLE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a child runs.

    Attributes:
        name: what it is called in messages.
        argv: the program and its arguments.
        environment: its whole environment.
        log: the file that its output is appended to.
        on_orphaned: the signal that it gets when the keeper ends.
        ready_after_s: it counts as ready when it has lived that long.
        stop_timeout_s: how long it may drain before it is killed with all its descendants.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    on_orphaned: signal.Signals = signal.SIGKILL
    ready_after_s: float = 1.0
    stop_timeout_s: float = 10.0


class Child:
    """One program that should or should not run; it belongs to the main thread.

    Put it among the supervisor's children and let that wait once before `start`: a process that an earlier
    manager process left is adopted then, and `start` has nothing to do.

    Attributes:
        state: see the module.
        since: when it came into this state, on the monotonic clock, in seconds.
        reason: why it is in this state; empty where that is plain.
        restart_count: starts after the first one.
        exit_code: of the last process that ended; negative: the signal that ended it.
    """

    def __init__(
        self,
        program: Program,
        *,
        keeper: Keeper,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.program = program
        self.state: State = "STOPPED"
        self.reason = ""
        self.restart_count = 0
        self.exit_code: int | None = None
        self._keeper = keeper
        self._clock = clock
        self.since = clock()
        self._backoff = backoff or Backoff()
        self._request: int | None = None
        self._process: Started | None = None
        self._wanted = False
        self._starts = 0
        self._due: float | None = None
        self._log_offset = 0

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.program.name

    @property
    def pid(self) -> int | None:
        """The living process's pid, which is also its session's and its group's."""
        return self._process.pid if self._process else None

    @property
    def is_ended(self) -> bool:
        """Whether nothing of it lives nor is on its way."""
        return self._process is None and self._request is None

    @property
    def due_at(self) -> float | None:
        """When `tick` has something to do even if nothing happens; monotonic seconds."""
        return self._due

    def start(self) -> None:
        """Let it run from now on; at once if it waits or is stopped."""
        self._wanted = True
        if self.is_ended:
            self._ask()

    def stop(self, reason: str = "") -> None:
        """Let it drain and not run again; safe in every state."""
        self._wanted = False
        if self.is_ended:
            self._enter("STOPPED", reason)
        elif self.state != "DRAINING":
            self._drain(reason)

    def restart(self, reason: str) -> None:
        """Let it drain and start anew; just start if it doesn't live."""
        self._wanted = True
        if self.is_ended:
            self._ask()
        elif self.state != "DRAINING":
            self._drain(reason)

    def kill(self) -> None:
        """End the process and its descendants without grace."""
        if self._process is not None:
            send_signal(self._process, signal.SIGKILL)
            self._keeper.kill_group(self._process.pid)

    def receive(self, event: Event) -> bool:
        """Take what the keeper tells of it; say whether it was about this child."""
        if event.name != self.name:
            return False
        match event:
            case Started():
                self._started(event)
            case Refused():
                self._request = None
                self._fail(f"can't be started: {event.error}")
            case Ended():
                self._keeper.acknowledge(event)
                if self._process is not None and event.pid == self._process.pid:
                    self._ended(event)
        return True

    def tick(self) -> None:
        """Do what is due."""
        now = self._clock()
        if self._due is None or now < self._due:
            return
        if self.state == "BACKOFF" and self._wanted:
            self._ask()
        elif self.state == "DRAINING":
            self.reason = f"killed: it did not drain within {self.program.stop_timeout_s:g} s"
            self._due = None
            self.kill()
        elif self.state == "STARTING" and self._process is not None:
            self._enter("READY", "", due=now + STABLE_S)
        elif self.state == "READY":
            self._backoff.clear()
            self._due = None

    def last_words(self) -> str:
        """The last line that it wrote in this life: a JSON line's message, or the line itself."""
        return last_words(self.program.log, self._log_offset)

    def _ask(self) -> None:
        self._starts += 1
        self.restart_count = self._starts - 1
        with suppress(OSError):  # the keeper will say that it can't be born
            self.program.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log_offset = self._log_size()
        self._request = self._keeper.start(
            Birth(
                name=self.name,
                argv=self.program.argv,
                environment=self.program.environment,
                log=self.program.log,
                on_orphaned=self.program.on_orphaned,
            )
        )
        self._enter("STARTING", "")

    def _started(self, event: Started) -> None:
        if self._process is not None:  # one of an earlier manager process came after all: one is enough
            send_signal(event, signal.SIGKILL)
            event.close()
            return
        self._process, self._request = event, None
        if event.resumed:
            self._wanted, self._starts = True, max(self._starts, 1)
        if self.state == "DRAINING" or not self._wanted:
            self._drain(self.reason)
        else:
            self._enter(
                "STARTING", "", due=self._clock() + max(0.0, self.program.ready_after_s - event.age_s)
            )

    def _drain(self, reason: str) -> None:
        self._enter("DRAINING", reason, due=self._clock() + self.program.stop_timeout_s)
        if self._process is not None:
            send_signal(self._process, signal.SIGTERM)

    def _ended(self, event: Ended) -> None:
        if self._process is not None:
            self._process.close()
        self._process, self.exit_code = None, event.exit_code
        if not self._wanted:
            self._enter("STOPPED", self.reason)
        elif self.state == "DRAINING":
            self._ask()
        else:
            self._fail(explain(event.exit_code, self.last_words()))

    def _fail(self, reason: str) -> None:
        if not self._wanted:
            self._enter("STOPPED", reason)
            return
        wait_s = self._backoff.next_s()
        self._enter("BACKOFF", f"{reason}; starts again in {wait_s:.1f} s", due=self._clock() + wait_s)

    def _log_size(self) -> int:
        with suppress(OSError):
            return self.program.log.stat().st_size
        return 0

    def _enter(self, state: State, reason: str, *, due: float | None = None) -> None:
        self.state, self.reason, self.since, self._due = state, reason, self._clock(), due
