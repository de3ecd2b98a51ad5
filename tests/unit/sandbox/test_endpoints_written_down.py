"""docs/reference/sandbox.md lists each endpoint as it is."""

from pathlib import Path

import pytest

from sandbox.x import rate_limits
from sandbox.x.call import Endpoint
from sandbox.x.endpoints import ENDPOINTS
from sandbox.x.rate_limits import DAY_S
from sandbox.x.tiers import ALL, ENTERPRISE

PAGE = Path(__file__).parents[3] / "docs/reference/sandbox.md"
WHO = {"any": "user, app", "user": "user", "oauth2_user": "user by OAuth 2.0", "nobody": "the app's client"}

TIERS: dict[tuple[str, ...], str] = {ALL: "every", ENTERPRISE: "enterprise"}


def row(endpoint: Endpoint) -> str:
    """The endpoint's line of the table."""
    path = endpoint.path.replace("{", ":").replace("}", "")
    tier = TIERS.get(endpoint.tiers, "pay_per_use, enterprise")
    scopes = "" if endpoint.who == "nobody" else " ".join(endpoint.scopes)
    cells = (
        f"`{endpoint.method} {path}`",
        f"`{endpoint.name}`",
        WHO[endpoint.who],
        tier,
        limits(endpoint),
        scopes,
    )
    return f"| {' | '.join(cells)} |"


def limits(endpoint: Endpoint) -> str:
    """`user / app` in 15 minutes, and what counts for a day."""
    shown: list[str] = []
    days: list[str] = []
    for context in ("user", "app"):
        for limit in rate_limits.LIMITS.get((endpoint.name, context), ()):
            if limit.window_s == DAY_S:
                days.append(f"{limit.limit:,} in 24 h (`{limit.header}-*`)")
            else:
                shown.append(str(limit.limit))
    return ", ".join([" / ".join(shown), *days])


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_each_endpoint_stands_in_the_reference_as_it_is(endpoint: Endpoint) -> None:
    assert row(endpoint) in PAGE.read_text(encoding="utf-8")
