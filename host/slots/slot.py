"""A slot: one replica of one worker that should or should not run on this host, and what becomes of it.

STOPPED --start--> STARTING --its first word--> READY, BUSY, PAUSED --stop, restart--> DRAINING --> STOPPED
                      ^                              |           |
                      |                              |           +--no tick--> STALLED --killed--+
                      +---- BACKOFF, CRASH_LOOP <----+--ended by itself--------------------------+

A replacement (a rolling restart) is born beside the process that it replaces and takes over once it is ready;
one that isn't is ended, and the old process goes on. Nothing here blocks: `tick` does what is due.
"""

from collections.abc import Sequence

from coordination.desired import WantedSlot
from host.keeper.wire import Ended, Refused, Started
from host.orders import SlotState
from host.slots.black_box import LOOK_S as BOX_LOOK_S
from host.slots.custody import Custody
from host.slots.failures import STABLE_S, Failures
from host.slots.ground import Ground
from host.slots.lineage import LATE, LEFT_OVER, Lineage, Role
from host.slots.log_tail import explain, last_words
from host.slots.patience import Patience
from host.slots.process import AT_WORK, WorkerProcess
from host.slots.standing import Seen, Standing
from host.slots.succession import Succession
from host.slots.usage import Usage
from host.slots.watch import ABOVE, Watch

LOOK_S = 0.2
REFUSED_DRAIN_S = 2.0
"""A replacement that is not wanted gets so long."""


