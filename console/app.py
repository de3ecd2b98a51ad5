"""App: the console's addresses and what each of them answers. docs/reference/http-api.md describes them."""

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console import last_known, list_parameters, local, metrics
from console.answers import Json, RefusedError, bad_value
from console.connection import Connection, UnreachableError
from console.guard import Guard
from console.intent_parameters import parse
from console.orders import KillSwitchOrder, read_order, require_token
from console.overview import overview
from console.processes import Processes
from console.snapshots import Snapshots
from coordination.candidates import CANDIDATE_STATES, list_candidates
from coordination.database import Database
from coordination.errors import FleetError, InvalidValueError
from coordination.kill_switch import set_kill_switch
from coordination.lists import list_intents
from coordination.status import list_slots

ANSWER_TIMEOUT_S = 3.0
# set_kill_switch itself waits up to 5 s for sends that are being begun.
KILL_SWITCH_TIMEOUT_S = 8.0
MANAGER_SILENT_S = 15.0
STATIC = {
    "/": ("index.html", "text/html"),
    "/static/console.css": ("console.css", "text/css"),
    "/static/acts.js": ("acts.js", "text/javascript"),
    "/static/black_box.js": ("black_box.js", "text/javascript"),
    "/static/console.js": ("console.js", "text/javascript"),
    "/static/elements.js": ("elements.js", "text/javascript"),
    "/static/order.js": ("order.js", "text/javascript"),
    "/static/processes.js": ("processes.js", "text/javascript"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Console:
    """What the application serves: a connection to the database and the state directory of its host."""

    def __init__(self, connection: Connection, *, state: Path) -> None:
        self._connection = connection
        self._snapshots = Snapshots(connection)
        self._state = state
        self._token_file = state / "console.token"
        self._processes = Processes(connection, self._snapshots, token_file=self._token_file)

    async def keep_fresh(self) -> None:
        """Read the fleet also while nobody asks, until cancelled."""
        await self._snapshots.keep_fresh()

    def application(self) -> Starlette:
        """Give the ASGI application."""
        return Starlette(
            routes=[
                *[_static(path, *entry) for path, entry in STATIC.items()],
                Route("/health/live", self.live),
                Route("/health/ready", self.ready),
                Route("/metrics", self.metrics),
                Route("/api/overview", self.overview),
                Route("/api/workers/status", self.workers),
                Route("/api/intents", self.intents),
                Route("/api/intents/{intent}", self.intent),
                Route("/api/candidates", self.candidates),
                Route("/api/kill-switch", self.kill_switch, methods=["POST"]),
                *self._processes.routes(),
            ],
            middleware=[Middleware(Guard)],
            exception_handlers={
                RefusedError: _refused,
                UnreachableError: _unreachable,
                FleetError: _failed,
                HTTPException: _http_error,
            },
        )

    async def live(self, _request: Request) -> Response:
        """GET /health/live: this process answers; no database is asked."""
        return Json({"status": "live"})

    async def ready(self, _request: Request) -> Response:
        """GET /health/ready: 200 when the database answers and a manager reports, else 503 with reasons."""
        sight = await self._snapshots.sight()
        reasons: list[str] = []
        if sight.fault is not None or sight.snapshot is None:
            reasons.append(f"database: {sight.fault}")
        elif sight.snapshot.manager_age_s is None:
            reasons.append("manager: none has reported its slots yet")
        elif sight.snapshot.manager_age_s > MANAGER_SILENT_S:
            reasons.append(f"manager: silent for {sight.snapshot.manager_age_s:.0f} s")
        if reasons:
            return Json({"status": "not ready", "reasons": reasons}, 503)
        return Json({"status": "ready"})

    async def metrics(self, _request: Request) -> Response:
        """GET /metrics: for Prometheus; answers also while the database is away."""
        text = metrics.exposition(await self._snapshots.sight())
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    async def overview(self, _request: Request) -> Response:
        """GET /api/overview: what the page shows; the last known state while the database is away."""
        sight = await self._snapshots.sight()
        # While the database answers it knows more than one host's manager does.
        word = None if sight.fault is None else local.read(self._state)
        return Json(overview(sight, word))

    async def workers(self, _request: Request) -> Response:
        """GET /api/workers/status: a list, one item a slot; the newest known while the database is away."""
        sight = await self._snapshots.sight()
        if sight.fault is None:
            try:  # as it is now: who has just changed a worker looks here for what came of it
                slots = await self._connection.run(list_slots, timeout_s=ANSWER_TIMEOUT_S)
                return Json([slot.as_json() for slot in slots])
            except UnreachableError as error:
                self._snapshots.forget_freshness()
                sight = replace(await self._snapshots.sight(), fault=str(error))
        word = local.read(self._state)
        return Json(last_known.answer(sight, last_known.slots(sight, word), word), 503)

    async def intents(self, request: Request) -> Response:
        """GET /api/intents: filtered, newest change first, a page at a time."""
        wanted = parse(request.query_params.multi_items())
        page = await self._connection.run(
            lambda database: list_intents(database, wanted), timeout_s=ANSWER_TIMEOUT_S
        )
        return Json({"items": page.items, "next": str(page.next) if page.next else None})

    async def intent(self, request: Request) -> Response:
        """GET /api/intents/ID: one intent with its transitions and attempts."""
        number = str(request.path_params["intent"])
        found = None
        if re.fullmatch("[0-9]{1,18}", number, re.ASCII):
            found = await self._connection.run(
                lambda database: _intent(database, int(number)), timeout_s=ANSWER_TIMEOUT_S
            )
        if found is None:
            raise RefusedError(404, f"there is no intent {number[:50]!r}: GET /api/intents lists them")
        return Json(found)

    async def candidates(self, request: Request) -> Response:
        """GET /api/candidates: those that wait, the best first, then the decided ones."""
        wanted = list_parameters.parse(request.query_params.multi_items(), states=CANDIDATE_STATES)
        items = await self._connection.run(
            lambda database: list_candidates(database, states=wanted.states, n=wanted.limit),
            timeout_s=ANSWER_TIMEOUT_S,
        )
        return Json({"items": items})

    async def kill_switch(self, request: Request) -> Response:
        """POST /api/kill-switch: throws or lifts it, for whoever holds the console's token."""
        require_token(request, self._token_file)
        order = await read_order(request, KillSwitchOrder)
        try:
            answer = await self._connection.run(
                lambda database: set_kill_switch(database, on=order.on, actor="console", reason=order.reason),
                timeout_s=KILL_SWITCH_TIMEOUT_S,
            )
        finally:
            self._snapshots.forget_freshness()
        return Json(answer)


def _static(path: str, name: str, media_type: str) -> Route:
    content = (files("console") / "static" / name).read_bytes()

    async def serve(_request: Request) -> Response:
        return Response(content, media_type=media_type)

    return Route(path, serve)


def _intent(database: Database, number: int) -> dict[str, Any] | None:
    found: dict[str, Any] | None = database.call("get_intent", intent=number)
    return found and {
        **found,
        "transitions": database.rows("list_transitions", intent=number),
        "attempts": database.rows("list_attempts", intent=number),
    }


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101  starlette's type is wider than what it is called with
    return Json(error.body, error.status, headers=error.headers)


async def _unreachable(_request: Request, error: Exception) -> Response:
    begun = isinstance(error, UnreachableError) and error.begun
    outcome = "whether anything was changed is not known: look at GET /api/overview" if begun else ""
    return Json(
        {"error": {"message": f"{error}; {outcome or 'nothing was changed'}"}},
        503,
        headers={"retry-after": "2"},
    )


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, InvalidValueError):
        refused = bad_value(error.field or "value", error.value, error.allowed or str(error))
        return Json(refused.body, refused.status)
    return await _unreachable(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  as above
    known = {
        404: f"there is nothing at {request.url.path[:100]!r}",
        405: f"{request.method} is not possible here",
    }
    message = known.get(error.status_code, error.detail)
    return Json({"error": {"message": message}}, error.status_code, headers=dict(error.headers or {}))
