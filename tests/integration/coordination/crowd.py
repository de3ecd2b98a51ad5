"""Many processes at once, each with connections of its own: started together, or killed when a test asks."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, cast

PROCESSES = multiprocessing.get_context("forkserver")
# All that a test module imports: a child then is a fork, not a second start of everything.
PROCESSES.set_forkserver_preload([__name__, "tests.integration.conftest"])
PATIENCE_S = 60.0


def together(life: Callable[..., Any], number: int, *arguments: object) -> list[Any]:
    """Run `life(start, *arguments)` in `number` processes; each calls `start()` when it is ready."""
    gate = PROCESSES.Barrier(number)
    pipes: list[Connection] = []
    lives: list[Any] = []
    for _ in range(number):
        ours, theirs = PROCESSES.Pipe(duplex=False)
        one = PROCESSES.Process(target=_tell, args=(theirs, gate, life, arguments), daemon=True)
        one.start()
        theirs.close()
        pipes.append(cast("Connection", ours))
        lives.append(one)
    results: dict[Connection, Any] = {}
    try:
        while len(results) < number:
            told = wait([pipe for pipe in pipes if pipe not in results], PATIENCE_S)
            assert told, f"a process of {life.__name__} said nothing for {PATIENCE_S} s"
            for pipe in cast("list[Connection]", told):
                succeeded, results[pipe] = pipe.recv()
                assert succeeded, results[pipe]
        for one in lives:
            one.join(5)
    finally:
        for one in lives:
            if one.is_alive():
                one.kill()
            one.join()
        for pipe in pipes:
            pipe.close()
    return [results[pipe] for pipe in pipes]


def _tell(pipe: Any, gate: Any, life: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send((True, life(gate.wait, *arguments)))
    except BaseException as error:  # noqa: BLE001  the parent reports it
        pipe.send((False, repr(error)))


class Victim:
    """A process that did something, and lives until it is killed."""

    def __init__(self, process: Any, result: Any) -> None:
        self._process = process
        self.result = result

    def kill(self) -> float:
        """Kill -9; give the monotonic time of it."""
        at = time.monotonic()
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        return at


@contextmanager
def victim(act: Callable[..., Any], *arguments: object) -> Generator[Victim]:
    """Run `act(keep, *arguments)` in a process that then waits; what it hands to `keep` stays alive."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_act_and_wait, args=(theirs, act, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(PATIENCE_S), f"{act.__name__} said nothing for {PATIENCE_S} s"
        succeeded, result = ours.recv()
        assert succeeded, result
        yield Victim(process, result)
    finally:
        process.kill()
        process.join()
        ours.close()


def _act_and_wait(pipe: Any, act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    kept: list[object] = []
    try:
        pipe.send((True, act(kept.append, *arguments)))
    except BaseException as error:  # noqa: BLE001  the parent reports it
        pipe.send((False, repr(error)))
    pipe.poll(None)


def until(condition: Callable[[], bool], within_s: float) -> float:
    """Ask again and again until it holds; give the seconds it took, fail after `within_s`."""
    began = time.monotonic()
    pause = multiprocessing.Event()
    while not condition():
        assert time.monotonic() - began < within_s, f"it did not become true within {within_s} s"
        pause.wait(0.005)
    return time.monotonic() - began
