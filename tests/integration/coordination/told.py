"""What a platform's answers tell, as headers; and what tests of them do over and over."""

from email.utils import format_datetime
from typing import Any

from coordination import Fleet
from coordination.rate_limits import Grant
from tests.integration.coordination.tables import Owner, kill_session, value


def ask(fleet: Fleet, endpoint: str = "search_tweets") -> Grant:
    return fleet.rate_limits.can_make_request(endpoint, "tester/1")


def granted(fleet: Fleet, endpoint: str = "search_tweets") -> str:
    """A grant that is not settled."""
    grant = ask(fleet, endpoint)
    assert grant.grant_id is not None, grant
    return grant.grant_id


def spend(fleet: Fleet, endpoint: str = "search_tweets", **answer: Any) -> None:
    fleet.rate_limits.record_usage(granted(fleet, endpoint), True, **answer)


def headers(owner: Owner, limit: object, remaining: object, reset_in_s: float | None = 600) -> dict[str, str]:
    """An answer's headers; the reset stands in the platform's time, which is an hour behind."""
    answered = value(owner, "SELECT date_trunc('second', clock_timestamp() - interval '1 hour')")
    found = {"Date": format_datetime(answered), "X-Rate-Limit-Limit": str(limit)}
    found["x-rate-limit-remaining"] = str(remaining)
    if reset_in_s is not None:
        found["x-rate-limit-reset"] = str(int(answered.timestamp() + reset_in_s))
    return found


def day_headers(owner: Owner, who: str, limit: int, remaining: int, reset_in_s: float) -> dict[str, str]:
    """The same with those of 24 hours, of a user or an app; of the quarter of an hour nearly all is left."""
    found = headers(owner, 100, 99)
    reset = int(found["x-rate-limit-reset"]) - 600 + int(reset_in_s)
    stem = f"x-{who}-limit-24hour"
    return found | {
        f"{stem}-limit": str(limit),
        f"{stem}-remaining": str(remaining),
        f"{stem}-reset": str(reset),
    }


def lose_session(owner: Owner, worker: str, ago_s: float = 121) -> None:
    """End a worker's session as if so long ago, its grants' included: it is suspected, nobody knows more."""
    kill_session(owner, f"{worker}/1 incarnation")
    owner.execute(
        "UPDATE fleet.rate_grants g SET granted_real_at = g.granted_real_at - make_interval(secs => %s) "
        "FROM fleet.incarnations i WHERE i.id = g.incarnation AND i.worker = %s",
        (ago_s, worker),
    )


def prove_dead(owner: Owner, worker: str, ago_s: float = 121) -> None:
    """As `lose_session`, and its process was seen to end so long ago."""
    lose_session(owner, worker, ago_s)
    owner.execute(
        "UPDATE fleet.incarnations SET died_at = clock_timestamp() - make_interval(secs => %s), "
        "ended_at = clock_timestamp(), death = 'killed', end_reason = 'killed' WHERE worker = %s",
        (ago_s, worker),
    )
