"""The process table: what /proc says of processes, each by its stat line."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
ENDED = frozenset({"Z", "X"})
"""States of what runs no more, and is only still listed."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One process, or one thread of it.

    Attributes:
        pid: its number.
        state: one letter; see proc(5).
        parent: its parent's number.
        session: the number of its session's leader.
        started: when it began, in ticks since boot: no other of this boot has the same and the same number.
        cpu_ticks: processor time so far, with that of children that ended.
        pages: of memory that are resident, those that it shares too.
    """

    pid: int
    state: str
    parent: int
    session: int
    started: str
    cpu_ticks: int
    pages: int

    @property
    def cpu_s(self) -> float:
        """Processor time so far, in seconds, with that of children that ended."""
        return self.cpu_ticks / _TICKS_PER_S

    @property
    def memory_bytes(self) -> int:
        """Memory that is resident, with what it shares."""
        return self.pages * _PAGE_BYTES


def read(pid: int) -> Entry | None:
    """A process's entry; None when there is no such process (any more)."""
    return read_in(PROC / str(pid))


def read_in(place: Path) -> Entry | None:
    """The entry of the process, or the thread, whose directory that is; None when it is gone."""
    try:
        line = (place / "stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold any character, so count from the last one.
    fields = line.rpartition(")")[2].split()
    return Entry(
        pid=int(place.name),
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        started=fields[19],
        cpu_ticks=sum(map(int, fields[11:15])),
        pages=int(fields[21]),
    )


def entries() -> Iterator[Entry]:
    """Every process there is, zombies too."""
    for name in os.listdir(PROC):  # noqa: PTH208  a Path for each of a host's processes costs more than the rest
        if name.isdecimal() and (entry := read(int(name))):
            yield entry


def children() -> Sequence[Entry]:
    """This process's children, zombies too."""
    own = os.getpid()
    return [entry for entry in entries() if entry.parent == own]
