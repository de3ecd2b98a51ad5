"""A load: processes that call one thing again and again, each on connections of its own."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

FORK = multiprocessing.get_context("fork")
WARM_UP_S = 0.5
PATIENCE_S = 120.0
KEPT_LATENCIES = 200_000

Call = Callable[[], int]
"""One call; gives how many units it got done, 0 for a refusal."""

Make = Callable[[int], AbstractContextManager[Call]]
"""Opens what the n-th process calls with; runs in that process."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of a load, all processes together.

    Attributes:
        seconds: how long it was measured.
        units: what the calls got done.
        calls: how many ended within the time.
        refused: those of them that got nothing done.
        latencies_s: of the calls, sorted; of at most 200,000 a process.
        failed: by exception class, how many calls ended with one.
    """

    seconds: float
    units: int
    calls: int
    refused: int
    latencies_s: Sequence[float]
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def per_s(self) -> float:
        """Units a second."""
        return self.units / self.seconds

    def latency_ms(self, share: float) -> float:
        """The latency that this share of the calls did not exceed."""
        return self.latencies_s[min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))] * 1000


def drain(make: Make, *, processes: int) -> float:
    """Let each of so many processes call once, all from one moment; give the units a second of all.

    Raises:
        ChildProcessError: one of them failed.
    """
    began, ended, units = zip(*_in_processes(_call_once, make, processes), strict=True)
    return sum(units) / (max(ended) - min(began))


def saturate(make: Make, *, processes: int, seconds: float, per_s: float | None = None) -> Load:
    """Let so many processes call without a pause, or together `per_s` times a second, each at its own pace.

    Where a pace is given, a call's latency counts from the time at which it was due: what waits behind a slow
    one is slow too.

    Raises:
        ChildProcessError: one of them could not begin.
    """
    told: list[Load] = _in_processes(_call, make, processes, seconds, per_s / processes if per_s else None)
    return Load(
        seconds=seconds,
        units=sum(one.units for one in told),
        calls=sum(one.calls for one in told),
        refused=sum(one.refused for one in told),
        latencies_s=sorted(latency for one in told for latency in one.latencies_s),
        failed=sum((one.failed for one in told), Counter[str]()),
    )


def _in_processes(call: Callable[..., None], make: Make, processes: int, *arguments: Any) -> list[Any]:
    start = FORK.Barrier(processes)
    pipes = [FORK.Pipe(duplex=False) for _ in range(processes)]
    children = [
        FORK.Process(target=call, args=(make, number, start, pipe[1], *arguments), daemon=True)
        for number, pipe in enumerate(pipes)
    ]
    for child in children:
        child.start()
    told: list[Any] = []
    try:
        for pipe, child in zip(pipes, children, strict=True):
            if not pipe[0].poll(PATIENCE_S):
                raise ChildProcessError(f"a process of the load did not end: {child.name}")
            answer = pipe[0].recv()
            if isinstance(answer, str):
                raise ChildProcessError(answer)
            told.append(answer)
    finally:
        for child in children:
            child.kill()
            child.join()
    return told


def _call_once(make: Make, number: int, start: Barrier, pipe: Connection) -> None:
    try:
        with make(number) as call:
            start.wait(PATIENCE_S)
            began = time.perf_counter()
            units = call()
            pipe.send((began, time.perf_counter(), units))
    except BaseException as error:  # noqa: BLE001  it is told to who waits for it
        start.abort()
        pipe.send(f"process {number}: {type(error).__name__}: {error}")


def _call(
    make: Make, number: int, start: Barrier, pipe: Connection, seconds: float, per_s: float | None
) -> None:
    try:
        with make(number) as call:
            _until(call, WARM_UP_S, per_s)
            start.wait(PATIENCE_S)
            pipe.send(_until(call, seconds, per_s))
    except BaseException as error:  # noqa: BLE001  it is told to who waits for it
        start.abort()
        pipe.send(f"process {number}: {type(error).__name__}: {error}")


def _until(call: Call, seconds: float, per_s: float | None) -> Load:
    units = calls = refused = 0
    latencies: list[float] = []
    failed: Counter[str] = Counter()
    clock = time.perf_counter
    began = due = clock()
    ends = began + seconds
    while True:
        if per_s:
            due += 1 / per_s
            if due > clock():
                time.sleep(max(0.0, due - clock()))
        else:
            due = clock()
        if due >= ends:
            break
        try:
            done = call()
        except Exception as error:  # noqa: BLE001  a peer's own errors are part of its figure
            failed[type(error).__name__] += 1
            done = 0
        now = clock()
        if now >= ends:
            break
        units += done
        calls += 1
        refused += done == 0
        if len(latencies) < KEPT_LATENCIES:
            latencies.append(now - due)
    return Load(
        seconds=seconds, units=units, calls=calls, refused=refused, latencies_s=latencies, failed=failed
    )
