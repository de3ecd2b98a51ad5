"""Bodies: JSON objects checked field by field, as X checks them: every fault at once, each with its place."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

from sandbox.x.call import Call
from sandbox.x.wire.answers import Fault, InvalidRequest

_ID = re.compile(r"[0-9]{1,19}")
MAX_SHOWN = 80  # characters of a refused value


@dataclass(kw_only=True)
class Body:
    """A JSON object at `place` (`$` for the whole body); `check` raises what its readers found wrong."""

    values: dict[str, Any]
    place: str = "$"
    faults: list[Fault] = field(default_factory=list[Fault])

    def check(self) -> None:
        """Raises InvalidRequest with every fault found so far."""
        if self.faults:
            raise InvalidRequest(*self.faults)

    def allow(self, *names: str, unserved: tuple[str, ...] = ()) -> None:
        """Refuses fields outside `names`; `unserved` ones are X's, and refused as such."""
        for name in self.values:
            if name in names:
                continue
            shown = name.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no UTF-8
            why = (
                "is not served by this sandbox yet"
                if name in unserved
                else "is not defined in the schema and the schema does not allow additional properties"
            )
            self.fault(shown, why)

    def object(self, name: str) -> "Body | None":
        """A field that is an object, whose faults are this body's."""
        value = self._typed(name, dict, "object")
        if value is None:
            return None
        return Body(values=value, place=f"{self.place}.{name}", faults=self.faults)

    def text(self, name: str) -> str | None:
        """A field that is a string."""
        return self._typed(name, str, "string")

    def flag(self, name: str) -> bool:
        """A field that is true or false; false where it is missing."""
        return bool(self._typed(name, bool, "boolean"))

    def number(self, name: str, *, least: int, most: int) -> int | None:
        """A field that is a whole number within bounds."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.fault(name, f"is [{_shown(value)}], a whole number from {least} to {most} expected")
            return None
        return value

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """A field that is one of some strings."""
        value = self.text(name)
        if value is not None and value not in allowed:
            self.fault(name, f"does not have a value in the enumeration [{', '.join(allowed)}]")
            return None
        return value

    def id(self, name: str, *, required: bool = False) -> int | None:
        """A field that is an id: a string of 1 to 19 digits."""
        value = self.text(name)
        if value is None:
            if required and name not in self.values:
                self.fault(name, "is missing but it is required")
            return None
        return self._id(name, value)

    def ids(self, name: str, *, least: int, most: int) -> list[int]:
        """A field that is a list of ids."""
        value = self._typed(name, list, "array")
        if value is None:
            return []
        if not least <= len(value) <= most:
            self.fault(name, f"has {len(value)} items, {least} to {most} expected")
        found = [self._id(f"{name}[{place}]", item) for place, item in enumerate(value[:most])]
        return [one for one in found if one is not None]

    def fault(self, name: str, why: str) -> None:
        """Keeps a fault of a field."""
        self.faults.append(Fault(message=f"{self.place}.{name}: {why}"))

    def _id(self, name: str, value: Any) -> int | None:
        if not isinstance(value, str) or not _ID.fullmatch(value):
            self.fault(name, f"is [{_shown(value)}]: does not match the regex pattern ^[0-9]{{1,19}}$")
            return None
        return int(value)

    def _typed(self, name: str, kind: type, called: str) -> Any:
        value = self.values.get(name)
        if value is None and self.values.get(name, 0) is None:
            self.fault(name, f"null found, {called} expected")
        elif value is not None and not isinstance(value, kind):
            self.fault(name, f"is [{_shown(value)}], {called} expected")
            return None
        return value


def read(call: Call) -> Body:
    """The call's body; raises InvalidRequest where it is no JSON object."""
    if call.content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest(
            Fault(message="Requests with bodies must have content-type of application/json.")
        )
    try:
        given = json.loads(call.body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(Fault(message=f"Request body is not valid JSON: {error}")) from error
    if not isinstance(given, dict):
        raise InvalidRequest(Fault(message='$: expected an object such as {"text": "Hello"}'))
    return Body(values=cast("dict[str, Any]", given))


def _shown(value: Any) -> str:
    return json.dumps(value)[:MAX_SHOWN]
