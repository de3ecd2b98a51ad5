"""Prefetch: the world's past, made by a process of its own while this one stores what came before.

PrefetchError     the other process ended too early; what it said of it stands in the standard error
"""

import gc
import marshal
import os
import signal
import sys
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

from sandbox.x.posts import Batch

FIRST_FILE = 3  # after the standard ones
END = None


class PrefetchError(Exception):
    """The process that makes the past ended before its last post."""


@contextmanager
def prefetched(past: Iterable[Batch]) -> Generator[Iterator[Batch]]:
    """The same posts, some at once, made by a forked child, which ends with the block at the latest.

    The child keeps none of this process's files and locks, and ends by itself where this process is killed.
    There must be no other thread yet.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _make(past, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            yield _received(pipe)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _received(pipe: BinaryIO) -> Iterator[Batch]:
    try:
        # Plain tuples by marshal take a third of pickle's time.
        while (batch := marshal.load(pipe)) is not END:  # noqa: S302 - from this process's own child
            yield Batch(*batch)  # of plain tuples, which the store takes as they are
    except (EOFError, TypeError, ValueError) as error:  # what it wrote may be cut off anywhere
        raise PrefetchError("the process that makes the world was ended: start the sandbox again") from error


def _make(past: Iterable[Batch], writing: int) -> NoReturn:
    """The child's whole life."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(FIRST_FILE, writing)
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
        gc.disable()  # none of it is garbage: looking for some would cost a fifth of the time
        # Closed by the process's end alone: whoever reads to the pipe's end kills this one.
        with os.fdopen(writing, "wb", closefd=False) as pipe:
            for posts, words in past:
                plain: Any = ([tuple(post) for post in posts], words)
                marshal.dump(plain, pipe)
            marshal.dump(END, pipe)
        status = 0
    except BrokenPipeError:
        pass  # nobody reads any more
    except BaseException:  # noqa: BLE001 - it must not go on as its parent
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
