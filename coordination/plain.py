"""Plain text: what came from outside and is told on, made fit for PostgreSQL.

A NUL or a lone surrogate in an error, a header or a reason must not break the one who reports it. The text
of an act is never touched: it is refused by name instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from coordination.errors import InvalidValueError

Value = TypeVar("Value")


def plain(value: Value) -> Value:
    """Give the value with every NUL and lone surrogate in its texts, keys and lists replaced by U+FFFD.

    Raises:
        InvalidValueError: it holds itself, or is nested too deep.
    """
    try:
        return cast("Value", _plain(value))
    except RecursionError:
        raise InvalidValueError("a value holds itself, or is nested too deep: allowed is JSON") from None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    return value
