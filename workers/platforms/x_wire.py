"""What a value in X's answers must be before anything here works with it.

Whatever is let in can be stored, compared and shown: a text without the characters that a database
refuses, a count that fits 64 bits, an instant with its zone. Null says the same as absence.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    model_validator,
)

INTEGER_CAP = 2**63 - 1  # X's ids are 64 bits wide, and so is a column
TEXT_CAP = 100_000  # X's longest post has 25,000 characters, and an escape makes up to five of one
FIRST_YEAR, LAST_YEAR = 2006, 2099  # X's first post; what an id of 64 bits can date
ISO_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", re.ASCII)


def _in_64_bits(value: str) -> str:
    if int(value) > INTEGER_CAP:
        raise ValueError("must fit 64 bits")
    return value


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold U+0000")
    return value


def _iso(value: Any) -> Any:
    if not isinstance(value, str | datetime) or (isinstance(value, str) and not ISO_INSTANT.match(value)):
        raise ValueError("must be a date and time as ISO 8601 writes them")
    return value


def _in_x_years(value: datetime) -> datetime:
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}")
    return value.astimezone(UTC)


Id = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,19}$"), AfterValidator(_in_64_bits)]
Username = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_]{1,50}$")]
Text = Annotated[str, StringConstraints(strict=True, max_length=TEXT_CAP), AfterValidator(_without_nul)]
Count = Annotated[StrictInt, Field(ge=0, le=INTEGER_CAP)]
Instant = Annotated[AwareDatetime, BeforeValidator(_iso), AfterValidator(_in_x_years)]


class Wire(BaseModel):
    """A value as X writes it: unknown keys are left aside, nulls are taken for absent."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, item: Any) -> Any:
        if not isinstance(item, dict):
            return item
        fields = cast("dict[Any, Any]", item)
        return {key: value for key, value in fields.items() if value is not None}
