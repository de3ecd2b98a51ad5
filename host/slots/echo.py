"""Echo: the slots' logs on standard output too, for a container whose logs others collect.

A thread of its own reads the files; when nobody takes the output, that thread waits and nothing else.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import IO

LOOK_S = 0.2
CHUNK_BYTES = 1 << 16
LATE_LOOKS = 5
"""So many looks after its rotation a file is read on, for a writer that had just looked at its name."""


class Echo:
    """Follows the `*.jsonl` of a directory, through their rotations, from where they stand at its start."""

    def __init__(self, logs: Path, out: int = 1, *, look_s: float = LOOK_S) -> None:
        """Name the directory and the file descriptor that the lines go to."""
        self._logs = logs
        self._out = out
        self._look_s = look_s
        self._files: dict[Path, _Followed] = {}
        self._leaving = Event()
        # A daemon: an output that nobody takes must not keep the process from ending.
        self._thread = Thread(target=self._run, name="echo", daemon=True)

    def start(self) -> None:
        """Begin with what is written from now on."""
        for path in self._logs.glob("*.jsonl"):
            self._files[path] = _Followed(path, from_end=True)
        self._thread.start()

    def stop(self, within_s: float = 1.0) -> None:
        """Write what is there and end; safe when it never began."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def _run(self) -> None:
        leaving = False
        while not leaving:
            leaving = self._leaving.wait(self._look_s)
            with suppress(OSError):
                for path in sorted(self._logs.glob("*.jsonl")):
                    if path not in self._files:
                        self._files[path] = _Followed(path, from_end=False)
                    self._files[path].copy(self._write)
        for followed in self._files.values():
            followed.close()

    def _write(self, lines: bytes) -> None:
        while lines:
            lines = lines[os.write(self._out, lines) :]


@dataclass(kw_only=True)
class _Opened:
    """A file that is read, with what was read of a line that isn't whole yet."""

    file: IO[bytes]
    rest: bytes = b""
    looks_since_rotated: int = 0

    def copy(self, write: Callable[[bytes], None]) -> None:
        """Give its whole lines that are new."""
        if os.fstat(self.file.fileno()).st_size < self.file.tell():  # its beginning was carried off
            self.file.seek(0)
            self.rest = b""
        while read := self.file.read(CHUNK_BYTES):
            *lines, self.rest = (self.rest + read).split(b"\n")
            if lines:
                write(b"\n".join(lines) + b"\n")


class _Followed:
    """One log: its present file, and those that were rotated a moment ago: a writer may be a line late."""

    def __init__(self, path: Path, *, from_end: bool) -> None:
        self._path = path
        self._opened: list[_Opened] = []
        if from_end and self._open(path):
            self._opened[-1].file.seek(0, os.SEEK_END)

    def copy(self, write: Callable[[bytes], None]) -> None:
        """Give whole lines that are new, also those in files that were rotated away since."""
        newer = self._newer()
        for each in self._opened[:-1]:
            each.looks_since_rotated += 1
        for path in newer:
            self._open(path)
        for each in list(self._opened):
            each.copy(write)
            if each.looks_since_rotated > LATE_LOOKS:
                self._opened.remove(each)
                each.file.close()

    def close(self) -> None:
        """Read no more."""
        for each in self._opened:
            each.file.close()
        self._opened.clear()

    def _newer(self) -> list[Path]:
        """The files that followed the newest one that is read, oldest first."""
        if not self._opened:
            return [self._path]
        mine = os.fstat(self._opened[-1].file.fileno()).st_ino
        newer: list[Path] = []
        for path in self._generations():
            with suppress(FileNotFoundError):
                if path.stat().st_ino == mine:
                    break
                newer.append(path)
        return newer[::-1]

    def _generations(self) -> Iterable[Path]:
        yield self._path
        number = 1
        while (path := self._path.with_name(f"{self._path.name}.{number}")).exists():
            yield path
            number += 1

    def _open(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            self._opened.append(_Opened(file=path.open("rb", buffering=0)))
            return True
        return False
