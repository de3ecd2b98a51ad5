"""Which X account this fleet acts for: the sandbox's own, or a real one. The two never share a name.

CredentialsMissingError     an X to act on, without the account's credentials
"""

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from config import LOOPBACK, X_CREDENTIALS, Config
from coordination.accounts import TIERS, Tier

TOPICS = ("open source", "remote work", "coffee", "city cycling", "good books")
"""What a new account talks about until a person says otherwise: harmless, and enough for variety."""

SANDBOX_TIER: Tier = "enterprise"
"""What a sandbox allows unless it says otherwise: everything, so that the whole fleet is seen."""
ANSWER_TIMEOUT_S = 2.0
OK = 200


class CredentialsMissingError(Exception):
    """X_API_URL names an X, and the account's credentials are not given."""


@dataclass(frozen=True, kw_only=True)
class XAccount:
    """The account's name, its X's address, whether that is a sandbox, and what it lets the account do."""

    name: str
    api_url: str
    sandbox: bool
    tier: Tier


def choose(config: Config, *, sandbox_tier: Tier | None = None) -> XAccount:
    """Name the account that the configuration means.

    A sandbox that a person runs is known by its answer on loopback; anything else is taken for the real X.

    Args:
        config: the environment; X_TIER is for the real X.
        sandbox_tier: what the fleet's own sandbox is to be started with, where a person said it.

    Raises:
        CredentialsMissingError: names the variables to set.
    """
    if config.runs_sandbox:
        tier = sandbox_tier or SANDBOX_TIER
        return XAccount(name="sandbox", api_url=config.x_url, sandbox=True, tier=tier)
    health = sandbox_health(config.x_url) if is_loopback(config.x_url) else None
    if not config.has_credentials:
        hint = (
            "they are in sandbox/credentials.json of the state directory of the fleet that runs this sandbox."
            if health
            else "or unset X_API_URL to use the sandbox."
        )
        raise CredentialsMissingError(
            f"X_API_URL is '{config.x_url}', and the account's credentials are missing: set "
            f"{', '.join(name.upper() for name in X_CREDENTIALS)}, {hint}"
        )
    if health is None:
        return XAccount(name="default", api_url=config.x_url, sandbox=False, tier=config.x_tier)
    tiers: dict[str, Tier] = {known: known for known in TIERS}
    tier = tiers.get(str(health.get("tier")), SANDBOX_TIER)
    return XAccount(name="sandbox", api_url=config.x_url, sandbox=True, tier=tier)


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine's loopback."""
    return (urlsplit(url).hostname or "") in LOOPBACK


def sandbox_health(url: str) -> dict[str, object] | None:
    """What an X sandbox at a loopback address says of itself; None when none answers there."""
    answer = get_json(url, "/_sandbox/health")
    return answer if answer and answer.get("sandbox") else None


def get_json(url: str, path: str) -> dict[str, object] | None:
    """GET a JSON object from a local server; None unless it answers 200 with one within 2 s."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=ANSWER_TIMEOUT_S)
    try:
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            body: object = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return body if response.status == OK and isinstance(body, dict) else None  # pyright: ignore[reportUnknownVariableType]
