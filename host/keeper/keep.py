"""Keep: the keeper's loop. Signals, ends, requests of the manager process; between them the warm imports.

One thread, and nothing that waits for anyone. What ends it: the manager process's own end, five deaths of
manager processes within a minute, or a signal that nobody can catch. A manager process that is killed, or
hangs and is killed for it, is followed by another; no worker is touched.
"""

import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from host import process_table
from host.keeper import newborn
from host.keeper.guardian import GuardianProcess
from host.keeper.household import BirthError, Household, Member
from host.keeper.template import Template
from host.keeper.vigil import TAKES_OVER_WITHIN_S, Vigil
from host.keeper.wire import CRASHED, Birth, Greeting, Line, Refused, Started, fields_of
from host.keeper.worker import ENTRY
from host.lifeline import adopt_orphans, be_called, bound_to_parent

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST_CRASHES = 5
CRASHES_WITHIN_S = 60.0
SWEEP_S = 5.0  # how often orphans are looked for where no end says that there may be some
ENDING_S = 2.0
GLANCE_S = 0.01
RETRY_S = 0.5
SIGNALLED = 128  # as shells say it
Manage = Callable[[socket.socket], int]


def keep(manage: Manage, *, template: Template | None, entry: str = ENTRY) -> int:
    """Be the keeper until the manager process ends by itself; give its exit code.

    Args:
        manage: what the manager process does; called in a fork, with its end of the line to this process
            (for `host.keeper.client.Keeper`).
        template: what workers are forked from; None: each gets an interpreter of its own.
        entry: what a worker runs; see `host.keeper.worker`.
    """
    return _Keep(manage, template, entry).run()


