"""Local orders: what persons asked of this host's manager itself, kept until the database has it.

They go before what the database says, which may be away or not know them yet; a manager process that follows
a killed one finds them in a file.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime  # noqa: TC003  an attribute's annotation is read at run time
from pathlib import Path
from typing import Any
from uuid import uuid4

from coordination.desired import WantedSlot
from host.local_line import Request, RequestRefusedError
from host.orders import SlotName
from host.postgres_places import write_whole
from host.slots.line import Line
from host.slots.slot import Slot
from host.slots.snapshot import as_json
from host.state_directory import LOCAL_ORDERS


@dataclass(frozen=True, kw_only=True)
class _Given:
    """One request that the database doesn't have yet, and the slots that it meant."""

    request: Request
    slots: Sequence[SlotName]
    key: str = field(default_factory=lambda: uuid4().hex)


class LocalOrders:
    """Carries them out at once and has them audited."""

    def __init__(
        self,
        state: Path,
        line: Line,
        slots: Mapping[SlotName, Slot],
        clock: Callable[[], float],
    ) -> None:
        self._file = state / LOCAL_ORDERS
        self._line = line
        self._slots = slots
        self._clock = clock
        self._given: list[_Given] = []
        self.is_closed = False
        """Whether nothing is started or stopped any more."""
        self.stale_since: datetime | None = None
        """When the database last answered; None while it does."""

    def resume(self) -> None:
        """Go on with those that an earlier manager process left; told again, each is audited once."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            for kept in json.loads(self._file.read_text("utf-8")):
                slots = [(str(worker), int(slot)) for worker, slot in kept["slots"]]
                self._keep(_Given(request=Request(**kept["request"]), slots=slots, key=str(kept["key"])))

    def overridden(self, name: SlotName, wanted: WantedSlot) -> WantedSlot:
        """What a person wants of a slot by the newest order, else what the database says."""
        for given in reversed(self._given):
            if name in given.slots and given.request.do in {"start", "stop"}:
                runs = given.request.do == "start"
                if runs != wanted.runs:
                    return replace(wanted, runs=runs, reason="" if runs else _reason(given.request))
                break
        return wanted

    def answer(self, request: Request) -> Mapping[str, Any]:
        """Carry a request out and say how it stands.

        Raises:
            RequestRefusedError: no such slot, or the fleet is stopping.
        """
        named = self._named(request.name)
        text = ""
        if request.do != "status":
            if self.is_closed:
                raise RequestRefusedError("the fleet is stopping: nothing is started or stopped any more")
            if request.do == "restart" and not any(self._slots[name].wanted.runs for name in named):
                raise RequestRefusedError(
                    f"{request.name} is stopped: start it with: socialfleet start {request.name}"
                )
            self._keep(_Given(request=request, slots=named))
            for name in named:
                self._carry_out(request, self._slots[name])
            text = ", ".join(f"{self._slots[name].name} is {self._slots[name].state}" for name in named)
            if self._line.is_away:
                text += "; it is audited when the database is back"
        slots = [self._slots[name] for name in named]
        seen = as_json(slots, now=self._clock(), stale_since=self.stale_since)
        return {"ok": True, "text": text, "slots": seen["slots"], "stale_since": seen["stale_since"]}

    def _carry_out(self, request: Request, slot: Slot) -> None:
        if request.do == "restart":
            slot.restart(_reason(request))
        else:
            slot.want(self.overridden((slot.worker, slot.slot), slot.wanted))
            slot.start()

    def _keep(self, given: _Given) -> None:
        self._given.append(given)
        self._write()
        request = given.request
        self._line.audit_later(
            request.do,
            request.name,
            request.actor,
            request.reason,
            lambda: self._drop(given),
            key=given.key,
        )

    def _drop(self, given: _Given) -> None:
        self._given = [each for each in self._given if each is not given]
        self._write()

    def _write(self) -> None:
        with suppress(OSError):  # a disk that is full: it is carried out all the same
            if self._given:
                kept = [
                    {"request": asdict(each.request), "slots": each.slots, "key": each.key}
                    for each in self._given
                ]
                write_whole(self._file, json.dumps(kept), mode=0o600)
            else:
                self._file.unlink(missing_ok=True)

    def _named(self, selector: str) -> list[SlotName]:
        named = [name for name in sorted(self._slots) if selector in {"*", name[0], f"{name[0]}/{name[1]}"}]
        if not named and selector != "*":
            here = ", ".join(f"{worker}/{slot}" for worker, slot in sorted(self._slots)) or "none"
            raise RequestRefusedError(f"{selector} has no slot on this host; those here: {here}")
        return named


def _reason(request: Request) -> str:
    return f"{request.reason or 'no reason given'} ({request.actor or 'somebody'}, on this host)"
