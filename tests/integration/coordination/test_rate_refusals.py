"""Bad values of the limiter's calls: each is refused by its field's name and changes nothing."""

from typing import Any, LiteralString

import pytest

from coordination import Fleet
from coordination.database import Json
from coordination.errors import InvalidValueError
from tests.integration.coordination.tables import Owner, assert_refused, value
from tests.integration.coordination.told import granted

NAMES: dict[str, Any] = {"endpoint": "post_tweet", "worker_id": "w", "account": "default"}
ASKS: tuple[LiteralString, ...] = ("can_make_request", "schedule_request", "get_worker_allocation")


@pytest.mark.parametrize("function", ASKS)
@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("endpoint", None),
        ("endpoint", "no_such"),
        ("endpoint", "api_requests"),
        ("account", None),
        ("account", ""),
        ("account", "*"),
        ("account", "a" * 201),
        ("worker_id", None),
        ("worker_id", ""),
        ("worker_id", "w" * 201),
    ],
)
def test_requests_are_asked_for_by_names_that_can_be_used(
    fleet: Fleet, owner: Owner, function: LiteralString, field: str, given: str | None
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call(function, acknowledged=False, **NAMES | {field: given})
    assert_refused(refusal, field, given and given[:200])
    for made in ("rate_demands", "rate_grants", "rate_limits WHERE account <> '*'"):
        assert owner.execute(f"SELECT count(*) FROM fleet.{made}".encode()).fetchone() == (0,)
    assert value(owner, "SELECT count(*) FROM fleet.rate_limits WHERE line_until > '-infinity'") == 0


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("grant_id", None),
        ("success", None),
        ("response_headers", Json(None)),
        ("response_headers", Json([1])),
        ("response_headers", Json("x-rate-limit-limit")),
        ("status", 7),
        ("status", 1000),
    ],
)
def test_a_grant_is_settled_with_an_answer_that_can_be_one(
    fleet: Fleet, owner: Owner, field: str, given: object
) -> None:
    good: dict[str, Any] = {"grant_id": int(granted(fleet)), "success": True}
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("record_usage", acknowledged=False, **good | {field: given})
    assert refusal.value.field == field
    assert refusal.value.allowed
    assert value(owner, "SELECT settled_at FROM fleet.rate_grants") is None


def test_what_is_left_is_told_of_an_account_that_can_be_one(fleet: Fleet) -> None:
    for account in (None, "", "a" * 201):
        with pytest.raises(InvalidValueError, match="account is"):
            fleet.session.call("get_remaining_capacity", endpoint="post_tweet", account=account)
