"""Token leases: many requests for a round trip, each counted from its grant on."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordination import Fleet, rate_leases
from coordination.database import Database
from coordination.errors import DatabaseUnavailableError, InvalidValueError
from coordination.rate_limits import RateLimits
from coordination.session import Session
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value
from tests.integration.coordination.test_rate_lost_answers import Unlucky

LIMIT, WINDOW_S = 10_000, 60
USED = "SELECT coalesce(sum(units), 0) FROM fleet.rate_grants"
UNSETTLED = "SELECT coalesce(sum(units), 0) FROM fleet.rate_grants WHERE settled_at IS NULL"
HOW_TO = Path(__file__).resolve().parents[3] / "docs" / "howto" / "reserve-what-is-scarce.md"
COUNTED = "SELECT occupied[1] FROM fleet.rate_limits WHERE account = 'default' ORDER BY endpoint"


@pytest.fixture(autouse=True)
def much_room(console: Database) -> None:
    configure(console, "like_tweet", (LIMIT, WINDOW_S))
    configure(console, "api_requests", (1_000_000, 900))


def test_a_lease_gives_many_requests_for_a_round_trip_and_counts_those_that_were_made(
    fleet: Fleet, owner: Owner
) -> None:
    with fleet.rate_limits.leasing("like_tweet", "w/1", most=50) as tokens:
        for _ in range(50):
            tokens.answered(tokens.take())
        assert rows(owner, "SELECT units, settled_at IS NULL FROM fleet.rate_grants") == [(50, True)]
        assert [counted for (counted,) in rows(owner, COUNTED)] == [50, 50]
        for _ in range(20):
            tokens.answered(tokens.take())
        assert value(owner, USED) == 100
    assert (value(owner, USED), value(owner, UNSETTLED)) == (70, 0)
    assert [counted for (counted,) in rows(owner, COUNTED)] == [70, 70]


def test_a_lease_that_nobody_used_goes_back_whole(fleet: Fleet, owner: Owner) -> None:
    tokens = fleet.rate_limits.leasing("like_tweet", "w/1", most=50)
    tokens.take()
    fleet.session.call("end_lease", grant_id=value(owner, "SELECT id FROM fleet.rate_grants"), used=0)
    assert rows(owner, "SELECT 1 FROM fleet.rate_grants") == []
    assert [counted for (counted,) in rows(owner, COUNTED)] == [0, 0]


def test_tokens_are_for_a_second(fleet: Fleet, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(rate_leases, "monotonic", lambda: now_s)
    tokens = fleet.rate_limits.leasing("like_tweet", "w/1", most=50)
    tokens.take()
    now_s = 100.9
    tokens.take()
    assert value(owner, "SELECT count(*) FROM fleet.rate_grants") == 1
    now_s = 101.0
    tokens.take()
    assert rows(owner, "SELECT units FROM fleet.rate_grants ORDER BY id") == [(2,), (50,)]


def test_a_small_limit_gives_one_at_a_time_and_says_no_as_ever(fleet: Fleet, console: Database) -> None:
    configure(console, "like_tweet", (3, WINDOW_S))
    with fleet.rate_limits.leasing("like_tweet", "w/1", most=50) as tokens:
        assert [tokens.take().allowed for _ in range(3)] == [True] * 3
        refused = tokens.take()
    assert refused.retry_after_seconds is not None
    assert "3 of 3 requests of like_tweet used" in str(refused.reason)


def test_no_lease_is_larger_than_a_hundredth_of_the_limit(fleet: Fleet, owner: Owner) -> None:
    fleet.rate_limits.leasing("like_tweet", "w/1", most=5000).take()
    assert value(owner, USED) <= LIMIT / 100


def test_requests_that_were_not_answered_may_be_counted_late(fleet: Fleet, owner: Owner) -> None:
    with fleet.rate_limits.leasing("like_tweet", "w/1", most=50) as tokens:
        tokens.answered(tokens.take())
        tokens.take()
    assert rows(owner, "SELECT units, settled_at > fleet.now() + interval '10 s' FROM fleet.rate_grants") == [
        (2, True)
    ]


@pytest.fixture
def unlucky(fleet_database: FleetDatabase) -> Iterator[Unlucky]:
    database = Unlucky(fleet_database.dsn("worker"), name="unlucky")
    yield database
    database.close()


def test_a_lease_whose_answer_is_lost_goes_back_and_the_one_before_is_ended(
    unlucky: Unlucky, fleet: Fleet, owner: Owner
) -> None:
    tokens = RateLimits(Session(unlucky, fleet.incarnation.id)).leasing("like_tweet", "w/1", most=2)
    for _ in range(2):
        tokens.answered(tokens.take())
    unlucky.deaf_to = frozenset({"lease_requests"})
    with pytest.raises(DatabaseUnavailableError):
        tokens.take()
    unlucky.deaf_to = frozenset()
    assert (value(owner, USED), value(owner, UNSETTLED)) == (2, 0)
    assert tokens.take().allowed


def test_an_end_that_could_not_be_told_is_told_before_the_next_request(
    unlucky: Unlucky, fleet: Fleet, owner: Owner
) -> None:
    limits = RateLimits(Session(unlucky, fleet.incarnation.id))
    tokens = limits.leasing("like_tweet", "w/1", most=20)
    tokens.take()
    unlucky.cut_off = frozenset({"end_lease"})
    with pytest.raises(DatabaseUnavailableError):
        tokens.close()
    unlucky.cut_off = frozenset()
    limits.can_make_request("like_tweet", "w/1")
    assert value(owner, USED) == 2


@pytest.mark.parametrize(
    ("function", "given", "field", "shown"),
    [
        ("lease_requests", {"most": 0}, "most", "0"),
        ("lease_requests", {"most": 10_001}, "most", "10001"),
        ("end_lease", {"used": 51}, "used", "51"),
        ("end_lease", {"used": -1}, "used", "-1"),
        ("end_lease", {"grant_id": 99}, "grant_id", "99"),
    ],
)
def test_wrong_input_is_refused_by_name(
    fleet: Fleet, owner: Owner, function: str, given: dict[str, object], field: str, shown: str
) -> None:
    fleet.rate_limits.leasing("like_tweet", "w/1", most=50).take()
    usual: dict[str, object] = {"endpoint": "like_tweet", "worker_id": "w/1", "most": 5}
    if function == "end_lease":
        usual = {"grant_id": value(owner, "SELECT id FROM fleet.rate_grants"), "used": 1}
    with pytest.raises(InvalidValueError) as refused:
        fleet.session.call(function, **{**usual, **given})  # pyright: ignore[reportArgumentType]
    assert_refused(refused, field, shown)


def test_the_example_of_the_how_to_fetches_by_leases_until_it_is_refused(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    blocks = re.findall(r"```python\n(.+?)```", HOW_TO.read_text("utf-8"), flags=re.DOTALL)
    example: dict[str, Any] = {}
    exec(next(block for block in blocks if "leasing(" in block), example)
    configure(console, "search_tweets", (LIMIT, WINDOW_S))
    fetched: list[str] = []

    def fetch(wanted: str) -> SimpleNamespace:
        fetched.append(wanted)
        return SimpleNamespace(headers={}, status=429 if len(fetched) == 170 else 200)

    assert example["fetch_all"](fleet, [str(n) for n in range(150)], fetch) == []
    assert rows(owner, "SELECT units FROM fleet.rate_grants ORDER BY id") == [(100,), (50,)]
    left = example["fetch_all"](fleet, [str(n) for n in range(150, 250)], fetch)
    assert (fetched, left) == ([str(n) for n in range(170)], [str(n) for n in range(170, 250)])


def test_what_goes_back_of_a_lease_hides_no_grants_that_are_not_flushed(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    """At most a hundredth of the limit is given out between two flushes: as much is charged after a crash."""
    configure(console, "like_tweet", (100_000, 900))

    def lease(worker: str, most: int) -> int:
        given = fleet.session.call("lease_requests", endpoint="like_tweet", worker_id=worker, most=most)
        return int(given["grant_id"])

    owner.execute("CREATE TABLE public.flushes (); GRANT INSERT ON public.flushes TO PUBLIC")
    flush = "PERFORM set_config('synchronous_commit', 'on', true);"
    try:
        with planted(owner, "take_units", (flush, f"INSERT INTO public.flushes DEFAULT VALUES; {flush}")):
            fleet.session.call("can_make_request", endpoint="like_tweet", worker_id="w/0")
            unused = [lease(f"idle/{n}", 1000) for n in range(4)]
            owner.execute("TRUNCATE public.flushes")
            made = 0
            for idle in unused:
                lease("busy", 900)
                made += 900
                fleet.session.call("end_lease", grant_id=idle, used=1)
        # Each second one of 900 would be above a thousand.
        assert value(owner, "SELECT count(*) FROM public.flushes") >= made // 1800
    finally:
        owner.execute("DROP TABLE public.flushes")
