"""WorkerManager: each worker an OS process, as many as the fleet wants, kept alive; and the CLI's entry."""

import os
import signal
import sys

if (__name__ == "__main__" or sys.argv[0].endswith("socialfleet")) and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    # Importing the rest takes a second or two, in which Ctrl-C shall not show where in it that was.
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(130))  # as shells say it

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from host import cli
from host.keeper.client import Event, Keeper
from host.keeper.wire import Ended, Refused, Started
from host.local_line import LocalLine
from host.orders import Orders, ProcessEnd, SlotName
from host.process_proof import boottime_s
from host.slots import usage
from host.slots.echo import Echo
from host.slots.ground import Ground
from host.slots.line import Line
from host.slots.local_orders import LocalOrders
from host.slots.log_file import Rotation
from host.slots.log_rotation import LogRotation
from host.slots.log_tail import how
from host.slots.parts import Parts
from host.slots.slot import Slot
from host.slots.snapshot import Snapshot
from host.supervisor import Supervisor
from workers.wake import Kind, Whom

REFRESH_S = 1.0
FENCE_S = 8.0
"""Without the database for so long a host is cut off, and what acts here is killed.

What a worker holds is its session's: others may take it once the server has given that up, 14 s after its
last packet. When the manager's own line was answered last, the network was there, and the worker's last beat
was 5 s old at most: 9 s from then nobody may act here any more, whoever was stopped or killed meanwhile. So
there is no time to wait for an answer first. But a worker whose own beats were answered holds what it has,
however long this process stood still: one that says so, and was never without an answer for so long within
its step, is left alone until its own newest answer is as old.
"""
TURN_S = 0.2
"""With nothing due, looking after all slots for each word that one says would cost more than it brings."""
ABSENT_S = 3.0
"""A turn that took longer was no turn: the machine slept, or this process was stopped."""
KILLED_WITHIN_S = 3.0
"""A process that was killed and is still there by then hangs in the kernel: nobody can wait for it."""
CUT_OFF = "cut off from the database: stopped before its leases could be taken"
FLEET_STOPPED = "the fleet was stopped"
NOT_OURS = "it is not this host's to run any more"


