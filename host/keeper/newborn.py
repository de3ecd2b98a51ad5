"""The newborn: the first things that a forked process does, so that it shares nothing by accident.

What a fork leaves in common is undone here: handlers and mask of signals, open files, standard streams,
random state, handlers of logs, limits. Then the child is tied to the keeper's life and is on its own.
"""

import faulthandler
import io
import logging
import os
import random
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import NoReturn

from host.lifeline import be_called

PROGRESS_FD = "SOCIALFLEET_PROGRESS_FD"
WAKE_FD = "SOCIALFLEET_WAKE_FD"
STACKS_FD = "SOCIALFLEET_STACKS_FD"
LOG = "SOCIALFLEET_LOG"
NO_PROGRAM = 127  # as shells say it
INTERRUPTED = 130
STREAMS = (0, 1, 2)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
FOR_WORKERS = (signal.SIGUSR1, signal.SIGUSR2)
"""Ignored from birth: a question for its stacks must not end a worker before it can answer."""


def fork(body: Callable[[], int]) -> int:
    """Fork a child that runs `body` and ends with what it gives; give its pid.

    Raises:
        OSError: the kernel has no room for a process.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # what waits there would be written by both
            stream.flush()
    # A signal between the fork and the child's own handlers would run the parent's in it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        if (pid := os.fork()) == 0:
            leave(body)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def separate(
    name: str,
    *,
    tie: Callable[[], None],
    keep: Collection[int],
    log: int | None,
    limits: tuple[int, int],
    blocked: Collection[signal.Signals] = (),
) -> None:
    """Become a process of one's own.

    Args:
        name: what `ps` calls it.
        tie: ties it to its parent's life; see `host.lifeline`.
        keep: the open files that stay, beside the standard streams.
        log: the file that becomes stdout and stderr, with an empty stdin; None leaves the three as they are.
        limits: how many files it may open, soft and hard.
        blocked: signals that wait until it unblocks them.
    """
    os.setsid()
    tie()
    be_called(name)
    if log is not None:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for file, stream in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(file, stream)
    signal.set_wakeup_fd(-1)
    close_others(keep)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    logging.root.handlers.clear()
    random.seed()
    for number in range(1, signal.NSIG):
        with suppress(OSError, ValueError):  # the kernel keeps two for itself, the C library some
            signal.signal(number, signal.SIG_DFL)
    for ignored in (*IGNORED_BY_PYTHON, *FOR_WORKERS):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def forget_handlers() -> None:
    """Take what modules added at their import from every logger.

    Before a fork: in each fork it would copy the page of every logger that there is.
    """
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()


def close_others(keep: Collection[int]) -> None:
    """Close every file but the standard streams and `keep`."""
    for listed in os.listdir("/proc/self/fd"):  # noqa: PTH208  the names are numbers
        if (file := int(listed)) not in STREAMS and file not in keep:
            with suppress(OSError):  # the listing's own
                os.close(file)


def leave(body: Callable[[], int]) -> NoReturn:
    """Run `body` and end with what it gives; the frames below are the parent's."""
    code = 1
    try:
        code = body()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # it came before this process could take it in its own way
        code = INTERRUPTED
    except BaseException:  # noqa: BLE001  the last one who could tell it
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def arm(stacks: int) -> None:
    """Let a crash tell its stacks on stderr, and SIGUSR1 write those of all threads into `stacks`."""
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)


def run_here(environment: Mapping[str, str], stacks: int, body: Callable[[], int]) -> NoReturn:
    """Live as a fork of the warm template."""

    def live() -> int:
        os.environ.update(environment)
        # As an interpreter of its own would have them: what the keeper's own are does not matter here.
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  for life
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        arm(stacks)
        return body()

    leave(live)


def run_program(
    argv: list[str], environment: Mapping[str, str], *, keep: Collection[int] = (), is_worker: bool = False
) -> NoReturn:
    """Live as a program; says in the log when there is no such program."""
    for file in keep:
        os.set_inheritable(file, True)
    for reset in (*IGNORED_BY_PYTHON, signal.SIGINT, *(() if is_worker else FOR_WORKERS)):
        signal.signal(reset, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606  argv is ours
    except OSError as error:
        os.write(2, f"{argv[0]} can't be started: {error.strerror}\n".encode())
    os._exit(NO_PROGRAM)


def _stream(file: int) -> io.TextIOWrapper:
    raw = open(file, "wb", closefd=False)  # noqa: SIM115  for life
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
