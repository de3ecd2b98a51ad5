"""OAuth 2.0: authorization code with PKCE, refreshing and revoking (RFC 6749, 7636, 7009).

The sandbox's person always agrees, so authorizing answers at once with the code.
"""

import base64
import binascii
import re
import secrets
from typing import Any
from urllib.parse import urlencode

from sandbox.x import tiers
from sandbox.x.call import Call, Endpoint, Redirect
from sandbox.x.store.store import Store
from sandbox.x.store.tokens import Grant, InvalidGrant
from sandbox.x.wire import forms
from sandbox.x.wire.answers import Fault, InvalidRequest, Problem

SCOPES = (
    "tweet.read",
    "tweet.write",
    "tweet.moderate.write",
    "users.read",
    "users.email",
    "follows.read",
    "follows.write",
    "offline.access",
    "space.read",
    "mute.read",
    "mute.write",
    "like.read",
    "like.write",
    "list.read",
    "list.write",
    "block.read",
    "block.write",
    "bookmark.read",
    "bookmark.write",
    "media.write",
)
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_REDIRECT = re.compile(r"https?://[^\s#]+")


class OAuthProblem(Problem):
    """A refusal in OAuth's own shape (RFC 6749 5.2)."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(status, error, description)
        self.body = {"error": error, "error_description": description}


def authorize(store: Store, call: Call) -> Redirect:
    """GET /i/oauth2/authorize: back to the app with a code that serves once, for 30 seconds."""
    query = call.query
    query.allow(
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
    )
    scopes = query.required("scope").split()
    challenge, redirect_uri = query.required("code_challenge"), query.required("redirect_uri")
    bad = [
        name
        for name, good in (
            ("response_type", query.get("response_type") == "code"),
            ("client_id", query.get("client_id") == call.client.id),
            ("code_challenge_method", query.get("code_challenge_method") == "S256"),
            ("code_challenge", _CHALLENGE.fullmatch(challenge)),
            ("redirect_uri", _REDIRECT.fullmatch(redirect_uri)),
            ("scope", scopes and set(scopes) <= set(SCOPES)),
            ("state", query.get("state")),
        )
        if not good
    ]
    if bad:
        faults = (Fault(parameter=name, value=query.get(name), message="Invalid") for name in bad)
        raise InvalidRequest(*faults, detail=f"Something is wrong with {', '.join(bad)}.")
    code = store.tokens.authorize(
        client_id=call.client.id,
        redirect_uri=redirect_uri,
        challenge=challenge,
        scopes=scopes,
        now_ms=call.now_ms,
    )
    joint = "&" if "?" in redirect_uri else "?"
    return Redirect(url=redirect_uri + joint + urlencode({"state": query.get("state"), "code": code}))


def token(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/oauth2/token: tokens for a code or for a refresh token; each serves once."""
    form = forms.read_urlencoded(call)
    _check_client(call, form)
    match form.get("grant_type"):
        case "authorization_code":
            return _view(_exchange(store, call, form))
        case "refresh_token":
            return _view(_refresh(store, call, form))
        case other:
            raise OAuthProblem(
                400,
                "unsupported_grant_type",
                f"grant_type is {other!r}: expected authorization_code or refresh_token",
            )


def revoke(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/oauth2/revoke: a token, and all that came from the same authorization."""
    form = forms.read_urlencoded(call)
    _check_client(call, form)
    store.tokens.revoke(form.get("token", ""))
    return {"revoked": True}


def _exchange(store: Store, call: Call, form: dict[str, str]) -> Grant:
    try:
        return store.tokens.exchange(
            form.get("code", ""),
            client_id=call.client.id,
            redirect_uri=form.get("redirect_uri", ""),
            verifier=form.get("code_verifier", ""),
            now_ms=call.now_ms,
        )
    except InvalidGrant as error:
        description = "Value passed for the authorization code was invalid."
        raise OAuthProblem(400, "invalid_request", description) from error


def _refresh(store: Store, call: Call, form: dict[str, str]) -> Grant:
    try:
        return store.tokens.refresh(form.get("refresh_token", ""), now_ms=call.now_ms)
    except InvalidGrant as error:
        description = "Value passed for the token was invalid."
        raise OAuthProblem(400, "invalid_request", description) from error


def _view(grant: Grant) -> dict[str, Any]:
    view: dict[str, Any] = {
        "token_type": "bearer",
        "expires_in": grant.expires_in_s,
        "access_token": grant.access_token,
        "scope": " ".join(grant.scopes),
    }
    return view | ({"refresh_token": grant.refresh_token} if grant.refresh_token else {})


def _check_client(call: Call, form: dict[str, str]) -> None:
    """Confidential clients say who they are in the header, public ones in the body."""
    scheme, _, value = call.authorization.partition(" ")
    if scheme.lower() == "basic":
        expected = f"{call.client.id}:{call.client.secret}"
        if secrets.compare_digest(_decode(value), expected.encode()):
            return
    elif not call.authorization and secrets.compare_digest(
        form.get("client_id", "").encode(), call.client.id.encode()
    ):
        return
    raise OAuthProblem(401, "unauthorized_client", "Missing valid authorization header")


def _decode(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _open(name: str, method: Any, path: str, answer: Any) -> Endpoint:
    return Endpoint(name=name, method=method, path=path, answer=answer, who="nobody", tiers=tiers.ALL)


ENDPOINTS = (
    _open("authorize", "GET", "/i/oauth2/authorize", authorize),
    _open("oauth2_token", "POST", "/2/oauth2/token", token),
    _open("oauth2_revoke", "POST", "/2/oauth2/revoke", revoke),
)
