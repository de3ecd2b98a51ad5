"""The services of `up`: console and sandbox, programs that answer over HTTP and come back when they die.

ServiceError    one did not come up; the text says why, `exit_code` what the shell gets
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from coordination.accounts import Tier
from host import x_account
from host.child import Child, Program
from host.state_directory import StateDirectory
from host.supervisor import Supervisor

START_S = 30.0
STOP_S = 1.5
ANSWER_POLL_S = 0.05
REFUSED = 2


class ServiceError(Exception):
    """A service did not come up."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Services:
    """Starts them, or takes over those that an earlier manager process left."""

    def __init__(self, supervisor: Supervisor, state: StateDirectory, *, waits: bool) -> None:
        """Name the parts.

        Args:
            supervisor: the loop that ticks them.
            state: the directory of their logs and files.
            waits: whether each must answer before it goes on; False: it may come up whenever it can.
        """
        self._supervisor = supervisor
        self._state = state
        self._waits = waits
        self._children: list[Child] = []

    def console(self, url: str, port: int) -> None:
        """Serve the console; returns when it answers, if that is waited for.

        Raises:
            ServiceError: it does not.
        """
        argv = [sys.executable, "-m", "console", "--port", str(port), "--state", str(self._state.path)]
        self._serve("console", argv, url, "/health/live")

    def sandbox(self, url: str, port: int, *, tier: Tier, world: Path | None) -> dict[str, object]:
        """Serve X's sandbox; give what it says of itself once it answers, nothing if that isn't waited for.

        Raises:
            ServiceError: it does not.
        """
        argv = [sys.executable, "-m", "sandbox", "x", "--port", str(port)]
        argv += ["--state", str(self._state.sandbox), "--tier", tier]
        if world:
            argv += ["--world", str(world.absolute())]
        return self._serve("sandbox", argv, url, "/_sandbox/health")

    def stop(self) -> None:
        """Stop them all; safe at any time, and twice."""
        self._supervisor.stop(self._children, "")

    def _serve(self, name: str, argv: Sequence[str], url: str, path: str) -> dict[str, object]:
        child = Child(
            Program(
                name=name,
                argv=argv,
                environment=os.environ,
                log=self._state.logs / f"{name}.log",
                on_orphaned=signal.SIGTERM,
                stop_timeout_s=STOP_S,
            ),
            keeper=self._supervisor.keeper,
        )
        self._supervisor.children.append(child)
        self._children.append(child)
        self._supervisor.wait(0)  # one that an earlier manager process left is adopted
        child.start()
        if not self._waits:
            return {}
        deadline = time.monotonic() + START_S
        while (said := x_account.get_json(url, path)) is None:
            self._supervisor.wait(ANSWER_POLL_S)
            if child.state == "BACKOFF":
                raise ServiceError(
                    f"{child.last_words() or child.reason} (log: {child.program.log})",
                    exit_code=REFUSED if child.exit_code == REFUSED else 1,
                )
            if time.monotonic() > deadline:
                raise ServiceError(f"the {name} did not answer within {START_S:g} s: see {child.program.log}")
        return said
