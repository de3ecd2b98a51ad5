"""Fault answers: what a client gets where faults fire; `app.py` asks for each at its place in a request."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from sandbox.x.control.connections import Reset, client_has_left
from sandbox.x.control.faults import Fired
from sandbox.x.wire.answers import PROBLEMS, Problem, Unauthorized

PATIENCE_S = 120.0  # longer than any client waits
CHUNK = b" " * 65_536
EDGE_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"


class _Refusal(Problem):
    """A refusal whose body isn't built like the others."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status, str(body.get("title", "")), str(body.get("detail", "")))
        self.body = body


def before_the_request(fired: Fired) -> Response | None:
    """The answer where the request isn't looked at."""
    if "drop_before_accepting" in fired:
        return Reset()
    if "unavailable_503" in fired:
        return HTMLResponse(EDGE_PAGE.format("503 Service Unavailable"), 503)
    return None


async def until_late(fired: Fired, request: Request) -> None:
    """Waits for the client to give up, and then longer, where acceptance is to be late."""
    if "accept_late" in fired:
        await request.body()  # whose client has left has nothing more to read
        await client_has_left(request, PATIENCE_S)
        await asyncio.sleep(fired.seconds("accept_late"))


def refuse_credentials(fired: Fired) -> None:
    """Raises Unauthorized where the tokens are revoked."""
    if "tokens_revoked" in fired:
        raise Unauthorized("tokens are revoked by a fault")


def window_seconds(fired: Fired) -> float | None:
    """In how many seconds the window resets, where it is said to be used up."""
    for name in ("rate_limited", "code_88"):
        if name in fired:
            return fired.seconds(name)
    return None


def foreign_requests(fired: Fired) -> int:
    """How many requests another app of the same user makes just before."""
    return int(fired.options["foreign_app"]["requests"]) if "foreign_app" in fired else 0


def refuse_window(fired: Fired) -> None:
    """Raises the refusal of a used-up window."""
    if "code_88" in fired:
        raise _Refusal(429, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]})
    if "rate_limited" in fired:
        raise Problem(429, "Too Many Requests", "Too Many Requests")


def refuse_account(fired: Fired, user_id: str) -> None:
    """Raises the refusals of an account whose cap or credits are used up."""
    if "usage_cap" in fired:
        period = str(fired.options["usage_cap"]["period"])
        raise _Refusal(
            429,
            {
                "account_id": user_id,
                "product_name": "sandbox",
                "title": "UsageCapExceeded",
                "period": period,
                "scope": "Product",
                "detail": f"Usage cap exceeded: {period} product cap",
                "type": f"{PROBLEMS}/usage-capped",
            },
        )
    if "credits_depleted" in fired:
        raise _Refusal(
            402,
            {
                "account_id": user_id,
                "title": "CreditsDepleted",
                "detail": f"Your enrolled account [{user_id}] has no credits left for this request.",
                "type": f"{PROBLEMS}/credits",
            },
        )


def instead(fired: Fired, response: Response) -> Response:
    """The answer to a request that was dealt with: its own, or what a fault puts in its place."""
    if "accept_then_504" in fired:
        return HTMLResponse(EDGE_PAGE.format("504 Gateway Time-out"), 504)
    if "drop_after_accepting" in fired:
        return Reset()
    return _spoiled(fired, response) if response.body else response  # a 204 has nothing to spoil


def _spoiled(fired: Fired, response: Response) -> Response:
    if "malformed_body" in fired:
        return _malformed(response, str(fired.options["malformed_body"]["shape"]))
    if "huge_body" in fired:
        return _streamed(response, _huge(bytes(response.body), int(fired.options["huge_body"]["bytes"])))
    if "slow_body" in fired:
        return _streamed(response, _slow(bytes(response.body), fired.seconds("slow_body")))
    return response


def headers(fired: Fired, true: Mapping[str, str], last: Mapping[str, str] | None) -> dict[str, str]:
    """The rate-limit headers that are sent.

    Args:
        fired: The request's faults.
        true: The request's own.
        last: The true ones of the caller's last answer from the endpoint, if there was one.
    """
    sent = dict(last if last is not None and "headers_reordered" in fired else true)
    if "early_reset" in fired:
        early_s = fired.seconds("early_reset")
        sent |= {name: str(int(int(at) - early_s)) for name, at in sent.items() if name.endswith("-reset")}
    if "headers_wrong" in fired:
        sent |= fired.options["headers_wrong"]["headers"]
    if "headers_missing" in fired:
        missing: list[str] = fired.options["headers_missing"]["headers"] or list(sent)
        sent = {name: value for name, value in sent.items() if name not in missing}
    return sent


def _malformed(response: Response, shape: str) -> Response:
    body = bytes(response.body)
    match shape:
        case "html":
            headers = {**_own_headers(response), "content-type": "text/html; charset=utf-8"}
            return Response(EDGE_PAGE.format("Over capacity"), response.status_code, headers)
        case "empty":
            body = b""
        case "list":
            body = b"[null]"
        case "types":
            body = json.dumps(_other_types(json.loads(body))).encode()
        case _:
            body = body[: len(body) // 2]
    return Response(body, response.status_code, _own_headers(response))


def _other_types(value: Any) -> Any:
    """The same JSON with numbers for texts, texts for numbers, an object for each empty list, and so on."""
    if isinstance(value, dict):
        items: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        return {name: _other_types(one) for name, one in items.items()}
    if isinstance(value, list):
        return {str(place): _other_types(one) for place, one in enumerate(value)}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - JSON
    if isinstance(value, str):
        return len(value)
    return str(value)


def _streamed(response: Response, body: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(body, response.status_code, _own_headers(response))


def _own_headers(response: Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name != "content-length"}


async def _huge(body: bytes, blanks: int) -> AsyncIterator[bytes]:
    for _ in range(blanks // len(CHUNK)):
        yield CHUNK
    yield CHUNK[: blanks % len(CHUNK)] + body


async def _slow(body: bytes, pace_s: float) -> AsyncIterator[bytes]:
    for place in range(len(body)):
        await asyncio.sleep(pace_s)
        yield body[place : place + 1]