class _Keep:
    """The loop and what it knows: one manager process, one guardian, a household."""

    def __init__(self, manage: Manage, template: Template | None, entry: str) -> None:
        self._manage = manage
        self._template = template
        self._household = Household(template, entry)
        self._manager = 0
        self._generation = 0
        self._predecessor = ""
        self._is_established = False
        self._answered_at_s: float | None = None
        self._vigil = Vigil()
        self._has_hung = False
        self._crashes: deque[float] = deque(maxlen=MOST_CRASHES)
        self._line: Line | None = None
        self._guardian = GuardianProcess()
        self._wakes = -1
        self._spared: set[int] = set()
        self._stop_signal = 0
        self._is_told = False
        self._exit_code: int | None = None
        self._sweep_at = time.monotonic() + SWEEP_S

    def run(self) -> int:
        be_called("fleet-keeper")
        adopt_orphans()
        self._household.make_room()
        woken, self._wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._take_signals()
        while self._exit_code is None:
            self._staff()
            self._await(woken)
            self._serve()
            self._look_after_manager()
            self._reap()
            if time.monotonic() >= self._sweep_at:
                self._sweep()
            self._warm()
        self._end_all()
        for number in FORWARDED:  # also while the interpreter ends, a hurried person changes no exit code
            signal.signal(number, signal.SIG_IGN)
        return self._exit_code

    def _staff(self) -> None:
        """Have a guardian and a manager process; where the kernel has no room for one, try again later."""
        try:
            if not self._guardian.pid:
                self._guardian.launch(self._household.signs, self._household.limits)
            if self._stop_signal and not self._manager and not self._has_workers:
                self._exit_code = SIGNALLED + self._stop_signal  # there is nobody to stop in order
            elif not self._manager:
                self._launch_manager()  # also to stop the workers in order
        except OSError as error:
            if self._stop_signal and not self._manager:
                self._exit_code = SIGNALLED + self._stop_signal
            _say(f"a process of the fleet's own could not be started ({error.strerror}): tried again")
            self._sweep_at = min(self._sweep_at, time.monotonic() + RETRY_S)

    def _await(self, woken: int) -> None:
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        if self._line and not self._line.is_closed:
            poll.register(self._line.fileno(), select.POLLIN | (select.POLLOUT if self._line.is_full else 0))
        poll.poll(0 if self._is_warming else max(0.0, self._sweep_at - time.monotonic()) * 1000)
        with suppress(BlockingIOError):
            while os.read(woken, 4096):
                pass

    def _take_signals(self) -> None:
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        for number in FORWARDED:
            signal.signal(number, self._forward)
        signal.signal(signal.SIGCHLD, _noted)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    @property
    def _is_warming(self) -> bool:
        return self._template is not None and not self._template.is_warm

    def _warm(self) -> None:
        """Import one more module; what that did to the signals is undone."""
        if self._template is not None and not self._template.is_warm:
            self._template.warm()
            self._take_signals()
            if self._template.is_warm:
                # One that is forked from the warm template: the first one's pages are nobody else's by now.
                before = self._guardian.forget()
                self._staff()
                _kill(before)

    # The manager process

    def _launch_manager(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line = Line(ours)
        self._is_told = False
        tie = bound_to_parent(signal.SIGKILL)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        # One that takes over is told to stop once it can: ended by the signal it would leave nobody to drain.
        blocked = FORWARDED if self._is_established else ()

        def live() -> int:
            newborn.separate(
                "fleet-manager", tie=tie, keep=[theirs.fileno()], log=None, limits=limits, blocked=blocked
            )
            return self._manage(theirs)

        try:
            self._manager = newborn.fork(live)
        finally:
            theirs.close()
        self._generation += 1
        self._vigil = Vigil()
        if self._is_established:
            self._vigil.expect(TAKES_OVER_WITHIN_S)
        self._pass_on()  # what came while it was being made
        household = self._household
        told = len(household.living) + len(household.ends)
        greeting = Greeting(
            generation=self._generation,
            predecessor=self._predecessor,
            is_established=self._is_established,
            told=told,
            answered_at_s=self._answered_at_s,
        )
        self._line.send("greeting", fields_of(greeting))
        for member in household.living.values():
            self._tell_started(member, resumed=True)
        for end in household.unacknowledged():
            self._line.send("ended", fields_of(end))

    def _look_after_manager(self) -> None:
        """End a manager process that hangs, so that another takes over."""
        if self._manager and not self._has_hung and self._vigil.hangs():
            self._has_hung = True
            _kill(self._manager)

    def _manager_ended(self, code: int) -> None:
        """End with it, or replace one that died."""
        self._manager = 0
        if code not in {CRASHED, *range(-signal.NSIG, 0)}:
            self._exit_code = code
            return
        self._serve()  # what it asked for before
        if self._line:
            self._line.close()
            self._line = None
        self._predecessor = f"killed by {_name_of(-code)}" if code < 0 else "it failed"
        if self._has_hung:
            self._predecessor, self._has_hung = "it hung and was killed", False
        now = time.monotonic()
        self._crashes.append(now)
        if self._stop_signal and not self._has_workers:
            # One that was asked to stop ended of something else; else it was gone before it could be asked.
            died_of = -code if self._is_told and code < 0 else self._stop_signal
            self._exit_code = 1 if self._is_told and code > 0 else SIGNALLED + died_of
        elif len(self._crashes) == MOST_CRASHES and now - self._crashes[0] < CRASHES_WITHIN_S:
            self._exit_code = 1
            _say(
                f"the manager process died {MOST_CRASHES} times within a minute (at last: "
                f"{self._predecessor}), and the fleet ends: look at what it said above"
            )

    @property
    def _has_workers(self) -> bool:
        """Whether there are workers that a manager process would take over, if only to drain them."""
        return self._is_established and any(
            member.birth.worker is not None for member in self._household.living.values()
        )

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = number
        self._pass_on()

    def _pass_on(self) -> None:
        if self._manager and self._stop_signal:
            with suppress(ProcessLookupError):
                os.kill(self._manager, self._stop_signal)
                self._is_told = True

    # Requests

    def _serve(self) -> None:
        line = self._line
        if line is None:
            return
        line.flush()
        while received := line.receive():
            kind, fields, _ = received
            try:
                self._do(kind, fields)
            except Exception as error:  # noqa: BLE001  no request may end everybody
                _say(f"the keeper could not do '{kind}' ({type(error).__name__}: {error})")

    def _do(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "birth":
            request, fields["log"] = int(fields.pop("request")), Path(fields["log"])
            self._bear(request, Birth(**fields))
        elif kind == "kill":
            if fields["pid"] in self._household.living:
                _kill_group(fields["pid"])
        elif kind == "acknowledge":
            self._household.acknowledge(fields["number"])
        elif kind == "turn":
            self._answered_at_s = fields["answered_at_s"]
            self._vigil.hear()
        elif kind == "establish":
            self._is_established = True
            self._vigil.expect()

    def _bear(self, request: int, birth: Birth) -> None:
        while birth.worker is not None and self._is_warming:
            self._warm()
        household = self._household
        try:
            member = household.bear(request, birth)
        except BirthError as error:
            self._refuse(request, birth, str(error))
            return
        try:
            self._tell_started(member, resumed=False)
        except OSError as error:  # one that the manager process doesn't know of must not live
            _kill_group(member.pid)
            self._refuse(request, birth, f"its files can't be handed over ({error.strerror or error})")
        self._guardian.tell_birth(member.pid, household.signs)

    def _refuse(self, request: int, birth: Birth, error: str) -> None:
        if self._line:
            self._line.send("refused", fields_of(Refused(request=request, name=birth.name, error=error)))

    def _tell_started(self, member: Member, *, resumed: bool) -> None:
        started = member.started(resumed=resumed)
        files = [file for name in Started.FILES if (file := getattr(started, name)) is not None]
        if self._line:
            self._line.send("started", fields_of(started), files)

    # Ends

    def _reap(self) -> None:
        """Take note of every child that ended, whoever's it was."""
        any_ended = False
        # It stays a zombie until its group is killed, so that the number can't be another's yet.
        while (pid := _next_ended()) is not None:
            any_ended = True
            if pid == self._manager:
                self._spare_orphans()
            if pid in self._household.living or pid == self._manager:
                _kill_group(pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self._spared.discard(pid)
            if pid == self._manager:
                self._manager_ended(code)
            elif pid == self._guardian.pid:
                self._guardian.forget()
            elif pid in self._household.living:
                end = self._household.bury(pid, code)
                self._guardian.tell_end(pid)
                if self._line:
                    self._line.send("ended", fields_of(end))
        if any_ended:
            self._sweep()

    def _unknown(self) -> Sequence[process_table.Entry]:
        """Living children that this process did not make: their parent ended, and they came here."""
        known = {self._manager, self._guardian.pid, *self._household.living, *self._spared}
        return [entry for entry in process_table.children() if entry.pid not in known and entry.state != "Z"]

    def _spare_orphans(self) -> None:
        """The manager process's own children are not ended: PostgreSQL shuts down by its own lifeline."""
        household = self._household
        self._spared |= {entry.pid for entry in self._unknown() if not household.signs.are_on(entry)}

    def _sweep(self) -> None:
        """End what an ended child left behind, in whatever session it is."""
        unknown = self._unknown()
        manager = process_table.read(self._manager) if self._manager else None
        if manager is None or manager.state not in process_table.ENDED:
            for entry in unknown:
                _kill(entry.pid)
        # else it ended just now: its own children are spared first, when it is taken note of
        self._sweep_at = time.monotonic() + SWEEP_S

    def _end_all(self) -> None:
        """End every child that is left, then the guardian, which has nothing to do any more."""
        until = time.monotonic() + ENDING_S
        for pid in self._household.living:
            _kill_group(pid)
        guardian_pid = self._guardian.forget()
        self._spared.add(guardian_pid)
        while (self._household.living or self._unknown()) and time.monotonic() < until:
            self._sweep()
            self._reap()
            time.sleep(GLANCE_S)
        if guardian_pid:
            _kill(guardian_pid)
            with suppress(ChildProcessError):
                os.waitpid(guardian_pid, 0)


def _next_ended() -> int | None:
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended else None


def _kill(pid: int) -> None:
    if pid > 0:  # 0 would be this process's own group
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    _kill(pid)  # also one that has not made its group yet
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _name_of(number: int) -> str:
    with suppress(ValueError):  # a real-time signal has none
        return signal.Signals(number).name
    return f"signal {number}"


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone
        if select.select([], [sys.stderr], [], 0)[1]:  # one that takes nothing is not waited for
            print(f"socialfleet: {text}", file=sys.stderr, flush=True)  # noqa: T201  it has no other voice


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up is enough."""
