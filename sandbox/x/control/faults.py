"""Faults: how the sandbox misbehaves while it is told to.

`fault_kinds.KINDS` is the whole list, in the order in which a request asks them. Of several that match, the
first that ends the request is the last that is asked; those before it apply together, one of a kind. A fault
with a count fires at the next so many requests that ask it, one with a probability draws from its own seeded
generator at each, one with neither fires until it is cleared. So the same faults, seeds and order of
requests give the same decisions. Faults live in the process alone: a sandbox that was killed or stopped
starts without any.

FaultError       a fault can't be armed; the text names field, value and what is allowed
"""

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.x.control.fault_kinds import KINDS, Kind, is_number, is_whole

MAX_COUNT = 1_000_000
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class FaultError(ValueError):
    """A fault can't be armed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} is {json.dumps(value, default=str)[:120]}: expected {allowed}")
        self.field = name
        self.value = value
        self.allowed = allowed


@dataclass(kw_only=True)
class Fault:
    """An armed fault; `left` is what remains of its count, `fired` how often it did."""

    id: int
    kind: Kind
    path: str
    count: int | None
    probability: float | None
    seed: int
    options: Mapping[str, Any]
    methods: frozenset[str]
    pattern: re.Pattern[str]
    chance: random.Random
    left: int | None
    fired: int = 0

    def view(self) -> dict[str, Any]:
        """The fault as JSON."""
        rule = {"count": self.count, "left": self.left, "probability": self.probability, "seed": self.seed}
        return {
            "id": self.id,
            "fault": self.kind.name,
            "path": self.path,
            **{name: value for name, value in rule.items() if value is not None},
            **self.options,
            "fired": self.fired,
        }

    def fires(self) -> bool:
        """Whether it fires at the next request that asks it."""
        if self.probability is not None:
            fires = self.chance.random() < self.probability
        elif self.left is not None:
            fires = self.left > 0
            self.left -= fires
        else:
            fires = True
        self.fired += fires
        return fires


@dataclass(frozen=True, kw_only=True)
class Fired:
    """The faults that fire at one request, with their own fields."""

    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def __contains__(self, name: str) -> bool:
        return name in self.options

    def seconds(self, name: str) -> float:
        """The fault's `seconds`; 0 where it doesn't fire."""
        return float(self.options[name]["seconds"]) if name in self.options else 0.0


class Faults:
    """The armed faults."""

    def __init__(self, is_written: Callable[[str], bool]) -> None:
        """No fault; `is_written` tells whether writes are made to a path."""
        self._is_written = is_written
        self._armed: list[Fault] = []
        self._ids = 0

    def arm(self, given: object) -> Fault:
        """Arms what a JSON object such as {"fault": "delay", "path": "/2/tweets", "count": 1} names.

        Raises:
            FaultError: names the field, its value and what is allowed.
        """
        fault = _read(given, self._ids + 1)
        self._ids += 1
        self._armed.append(fault)
        order = list(KINDS)
        self._armed.sort(key=lambda one: (order.index(one.kind.name), one.id))
        return fault

    def armed(self) -> list[Fault]:
        """Every fault since the last `clear`, also those whose count is used up, in the order of arming."""
        return sorted(self._armed, key=lambda one: one.id)

    def clear(self) -> int:
        """Disarms all; gives how many there were."""
        count = len(self._armed)
        self._armed.clear()
        return count

    def ask(self, method: str, path: str) -> Fired:
        """Which faults fire at a request; each question counts."""
        fired: dict[str, Mapping[str, Any]] = {}
        for fault in self._armed:
            name = fault.kind.name
            if name not in fired and self._matches(fault, method, path) and fault.fires():
                fired[name] = fault.options
                if fault.kind.ends:
                    break
        return Fired(options=fired)

    def _matches(self, fault: Fault, method: str, path: str) -> bool:
        if fault.pattern.fullmatch(path) is None:
            return False
        if fault.methods:
            return method in fault.methods
        match fault.kind.asks:
            case "any":
                return True
            case "reads":
                return method == "GET"
            case "writes":
                return method != "GET"
            case "accepts":
                return method != "GET" or not self._is_written(path)


_OWN = ("fault", "path", "count", "probability", "seed")
_PATH = "a path such as /2/tweets, one that ends in / or holds * or :id, with a method before it or without"


def _read(given: object, number: int) -> Fault:
    if not isinstance(given, dict):
        raise FaultError(
            "body", given, 'an object such as {"fault": "delay", "path": "/2/tweets", "count": 1}'
        )
    values: dict[str, Any] = given  # pyright: ignore[reportUnknownVariableType] - JSON
    kind = KINDS.get(str(values.get("fault")))
    if kind is None:
        raise FaultError("fault", values.get("fault"), f"one of {', '.join(KINDS)}")
    count, probability = _rule(values)
    seed = values.get("seed", 0)
    if not is_whole(0, 2**63 - 1)(seed):
        raise FaultError("seed", seed, "a whole number from 0 to 2^63-1")
    path = values.get("path", "/")
    methods, pattern = _pattern(path)
    return Fault(
        id=number,
        kind=kind,
        path=path,
        count=count,
        probability=probability,
        seed=seed,
        options=_options(kind, values),
        methods=methods,
        pattern=pattern,
        chance=random.Random(seed),  # noqa: S311 - repeatable on purpose
        left=count,
    )


def _rule(values: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """The count or the probability; neither is "until it is cleared"."""
    count, probability = values.get("count"), values.get("probability")
    if count is not None and not is_whole(1, MAX_COUNT)(count):
        raise FaultError("count", count, f"a whole number from 1 to {MAX_COUNT}")
    if probability is not None and not is_number(0, 1)(probability):
        raise FaultError("probability", probability, "a number from 0 to 1")
    if count is not None and probability is not None:
        raise FaultError("probability", probability, "none beside a count: one of the two, or neither")
    return count, probability


def _options(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {option.name: option for option in kind.options}
    for name, value in values.items():
        if name not in _OWN and name not in known:
            raise FaultError(name, value, f"no such field: {kind.name} has {', '.join((*_OWN, *known))}")
        if name in known and not known[name].check(value):
            raise FaultError(name, value, known[name].allowed)
    return {name: values.get(name, option.default) for name, option in known.items()}


def _pattern(path: object) -> tuple[frozenset[str], re.Pattern[str]]:
    """`*` stands for anything, `:id` and `{id}` for one part; a path that ends in / means all below it."""
    if not isinstance(path, str):
        raise FaultError("path", path, _PATH)
    method, _, rest = path.rpartition(" ")
    if (method and method not in METHODS) or not rest.startswith("/") or not rest.isprintable():
        raise FaultError("path", path, _PATH)
    parts = re.split(r"(\*|(?<=/):\w+|(?<=/)\{\w+\})", rest)
    stands_for = {"*": ".*", ":": "[^/]+", "{": "[^/]+"}
    pattern = "".join(
        stands_for[part[0]] if place % 2 else re.escape(part) for place, part in enumerate(parts)
    )
    return frozenset({method} if method else ()), re.compile(pattern + (".*" if rest.endswith("/") else ""))
