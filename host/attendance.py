"""Attendance: one connection's time as a host's manager, from taking the name to giving it back."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from coordination import hosts
from coordination.database import Database
from coordination.desired import SlotReport
from coordination.errors import InvalidValueError
from coordination.hosts import ProgramWorker, Share
from coordination.incarnation import ProcessIdentity
from coordination.process_ends import EndedProcess, record_process_ends, wake_heirs
from host.orders import ProcessEnd, SlotState
from host.process_proof import boottime_s, proof_of_death
from host.slots.log_tail import how
from host.wake_channel import WakeChannel
from workers import registry

REPEAT_S = 5.0
Ask = Callable[[Callable[[], Any]], Any]
Say = Callable[[str, str], None]


class Attendance:
    """What the control thread does on one connection; every method is one round trip, or none."""

    def __init__(
        self,
        database: Database,
        host: str,
        *,
        me: ProcessIdentity,
        machine: str,
        channel: WakeChannel,
        ask: Ask,
        say: Say,
    ) -> None:
        """Name the parts.

        Args:
            database: a connection of the maintainer's, whose end is the end of this.
            host: the host's name.
            me: the manager's process.
            machine: what names the machine across its boots; empty where nothing does.
            channel: whose state is told, and that is tested.
            ask: makes a call and notes when it was answered.
            say: takes a line and its severity.
        """
        self._database = database
        self._host = host
        self._me = me
        self._machine = machine
        self._channel = channel
        self._ask = ask
        self._say = say
        self._session = uuid.uuid4()
        self._told: tuple[Sequence[SlotState], int] | None = None
        self._repeat_at = 0.0
        self._opened: Mapping[str, Any] = {}

    def open(self, workers: Mapping[str, str], labels: Mapping[str, str]) -> None:
        """Take the name.

        Args:
            workers: the program's: name and description.
            labels: the host's, for placement.

        Raises:
            HostTakenError: another living manager has the name.
        """
        self._opened = self._ask(
            lambda: hosts.open_host(
                self._database,
                self._host,
                session=self._session,
                manager=self._me,
                machine=self._machine,
                version=_version(),
                labels=labels,
                workers=[_program_worker(name, text) for name, text in workers.items()],
            )
        )

    def settle_predecessor(self) -> None:
        """Prove dead what an earlier manager left, as far as can be seen from here."""
        same_machine = bool(self._opened["same_machine"])
        ends = [
            EndedProcess(
                worker=life["worker"],
                slot=life["slot"],
                pid=life["pid"],
                pid_started=life["pid_started"],
                boot_id=life["boot_id"],
                pid_namespace=life["pid_namespace"],
                exit_code=None,
                how=proof,
                ago_s=0.0,
            )
            for life in self._opened["undead"]
            if (proof := proof_of_death(life, self._me, same_machine=same_machine)) is not None
        ]
        if ends:
            self._keep(ends)

    def record(self, ends: Sequence[ProcessEnd]) -> None:
        """Keep the ends of this manager's own children; flushed.

        What the database refuses to take is told in plainer words, or given up: these come before all else,
        and must not keep the host from its orders for ever.
        """
        try:
            self._record(ends)
        except InvalidValueError:
            for end in ends:
                self._record_plainly(end)

    def _record_plainly(self, end: ProcessEnd) -> None:
        try:
            self._record([end])
        except InvalidValueError as error:
            self._say(f"the database did not take how {end.worker}/{end.slot} ended: {error}", "error")
            with suppress(InvalidValueError):
                self._record([replace(end, how=how(end.exit_code))])

    def _record(self, ends: Sequence[ProcessEnd]) -> None:
        now = boottime_s()
        told = [
            EndedProcess(
                worker=end.worker,
                slot=end.slot,
                pid=end.pid,
                pid_started=end.pid_started,
                boot_id=self._me.boot_id,
                pid_namespace=self._me.pid_namespace,
                exit_code=end.exit_code,
                how=end.how,
                ago_s=max(0.0, now - end.ended_at_boottime_s),
            )
            for end in ends
        ]
        self._keep(told)

    def _keep(self, ends: Sequence[EndedProcess]) -> None:
        if self._ask(lambda: record_process_ends(self._database, self._host, ends)):
            wake_heirs(self._database)

    def report(self, slots: Sequence[SlotState], as_of: int) -> None:
        """Say that the host lives, and its slots if they, or the share that they follow, changed.

        Also when they were not told for a while: a slot may have become this host's after it was told, and a
        server that crashed may have forgotten what it was told last.
        """
        now = time.monotonic()
        is_told = self._told == (slots, as_of) and now < self._repeat_at
        changed = None if is_told else [_report(slot, now) for slot in slots]
        self._ask(
            lambda: hosts.report_host(
                self._database,
                self._host,
                session=self._session,
                as_of=as_of,
                slots=changed,
                wake_channel=self._channel.state,
            )
        )
        if not is_told:
            self._told, self._repeat_at = (slots, as_of), now + REPEAT_S

    def share(self) -> Share:
        """Give what this host should run; tests the wake channel before, when that is due."""
        nonce = self._channel.nonce()
        if nonce is not None:
            self._ask(lambda: self._database.call("wake", worker=nonce))
        share: Share = self._ask(lambda: hosts.get_share(self._database, self._host, session=self._session))
        return share

    def leave(self, reason: str) -> None:
        """Give the name and the slots back."""
        hosts.close_host(self._database, self._host, session=self._session, reason=reason)


def _version() -> str:
    try:
        return version("socialfleet")
    except PackageNotFoundError:
        return "unknown"


def _program_worker(name: str, description: str) -> ProgramWorker:
    kind = registry.find().get(name)
    return ProgramWorker(
        name=name,
        description=description,
        roles=kind.roles if kind else (),
        singleton=kind.singleton if kind else False,
    )


def _report(slot: SlotState, now: float) -> SlotReport:
    return SlotReport(
        worker=slot.worker,
        slot=slot.slot,
        state=slot.state,
        reason=slot.reason,
        age_s=max(0.0, now - slot.since),
        pid=slot.pid,
        pid_started=slot.pid_started,
        incarnation=slot.incarnation,
        restart_count=slot.restart_count,
        failures=slot.failures,
        memory_bytes=slot.memory_bytes,
        cpu_percent=slot.cpu_percent,
        step=slot.step,
    )
