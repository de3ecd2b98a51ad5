"""Processes: hosts, alerts, black boxes and commands, to be read and (with the token) to be asked for."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console import last_known, list_parameters
from console.answers import Json, RefusedError, bad_value
from console.connection import Connection, UnreachableError
from console.orders import Acknowledgement, CommandOrder, read_order, require_token
from console.snapshots import Sight, Snapshot, Snapshots
from coordination.alerts import acknowledge_alert, list_alerts
from coordination.black_boxes import get_black_box, list_black_boxes
from coordination.commands import ENDED, get_command, request_command
from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.hosts import list_hosts

ANSWER_TIMEOUT_S = 3.0
# A command takes the row of each worker that it changes; the database itself gives up after 5 s.
ORDER_TIMEOUT_S = 8.0
ACTOR = "console"
COMMAND_STATES = ("pending", "running", *sorted(ENDED))
ALERT_STATES = ("open", "all")

Found = TypeVar("Found")


class Processes:
    """Its routes, over the console's connection and its snapshots."""

    def __init__(self, connection: Connection, snapshots: Snapshots, *, token_file: Path) -> None:
        self._connection = connection
        self._snapshots = snapshots
        self._token_file = token_file

    def routes(self) -> list[Route]:
        """Give the addresses."""
        return [
            Route("/api/hosts", self.hosts),
            Route("/api/alerts", self.alerts),
            Route("/api/alerts/{id}/ack", self.acknowledge, methods=["POST"]),
            Route("/api/black-boxes", self.black_boxes),
            Route("/api/black-boxes/{id}", self.black_box),
            Route("/api/commands", self.commands),
            Route("/api/commands", self.command, methods=["POST"]),
            Route("/api/commands/{id}", self.one_command),
        ]

    async def hosts(self, request: Request) -> Response:
        """GET /api/hosts: every host by name, those that left too."""
        for name in request.query_params:
            raise bad_value("parameter", name, "none here")
        return await self._list(
            lambda database: [asdict(host) for host in list_hosts(database)], lambda known: known.hosts
        )

    async def alerts(self, request: Request) -> Response:
        """GET /api/alerts: the open ones, worst first; with `state=all` the cleared ones after them."""
        wanted = list_parameters.parse(request.query_params.multi_items(), states=ALERT_STATES)
        return await self._list(
            lambda database: list_alerts(database, open_only="all" not in wanted.states, n=wanted.limit),
            lambda known: known.alerts,
        )

    async def black_boxes(self, request: Request) -> Response:
        """GET /api/black-boxes: the newest first, without their reports."""
        wanted = list_parameters.parse(request.query_params.multi_items(), of_a_worker=True)
        return await self._list(
            lambda database: list_black_boxes(database, worker=wanted.worker, n=wanted.limit),
            lambda known: known.black_boxes,
        )

    async def commands(self, request: Request) -> Response:
        """GET /api/commands: the newest first, each with its parts, without what they put out."""
        wanted = list_parameters.parse(request.query_params.multi_items(), states=COMMAND_STATES)
        return await self._list(
            lambda database: database.rows(
                "list_latest_commands", states=list(wanted.states) or None, number=wanted.limit
            ),
            lambda known: known.commands,
        )

    async def black_box(self, request: Request) -> Response:
        """GET /api/black-boxes/ID: one in full."""
        return Json(await self._one(request, get_black_box, "black box", "/api/black-boxes"))

    async def one_command(self, request: Request) -> Response:
        """GET /api/commands/ID: one with its parts and what they put out."""
        return Json(await self._one(request, get_command, "command", "/api/commands"))

    async def command(self, request: Request) -> Response:
        """POST /api/commands: asks; 202 with the command's id and its parts."""
        require_token(request, self._token_file)
        order = await read_order(request, CommandOrder)
        timeout = {} if order.timeout_s is None else {"timeout_s": order.timeout_s}
        answer = await self._change(
            lambda database: request_command(
                database,
                order.action,
                selector=order.selector,
                host=order.host,
                args=order.args,
                actor=ACTOR,
                reason=order.reason,
                idempotency_key=order.idempotency_key,
                **timeout,
            ),
            "with the same idempotency_key it can be sent again: it is done once",
        )
        return Json(answer, 202)

    async def acknowledge(self, request: Request) -> Response:
        """POST /api/alerts/ID/ack: somebody has seen it; it stays open until what raised it takes it back."""
        require_token(request, self._token_file)
        order = await read_order(request, Acknowledgement)
        number = _number(request)
        if number is None:
            raise _not_there(request, "alert", "/api/alerts")
        try:
            answer = await self._change(
                lambda database: acknowledge_alert(database, number, actor=ACTOR, reason=order.reason),
                "it can be sent again",
            )
        except InvalidValueError as error:
            raise _not_there(request, "alert", "/api/alerts") if error.field == "alert" else error from None
        return Json(answer)

    async def _list(
        self, read: Callable[[Database], list[Any]], known: Callable[[Snapshot], list[Any]]
    ) -> Response:
        """Read a list, or say what was last known while the database is away."""
        sight = await self._snapshots.sight()
        if sight.fault is not None:
            return _stale(sight, known)
        return Json({"items": await self._connection.run(read, timeout_s=ANSWER_TIMEOUT_S)})

    async def _one(
        self, request: Request, read: Callable[[Database, str], Found | None], kind: str, address: str
    ) -> Found:
        number = _number(request)
        found = None
        if number is not None:
            with suppress(InvalidValueError):  # the database knows none with that id
                found = await self._connection.run(
                    lambda database: read(database, number), timeout_s=ANSWER_TIMEOUT_S
                )
        if not found:
            raise _not_there(request, kind, address)
        return found

    async def _change(self, change: Callable[[Database], Found], again: str) -> Found:
        try:
            return await self._connection.run(change, timeout_s=ORDER_TIMEOUT_S)
        except UnreachableError as error:
            if not error.begun:
                raise
            message = f"{error}; whether anything was changed is not known: {again}"
            raise RefusedError(503, message, headers={"retry-after": "2"}) from None
        finally:
            self._snapshots.forget_freshness()


def _stale(sight: Sight, known: Callable[[Snapshot], list[Any]]) -> Response:
    return Json(last_known.answer(sight, known(sight.snapshot) if sight.snapshot else []), 503)


def _number(request: Request) -> str | None:
    """The address's id as the database takes it; None for anything else."""
    text = str(request.path_params["id"])
    return text if re.fullmatch("[0-9]{1,18}", text, re.ASCII) else None


def _not_there(request: Request, kind: str, address: str) -> RefusedError:
    shown = str(request.path_params["id"])[:50]
    return RefusedError(404, f"there is no {kind} {shown!r}: GET {address} lists them")
