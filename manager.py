"""WorkerManager: each worker an OS process, as many as the fleet wants, kept alive; and the CLI's entry."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coordination.desired import Command, DesiredWorker
from host import cli
from host.child import Child, Program
from host.control import Orders, SlotState
from host.supervisor import Supervisor

REFRESH_S = 1.0
SUPERSEDED = "superseded by a later command"
Argv = Callable[[str, int], Sequence[str]]


class Line(Protocol):
    """What the manager needs of `host.control.Control`."""

    def take(self) -> Orders | None:
        """New orders, or None."""
        ...

    def report(self, slots: Sequence[SlotState]) -> None:
        """Say how the slots are."""
        ...

    def finish(self, command: str, *, succeeded: bool, text: str) -> None:
        """Say what came of a command."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Open:
    """A command whose effect is awaited: the slots it names, and their processes when it was taken."""

    command: Command
    children: Mapping[tuple[str, int], Child]
    pids: Mapping[tuple[str, int], int | None]


def worker_argv(name: str, slot: int) -> list[str]:
    """The command of one slot's process."""
    return [sys.executable, "-m", "manager", "worker", "run", name, "--slot", str(slot)]


class WorkerManager:
    """Keeps this host's worker processes as the fleet wants them; everything on the main thread.

    The supervisor sees deaths and timers; `attend` turns orders into starts and stops. A restart drains the
    old process and starts a new one. Workers die with this process, however it ends.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        line: Line,
        *,
        workers: Sequence[str],
        logs: Path,
        environment: Mapping[str, str] | None = None,
        argv: Argv = worker_argv,
        stop_timeout_s: float = 10.0,
    ) -> None:
        """Name the parts.

        Args:
            supervisor: the main thread's loop.
            line: where orders come from and reports go.
            workers: the names of the workers that this program has.
            logs: the directory of the slots' logs.
            environment: of the processes, over this one's own.
            argv: gives a slot's command.
            stop_timeout_s: how long a worker may drain before it is killed.
        """
        self._supervisor = supervisor
        self._line = line
        self._workers = frozenset(workers)
        self._logs = logs
        self._environment = {**os.environ, **(environment or {})}
        self._argv = argv
        self._stop_timeout_s = stop_timeout_s
        self._slots: dict[tuple[str, int], Child] = {}
        self._wanted: set[tuple[str, int]] = set()
        self._open: list[_Open] = []
        self._stopping = False

    @property
    def slots(self) -> Mapping[tuple[str, int], Child]:
        """Every slot's child by worker and number."""
        return self._slots

    def run(self, until: Callable[[], bool]) -> None:
        """Attend until `until()`, which is asked after everything that happens and once a second."""
        while not until():
            self._supervisor.wait(REFRESH_S)
            self.attend()

    def attend(self) -> None:
        """Carry out new orders, settle commands whose effect is there, and report. Waits for nothing."""
        orders = None if self._stopping else self._line.take()
        if orders is not None:
            self._reconcile(orders.workers)
            known = {entry.command.id for entry in self._open}
            for command in orders.commands:
                if command.id not in known:  # one that takes long is offered again
                    self._begin(command)
        self._open = [entry for entry in self._open if not self._settle(entry)]
        self._line.report(
            tuple(
                SlotState(
                    worker=worker,
                    slot=slot,
                    state=child.state,
                    reason=child.reason,
                    pid=child.pid,
                    restart_count=child.restart_count,
                    since=child.since,
                )
                for (worker, slot), child in sorted(self._slots.items())
            )
        )

    def stop(self) -> None:
        """Drain every worker; returns when all ended, at the latest after the drain's deadline."""
        self._stopping = True
        self._supervisor.stop(list(self._slots.values()), "the fleet was stopped")
        for entry in self._open:
            self._line.finish(entry.command.id, succeeded=False, text="the fleet was stopped")
        self._open = []
        self.attend()

    def _reconcile(self, workers: Sequence[DesiredWorker]) -> None:
        wanted: set[tuple[str, int]] = set()
        for worker in workers:
            if worker.name in self._workers:
                for slot in range(1, max(worker.replicas, 1) + 1):
                    self._slots.setdefault((worker.name, slot), self._child(worker.name, slot))
                if worker.enabled:
                    wanted.update((worker.name, slot) for slot in range(1, worker.replicas + 1))
        for key in sorted(wanted - self._wanted):
            self._slots[key].start()
        for key in sorted(self._wanted - wanted):
            self._slots[key].stop("a person stopped it")
        self._wanted = wanted

    def _child(self, worker: str, slot: int) -> Child:
        name = f"{worker}/{slot}"
        program = Program(
            name=name,
            argv=self._argv(worker, slot),
            environment=self._environment,
            log=self._logs / f"{worker}-{slot}.jsonl",
            on_orphaned=signal.SIGKILL,
            stop_timeout_s=self._stop_timeout_s,
        )
        child = Child(program)
        self._supervisor.children.append(child)
        return child

    def _begin(self, command: Command) -> None:
        children = {
            key: child
            for key, child in self._slots.items()
            if key[0] == command.worker and command.slot in {None, key[1]}
        }
        fault = ""
        if not children:
            fault = f"{command.worker} has no such slot on this host"
        elif command.action == "restart" and not self._wanted & set(children):
            fault = f"{command.worker} is stopped: start it with: socialfleet start {command.worker}"
        if fault:
            self._line.finish(command.id, succeeded=False, text=fault)
            return
        pids = {key: child.pid for key, child in children.items()}
        for key, child in children.items():
            if key in self._wanted:
                if command.action == "restart":
                    child.restart("a person restarts it")
                elif command.action == "start":
                    child.start()  # one in backoff starts at once
        self._open.append(_Open(command=command, children=children, pids=pids))

    def _settle(self, entry: _Open) -> bool:
        """Finish the command if its effect, or its failure, is there, or the opposite is wanted by now."""
        command = entry.command
        relevant = {key: child for key, child in entry.children.items() if key in self._wanted}
        if (command.action == "stop") == bool(relevant):
            self._line.finish(command.id, succeeded=False, text=SUPERSEDED)
            return True
        if command.action == "stop":
            if any(child.state != "STOPPED" for child in entry.children.values()):
                return False
        else:
            for child in relevant.values():
                if child.state == "BACKOFF":
                    self._line.finish(command.id, succeeded=False, text=f"{child.name} {child.reason}")
                    return True
            for key, child in relevant.items():
                is_new = command.action != "restart" or child.pid != entry.pids[key]
                if child.state != "READY" or not is_new:
                    return False
        text = ", ".join(
            f"{child.name} is {child.state}" + (f" (pid {child.pid})" if child.pid else "")
            for child in entry.children.values()
        )
        self._line.finish(command.id, succeeded=True, text=text)
        return True


def main(arguments: list[str] | None = None) -> int:
    """Run `socialfleet`; give the exit code."""
    return cli.main(sys.argv[1:] if arguments is None else arguments, manage=WorkerManager)


if __name__ == "__main__":
    sys.exit(main())
