"""Tokens: OAuth 2.0 codes, access tokens and refresh tokens of the account (RFC 6749, 7636).

A code and a refresh token serve once. The tokens that follow from one authorization are a family: whoever
shows a used code or refresh token again may have stolen it, so the whole family is revoked (RFC 9700 2.2.2).
"""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.x.store.database import Database

CODE_MS = 30_000  # X: an authorization code has 30 seconds
ACCESS_MS = 7_200_000
REFRESH_MS = 15_552_000_000  # 180 days


class InvalidGrant(Exception):  # noqa: N818 - the RFC's own word
    """The code or refresh token is unknown, used, expired or revoked: authorize again."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What the token endpoint gives: an access token, and a refresh token where offline access was asked."""

    access_token: str
    refresh_token: str | None
    scopes: tuple[str, ...]
    expires_in_s: int


class Tokens:
    """The codes and tokens; each stands in the file as its digest only."""

    def __init__(self, database: Database) -> None:
        """On the store's database."""
        self._database = database

    def authorize(
        self, *, client_id: str, redirect_uri: str, challenge: str, scopes: Sequence[str], now_ms: int
    ) -> str:
        """A code for an authorization that its person granted.

        Args:
            client_id: The app.
            redirect_uri: Where the code is sent; the exchange must name it again.
            challenge: The PKCE challenge: base64url(SHA-256(verifier)) without padding.
            scopes: What is allowed.
            now_ms: Milliseconds since 1970.
        """
        code = secrets.token_urlsafe(48)
        with self._database.transaction(durable=True):
            self._database.run(
                "add_code",
                digest=_digest(code),
                client_id=client_id,
                redirect_uri=redirect_uri,
                challenge=challenge,
                scopes=" ".join(scopes),
                expires_ms=now_ms + CODE_MS,
            )
        return code

    def exchange(self, code: str, *, client_id: str, redirect_uri: str, verifier: str, now_ms: int) -> Grant:
        """The first tokens of a family; raises InvalidGrant."""
        with self._database.transaction(durable=True):
            row = self._database.run("get_code", digest=_digest(code)).fetchone()
            used_family = None if row is None else row["family"]
            if used_family is not None:
                self._database.run("revoke_family", family=used_family)
            if (
                row is not None
                and used_family is None
                and row["expires_ms"] > now_ms
                and (row["client_id"], row["redirect_uri"]) == (client_id, redirect_uri)
                and secrets.compare_digest(row["challenge"].encode(), challenge_of(verifier).encode())
            ):
                family = secrets.token_hex(16)
                self._database.run("set_code_family", digest=_digest(code), family=family)
                return self._issue(family, row["scopes"], now_ms)
        raise InvalidGrant

    def refresh(self, token: str, *, now_ms: int) -> Grant:
        """New tokens for a refresh token, which serves no more; raises InvalidGrant."""
        with self._database.transaction(durable=True):
            row = self._find(token, "refresh")
            if row is not None and row["used"]:
                self._database.run("revoke_family", family=row["family"])
            elif row is not None and not row["revoked"] and row["expires_ms"] > now_ms:
                self._database.run("set_token_used", digest=_digest(token))
                return self._issue(row["family"], row["scopes"], now_ms)
        raise InvalidGrant

    def scopes_of(self, access_token: str, now_ms: int) -> frozenset[str] | None:
        """What an access token allows; None for one that is unknown, expired or revoked."""
        row = self._find(access_token, "access")
        if row is None or row["revoked"] or row["expires_ms"] <= now_ms:
            return None
        return frozenset(str(row["scopes"]).split())

    def revoke(self, token: str) -> None:
        """Revokes the family of an access or refresh token (RFC 7009); an unknown one is no error."""
        with self._database.transaction(durable=True):
            row = self._find(token, "access") or self._find(token, "refresh")
            if row is not None:
                self._database.run("revoke_family", family=row["family"])

    def _find(self, token: str, kind: str) -> Any:
        return self._database.run("get_token", digest=_digest(token), kind=kind).fetchone()

    def _issue(self, family: str, scopes: str, now_ms: int) -> Grant:
        access = secrets.token_urlsafe(48)
        refresh = secrets.token_urlsafe(48) if "offline.access" in scopes.split() else None
        for token, kind, lives_ms in ((access, "access", ACCESS_MS), (refresh, "refresh", REFRESH_MS)):
            if token is not None:
                self._database.run(
                    "add_token",
                    digest=_digest(token),
                    kind=kind,
                    family=family,
                    scopes=scopes,
                    expires_ms=now_ms + lives_ms,
                )
        return Grant(
            access_token=access,
            refresh_token=refresh,
            scopes=tuple(scopes.split()),
            expires_in_s=ACCESS_MS // 1000,
        )


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636 4.2)."""
    digest = hashlib.sha256(verifier.encode("utf-8", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
