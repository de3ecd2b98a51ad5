"""Echo: the slots' logs on standard output too, for a container whose logs others collect.

A thread of its own reads the files; when nobody takes the output, that thread waits and nothing else.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import IO

LOOK_S = 0.2
CHUNK_BYTES = 1 << 16


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
                    self._files.setdefault(path, _Followed(path, from_end=False)).copy(self._write)

    def _write(self, lines: bytes) -> None:
        while lines:
            lines = lines[os.write(self._out, lines) :]


class _Followed:
    """One log and how far it was read."""

    def __init__(self, path: Path, *, from_end: bool) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""
        if from_end:
            self._open(path)
            if self._file is not None:
                self._file.seek(0, os.SEEK_END)

    def copy(self, write: Callable[[bytes], None]) -> None:
        """Give whole lines that are new, also those in files that were rotated away since."""
        if self._file is None:
            self._open(self._path)
        self._read(write)
        for newer in self._newer():
            self._read(write)  # what came between the look before and the rename
            self._open(newer)
            self._read(write)

    def _read(self, write: Callable[[bytes], None]) -> None:
        while self._file is not None and (read := self._file.read(CHUNK_BYTES)):
            *lines, self._rest = (self._rest + read).split(b"\n")
            if lines:
                write(b"\n".join(lines) + b"\n")

    def _newer(self) -> Iterable[Path]:
        """The files that followed the one that is read, oldest first."""
        if self._file is None:
            return []
        mine = os.fstat(self._file.fileno()).st_ino
        newer: list[Path] = []
        for path in self._generations():
            with suppress(FileNotFoundError):
                if path.stat().st_ino == mine:
                    break
                newer.append(path)
        return reversed(newer)

    def _generations(self) -> Iterable[Path]:
        yield self._path
        number = 1
        while (path := self._path.with_name(f"{self._path.name}.{number}")).exists():
            yield path
            number += 1

    def _open(self, path: Path) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
        with suppress(FileNotFoundError):
            self._file = path.open("rb", buffering=0)
