"""Ids: texts to callers, numbers to PostgreSQL."""

import re

from coordination.errors import InvalidValueError


def number_of(id: str, field: str) -> int:  # noqa: A002  the fleet's own word
    """Give an id as PostgreSQL takes it.

    Raises:
        InvalidValueError: it is none; names `field`.
    """
    if re.fullmatch(r"[1-9][0-9]{0,17}", id, re.ASCII):
        return int(id)
    allowed = f"the id of a {field}"
    raise InvalidValueError(
        f"{field} is {id!r}: allowed is {allowed}", field=field, value=id, allowed=allowed
    )
