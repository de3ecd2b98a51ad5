"""Parts of commands on this host's slots: begun once, watched until their effect is there, then settled."""

from collections.abc import Callable, Iterable, Mapping

from coordination.desired import Part
from host.orders import SlotName
from host.slots.line import Line
from host.slots.log_tail import tail
from host.slots.outcome import ENDS_IT, Begun, estimate, outcome, without_slot
from host.slots.slot import Slot

LOG_LINES = 200
OUTPUT_LENGTH = 200_000
MARGIN_S = 1.0
"""Before its command times out a part says itself why it isn't done."""


class Parts:
    """The parts that this host has in hand; times are monotonic seconds."""

    def __init__(self, line: Line, slots: Mapping[SlotName, Slot], clock: Callable[[], float]) -> None:
        self._line = line
        self._slots = slots
        self._clock = clock
        self._open: dict[str, Begun] = {}
        self._settled: set[str] = set()

    def take(self, parts: Iterable[Part]) -> None:
        """Begin those that are new. All unfinished ones are offered each time."""
        offered = list(parts)
        self._settled &= {part.id for part in offered}  # those still offered were settled a moment ago
        for part in offered:
            if part.id not in self._open and part.id not in self._settled:
                self._begin(part)

    def settle(self) -> None:
        """Finish those whose effect, or whose failure, is there."""
        for entry in list(self._open.values()):
            found = outcome(entry, self._slots.get((entry.part.worker, entry.part.slot)), self._clock())
            if found is not None:
                self._finish(entry.part, succeeded=found.succeeded, text=found.text)

    def give_up(self, reason: str, *, but_ends: bool = False) -> None:
        """Fail all that are open; those that ask for a slot's end not, if `but_ends`."""
        for entry in list(self._open.values()):
            if not (but_ends and entry.part.action in ENDS_IT):
                self._finish(entry.part, succeeded=False, text=reason)

    def _begin(self, part: Part) -> None:
        slot = self._slots.get((part.worker, part.slot))
        if slot is None:
            gone = without_slot(part)
            self._finish(part, succeeded=gone.succeeded, text=gone.text)
            return
        now = self._clock()
        entry = Begun(part=part, since=now, until=now + max(part.remaining_s - MARGIN_S, 0.1), pid=slot.pid)
        match part.action:
            case "logs":
                self._send_log(part, slot)
                return
            case "restart":
                if not slot.wanted.runs:
                    text = f"{part.worker} is stopped: start it with: socialfleet start {part.worker}"
                    self._finish(part, succeeded=False, text=text)
                    return
                entry = self._restart(entry, slot)
            case "start":
                slot.start()  # one in backoff starts at once
            case "stop" | "drain":
                entry = self._drain(entry, slot)
            case _:
                pass
        self._open[part.id] = entry

    def _restart(self, entry: Begun, slot: Slot) -> Begun:
        part, process = entry.part, slot.process
        reason = str(part.args.get("reason") or "a person restarts it")
        if process is not None and self._clock() - process.born_at < part.age_s:
            # An earlier manager process began this part, and this is the process that came of it.
            return Begun(part=part, since=entry.since, until=entry.until, pid=None)
        if part.mode == "surge" and not slot.wanted.singleton:
            slot.replace(reason)
        else:
            slot.restart(reason)
        return entry

    def _drain(self, entry: Begun, slot: Slot) -> Begun:
        if slot.wanted.runs or slot.process is None:
            return entry
        part = entry.part
        if part.action == "drain":
            slot.allow(max(part.remaining_s - 2 * MARGIN_S, 1.0))
        said, in_hand = estimate(slot, self._clock())
        if part.action == "drain":
            self._line.tell(part.id, f"{slot.name} drains: {said}")
        return Begun(
            part=part, since=entry.since, until=entry.until, pid=entry.pid, estimate=said, in_hand=in_hand
        )

    def _send_log(self, part: Part, slot: Slot) -> None:
        lines = tail(slot.log.path, int(part.args.get("lines") or LOG_LINES))
        output = "\n".join(lines)[-OUTPUT_LENGTH:]
        self._finish(part, succeeded=True, text=f"{slot.name}: {len(lines)} lines", output=output)

    def _finish(self, part: Part, *, succeeded: bool, text: str, output: str | None = None) -> None:
        self._open.pop(part.id, None)
        self._settled.add(part.id)
        self._line.finish(part.id, succeeded=succeeded, text=text, output=output)
