"""A supervised child process: started, watched, started again with backoff, drained, killed.

STOPPED --start--> STARTING --alive for a while--> READY --stop, restart--> DRAINING --ended--> STOPPED
                      ^                              |
                      +-------- BACKOFF <--ended-----+

Nothing here blocks: `tick` looks at what happened and does what is due. Everything belongs to the main
thread, because a child's life hangs on the thread that forked it (see `host.lifeline`).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from host.backoff import Backoff
from host.lifeline import ORPHANED, bound_to_parent

State = Literal["STARTING", "READY", "DRAINING", "BACKOFF", "STOPPED"]

CONFIGURATION_FAULT = 78  # EX_CONFIG of sysexits.h
STABLE_S = 60.0
LAST_WORDS_BYTES = 8192
LAST_WORDS_LENGTH = 300


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a child runs.

    Attributes:
        name: what it is called in messages.
        argv: the program and its arguments.
        environment: its whole environment.
        log: the file that its output is appended to.
        on_orphaned: the signal that it gets when this process dies.
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
    """One program that should or should not run.

    Attributes:
        state: see the module.
        since: when it came into this state, on the monotonic clock, in seconds.
        reason: why it is in this state; empty where that is plain.
        restart_count: starts after the first one.
        exit_code: of the last process that ended; negative: the signal that ended it.
    """

    def __init__(
        self, program: Program, *, backoff: Backoff | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.program = program
        self.state: State = "STOPPED"
        self.reason = ""
        self.restart_count = 0
        self.exit_code: int | None = None
        self._clock = clock
        self.since = clock()
        self._backoff = backoff or Backoff()
        self._process: subprocess.Popen[bytes] | None = None
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
    def due_at(self) -> float | None:
        """When `tick` has something to do even if nothing happens; monotonic seconds."""
        return self._due

    def start(self) -> None:
        """Let it run from now on; at once if it waits or is stopped."""
        self._wanted = True
        if self._process is None:
            self._spawn()

    def stop(self, reason: str = "") -> None:
        """Let it drain and not run again; safe in every state."""
        self._wanted = False
        if self._process is None:
            self._enter("STOPPED", reason)
        elif self.state != "DRAINING":
            self._drain(reason)

    def restart(self, reason: str) -> None:
        """Let it drain and start anew; just start if it doesn't live."""
        self._wanted = True
        if self._process is None:
            self._spawn()
        elif self.state != "DRAINING":
            self._drain(reason)

    def kill(self) -> None:
        """End the process and its descendants without grace."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def tick(self) -> None:
        """See whether it ended, and do what is due."""
        now = self._clock()
        if self._process is None:
            if self._wanted and self.state == "BACKOFF" and self._is_due(now):
                self._spawn()
        elif self._has_ended(self._process):
            self._ended(self._process)
        elif self.state == "DRAINING" and self._is_due(now):
            self.reason = f"killed: it did not drain within {self.program.stop_timeout_s:g} s"
            self._due = None
            self.kill()
        elif self.state == "STARTING" and self._is_due(now):
            self._enter("READY", "", due=now + STABLE_S)
        elif self.state == "READY" and self._is_due(now):
            self._backoff.clear()
            self._due = None

    def last_words(self) -> str:
        """The last line that it wrote in this life: a JSON line's message, or the line itself."""
        try:
            with self.program.log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_offset, end - LAST_WORDS_BYTES))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        written = [line.strip() for line in lines if line.strip()]
        return _message(written[-1])[:LAST_WORDS_LENGTH] if written else ""

    def _spawn(self) -> None:
        self._starts += 1
        self.restart_count = self._starts - 1
        try:
            self.program.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.program.log.open("ab") as log:
                self._log_offset = log.tell()
                self._process = subprocess.Popen(  # noqa: S603  argv is ours, without a shell
                    self.program.argv,
                    env=self.program.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a terminal's Ctrl-C is for the fleet, which then stops this
                    preexec_fn=bound_to_parent(self.program.on_orphaned),  # noqa: PLW1509  two system calls
                )
        except (OSError, subprocess.SubprocessError) as error:
            self._wait_and_retry(f"can't be started: {error}")
        else:
            self._enter("STARTING", "", due=self._clock() + self.program.ready_after_s)

    def _drain(self, reason: str) -> None:
        self._enter("DRAINING", reason, due=self._clock() + self.program.stop_timeout_s)
        if self._process is not None:
            # Not Popen.send_signal: that would reap it, and `tick` wants to see its end first.
            os.kill(self._process.pid, signal.SIGTERM)

    @staticmethod
    def _has_ended(process: subprocess.Popen[bytes]) -> bool:
        """Whether it ended; on Linux it stays a zombie, so that its group's number can't be another's yet."""
        if sys.platform != "linux":
            return process.poll() is not None
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        self.kill()  # what it left behind in its group
        self.exit_code = process.wait()
        self._process = None
        if not self._wanted:
            self._enter("STOPPED", self.reason)
        elif self.state == "DRAINING":
            self._spawn()
        else:
            self._wait_and_retry(self._explain(self.exit_code))

    def _wait_and_retry(self, reason: str) -> None:
        wait_s = self._backoff.next_s()
        self._enter("BACKOFF", f"{reason}; starts again in {wait_s:.1f} s", due=self._clock() + wait_s)

    def _explain(self, exit_code: int) -> str:
        words = self.last_words()
        said = f": {words}" if words else ""
        if exit_code < 0:
            return f"killed by {_signal_name(-exit_code)}"
        if exit_code == CONFIGURATION_FAULT:
            return words or "its settings or needs are not met (exit code 78)"
        if exit_code == ORPHANED:
            return f"could not be tied to this process (exit code {ORPHANED})"
        if exit_code == 0:
            return f"ended by itself, though it should run{said}"
        return f"ended with exit code {exit_code}{said}"

    def _enter(self, state: State, reason: str, *, due: float | None = None) -> None:
        self.state, self.reason, self.since, self._due = state, reason, self._clock(), due

    def _is_due(self, now: float) -> bool:
        return self._due is not None and now >= self._due


def _message(line: str) -> str:
    try:
        parsed: object = json.loads(line)
    except ValueError:
        return line
    if not isinstance(parsed, dict):
        return line
    return str(cast("dict[str, Any]", parsed).get("message") or line)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