class Slot:
    """One slot; times are on the ground's monotonic clock, in seconds.

    Attributes:
        wanted: the desired state.
        log: where its processes write.
        restart_count: starts after the first one.
        last_end: the last end of a process of this slot, for a person.
        replacement_fault: why the last replacement did not take over; None when it did or is on its way.
    """

    def __init__(self, worker: str, slot: int, ground: Ground) -> None:
        self.worker = worker
        self.slot = slot
        self.name = f"{worker}/{slot}"
        self.wanted = WantedSlot(worker=worker, slot=slot, runs=False)
        self._custody = Custody(ground, (worker, slot), self._look)
        self.log = self._custody.log
        self._patience = Patience(ground, worker, slot)
        self.restart_count = 0
        self.last_end = ""
        self.replacement_fault: str | None = None
        self._ground = ground
        self._starts = 0
        self._lineage = Lineage()
        self._idle_reason = ""
        self._watch = Watch(ground, (worker, slot), self._custody.log)
        self._standing = Standing(ground.clock())

    @property
    def state(self) -> str:
        """What it is in; see the module."""
        return self._standing.state

    @property
    def reason(self) -> str:
        """Why; empty where that is plain."""
        return self._standing.reason

    @property
    def failures(self) -> Failures:
        """Those that count, since it was last stable."""
        return self._patience.failures

    @property
    def pid(self) -> int | None:
        """The pid of the process that does the slot's work."""
        return self.process.pid if self.process else None

    @property
    def process(self) -> WorkerProcess | None:
        """The one that does the slot's work."""
        return self._lineage.process

    @property
    def succession(self) -> Succession | None:
        """A replacement that is on its way."""
        return self._lineage.succession

    @property
    def processes(self) -> Sequence[WorkerProcess]:
        """Every living process of the slot."""
        return self._lineage.processes

    @property
    def is_idle(self) -> bool:
        """Whether there is no process, nor one on its way."""
        return self._lineage.is_empty

    @property
    def is_settled(self) -> bool:
        """Whether no replacement is on its way, and what was replaced is gone."""
        return self._lineage.is_settled

    @property
    def due_at(self) -> float | None:
        """When `tick` has something to do even if nothing happens."""
        due = [each.leaving.until for each in self.processes if each.leaving and not each.leaving.killed]
        if self._patience.due is not None:
            due.append(self._patience.due)
        if self._watch.is_busy:
            due.append(self._ground.clock() + BOX_LOOK_S)
        if self.succession and self.succession.process:
            due.append(self._ground.clock() + LOOK_S)
        return min(due, default=None)

    # What is asked of it

    def want(self, wanted: WantedSlot) -> None:
        """Take the desired state; what differs from before is carried out."""
        before, self.wanted = self.wanted, wanted
        if wanted.limits.nice != before.limits.nice:
            for process in self.processes:
                self._watch.renice(process, wanted.limits.nice)
        if wanted.runs and not before.runs:
            self.start()
        elif before.runs and not wanted.runs:
            self.stop(wanted.reason or "it should not run")
        elif not wanted.runs and self.state == "STOPPED":
            self._idle_reason = wanted.reason or self._idle_reason
            self._look()

    def start(self) -> None:
        """Start it at once, if it is to run and nothing of it lives; one that drains starts after its end."""
        if self.wanted.runs and self._lineage.request is None and self.process is None:
            self._patience.due = None
            self._lineage.request = self._custody.ask(self.wanted.limits.nice)
            self._look()

    def stop(self, reason: str, within_s: float | None = None) -> None:
        """Let every process of it drain; safe in every state."""
        self._patience.due, self._idle_reason = None, reason
        self._patience.forgive(proven=True)  # what it did before is no news when it starts again
        self._custody.leave(self.processes, reason, within_s)
        self._look()

    def restart(self, reason: str) -> None:
        """Let it drain and start anew; just start it if it doesn't live."""
        if self.process is None:
            self.start()
        else:
            self._custody.leave([self.process], reason)
        self._look()

    def replace(self, reason: str) -> None:
        """Have a replacement ready before the process drains; a plain restart where none is at work."""
        self.replacement_fault = None
        if self.succession is not None:
            return
        # By the state: one that was adopted a moment ago has said nothing to this manager process yet.
        if self.process is None or self.state not in AT_WORK:
            self.restart(reason)
        elif not self.is_settled:
            self.replacement_fault = "the process before this one is still draining"
        else:
            self._lineage.succession = Succession(
                request=self._custody.ask(self.wanted.limits.nice), reason=reason, since=self._ground.clock()
            )

    def hasten(self) -> None:
        """Start soon what waits because of the database, which is back."""
        self._patience.hasten()
        self._ground.changes += 1

    def allow(self, within_s: float) -> None:
        """Give what drains so long from when it began to."""
        for process in self.processes:
            if process.leaving is not None and not process.leaving.killed:
                process.leaving.until = process.leaving.since + within_s
        self._ground.changes += 1

    def cut_off(self, reason: str, after_s: float) -> None:
        """Kill what may be acting, now: its leases are about to be taken. It starts anew at once.

        Args:
            reason: for a person.
            after_s: one whose own newest answer of the database is younger is left alone.
        """
        self._custody.cut_off(self.processes, reason, after_s)
        self._look()

    def let_go(self) -> None:
        """Close what belongs to its processes, which live on: they are the keeper's."""
        for process in self.processes:
            self._custody.release(process)

    # What happens to it

    def receive(self, event: Started | Refused | Ended) -> bool:
        """Take what the keeper tells of it; say whether it was this slot's."""
        match event:
            case Started():
                self._started(event)
            case Refused():
                return self._refused(event)
            case Ended():
                return self._ended(event)
        self._look()
        return True

    def tick(self, *, absent_s: float = 0.0) -> None:
        """Do what is due.

        Args:
            absent_s: for how long nobody could listen, which is not held against a worker.
        """
        now = self._ground.clock()
        for process in self.processes:
            process.excuse(absent_s, now)
            if process.leaving and not process.leaving.killed and now >= process.leaving.until:
                self._custody.kill(process)
        if self.process is not None:
            self._look_after(self.process, now)
        elif self._patience.due is not None and now >= self._patience.due and self.wanted.runs:
            self.start()
        self._succeed(now)
        self._look()

    def measured(self, usages: dict[int, Usage]) -> None:
        """Take what its processes use; one above its limits is drained and started anew."""
        now = self._ground.clock()
        for process in self.processes:
            if process.pid in usages:
                process.usage = usages[process.pid]
                process.cpu.add(now, process.usage.cpu_s)
                self._ground.changes += 1
        process = self.process
        if process is None or process.leaving is not None or process.stalled is not None:
            return
        if excess := self._watch.excess(process, self.wanted.limits):
            text = f"{self.name} {excess}: it drains and restarts"
            self._ground.line.event("warning", "over_limit", text, {})
            self._custody.leave([process], excess)
            self._look()

    def snapshot(self) -> SlotState:
        """How it is."""
        process, word = self.process, self.process.word if self.process else None
        return SlotState(
            worker=self.worker,
            slot=self.slot,
            state=self.state,
            reason=self.reason,
            since=self._standing.since,
            pid=self.pid,
            pid_started=process.started.pid_started if process else None,
            incarnation=word.incarnation if word else None,
            restart_count=self.restart_count,
            failures=self.failures.count,
            memory_bytes=process.usage.memory_bytes if process and process.usage else None,
            cpu_percent=process.cpu.percent if process else None,
            step=word.step if word else None,
        )

    def resume(self, wanted: WantedSlot, told: SlotState, *, is_loop: bool, leaving: str | None) -> None:
        """Go on where an earlier manager process left it; its processes, if any, come as `Started`."""
        self.wanted = wanted
        self._standing.resume(told)
        if told.pid is not None and leaving is not None:
            self._custody.resume(told.pid, leaving)
        self._starts, self.restart_count = told.restart_count + 1, told.restart_count
        self.failures.count, self.failures.is_loop = told.failures, is_loop

    # Births and ends

    def _started(self, event: Started) -> None:
        process = self._custody.take(event)
        if event.request is None or event.resumed:
            self._adopt(process)
            return
        if not self._lineage.place(process, event.request):
            self._custody.leave([process], LATE)
            return
        self._starts += 1
        self.restart_count = self._starts - 1
        self._ground.changes += 1
        if not self.wanted.runs:
            self._custody.leave([process], self._idle_reason)

    def _adopt(self, process: WorkerProcess) -> None:
        self._patience.due = None
        self._starts = max(self._starts, 1)
        self._custody.hear(process)
        self._custody.leave(self._lineage.adopt(process, self._ground.clock()), LEFT_OVER)
        if not self.wanted.runs:
            self._custody.leave([process], self.wanted.reason)

    def _refused(self, event: Refused) -> bool:
        if event.name != self.name:
            return False
        if self.succession is not None and event.request == self.succession.request:
            self._abandon(f"the replacement can't be started: {event.error}")
        elif event.request == self._lineage.request:
            self._lineage.request = None
            self._fail(f"can't be started: {event.error}")
        self._look()
        return True

    def _ended(self, event: Ended) -> bool:
        process = self._lineage.find(event.pid)
        if process is None:
            self._mourn(event)
            return False
        self._custody.release(process)
        how = process.explain(event.exit_code, self.log.path)
        self.last_end = how
        match self._lineage.remove(process):
            case Role.WORK:
                self._watch.ended()
                if not self._lineage.inherit():
                    self._bereave(process, how)
            case Role.REPLACEMENT:
                self._abandon(f"the replacement {how}")
            case Role.LEAVER:
                pass
        self._look()
        return True

    def _mourn(self, event: Ended) -> None:
        """Take the end of a process that this manager process never saw alive."""
        if self.is_idle and self._patience.due is None and self.wanted.runs:
            if self._custody.has_left(event.pid):
                self.start()
            else:
                self._fail(explain(event.exit_code, last_words(self.log.path)))
            self._look()

    def _bereave(self, process: WorkerProcess, how: str) -> None:
        """The process that did the work is gone: the next is born, or is waited for."""
        leaving = process.leaving
        if not self.wanted.runs:
            self._idle_reason = how
        elif leaving is None or leaving.counts:
            self._fail(how)
        elif ABOVE in leaving.reason and self._ground.clock() - process.born_at < STABLE_S:
            # Over its limits as soon as it lived: not to be born in a loop.
            self._idle_reason = self._patience.wait(how, counts=False)
        else:
            self.start()

    def _fail(self, how: str) -> None:
        if self.wanted.runs:
            self._idle_reason = self._patience.wait(how, counts=not self._ground.is_excused)
        else:
            self._idle_reason = how

    # Watching

    def _look_after(self, process: WorkerProcess, now: float) -> None:
        self._watch.look(process, now)
        is_stable = process.ready_at is not None and now - process.ready_at >= STABLE_S
        if is_stable and process.is_at_work and process.stalled is None and self._patience.is_unproven:
            self._patience.forgive(proven=True)

    def _succeed(self, now: float) -> None:
        """Let a replacement take over that may, and end one that must not."""
        succession = self.succession
        if succession is None:
            return
        # The black box of a stall is the old one's, and is filled before it ends.
        may = succession.may_take_over(now) and not self._watch.is_busy
        if may and (old := self._lineage.take_over()) is not None:
            self._custody.leave([old], f"replaced by pid {self.pid}: {succession.reason}")
        elif fault := succession.fault(now):
            if succession.process is None:
                self._abandon(fault)
            elif succession.process.leaving is None:
                succession.process.leave(fault, now, REFUSED_DRAIN_S)

    def _abandon(self, fault: str) -> None:
        """The old process goes on."""
        process = self.succession.process if self.succession else None
        told = process.leaving.reason if process and process.leaving and self.wanted.runs else fault
        self._lineage.succession, self.replacement_fault = None, told
        if self.wanted.runs:
            text = f"{self.name}: {told}; the old process goes on"
            self._ground.line.event("error", "replacement_failed", text, {})

    def _look(self) -> None:
        """Say what the state is by what there is."""
        seen = Seen(
            process=self.process,
            awaited=None if self._lineage.request is None else self._custody.delay,
            waits=self._patience.due is not None,
            is_loop=self.failures.is_loop,
            idle_reason=self._idle_reason,
        )
        self._ground.changes += self._standing.look(seen, self._ground.clock())
