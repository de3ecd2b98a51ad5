"""Histories: what every process asked of the coordination core and what it was told, for a checker to judge.

Each process writes a file of its own, a line when it asks and one when it is told, at once: what it wrote
outlives a kill -9. Times are the database's, in seconds: `began` was read before the function ran and `ended`
after it, in the same statement. An operation whose answer is missing may have happened, at any time later.

What is written is what happened, not which function was called:

take     somebody asks for a lock, for jobs, for messages, for units of a pool; the answer has what it holds
         now, with tokens; where it waited in a line: when it stood there, and when it polled
keep     a holder prolongs what it holds
give     a holder gives it up: for good (`final`: done, acknowledged) or for others to take
put      a job or a message is added to a source
alive    the incarnation's own session answered: until then nobody may have judged it gone
grant    a unit of an endpoint's quota was asked for;  settle: its request is over
period   a stretch of time in which shares are compared
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

Outcome = Literal["ok", "refused", "unknown"]
FOREVER = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation of one process.

    Attributes:
        process: whose it was.
        life: the incarnation's id.
        kind: one of the module's words.
        thing: what it was about, such as `lock:17`, or a source such as `job:hot`.
        given: what was asked.
        outcome: `ok` happened; `refused` changed nothing; `unknown`: perhaps.
        began: it did not happen before.
        ended: it had been decided by then; for ever where that is unknown.
        after: the process had the answer by then, so it was committed.
        answer: what was told.
    """

    process: str = "p"
    life: str = "l"
    kind: str
    thing: str
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outcome: Outcome = "ok"
    began: float
    ended: float = FOREVER
    after: float = FOREVER
    answer: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class History:
    """All that happened, and by which rules it must have happened.

    Attributes:
        operations: of all processes, in any order.
        limits: each endpoint's windows as (requests, seconds).
        capacities: each pool's most units.
        ageing_s: so long a wait is worth a step of priority, in a line for a lock.
        undecided_s: an operation without an answer was decided that long after it began, if at all: the
            server gives up a lock wait before.
    """

    operations: Sequence[Operation]
    limits: Mapping[str, Sequence[tuple[int, float]]] = field(
        default_factory=dict[str, Sequence[tuple[int, float]]]
    )
    capacities: Mapping[str, int] = field(default_factory=dict[str, int])
    ageing_s: float = 60.0
    undecided_s: float = 8.0


@dataclass(frozen=True, kw_only=True, order=True)
class Violation:
    """A promise that was broken, and how."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


class Recorder:
    """One process's file. A line a write, unbuffered: nothing that was said is lost with the process."""

    def __init__(self, path: Path, process: str) -> None:
        self._file = path.open("ab", buffering=0)
        self._process = process
        self._number = 0
        self.seen = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def asks(self, kind: str, thing: str, life: str, given: Mapping[str, Any]) -> int:
        """Say that it asks now; give the operation's number."""
        self._number += 1
        self._write(n=self._number, p=self._process, l=life, k=kind, x=thing, g=given, s=self.seen)
        return self._number

    def told(self, number: int, outcome: Outcome, times: tuple[float, float] | None, answer: object) -> None:
        """Say what it was told, and the database's times before and after where it was told these."""
        if times:
            self.seen = max(self.seen, times[1])
        self._write(n=number, o=outcome, t=times, a=answer)

    def _write(self, **line: object) -> None:
        self._file.write(json.dumps(line, separators=(",", ":"), default=str).encode() + b"\n")


def read(paths: Iterable[Path]) -> list[Operation]:
    """Read the files of all processes; a line that a kill cut off was never said."""
    return [operation for path in sorted(paths) for operation in _operations(path)]


def _operations(path: Path) -> list[Operation]:
    asked: dict[int, dict[str, Any]] = {}
    told: dict[int, dict[str, Any]] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        (asked if "k" in said else told)[said["n"]] = said
    found: list[Operation] = []
    after = FOREVER
    for number in sorted(asked, reverse=True):
        answer = told.get(number)
        one = _operation(asked[number], answer)
        found.append(replace(one, after=after) if one.outcome != "unknown" else one)
        if answer and answer["t"]:  # the next thing that it asked began after it had this answer
            after = one.began
    return found[::-1]


def _operation(asked: dict[str, Any], told: dict[str, Any] | None) -> Operation:
    times = told["t"] if told else None
    return Operation(
        process=asked["p"],
        life=asked["l"],
        kind=asked["k"],
        thing=asked["x"],
        given=asked["g"],
        outcome=told["o"] if told else "unknown",
        began=times[0] if times else asked["s"],
        ended=times[1] if times else FOREVER,
        answer=(told["a"] or {}) if told else {},
    )
