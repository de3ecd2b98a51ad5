"""The peers: plain interpreters that import what a worker imports, and Celery's single-process workers.

Celery runs as its own documentation makes it least: the solo pool (one process, no children), no gossip, no
mingle, no heartbeat, no events, no results, a broker in the filesystem that needs no server.
"""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
CELERY = "Celery, solo pool"
PLAIN = "plain interpreters"
IMPORTS = (
    "import os, sys\n"
    "import workers.process, workers.registry, workers.platforms.x_client\n"
    "workers.registry.find()\n"
    "os.write(int(os.environ['READY_FD']), b'.')\n"
    "sys.stdin.read()\n"
)


@contextmanager
def plain_interpreters(number: int) -> Generator[tuple[float, list[int]]]:
    """Fresh interpreters, all begun at once: seconds until the last has imported everything, and pids."""
    with _all_ready([[sys.executable, "-c", IMPORTS]] * number, {}) as began:
        yield began


@contextmanager
def celery_workers(number: int, place: Path) -> Generator[tuple[float, list[int]]]:
    """Celery workers, all begun at once: seconds until the last says that it is ready, and pids."""
    argv = [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "benchmarks.peers.celery_app", "worker"),
        *("--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("--loglevel", "ERROR", "--hostname"),
    ]
    with _all_ready(
        [[*argv, f"w{n}@localhost"] for n in range(number)], {"CELERY_PLACE": str(place), "C_FORCE_ROOT": "1"}
    ) as ready:
        yield ready


@contextmanager
def _all_ready(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str]
) -> Generator[tuple[float, list[int]]]:
    heard, told = os.pipe()
    processes: list[subprocess.Popen[bytes]] = []
    began = time.monotonic()
    try:
        for command in commands:
            processes.append(  # noqa: PERF401  each that was begun must be ended, also when the next fails
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**os.environ, **environment, "PYTHONPATH": str(ROOT), "READY_FD": str(told)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[told],
                )
            )
        os.close(told)
        told = -1
        ready = 0
        while ready < len(commands):
            piece = os.read(heard, len(commands))
            if not piece:
                raise ChildProcessError(f"only {ready} of {len(commands)} became ready: {commands[0]}")
            ready += len(piece)
        yield time.monotonic() - began, [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
        os.close(heard)
        if told >= 0:
            os.close(told)
