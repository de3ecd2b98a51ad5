"""A worker's process with what a manager gives it: pipe, eventfd, log; started anew, or forked warm."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from tests.integration.workers.waiting import eventually
from workers.progress_pipe import Word, WordReader
from workers.wake import Kind, wait, wake

ROOT = Path(__file__).parents[3]
Birth = Literal["fresh", "forked"]

RUN = """
import sys
import config
from workers import process
sys.exit(process.run(sys.argv[1], slot=1, config=config.load()))
"""
WARM = """
import gc, os, random, sys
import config
from workers import process, registry
registry.find()
gc.freeze()
print("warm", flush=True)
sys.stdin.readline()
pid = os.fork()
if pid == 0:
    random.seed()
    os.setsid()
    os._exit(process.run(sys.argv[1], slot=1, config=config.load()))
print(pid, flush=True)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""


class Managed:
    """One worker's process.

    Attributes:
        pid: of the worker itself, however it was made.
        words: every word that it told, oldest first.
        log: its log file.
        started_at: monotonic time of its birth.
    """

    def __init__(
        self, name: str, *, state: Path, birth: Birth = "fresh", is_managed: bool = True, **environment: str
    ) -> None:
        reading, writing = os.pipe()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.log = state / "logs" / f"{name}-1.jsonl"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._reader = WordReader(reading)
        self.words: list[Word] = []
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        given = {
            "SOCIALFLEET_PROGRESS_FD": str(writing),
            "SOCIALFLEET_WAKE_FD": str(self._wake),
            "SOCIALFLEET_LOG": str(self.log),
        }
        with self.log.open("ab") as log:
            # A template says on stdout who was forked; its worker, as every worker, writes to its log.
            command = RUN if birth == "fresh" else WARM.replace("os.setsid()", "os.setsid(); os.dup2(2, 1)")
            self.process = subprocess.Popen(
                [sys.executable, "-c", command, name],
                cwd=ROOT,
                env={
                    **kept,
                    "SOCIALFLEET_STATE_DIR": str(state),
                    **(given if is_managed else {}),
                    **environment,
                },
                stdin=subprocess.PIPE,
                stdout=log if birth == "fresh" else subprocess.PIPE,
                stderr=log,
                pass_fds=(writing, self._wake),
                text=True,
            )
        os.close(writing)
        self.pid = self.process.pid
        self.started_at = monotonic()
        if birth == "forked":
            self._fork()

    def _fork(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "warm\n", self.log.read_text()
        self.started_at = monotonic()
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.pid = int(self.process.stdout.readline())

    def until(self, right: Callable[[Word], bool], *, what: str, within_s: float = 60) -> Word:
        """Wait for a word that was not looked at before."""
        deadline = monotonic() + within_s
        while True:
            wait([self._reader.fileno()], max(0.0, deadline - monotonic()))
            word = self._reader.read()
            if word is not None:
                self.words.append(word)
                if right(word):
                    return word
            assert monotonic() < deadline, f"not within {within_s} s: {what}; last: {self.words[-3:]}"
            assert not self._reader.closed, f"it ended: {self.log.read_text()[-2000:]}"

    def wake(self, kind: Kind) -> None:
        wake(self._wake, kind)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self, within_s: float = 60) -> int:
        """Wait for the end; give the exit code."""
        return self.process.wait(within_s)

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def cpu_s(self) -> float:
        """Seconds that its threads have run, exactly."""
        return (
            sum(
                int((task / "schedstat").read_text().split()[0])
                for task in Path(f"/proc/{self.pid}/task").iterdir()
            )
            / 1e9
        )

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill() if self.process.poll() is None and self.pid == self.process.pid else None
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        os.close(self._reader.fileno())
        os.close(self._wake)


@contextmanager
def managed(name: str, **options: Any) -> Generator[Managed]:
    """A worker's process that is gone afterwards."""
    one = Managed(name, **options)
    try:
        yield one
    finally:
        one.close()


def is_idle(word: Word) -> bool:
    """Whether a worker waits for something to do."""
    return word.state == "READY"


def settled(one: Managed, runs: Callable[[], list[Any]], number: int) -> None:
    """Wait until a worker has finished `number` runs and waits."""
    eventually(lambda: len(runs()) >= number, what=f"{number} runs of {one.pid}")
