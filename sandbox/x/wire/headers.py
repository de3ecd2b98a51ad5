"""Headers: what stands on every answer of the API besides its limits."""

import secrets
from collections.abc import Mapping
from typing import Any, cast

from sandbox.x.auth import Caller

API_VERSION = "2.167"  # of X's OpenAPI description
JSON = "application/json; charset=utf-8"
POSTS = "https://api.twitter.com/2/tweets"


def standing(caller: Caller | None) -> dict[str, str]:
    """The headers of any answer; only a user may write."""
    return {
        "api-version": API_VERSION,
        "perf": str(secrets.randbelow(9 * 10**9) + 10**9),
        "x-access-level": "read-write" if caller is not None and caller.user_id is not None else "read",
        "x-transaction-id": secrets.token_hex(8),
    }


def location(body: Mapping[str, Any]) -> dict[str, str]:
    """Where a post that was just made is found."""
    made = cast("Mapping[str, Any]", body.get("data") or {})
    return {"location": f"{POSTS}/{made['id']}"} if "id" in made else {}