class WorkerManager:
    """Keeps this host's worker processes as the fleet wants them; everything on the main thread, but `wake`.

    The keeper gives birth to processes and tells of their ends; the line tells what should run; `tick` and
    `attend` carry it out and wait for nothing. A manager process that follows a killed one goes on with the
    processes that live.
    """

    name = "workers"
    pid = None

    def __init__(
        self,
        supervisor: Supervisor,
        line: Line,
        *,
        keeper: Keeper,
        workers: Sequence[str],
        logs: Path,
        state: Path,
        environment: Mapping[str, str] | None = None,
        to_stdout: bool = False,
        stop_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] | None = None,
        rotation: Rotation | None = None,
    ) -> None:
        """Name the parts, and join the supervisor's children.

        Args:
            supervisor: the main thread's loop.
            line: where orders come from and reports go.
            keeper: the parent of all processes.
            workers: the names of the workers that this program has.
            logs: the directory of the slots' logs.
            state: the state directory: `manager.sock`, `status.json`, `black-boxes/`.
            environment: of the processes, over the keeper's own.
            to_stdout: whether the logs go to standard output too.
            stop_timeout_s: how long a worker may drain before it is killed.
            clock: monotonic seconds.
            spread: the share, 0 to 1, of each backoff; None for chance.
            rotation: when logs are rotated; None for the usual.
        """
        self._supervisor = supervisor
        self._line = line
        self._keeper = keeper
        self._workers = frozenset(workers)
        self._clock = clock
        self._slots: dict[SlotName, Slot] = {}
        self._leaving: set[SlotName] = set()
        self._ground = Ground(
            keeper=keeper,
            line=line,
            watch=supervisor.watch,
            unwatch=supervisor.unwatch,
            logs=logs,
            black_boxes=state / "black-boxes",
            environment=environment or {},
            stop_timeout_s=stop_timeout_s,
            clock=clock,
            spread=spread,
        )
        self._parts = Parts(line, self._slots, clock)
        self._snapshot = Snapshot(state)
        self._orders = LocalOrders(state, line, self._slots, clock)
        self._local = LocalLine(
            state, self._orders.answer, watch=supervisor.watch, unwatch=supervisor.unwatch
        )
        self._echo = Echo(logs) if to_stdout else None
        self._rotation = LogRotation(logs, rotation)
        self._turned_at = clock()
        self._sampled_at = float("-inf")
        self._begun = False
        self._reported = self._due_as_of = -1
        self._first_due: float | None = None
        if keeper.generation > 1:
            self._snapshot.resume(self._slot, clock())
            self._orders.resume()
        supervisor.children.append(self)

    @property
    def slots(self) -> Mapping[SlotName, Slot]:
        """Every slot by worker and number."""
        return self._slots

    @property
    def due_at(self) -> float | None:
        """When `tick` has something to do even if nothing happens; `time.monotonic` seconds."""
        first = self._due()
        return None if first is None else time.monotonic() + first - self._clock()

    def _due(self) -> float | None:
        """The same on the slots' clock; looked up anew only after something changed."""
        if self._due_as_of != self._ground.changes:
            due = [slot.due_at for slot in self._slots.values()]
            self._first_due = min((at for at in due if at is not None), default=None)
            self._due_as_of = self._ground.changes
        return self._first_due

    def run(self, until: Callable[[], bool]) -> None:
        """Attend until `until()`, which is asked after everything that happens and once a second."""
        while not until():
            self._supervisor.wait(REFRESH_S)
            self.attend()

    def wake(self, worker: str, kind: Kind, whom: Whom = "all") -> bool:
        """Wake processes of a worker on this host, and say whether there are others; safe from any thread."""
        return self._ground.wakes.wake(worker, kind, whom)

    def attend(self) -> None:
        """Carry out new orders, settle parts whose effect is there, and report. Waits for nothing."""
        self._begin()
        orders = self._line.take()
        self._ground.look()
        self._note_outage()
        if orders is not None and not self._orders.is_closed:
            self._ground.note_progress(orders.progress_ages)
            self._reconcile(orders)
            self._parts.take(orders.parts_now())
        ground = self._ground
        if orders is not None or ground.changes != self._reported:
            self._reported = ground.changes
            self._line.report(tuple(slot.snapshot() for _, slot in sorted(self._slots.items())))
        # After the report that shows what came of them: who reads "done" finds the slot so.
        self._parts.settle()
        self._forget_what_left()
        self._snapshot.write_if_due(
            (slot for _, slot in sorted(self._slots.items())),
            changes=ground.changes,
            now=self._clock(),
            stale_since=self._orders.stale_since,
        )

    def tick(self) -> None:
        """Look after every slot, fence what is cut off, measure what is due."""
        now, due = self._clock(), self._due()
        turn_s = now - self._turned_at
        if turn_s < TURN_S and (due is None or due > now):
            return
        self._turned_at = now
        absent_s = turn_s if turn_s > ABSENT_S else 0.0
        self._keeper.answered_at_s = boottime_s() - self._line.unanswered_s
        if self._line.unanswered_s > FENCE_S:
            for slot in self._slots.values():
                slot.cut_off(CUT_OFF, FENCE_S)
        for slot in self._slots.values():
            slot.tick(absent_s=absent_s)
        if now - self._sampled_at >= usage.SAMPLE_S:
            self._sampled_at = now
            self._measure()
        self._due_as_of = -1

    def receive(self, event: Event) -> bool:
        """Take what the keeper tells of a worker; an end is acknowledged once it is safe in the database."""
        if isinstance(event, Refused):
            return any(slot.receive(event) for slot in self._slots.values())
        if event.worker is None or event.slot is None:
            return False
        slot = self._slots.get((event.worker, event.slot))
        if isinstance(event, Started):
            if slot is None:
                slot = self._slot(event.worker, event.slot)
                slot.wanted = replace(slot.wanted, runs=event.resumed)  # until the orders say otherwise
            return slot.receive(event)
        self._prove_dead(event, slot)
        return True

    def stop(self, reason: str = FLEET_STOPPED) -> None:
        """Drain every worker; returns when all ended, at the latest after the drain's deadline."""
        self._supervisor.wait(0)  # those that an earlier manager process left are known from here on
        self._orders.is_closed = True
        self._parts.give_up(reason, but_ends=True)
        for slot in self._slots.values():
            slot.want(replace(slot.wanted, runs=False, reason=reason))
        until = time.monotonic() + self._ground.stop_timeout_s + KILLED_WITHIN_S
        while time.monotonic() < until and not (
            self._keeper.has_ended or all(slot.is_idle for slot in self._slots.values())
        ):
            self._supervisor.wait(REFRESH_S)
            self.attend()
        self._parts.give_up(reason)
        self.attend()
        self.leave()

    def leave(self) -> None:
        """Give back files and sockets and touch no worker, as the end of this process would; once."""
        self._local.close()
        self._rotation.stop()
        if self._echo is not None:
            self._echo.stop()
        for slot in self._slots.values():
            slot.let_go()

    # Orders

    def _reconcile(self, orders: Orders) -> None:
        share = {
            (wanted.worker, wanted.slot): wanted for wanted in orders.slots if wanted.worker in self._workers
        }
        for name, wanted in share.items():
            self._slot(*name).want(self._orders.overridden(name, wanted))
        for name in sorted(self._slots.keys() - share.keys()):
            slot = self._slots[name]
            slot.want(replace(slot.wanted, runs=False, reason=NOT_OURS))
        self._leaving = self._slots.keys() - share.keys()

    def _slot(self, worker: str, number: int) -> Slot:
        return self._slots.setdefault((worker, number), Slot(worker, number, self._ground))

    def _forget_what_left(self) -> None:
        for name in [name for name in self._leaving if self._slots[name].is_idle]:
            self._leaving.discard(name)
            del self._slots[name]

    def _begin(self) -> None:
        """The first turn: what an earlier manager process left is adopted by now, the rest of it starts."""
        if self._begun:
            return
        self._begun = True
        for slot in self._slots.values():
            if slot.is_idle and slot.due_at is None:
                slot.start()
        with suppress(OSError):  # without the socket only local orders are missing; the fleet runs
            self._local.open()
        self._rotation.start()
        if self._echo is not None:
            self._echo.start()

    # Ends, limits, outages

    def _prove_dead(self, event: Ended, slot: Slot | None) -> None:
        text = how(event.exit_code)
        if slot is not None and slot.receive(event):
            text = slot.last_end
        end = ProcessEnd(
            worker=event.worker or "",
            slot=event.slot or 0,
            pid=event.pid,
            pid_started=event.pid_started,
            exit_code=event.exit_code,
            how=text,
            ended_at_boottime_s=event.ended_at_s,
        )
        self._line.ended(end, lambda: self._keeper.acknowledge(event))

    def _measure(self) -> None:
        roots = [process.pid for slot in self._slots.values() for process in slot.processes]
        found = usage.measure(roots) if roots else {}
        for slot in self._slots.values():
            slot.measured(found)

    def _note_outage(self) -> None:
        if not self._line.is_away:
            if self._orders.stale_since is not None:
                self._ground.changes += 1
                for slot in self._slots.values():
                    slot.hasten()
            self._orders.stale_since = None
        elif self._orders.stale_since is None:
            self._ground.changes += 1
            self._orders.stale_since = datetime.now(UTC) - timedelta(seconds=self._line.unanswered_s)


def main(arguments: list[str] | None = None) -> int:
    """Run `socialfleet`; give the exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in a shell's background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main(sys.argv[1:] if arguments is None else arguments, manage=WorkerManager)


if __name__ == "__main__":
    sys.exit(main())
