"""The process table: what /proc says of processes that this one may know nothing else of."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MARK = "SOCIALFLEET_KEEPER"
"""The variable that every child's environment carries, and so its descendants': the keeper's token."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One process as its stat line tells it; `started` is in ticks since boot."""

    pid: int
    state: str
    parent: int
    session: int
    started: str


def read(pid: int) -> Entry | None:
    """A process's entry; None when there is no such process (any more)."""
    try:
        line = (PROC / str(pid) / "stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold any character, so count from the last one.
    fields = line.rpartition(")")[2].split()
    return Entry(pid=pid, state=fields[0], parent=int(fields[1]), session=int(fields[3]), started=fields[19])


def entries() -> Iterator[Entry]:
    """Every process there is, zombies too."""
    for name in os.listdir(PROC):  # noqa: PTH208  a Path for each of a host's processes costs more than the rest
        if name.isdecimal() and (entry := read(int(name))):
            yield entry


def children() -> Sequence[Entry]:
    """This process's children, zombies too."""
    own = os.getpid()
    return [entry for entry in entries() if entry.parent == own]


def memory_name(token: str) -> str:
    """What a keeper calls the files in memory that it gives its children."""
    return f"stacks-{token}"


def belongs(entry: Entry, token: str, sessions: Collection[int]) -> bool:
    """Whether a process is a keeper's child or a descendant of one, by whatever it inherited.

    A session of one's own hides it from the first sign, an empty environment from the second; a fork without
    exec keeps the third.
    """
    if entry.session in sessions or entry.pid in sessions:
        return True
    place = PROC / str(entry.pid)
    try:
        if f"{MARK}={token}".encode() in (place / "environ").read_bytes().split(b"\0"):
            return True
        files = place / "fd"
        held = memory_name(token)
        return any(held in os.readlink(files / name) for name in os.listdir(files))  # noqa: PTH115, PTH208
    except OSError:  # it ended, or it is another user's
        return False
