"""Fault kinds: what the sandbox can be told to do wrong, in the order in which requests ask."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

MAX_DELAY_S = 600.0
MAX_BODY_BYTES = 2**32
SHAPES = ("cut", "html", "empty", "list", "types")
PERIODS = ("Monthly", "Daily")
RATE_LIMIT_HEADER = re.compile(r"x-(rate|app|user)-limit-[a-z0-9-]+")

Check = Callable[[object], bool]


@dataclass(frozen=True, kw_only=True)
class Option:
    """A field of its own that a fault has: what it is without one, and what it may be."""

    name: str
    default: object
    allowed: str
    check: Check


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one fault does.

    Attributes:
        name: As it is armed.
        does: What a client meets.
        asks: Which requests ask it: any, those that read (GET), those that write; `accepts` is any but a
            read of a path that is also written to.
        ends: Whether the request is over with it.
        options: Its own fields.
    """

    name: str
    does: str
    asks: Literal["any", "reads", "writes", "accepts"] = "any"
    ends: bool = False
    options: tuple[Option, ...] = ()


def is_number(least: float, most: float) -> Check:
    """The check for a number between two bounds, both allowed."""

    def check(value: object) -> bool:
        return not isinstance(value, bool) and isinstance(value, int | float) and least <= value <= most

    return check


def is_whole(least: int, most: int) -> Check:
    """The same for a whole number."""

    def check(value: object) -> bool:
        return not isinstance(value, bool) and isinstance(value, int) and least <= value <= most

    return check


def _are_names(value: object) -> bool:
    items: list[object] = list(value) if isinstance(value, list) else [None]  # pyright: ignore[reportUnknownArgumentType] - JSON
    return bool(items) and all(isinstance(one, str) and RATE_LIMIT_HEADER.fullmatch(one) for one in items)


def _are_values(value: object) -> bool:
    items: dict[object, object] = dict(value) if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownArgumentType] - JSON
    return _are_names(list(items)) and all(
        isinstance(one, str) and one.isascii() and one.isprintable() for one in items.values()
    )


def _seconds(default: float) -> Option:
    allowed = f"a number of seconds from 0 to {MAX_DELAY_S:g}"
    return Option(name="seconds", default=default, allowed=allowed, check=is_number(0, MAX_DELAY_S))


def _window_seconds(default: float) -> Option:
    allowed = "a number of seconds from 0 to 86400"
    return Option(name="seconds", default=default, allowed=allowed, check=is_number(0, 86_400))


def _one_of(name: str, allowed: tuple[str, ...]) -> Option:
    return Option(
        name=name,
        default=allowed[0],
        allowed=f"one of {', '.join(allowed)}",
        check=lambda one: one in allowed,
    )


FAULTS = (
    Kind(
        name="lagging_timeline",
        does="timelines and searches don't show what is younger than `seconds`",
        asks="reads",
        options=(_window_seconds(60),),
    ),
    Kind(name="duplicate_check_off", does="a text that was posted before is accepted again", asks="writes"),
    Kind(
        name="drop_before_accepting",
        does="the connection is reset before the request is looked at",
        asks="accepts",
        ends=True,
    ),
    Kind(name="unavailable_503", does="503, as from an edge: no headers of X, nothing counted", ends=True),
    Kind(
        name="accept_late",
        does="the request is looked at only `seconds` after its client has given up (at most 120 s later)",
        asks="accepts",
        options=(_seconds(0),),
    ),
    Kind(
        name="delay",
        does="the request is dealt with at once, its answer comes `seconds` later",
        options=(_seconds(5),),
    ),
    Kind(name="tokens_revoked", does="401, whatever the credentials", ends=True),
    Kind(
        name="rate_limited",
        does="429 with nothing remaining; the window resets in `seconds`",
        ends=True,
        options=(_window_seconds(60),),
    ),
    Kind(
        name="code_88",
        does="429 in the older form: `errors` with code 88; the window resets in `seconds`",
        ends=True,
        options=(_window_seconds(60),),
    ),
    Kind(
        name="usage_cap",
        does="429 of the type usage-capped, while the window has room; `period` names the cap's",
        ends=True,
        options=(_one_of("period", PERIODS),),
    ),
    Kind(
        name="window_ends",
        does="the caller's windows end before their time, and new ones begin with the request",
    ),
    Kind(
        name="foreign_app",
        does="another app of the same user makes `requests` requests just before, in the same windows",
        options=(
            Option(
                name="requests",
                default=1,
                allowed="a whole number from 1 to 10000",
                check=is_whole(1, 10_000),
            ),
        ),
    ),
    Kind(name="credits_depleted", does="402: the account has no credits left", ends=True),
    Kind(
        name="accept_then_504",
        does="the request is dealt with, the answer is 504 in HTML, as from an edge",
        asks="accepts",
        ends=True,
    ),
    Kind(
        name="drop_after_accepting",
        does="the request is dealt with, then the connection is reset",
        asks="accepts",
        ends=True,
    ),
    Kind(
        name="headers_reordered",
        does="the rate-limit headers are those of the caller's last answer from this endpoint",
    ),
    Kind(
        name="early_reset",
        does="the window is said to reset `seconds` sooner than it does",
        options=(_window_seconds(600),),
    ),
    Kind(
        name="headers_wrong",
        does="rate-limit headers have the values in `headers`",
        options=(
            Option(
                name="headers",
                default={
                    "x-rate-limit-limit": "many",
                    "x-rate-limit-remaining": "-1",
                    "x-rate-limit-reset": "99999999999999999999",
                },
                allowed='an object of rate-limit headers such as {"x-rate-limit-remaining": "-1"}',
                check=_are_values,
            ),
        ),
    ),
    Kind(
        name="headers_missing",
        does="rate-limit headers are left out: those in `headers`, or all",
        options=(
            Option(
                name="headers",
                default=None,
                allowed='a list of rate-limit headers such as ["x-rate-limit-reset"], or none for all',
                check=_are_names,
            ),
        ),
    ),
    Kind(
        name="malformed_body",
        does="the body is broken: `shape` is cut (half of it), html, empty, list ([null]) or types (numbers "
        "where texts are due, and the reverse)",
        ends=True,
        options=(_one_of("shape", SHAPES),),
    ),
    Kind(
        name="huge_body",
        does="`bytes` blanks stand before the body, which is good JSON; its length isn't announced",
        ends=True,
        options=(
            Option(
                name="bytes",
                default=64 * 2**20,
                allowed=f"a whole number from 1 to {MAX_BODY_BYTES}",
                check=is_whole(1, MAX_BODY_BYTES),
            ),
        ),
    ),
    Kind(
        name="slow_body",
        does="the body comes byte by byte, one in `seconds`",
        ends=True,
        options=(_seconds(0.5),),
    ),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in FAULTS}
