"""Intervals: how often a worker's duties come round, in seconds of fleet time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[[Any], None])

_ALSO = "__also_every__"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A default interval; the live one is the worker's setting."""

    seconds: float


def seconds(n: float) -> Interval:
    """An interval of `n` seconds."""
    return Interval(seconds=n)


def minutes(n: float) -> Interval:
    """An interval of `n` minutes."""
    return Interval(seconds=n * 60)


def hours(n: float) -> Interval:
    """An interval of `n` hours."""
    return Interval(seconds=n * 3600)


def also(every: Interval) -> Callable[[Method], Method]:
    """Mark a method as a further duty with an interval of its own.

    Its live setting is `<worker>_<method>_interval_s`.
    """

    def mark(method: Method) -> Method:
        setattr(method, _ALSO, every)
        return method

    return mark


@cache
def further_duties(kind: type) -> Mapping[str, Interval]:
    """The methods of a worker that `also` marked, by name."""
    found: dict[str, Interval] = {}
    for name in dir(kind):
        interval = getattr(getattr(kind, name), _ALSO, None)
        if isinstance(interval, Interval):
            found[name] = interval
    return found
