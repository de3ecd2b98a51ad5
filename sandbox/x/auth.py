"""Auth: who calls. OAuth 1.0a signatures (RFC 5849, HMAC-SHA1), app-only and OAuth 2.0 user tokens.

oauthlib builds and checks the signature. A client signs the address that it believes it talks to: a
redirected one signs X's own address, another the sandbox's. Both are accepted, nothing else.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

import oauthlib.common
import oauthlib.oauth1.rfc5849.signature
import oauthlib.oauth1.rfc5849.utils

from sandbox.x.credentials import Credentials
from sandbox.x.store.tokens import Tokens
from sandbox.x.wire.answers import Unauthorized

# Without types of its own: what comes out is converted where it is used.
SignedRequest: Any = oauthlib.common.Request
signature: Any = oauthlib.oauth1.rfc5849.signature
utils: Any = oauthlib.oauth1.rfc5849.utils

MAX_SKEW_S = 300
X_ORIGINS = ("https://api.twitter.com", "https://api.x.com")
_PARAMETERS = frozenset(
    {
        "oauth_consumer_key",
        "oauth_token",
        "oauth_signature",
        "oauth_signature_method",
        "oauth_timestamp",
        "oauth_nonce",
        "oauth_version",
    }
)
_OPTIONAL = frozenset({"oauth_version"})


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls: the account as a user, the app alone, or nobody in particular.

    Attributes:
        name: The account's username, `app`, or `nobody`.
        user_id: The account's id; None for the app alone.
        scopes: What an OAuth 2.0 token allows; None where nothing narrows the credentials.
    """

    name: str
    context: Literal["user", "app", "nobody"]
    user_id: int | None = None
    scopes: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Client:
    """An app, as OAuth 2.0 knows it."""

    id: str
    secret: str = field(repr=False)


class Gate:
    """Checks the Authorization header of each request; remembers nonces as long as they could be reused."""

    def __init__(self, credentials: Credentials, port: int, tokens: Tokens | None = None) -> None:
        """A gate for these credentials and OAuth 2.0 tokens, in a sandbox on this port."""
        self._credentials = credentials
        self._tokens = tokens
        self.client = Client(id=credentials.x_client_id, secret=credentials.x_client_secret)
        self._origins = (*X_ORIGINS, f"http://127.0.0.1:{port}", f"http://localhost:{port}")
        self._nonces: dict[tuple[str, str], int] = {}

    def check(
        self, *, method: str, target: str, authorization: str | None, now_s: int, now_ms: int = 0
    ) -> Caller:
        """The caller; raises Unauthorized.

        Args:
            method: The HTTP method.
            target: Path and query as they were sent.
            authorization: The header's value.
            now_s: The client's time in seconds since 1970, which signatures follow.
            now_ms: The platform's time in milliseconds since 1970, by which tokens expire.
        """
        scheme, _, value = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                return self._check_bearer(value.strip(), now_ms)
            case "oauth":
                self._check_signed(method, target, str(authorization), now_s)
                known = self._credentials
                return Caller(name=known.username, context="user", user_id=int(known.user_id))
            case _:
                raise Unauthorized("no OAuth 1.0a or bearer credentials")

    def _check_bearer(self, token: str, now_ms: int) -> Caller:
        if _same(token, self._credentials.x_bearer_token):
            return Caller(name="app", context="app")
        scopes = self._tokens.scopes_of(token, now_ms) if self._tokens else None
        if scopes is None:
            raise Unauthorized("unknown, expired or revoked bearer token")
        known = self._credentials
        return Caller(name=known.username, context="user", user_id=int(known.user_id), scopes=scopes)

    def _check_signed(self, method: str, target: str, authorization: str, now_s: int) -> None:
        values = _read_header(authorization)
        known = self._credentials
        if not _same(values["oauth_consumer_key"], known.x_consumer_key):
            raise Unauthorized("unknown consumer key")
        if not _same(values["oauth_token"], known.x_access_token):
            raise Unauthorized("unknown access token")
        if values["oauth_signature_method"] != "HMAC-SHA1" or values.get("oauth_version", "1.0") != "1.0":
            raise Unauthorized("signature method or version is not served")
        if not values["oauth_timestamp"].isascii() or not values["oauth_timestamp"].isdigit():
            raise Unauthorized("timestamp is no number")
        timestamp_s = int(values["oauth_timestamp"][:20])
        if abs(now_s - timestamp_s) > MAX_SKEW_S:
            raise Unauthorized(f"timestamp is more than {MAX_SKEW_S} s away")
        if not any(self._is_signed(method, origin + target, authorization) for origin in self._origins):
            raise Unauthorized("wrong signature")
        self._use_nonce(values["oauth_timestamp"], values["oauth_nonce"], now_s)

    def _is_signed(self, method: str, uri: str, authorization: str) -> bool:
        try:
            request = SignedRequest(uri, method, "", {"Authorization": authorization})
            request.params = signature.collect_parameters(
                uri_query=request.uri_query, headers=request.headers, exclude_oauth_signature=True
            )
        except ValueError as error:  # a query that isn't percent-encoded
            raise Unauthorized("query can't be read") from error
        request.signature = _read_header(authorization)["oauth_signature"]
        known = self._credentials
        return bool(signature.verify_hmac_sha1(request, known.x_consumer_secret, known.x_access_token_secret))

    def _use_nonce(self, timestamp: str, nonce: str, now_s: int) -> None:
        """Only a rightly signed request uses its nonce up: a forger can't burn somebody else's."""
        if (timestamp, nonce) in self._nonces:
            raise Unauthorized("nonce used before")
        self._nonces[timestamp, nonce] = int(timestamp)
        for key, used_s in list(self._nonces.items()):
            if used_s >= now_s - MAX_SKEW_S:
                break
            del self._nonces[key]


def _read_header(authorization: str) -> dict[str, str]:
    """The header's oauth_ parameters; each exactly once, none missing."""
    try:
        pairs: list[tuple[str, str]] = utils.parse_authorization_header(authorization)
    except ValueError as error:
        raise Unauthorized("header can't be read") from error
    values = {str(name): str(utils.unescape(value)) for name, value in pairs if name != "realm"}
    named = {name for name, _ in pairs if name != "realm"}
    if len(named) != len([name for name, _ in pairs if name != "realm"]):
        raise Unauthorized("a parameter stands twice")
    if not _PARAMETERS - _OPTIONAL <= named <= _PARAMETERS:
        raise Unauthorized("parameters are missing or unknown")
    return values


def _same(given: str, known: str) -> bool:
    return secrets.compare_digest(given.encode(), known.encode())
