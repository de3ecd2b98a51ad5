"""Usage: the memory and processor time of a process and of all that descends from it, as /proc has it."""

import os
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from host import process_table
from host.process_table import Entry

SAMPLE_S = 5.0
CPU_WINDOW_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a tree of processes uses.

    Attributes:
        memory_bytes: resident, pages that they share counted for each.
        cpu_s: processor time so far, with that of children that ended.
        pids: the tree's, its root first.
    """

    memory_bytes: int
    cpu_s: float
    pids: tuple[int, ...]


def measure(roots: Iterable[int]) -> dict[int, Usage]:
    """Give what each root and its descendants use; one pass over /proc, a root that is gone is left out.

    A descendant is whoever has the root as an ancestor or is in its session: one whose parent ended has
    another ancestor, but still the session.
    """
    processes = {entry.pid: entry for entry in process_table.entries()}
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
        if process.session != pid:
            children.setdefault(process.session, []).append(pid)
    return {root: _sum(processes, _tree(root, children)) for root in roots if root in processes}


def renice(pid: int, nice: int) -> None:
    """Give every thread of a process this priority; the kernel has one for each.

    Raises:
        PermissionError: it would rise, and this user may not raise it.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)


class CpuShare:
    """The share of one CPU that a tree used over the last minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now: float, cpu_s: float) -> None:
        """Note the processor time used until `now`."""
        self._samples.append((now, cpu_s))
        while len(self._samples) > 2 and now - self._samples[1][0] >= CPU_WINDOW_S:  # noqa: PLR2004  two ends
            self._samples.popleft()

    @property
    def percent(self) -> float | None:
        """Over what was seen, a minute at most; None before two samples."""
        return self._percent() if len(self._samples) > 1 else None

    @property
    def percent_of_window(self) -> float | None:
        """Over a whole minute; None before one has passed."""
        if len(self._samples) > 1 and self._samples[-1][0] - self._samples[0][0] >= CPU_WINDOW_S:
            return self._percent()
        return None

    def _percent(self) -> float:
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return max(0.0, 100.0 * (after - before) / max(ended - began, 0.001))


def _tree(root: int, children: Mapping[int, Iterable[int]]) -> tuple[int, ...]:
    found = [root]
    seen = {root}
    for pid in found:
        for child in children.get(pid, ()):
            if child not in seen:
                seen.add(child)
                found.append(child)
    return tuple(found)


def _sum(processes: Mapping[int, Entry], pids: tuple[int, ...]) -> Usage:
    return Usage(
        memory_bytes=sum(processes[pid].memory_bytes for pid in pids),
        cpu_s=sum(processes[pid].cpu_s for pid in pids),
        pids=pids,
    )
