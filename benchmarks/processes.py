"""What processes cost: memory as the kernel shares it out, and processor time."""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterable
from threading import Event

import psutil

MB = 1_000_000


def pss_mb(pids: Iterable[int]) -> float:
    """Their proportional set size together, in MB: shared pages count once, split among those who share."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += int(psutil.Process(pid).memory_full_info().pss)
    return total / MB


def cpu_s(pids: Iterable[int]) -> float:
    """The processor time that they have spent together, in seconds."""
    spent = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            spent += times.user + times.system
    return spent


def seconds_until(look: Callable[[], bool], *, within_s: float, what: str, every_s: float = 0.005) -> float:
    """Look until it is so; give the seconds that took.

    Raises:
        TimeoutError: it was not so within the time.
    """
    began = time.monotonic()
    pause = Event()
    while not look():
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        pause.wait(every_s)
    return time.monotonic() - began


@contextlib.contextmanager
def on_one_core(pids: Iterable[int]) -> Generator[None]:
    """Keep this process and those on one processor for a while.

    Where a caller and its session take turns, a call between two processors may take three times as long, and
    which session gets the caller's own is the scheduler's choice.
    """
    before = os.sched_getaffinity(0)
    for pid in (0, *pids):
        os.sched_setaffinity(pid, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def settle(seconds: float) -> None:
    """Let a measured stretch of time pass."""
    Event().wait(seconds)
