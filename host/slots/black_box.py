"""Black box: what can be seen of a stalled process before it is killed.

Its own account (the stacks of all threads, which `faulthandler` writes from a signal handler even when no
Python code runs any more), the kernel's (what each thread waits in), the log's last lines, and the database's
(its queries, locks and intents). It is a file on this host and a row; the file needs no database.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from host import process_table
from host.slots.ground import Ground
from host.slots.log_tail import tail
from host.slots.process import WorkerProcess

LOG_LINES = 200
KEPT_A_SLOT = 20
STACKS_WITHIN_S = 1.0
DATABASE_WITHIN_S = 2.0
LOOK_S = 0.02
RESUMED_FOR_S = 0.5
RESUMED_LOOK_S = 0.001
STACKS_BYTES = 256 << 10
UNTAKEN = "none were written: the process did not get to its signal handler"
NOT_RESUMED = "not taken: it was stopped by a signal while it acted, and is not let on for its stacks"


class BlackBox:
    """One look into one process; nothing of it waits."""

    def __init__(self, ground: Ground, name: tuple[str, int], process: WorkerProcess, log: Path) -> None:
        """Begin: ask the process for its stacks and the database for its part.

        Args:
            ground: what slots stand on.
            name: worker and slot.
            process: which is to be killed after it.
            log: the slot's.
        """
        self._ground = ground
        self._worker, self._slot = name
        self._process = process
        self._log = log
        self._began = ground.clock()
        self._stacks: str | None = None
        self._before = _size(process)
        self._masked = _masking(process.pid)
        self._database: Mapping[str, Any] | None = None
        self._database_said = False
        # Seen before it is asked for anything: asking changes what there is to see.
        self._kernel = kernel_view(process.pid)
        self.was_stopped = any(thread["state"] == "T" for thread in self._kernel)
        self._ask_for_stacks()
        word = process.word
        incarnation = word.incarnation if word else None
        if ground.line.is_away:
            self._database_said = True
        else:
            ground.line.ask_black_box(self._worker, self._slot, incarnation, self._take_database)

    def is_complete(self) -> bool:
        """Whether all that will come is there."""
        now = self._ground.clock()
        if self._stacks is None:
            self._look_for_stacks(now)
        database = self._database_said or now - self._began > DATABASE_WITHIN_S
        return self._stacks is not None and database

    def keep(self) -> Path | None:
        """Write the file and hand in the row; give the file, or None where the disk refuses it."""
        process, word = self._process, self._process.word
        reason = process.stalled or ""
        at = datetime.fromtimestamp(time.time(), UTC)
        report: dict[str, Any] = {
            "at": at.isoformat(timespec="milliseconds"),
            "worker": self._worker,
            "slot": self._slot,
            "pid": process.pid,
            "incarnation": word.incarnation if word else None,
            "reason": reason,
            "state": word.state if word else None,
            "step": word.step if word else None,
            "ticks": word.ticks if word else None,
            "running_s": process.running_s(self._ground.clock()),
            "memory_bytes": process.usage.memory_bytes if process.usage else None,
            "cpu_percent": process.cpu.percent,
            "stacks": self._stacks if self._stacks is not None else UNTAKEN,
            "threads": self._kernel,
            "database": self._database,
            "log": tail(self._log, LOG_LINES),
        }
        self._ground.line.black_box(
            self._worker, self._slot, report["incarnation"], process.pid, reason, report
        )
        file = self._ground.black_boxes / f"{self._worker}-{self._slot}-{at:%Y%m%dT%H%M%S.%fZ}.json"
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(target, "w", encoding="utf-8") as out:
                json.dump(report, out, ensure_ascii=False, indent=1)
            self._drop_old()
        except OSError:
            return None
        return file

    def _ask_for_stacks(self) -> None:
        if self._process.started.stacks is None:
            self._stacks = UNTAKEN
        elif self.was_stopped and self._process.may_act:
            # Let on for a moment it might do what it was about to do when it was stopped, long ago.
            self._stacks = NOT_RESUMED
        else:
            self._process.signal(signal.SIGUSR1)
            if self.was_stopped:
                self._resume_for_stacks()

    def _resume_for_stacks(self) -> None:
        """Let it on until its handler has written, and stop it again: the signal's handler comes first."""
        self._process.signal(signal.SIGCONT)
        until = time.monotonic() + RESUMED_FOR_S
        while not self._has_written() and time.monotonic() < until:
            time.sleep(RESUMED_LOOK_S)
        self._process.signal(signal.SIGSTOP)

    def _look_for_stacks(self, now: float) -> None:
        if self._has_written():
            self._stacks = _read(self._process, self._before)
        elif now - self._began > STACKS_WITHIN_S:
            self._stacks = _read(self._process, self._before) or UNTAKEN

    def _has_written(self) -> bool:
        """Whether the handler came to its end: a thread has its signal masked for as long as it is in it."""
        return _size(self._process) > self._before and _masking(self._process.pid) <= self._masked

    def _take_database(self, found: Mapping[str, Any] | None) -> None:
        self._database, self._database_said = found, True

    def _drop_old(self) -> None:
        files = sorted(self._ground.black_boxes.glob(f"{self._worker}-{self._slot}-*.json"))
        for file in files[:-KEPT_A_SLOT]:
            file.unlink(missing_ok=True)


def kernel_view(pid: int) -> list[dict[str, Any]]:
    """Each thread's state and what it waits in, as proc(5) has it; empty once the process is gone."""
    return [
        {
            "thread": entry.pid,
            "name": _text(thread / "comm"),
            "state": entry.state,
            "waits_in": _text(thread / "wchan"),
            "system_call": _text(thread / "syscall"),
        }
        for thread in _listed(Path(f"/proc/{pid}/task"))
        if (entry := process_table.read_in(thread))
    ]


def _masking(pid: int) -> set[str]:
    """The threads that have the stacks' signal masked."""
    bit = 1 << (signal.SIGUSR1 - 1)
    return {
        thread.name
        for thread in _listed(Path(f"/proc/{pid}/task"))
        if int(_text(thread / "status").partition("SigBlk:")[2].partition("\n")[0] or "0", 16) & bit
    }


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _size(process: WorkerProcess) -> int:
    return os.fstat(process.started.stacks).st_size if process.started.stacks is not None else 0


def _read(process: WorkerProcess, since: int) -> str:
    if process.started.stacks is None:
        return ""
    return os.pread(process.started.stacks, STACKS_BYTES, since).decode(errors="replace")
