"""Outcome: whether what a part of a command asks of a slot is there, and what to say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coordination.desired import Part
from host.slots.process import AT_WORK
from host.slots.slot import Slot

SUPERSEDED = "superseded by a later command"
FAILED = frozenset({"BACKOFF", "CRASH_LOOP"})
ENDS_IT = frozenset({"stop", "drain"})
"""What asks for a slot's end, and is done when the slot is gone from this host."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A part whose effect is awaited; times are monotonic seconds.

    Attributes:
        since: when it was begun; `until` is when it is given up.
        pid: the slot's process then.
        estimate: what a drain was said to take.
        in_hand: what was being done when it was told to drain.
    """

    part: Part
    since: float
    until: float
    pid: int | None
    estimate: str = ""
    in_hand: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a part."""

    succeeded: bool
    text: str


def outcome(begun: Begun, slot: Slot | None, now: float) -> Outcome | None:
    """What came of it; None while that is open."""
    part = begun.part
    if slot is None:
        return without_slot(part)
    found = _OF[part.action](begun, slot, now)
    if found is None and now >= begun.until:
        because = f" ({slot.reason})" if slot.reason else ""
        return _failed(
            f"not done within {begun.until - begun.since:.0f} s: {slot.name} is {slot.state}{because}"
        )
    return found


def without_slot(part: Part) -> Outcome:
    """What came of a part whose slot this host doesn't have."""
    name = f"{part.worker}/{part.slot}"
    return _done(f"{name} runs no more") if part.action in ENDS_IT else _failed(f"{name} is not on this host")


def estimate(slot: Slot, now: float) -> tuple[str, str]:
    """What a drain will take by the step that runs, and what is in hand; in words."""
    process, word = slot.process, slot.process.word if slot.process else None
    running_s = process.running_s(now) if process else None
    if process is None or word is None or word.step is None or running_s is None:
        return "nothing is in hand, about 1 s", ""
    usual_s = process.usual_s(word.step)
    has_run = f"{word.step} has run {running_s:.0f} s"
    if usual_s is None:
        said = f"{has_run}; how long it takes is not known yet"
    else:
        left_s = max(0.0, usual_s - running_s) + 1.0
        said = f"{has_run} of the usual {usual_s:.0f}, about {left_s:.0f} s are left"
    return said, f"{word.step}, which had run {running_s:.0f} s"


def _of_start(_begun: Begun, slot: Slot, _now: float) -> Outcome | None:
    if not slot.wanted.runs:
        return _failed(SUPERSEDED)
    if slot.state in FAILED and slot.is_idle:  # a crash loop's next try isn't judged before it ended
        return _failed(f"{slot.name} {slot.reason}")
    return _done(_is(slot)) if slot.state in AT_WORK else None


def _of_restart(begun: Begun, slot: Slot, now: float) -> Outcome | None:
    if slot.replacement_fault is not None and slot.pid == begun.pid and begun.part.mode == "surge":
        return _failed(f"{slot.name}: {slot.replacement_fault}; the old process goes on")
    is_new = slot.pid != begun.pid and slot.is_settled
    found = _of_start(begun, slot, now)
    return found if found is None or not found.succeeded or is_new else None


def _of_stop(begun: Begun, slot: Slot, now: float) -> Outcome | None:
    if slot.wanted.runs:
        return _failed(SUPERSEDED)
    return _done(_after_drain(begun, slot, now)) if slot.is_idle else None


def _of_pause(_begun: Begun, slot: Slot, _now: float) -> Outcome | None:
    if not slot.wanted.paused:
        return _failed(SUPERSEDED)
    if slot.is_idle:
        return _done(f"{slot.name} is {slot.state}: it will be paused when it runs")
    return _done(_is(slot)) if slot.state == "PAUSED" else None


def _of_resume(_begun: Begun, slot: Slot, _now: float) -> Outcome | None:
    if slot.wanted.paused:
        return _failed(SUPERSEDED)
    if slot.is_idle:
        return _done(f"{slot.name} is {slot.state}: nothing will pause it when it runs")
    if slot.state == "PAUSED" and slot.reason.startswith("flag "):
        return _done(f"{slot.name} is no more paused by a person, but {slot.reason}")
    return _done(_is(slot)) if slot.state in AT_WORK - {"PAUSED"} else None


_OF: Mapping[str, Callable[[Begun, Slot, float], Outcome | None]] = {
    "start": _of_start,
    "restart": _of_restart,
    "stop": _of_stop,
    "drain": _of_stop,
    "pause": _of_pause,
    "resume": _of_resume,
}


def _after_drain(begun: Begun, slot: Slot, now: float) -> str:
    killed = slot.reason.startswith("killed")
    if begun.part.action != "drain" or begun.pid is None:
        return f"{slot.name} is {slot.state}" + (f" ({slot.reason})" if killed else "")
    said = f" (said before: {begun.estimate})" if begun.estimate else ""
    if killed:
        hand = f"in hand was {begun.in_hand}" if begun.in_hand else "nothing was known to be in hand"
        return f"{slot.name} was {slot.reason}; {hand}{said}"
    return f"{slot.name} drained in {now - begun.since:.1f} s{said}"


def _is(slot: Slot) -> str:
    return f"{slot.name} is {slot.state}" + (f" (pid {slot.pid})" if slot.pid else "")


def _done(text: str) -> Outcome:
    return Outcome(succeeded=True, text=text)


def _failed(text: str) -> Outcome:
    return Outcome(succeeded=False, text=text)
