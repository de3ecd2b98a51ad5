"""What a person may send: which bodies are taken, and how the others are refused."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from console.answers import RefusedError
from console.orders import MAX_BODY_BYTES, Acknowledgement, CommandOrder, KillSwitchOrder, read_order

RESTART: dict[str, Any] = {"action": "restart", "selector": "poster", "reason": "the new prompt"}


def read(content: bytes, kind: type[Any] = CommandOrder) -> Any:
    pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)] or [b""]

    async def receive() -> Message:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    return asyncio.run(read_order(request, kind))


def refusal(body: object, kind: type[Any] = CommandOrder) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RefusedError) as refused:
        read(content, kind)
    assert refused.value.status == 400
    error = refused.value.body["error"]
    assert error["allowed"] in error["message"]
    return dict(error)


def test_a_command_has_what_was_sent_and_nothing_else() -> None:
    assert read(json.dumps(RESTART).encode()) == CommandOrder(
        action="restart", selector="poster", reason="the new prompt"
    )
    whole = {
        "action": "scale",
        "selector": "poster",
        "host": "alpha",
        "args": {"replicas": 3},
        "reason": " more to do ",
        "idempotency_key": "a1",
        "timeout_s": 5,
    }
    order = read(json.dumps(whole).encode())
    assert order.model_dump() == {**whole, "reason": "more to do"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"action": "explode"}, "action"),
        ({"action": None}, "action"),
        ({"selector": 5}, "selector"),
        ({"selector": ""}, "selector"),
        ({"selector": "a\nb"}, "selector"),
        ({"host": ["alpha"]}, "host"),
        ({"args": "x"}, "args"),
        ({"args": None}, "args"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 1001}, "reason"),
        ({"reason": "a\x00b"}, "reason"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 201}, "idempotency_key"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"timeout_s": 1e300}, "timeout_s"),
        ({"actor": "somebody else"}, "field"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(change: dict[str, Any], field: str) -> None:
    assert refusal({**RESTART, **change})["field"] == field


@pytest.mark.parametrize("missing", ["action", "reason"])
def test_what_is_missing_is_named(missing: str) -> None:
    error = refusal({name: value for name, value in RESTART.items() if name != missing})
    assert (error["field"], error["value"]) == (missing, None)


@pytest.mark.parametrize("kind", [CommandOrder, KillSwitchOrder, Acknowledgement])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"5", b"no", b'{"reason": NaN}', b"\xff", b"[" * 9000, b'{"a":' + b"9" * 9000]
)
def test_a_body_that_is_no_object_is_refused_with_its_fields(kind: type[Any], body: bytes) -> None:
    error = refusal(body, kind)
    assert error["field"] == "body"
    assert error["allowed"].startswith("a JSON object with ")


def test_a_field_that_stands_twice_is_refused() -> None:
    assert refusal(b'{"reason": "x", "reason": "y"}', Acknowledgement)["field"] == "reason"


def test_a_body_too_long_is_refused_without_reading_it_all() -> None:
    with pytest.raises(RefusedError) as refused:
        read(b"x" * (MAX_BODY_BYTES + 1))
    assert refused.value.status == 413


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_is_sent_is_read_or_refused(sent: object) -> None:
    with suppress(RefusedError):
        assert isinstance(read(json.dumps(sent).encode()), CommandOrder)
