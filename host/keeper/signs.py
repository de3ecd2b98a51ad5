"""Signs: by what a keeper's children, and whatever descends from them, are known among all processes."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from host.process_table import PROC, Entry

MARK = "SOCIALFLEET_KEEPER"
"""The variable that every child's environment carries, and so its descendants': the keeper's token."""


@dataclass(kw_only=True)
class Signs:
    """By what a keeper's children, and what descends from them, are known.

    A session of one's own hides a process from the first sign, an environment of one's own from the second;
    a fork without exec keeps the third.

    Attributes:
        token: the value of `MARK`.
        pipes: the living children, each with its progress pipe's inode; 0 for one that has none.
        gentle: those of them that have a signal of their own for the keeper's end.
    """

    token: str
    pipes: dict[int, int] = field(default_factory=dict[int, int])
    gentle: set[int] = field(default_factory=set[int])

    def add(self, pid: int, *, pipe: int, gentle: bool) -> None:
        """Know a child."""
        self.pipes[pid] = pipe
        if gentle:
            self.gentle.add(pid)

    def remove(self, pid: int) -> None:
        """Forget a child that ended: its number may be another's soon."""
        self.pipes.pop(pid, None)
        self.gentle.discard(pid)

    def are_plain_on(self, entry: Entry) -> bool:
        """Whether it is a child, or in a child's session: known without a look at the process."""
        return entry.session in self.pipes

    def are_on(self, entry: Entry) -> bool:
        """Whether a process bears one of them."""
        if self.are_plain_on(entry):
            return True
        place = PROC / str(entry.pid)
        try:
            marked = f"{MARK}={self.token}".encode() in (place / "environ").read_bytes().split(b"\0")
            return marked or self._writes(place)
        except OSError:  # it ended, or it is another user's
            return False

    def _writes(self, place: Path) -> bool:
        """Whether it holds the writing end of a child's progress pipe; the reading ends are the manager's."""
        pipes = {f"pipe:[{inode}]" for inode in self.pipes.values() if inode}
        for name in os.listdir(place / "fd"):  # noqa: PTH208  the names are numbers
            with suppress(FileNotFoundError):
                if os.readlink(place / "fd" / name) in pipes:  # noqa: PTH115  no path of ours
                    flags = (place / "fdinfo" / name).read_text("utf-8").split("flags:")[1].split()[0]
                    if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                        return True
        return False
