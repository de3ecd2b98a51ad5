"""Ids: texts to callers, numbers to PostgreSQL."""

import re
from collections.abc import Iterable

from coordination.errors import InvalidValueError


def number_of(id: object, field: str) -> int:  # noqa: A002  the fleet's own word
    """Give an id as PostgreSQL takes it.

    Raises:
        InvalidValueError: it is none; names `field`.
    """
    text = str(id)
    if re.fullmatch(r"[1-9][0-9]{0,17}", text, re.ASCII):
        return int(text)
    noun = field.removesuffix("_id")
    allowed = f"the id of {'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    raise InvalidValueError(
        f"{field} is {id!r}: allowed is {allowed}", field=field, value=text, allowed=allowed
    )


def numbers(values: Iterable[int | str]) -> str:
    """Give whole numbers as PostgreSQL writes an array: the driver's own way looks at the type of each."""
    return "{" + ",".join(map(str, values)) + "}"
