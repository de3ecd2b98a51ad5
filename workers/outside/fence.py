"""The fence: the highest fencing token seen, kept in a file. A database below it was restored."""

import os
from pathlib import Path


class Fence:
    """One file with one number that only rises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The number kept; 0 when there is none yet.

        Raises:
            ValueError: the file holds something else.
        """
        try:
            text = self._path.read_text("ascii", "replace").strip()
        except FileNotFoundError:
            return 0
        if not (text.isdigit() and text.isascii()):
            raise ValueError(f"{self._path} holds {text[:40]!r}: allowed is a whole number")
        return int(text)

    def keep(self, fence: int) -> None:
        """Keep a higher number, durably; a lower one changes nothing.

        Raises:
            OSError: it can't be written.
        """
        if fence <= self.read():
            return
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with new.open("w", encoding="ascii") as file:
            file.write(f"{fence}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
