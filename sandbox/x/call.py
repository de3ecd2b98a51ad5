"""Call: one request as an endpoint sees it, and what an endpoint declares of itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sandbox.x import tiers
from sandbox.x.auth import Caller, Client
from sandbox.x.store.store import Span, Store
from sandbox.x.wire.answers import Forbidden, UnsupportedAuthentication
from sandbox.x.wire.parameters import Query

Tier = Literal["free", "pay_per_use", "enterprise"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, once its caller is known and has a request left.

    Attributes:
        query: Its parameters.
        path: The parameters in its path by name.
        caller: Who calls.
        body: Its body as sent.
        content_type: What the body says it is.
        client: The app that the credentials belong to.
        authorization: The header as sent, for the endpoints that know clients instead of callers.
        tier: The account's access level.
        now_ms: The platform's time, milliseconds since 1970.
        visible_ms: Posts newer than this are missing in timelines and searches; `now_ms` where nothing lags.
        duplicates_checked: Whether a text twice within a day is refused.
    """

    query: Query
    path: Mapping[str, str]
    caller: Caller
    body: bytes
    content_type: str
    client: Client
    authorization: str
    tier: str
    now_ms: int
    visible_ms: int
    duplicates_checked: bool = True

    def path_id(self, name: str = "id") -> int:
        """A path parameter that is an id; a fault of the query where it is none."""
        given = Query(values=[(name, self.path[name])], faults=self.query.faults)
        return (given.ids(name, most=1) or [0])[0]

    def span(self, *tokens: str) -> Span:
        """What a list may hold, of what is visible; `tokens` names the parameters that continue it."""
        span = self.query.span(*tokens)
        return replace(span, end_ms=min(span.end_ms, self.visible_ms + 1))


@dataclass(frozen=True, kw_only=True)
class Redirect:
    """An answer that sends the client elsewhere."""

    url: str


Answer = dict[str, Any] | Redirect | None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A served path.

    Attributes:
        name: What the request log and the limits call it.
        path: With its parameters in braces.
        answer: Gives the body; raises Problem.
        who: Whose credentials it takes: a user's, a user's by OAuth 2.0, any, or none at all.
        scopes: What an OAuth 2.0 token must allow.
        tiers: The access levels that have it.
        status: The status of its answer.
        max_body_bytes: The longest body it reads.
    """

    name: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    answer: Callable[[Store, Call], Answer]
    who: Literal["user", "oauth2_user", "any", "nobody"] = "any"
    scopes: tuple[str, ...] = ("tweet.read", "users.read")
    tiers: tuple[str, ...] = tiers.PAID
    status: int = 200
    max_body_bytes: int = 65_536

    def check_authentication(self, caller: Caller) -> None:
        """Raises UnsupportedAuthentication where the credentials are of a kind that it doesn't take."""
        if self.who in {"user", "oauth2_user"} and caller.context == "app":
            raise UnsupportedAuthentication
        if self.who == "oauth2_user" and caller.scopes is None:
            raise UnsupportedAuthentication("OAuth 1.0a User Context", "OAuth 2.0 User Context")

    def serve(self, store: Store, call: Call) -> Answer:
        """The answer to a call; raises Problem, first where scopes or tier don't allow it."""
        scopes = call.caller.scopes
        if scopes is not None and not scopes.issuperset(self.scopes):
            raise Forbidden("Forbidden")
        tiers.check_endpoint(call.tier, self.tiers, call.client.id)
        return self.answer(store, call)
