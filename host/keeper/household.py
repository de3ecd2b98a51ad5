"""The household: the keeper's children, from their birth to the acknowledged end."""

import contextlib
import fcntl
import os
import resource
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from host import process_table
from host.keeper import newborn
from host.keeper.signs import MARK, Signs
from host.keeper.template import Template
from host.keeper.wire import Birth, Ended, Started
from host.keeper.worker import argv as worker_argv
from host.lifeline import bound_to_parent

LOG_MODE = 0o600


class BirthError(Exception):
    """A child could not be made; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A living child, and the keeper's own copies of its files."""

    birth: Birth
    request: int
    pid: int
    pid_started: str
    files: Mapping[str, int]
    fresh: bool
    born_at_s: float

    def started(self, *, resumed: bool) -> Started:
        """What a manager process is told of it."""
        birth = self.birth
        return Started(
            request=None if resumed else self.request,
            name=birth.name,
            worker=birth.worker,
            slot=birth.slot,
            pid=self.pid,
            pid_started=self.pid_started,
            pidfd=self.files["pidfd"],
            progress=self.files.get("progress"),
            wake=self.files.get("wake"),
            stacks=self.files.get("stacks"),
            resumed=resumed,
            fresh=self.fresh,
            born_at_s=self.born_at_s,
        )

    def close(self) -> None:
        """Close the copies."""
        for file in self.files.values():
            os.close(file)


class Household:
    """Gives birth and remembers.

    Attributes:
        signs: by what the children and their descendants are known.
        living: the children by pid.
        ends: those that ended and whose end nobody acknowledged, by number.
    """

    def __init__(self, template: Template | None, entry: str) -> None:
        """Name the parts.

        Args:
            template: what workers are forked from; None: each gets an interpreter of its own.
            entry: what such an interpreter runs.
        """
        self.signs = Signs(token=secrets.token_hex(8))
        self.living: dict[int, Member] = {}
        self.ends: dict[int, Ended] = {}
        self._template = template
        self._entry = entry
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._counted = 0

    @property
    def limits(self) -> tuple[int, int]:
        """How many files the children may open: what this process might before it asked for more."""
        return self._limits

    def make_room(self) -> None:
        """Let this process hold four files for each of its children, as many as the kernel allows."""
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._limits[1], self._limits[1]))

    def bear(self, request: int, birth: Birth) -> Member:
        """Make a child.

        Raises:
            BirthError: its log can't be written, or the kernel has no room for a process.
        """
        own: dict[str, int] = {}  # the keeper's ends
        given: dict[str, int] = {}  # the child's, by the variable that names them
        pid = 0
        try:
            log = _open_log(birth.log)
            own["log"] = log
            if birth.worker is not None:
                self._make_files(own, given)
            fresh = birth.worker is not None and not (self._template and self._template.serves(birth.worker))
            pid = self._fork(birth, log=log, given=given, fresh=fresh)
            own["pidfd"] = os.pidfd_open(pid)
        except OSError as error:
            if pid:  # nobody could hold it
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            for file in {*own.values(), *given.values()}:
                os.close(file)
            raise BirthError(f"the system has no room for it ({error.strerror or error})") from error
        os.close(own.pop("log"))
        for file in set(given.values()) - set(own.values()):
            os.close(file)
        entry = process_table.read(pid)
        member = Member(
            birth=birth,
            request=request,
            pid=pid,
            pid_started=entry.started if entry else "",
            files=own,
            fresh=fresh,
            born_at_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        self.living[pid] = member
        pipe = os.fstat(own["progress"]).st_ino if "progress" in own else 0
        self.signs.add(pid, pipe=pipe, gentle=birth.on_orphaned != signal.SIGKILL)
        return member

    def bury(self, pid: int, exit_code: int) -> Ended:
        """Note a child's end; it is kept until `acknowledge`."""
        member = self.living.pop(pid)
        self.signs.remove(pid)
        member.close()
        self._counted += 1
        birth = member.birth
        end = Ended(
            number=self._counted,
            name=birth.name,
            worker=birth.worker,
            slot=birth.slot,
            pid=pid,
            pid_started=member.pid_started,
            exit_code=exit_code,
            ended_at_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        self.ends[end.number] = end
        return end

    def acknowledge(self, number: int) -> None:
        """Forget an end."""
        self.ends.pop(number, None)

    def unacknowledged(self) -> Sequence[Ended]:
        """The ends that nobody acknowledged, in order."""
        return list(self.ends.values())

    def _make_files(self, own: dict[str, int], given: dict[str, int]) -> None:
        own["progress"], given[newborn.PROGRESS_FD] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        own["wake"] = given[newborn.WAKE_FD] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        own["stacks"] = given[newborn.STACKS_FD] = os.memfd_create("stacks")
        # Appending: each dump goes behind the last, whoever moved the common offset.
        flags = fcntl.fcntl(own["stacks"], fcntl.F_GETFL)
        fcntl.fcntl(own["stacks"], fcntl.F_SETFL, flags | os.O_APPEND)

    def _fork(self, birth: Birth, *, log: int, given: Mapping[str, int], fresh: bool) -> int:
        tie = bound_to_parent(birth.on_orphaned)
        files = list(given.values())
        named = {name: str(file) for name, file in given.items()} | {MARK: self.signs.token}

        def separate() -> None:
            newborn.separate(birth.name, tie=tie, keep=files, log=log, limits=self._limits)
            if birth.nice:
                with contextlib.suppress(PermissionError):  # only root may be less nice
                    os.nice(birth.nice)

        def be_program() -> NoReturn:
            separate()
            newborn.run_program(list(birth.argv), {**birth.environment, **named})

        def be_worker(worker: str, slot: int, template: Template | None) -> NoReturn:
            separate()
            environment = {**birth.environment, **named, newborn.LOG: str(birth.log)}
            if template is None:
                argv = worker_argv(self._entry, worker, slot)
                newborn.run_program(argv, {**os.environ, **environment}, keep=files, is_worker=True)
            newborn.run_here(environment, given[newborn.STACKS_FD], lambda: template.run(worker, slot))

        if birth.worker is None:
            return newborn.fork(be_program)
        worker, slot, template = birth.worker, birth.slot or 1, None if fresh else self._template
        return newborn.fork(lambda: be_worker(worker, slot, template))


def _open_log(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, LOG_MODE)
    except OSError as error:
        raise BirthError(f"its log {path} can't be written ({error.strerror})") from error
