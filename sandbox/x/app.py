"""App: the ASGI application. API paths pass faults, then credentials, then limits, then their endpoint.

The sandbox's own record and pages want no credentials. Whoever asks for them must name this machine, or X,
as the host: a stranger's page could otherwise read them under a name of its own that leads here (DNS
rebinding).
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, compile_path

from sandbox.x import rate_limits
from sandbox.x.auth import Caller, Gate
from sandbox.x.call import Answer, Call, Endpoint, Redirect
from sandbox.x.control import fault_answers
from sandbox.x.control.clock import Clock, Dated
from sandbox.x.control.connections import Reset
from sandbox.x.control.control import Control
from sandbox.x.control.faults import Faults, Fired
from sandbox.x.endpoints import ENDPOINTS
from sandbox.x.pages.site import Site
from sandbox.x.rate_limits import Limits, Usage
from sandbox.x.store.store import Store
from sandbox.x.wire import headers, views
from sandbox.x.wire.answers import NotFound, Problem, TooManyRequests
from sandbox.x.wire.parameters import Query
from sandbox.x.world.living import Living

Handler = Callable[[Request], Awaitable[Response]]

HOST = re.compile(
    r"(127\.0\.0\.1|localhost|\[::1\]|api\.x\.com|api\.twitter\.com)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_WRITTEN = [compile_path(endpoint.path)[0] for endpoint in ENDPOINTS if endpoint.method != "GET"]
LastHeaders = dict[tuple[str, str], dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """What the application serves: a store behind a gate. It runs on one thread, like the store.

    Attributes:
        store: What it remembers.
        gate: Who may call.
        tier: The account's access level.
        world: The name of other people's posts.
        clock: Its time.
        living: What other people do as that time goes by.
        token: Who holds it may change faults and clock.
        faults: How it misbehaves.
        limits: How many requests its windows take.
        last_headers: The rate-limit headers of the last answer to each caller from each endpoint.
    """

    store: Store
    gate: Gate
    tier: str
    world: str
    clock: Clock
    living: Living
    token: str
    faults: Faults = field(default_factory=lambda: Faults(_is_written))
    limits: Limits = field(default_factory=Limits)
    last_headers: LastHeaders = field(default_factory=LastHeaders)

    def application(self) -> Starlette:
        """The ASGI application."""
        control = Control(
            token=self.token,
            faults=self.faults,
            clock=self.clock,
            limits=self.limits,
            counts=self.store.counts,
        )
        site = Site(
            store=self.store,
            clock=self.clock,
            faults=self.faults,
            live=self.living.until,
            tier=self.tier,
            world=self.world,
        )
        return Starlette(
            middleware=[Middleware(Dated, clock=self.clock)],
            routes=[
                Route("/_sandbox/faults", _for_known_hosts(control.faults), methods=METHODS),
                Route("/_sandbox/clock", _for_known_hosts(control.clock), methods=METHODS),
                Route("/_sandbox/limits", _for_known_hosts(control.limits), methods=METHODS),
                Route("/_sandbox/writes", _for_known_hosts(self.writes)),
                Route("/_sandbox/requests", _for_known_hosts(self.requests)),
                Route("/_sandbox/health", _for_known_hosts(self.health)),
                Route("/", _for_known_hosts(site.timeline)),
                Route("/posts/{post_id}", _for_known_hosts(site.post)),
                Route("/people/{name}", _for_known_hosts(site.person)),
                Route("/sandbox.css", _for_known_hosts(site.style)),
                *[
                    Route(endpoint.path, self.api(endpoint), methods=[endpoint.method])
                    for endpoint in ENDPOINTS
                ],
                Route("/{path:path}", self.api(None), methods=METHODS),
            ],
        )

    # X's API

    def api(self, endpoint: Endpoint | None) -> Handler:
        """The handler of one endpoint, or of every path that has none."""

        async def handle(request: Request) -> Response:
            received_ms = self.clock.now_ms()
            fired = self.faults.ask(request.method, request.url.path)
            caller, response = None, fault_answers.before_the_request(fired)
            if response is None:
                with suppress(ClientDisconnect):
                    await fault_answers.until_late(fired, request)
                    caller, response = await self._deal_with(endpoint, request, fired)
                response = fault_answers.instead(fired, response or Reset())
            self.store.add_request(
                at_ms=received_ms,
                method=request.method,
                path=request.url.path,
                account=caller.name if caller else None,
                endpoint=endpoint.name if endpoint else None,
                status=response.status_code,
            )
            await asyncio.sleep(fired.seconds("delay"))
            return response

        return handle

    async def _deal_with(
        self, endpoint: Endpoint | None, request: Request, fired: Fired
    ) -> tuple[Caller | None, Response]:
        now_ms = self.clock.now_ms()
        caller: Caller | None = None
        usages: list[Usage] = []
        try:
            fault_answers.refuse_credentials(fired)
            caller = self._caller(endpoint, request, now_ms)
            if endpoint is None:
                raise NotFound
            usages = self._take(endpoint, caller, now_ms, fired)
            if not all(usage.allowed for usage in usages):
                fault_answers.refuse_window(fired)
                raise TooManyRequests
            fault_answers.refuse_account(fired, str(self.store.account.id))
            call = await self._call(endpoint, request, caller, now_ms, fired)
            self.living.until(now_ms)
            response = _response(endpoint.serve(self.store, call), endpoint.status)
        except Problem as problem:
            response = JSONResponse(problem.body, problem.status, media_type="application/problem+json")
        response.headers.update(self._limit_headers(endpoint, caller, usages, fired))
        response.headers.update(headers.standing(caller))
        return caller, response

    def _limit_headers(
        self, endpoint: Endpoint | None, caller: Caller | None, usages: list[Usage], fired: Fired
    ) -> dict[str, str]:
        if endpoint is None or caller is None or not usages:
            return {}
        key = caller.name, endpoint.name
        true = {name: value for usage in usages for name, value in usage.headers().items()}
        sent = fault_answers.headers(fired, true, self.last_headers.get(key))
        self.last_headers[key] = true
        return sent

    def _caller(self, endpoint: Endpoint | None, request: Request, now_ms: int) -> Caller:
        if endpoint is not None and endpoint.who == "nobody":
            return Caller(name="nobody", context="nobody")
        path, query = request.scope["raw_path"].decode("latin-1"), request.url.query
        return self.gate.check(
            method=request.method,
            target=path + (f"?{query}" if query else ""),
            authorization=request.headers.get("authorization"),
            now_s=int(time.time()),  # a signature's timestamp is of its client's own clock
            now_ms=now_ms,
        )

    async def _call(
        self, endpoint: Endpoint, request: Request, caller: Caller, now_ms: int, fired: Fired
    ) -> Call:
        return Call(
            query=Query(values=request.query_params.multi_items()),
            path=request.path_params,
            caller=caller,
            body=await _body(request, endpoint.max_body_bytes),
            content_type=request.headers.get("content-type", ""),
            client=self.gate.client,
            authorization=request.headers.get("authorization", ""),
            tier=self.tier,
            now_ms=now_ms,
            visible_ms=now_ms - int(fired.seconds("lagging_timeline") * 1000),
            duplicates_checked="duplicate_check_off" not in fired,
        )

    def _take(self, endpoint: Endpoint, caller: Caller, now_ms: int, fired: Fired) -> list[Usage]:
        endpoint.check_authentication(caller)
        limits = self.limits.of(endpoint.name, caller.context)
        used_up_s = fault_answers.window_seconds(fired)
        if used_up_s is not None:
            return rate_limits.used_up(limits, now_ms, used_up_s)
        if "window_ends" in fired:
            rate_limits.begin_anew(self.store, caller, endpoint.name, now_ms, limits)
        for _ in range(fault_answers.foreign_requests(fired)):
            rate_limits.use(self.store, caller, endpoint.name, now_ms, limits)
        return rate_limits.use(self.store, caller, endpoint.name, now_ms, limits)

    # The sandbox's own record

    async def writes(self, _request: Request) -> Response:
        """GET /_sandbox/writes: every accepted write, in order."""
        return JSONResponse([_timed(row) for row in self.store.writes()])

    async def requests(self, _request: Request) -> Response:
        """GET /_sandbox/requests: every answered API request, in order."""
        return JSONResponse([_timed(row) for row in self.store.requests()])

    async def health(self, _request: Request) -> Response:
        """GET /_sandbox/health: that this is a sandbox, and of what."""
        return JSONResponse(
            {
                "sandbox": "x",
                "world": self.world,
                "posts": self.store.count_posts(),
                "rejected_rows": int(self.store.meta("rejected_rows") or 0),
                "tier": self.tier,
            }
        )


def _for_known_hosts(handler: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        hosts = request.headers.getlist("host")
        if len(hosts) == 1 and HOST.fullmatch(hosts[0]):
            return await handler(request)
        detail = f"Host is {', '.join(hosts)!r}: allowed are 127.0.0.1, localhost, [::1] and X's own names."
        problem = Problem(421, "Misdirected Request", detail)
        return JSONResponse(problem.body, problem.status, media_type="application/problem+json")

    return handle


def _is_written(path: str) -> bool:
    return any(pattern.match(path) for pattern in _WRITTEN)


def _response(body: Answer, status: int) -> Response:
    if isinstance(body, Redirect):
        return RedirectResponse(body.url, 302)
    if body is None:
        return Response(status_code=204)
    made = headers.location(body) if status == 201 else {}  # noqa: PLR2004 - Created
    return JSONResponse(body, status, made, media_type=headers.JSON)


async def _body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise Problem(413, "Payload Too Large", f"The body is longer than {max_bytes} bytes.")
    return bytes(body)


def _timed(row: dict[str, object]) -> dict[str, object]:
    """The row with its time as text under `at`, in its place."""
    return {
        ("at" if key == "at_ms" else key): (views.time(value) if key == "at_ms" else value)  # pyright: ignore[reportArgumentType] - at_ms is an int
        for key, value in row.items()
    }
