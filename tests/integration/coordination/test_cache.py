"""The cache: one process computes, the others take what is there or wait; and it is never why work fails."""

from collections.abc import Callable
from multiprocessing import Event
from threading import Thread
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.cache import CacheStatus, get_cache_status
from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value

SPACE = "prices"


def status(fleet: Fleet, namespace: str = SPACE) -> CacheStatus:
    [found] = [one for one in fleet.cache.get_cache_status() if one.namespace == namespace]
    return found


def grow_old(owner: Owner, seconds: float = 3600) -> None:
    """Let real time pass for what is kept."""
    owner.execute(
        "UPDATE fleet.cache SET expires_at = expires_at - make_interval(secs => %s), "
        "stale_until = stale_until - make_interval(secs => %s), "
        "computing_until = computing_until - make_interval(secs => %s)",
        (seconds, seconds, seconds),
    )


def test_what_is_kept_is_found_by_every_process_until_its_time_is_over(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    assert fleet.cache.get(SPACE, "btc") is None
    fleet.cache.set(SPACE, "btc", {"usd": 1.5}, ttl_s=60)
    with fleet_database.connect("other") as other:
        assert other.cache.get(SPACE, "btc") == {"usd": 1.5}
    fleet_database.advance(3600)  # fleet time is none of its business
    assert fleet.cache.get(SPACE, "btc") == {"usd": 1.5}
    grow_old(owner)
    assert fleet.cache.get(SPACE, "btc", "gone") == "gone"


def test_null_can_be_kept(fleet: Fleet) -> None:
    fleet.cache.set(SPACE, "none", None, ttl_s=60)
    assert fleet.cache.get(SPACE, "none", "absent") is None
    assert fleet.cache.get_many(SPACE, ["none"]) == {"none": None}


def test_many_are_found_in_one_call_and_hits_are_counted(fleet: Fleet) -> None:
    for key in ("a", "b", "c"):
        fleet.cache.set(SPACE, key, key * 2, ttl_s=60)
    assert fleet.cache.get_many(SPACE, ["a", "c", "x", "y"]) == {"a": "aa", "c": "cc"}
    assert fleet.cache.get_many(SPACE, []) == {}
    fleet.cache.get(SPACE, "b")
    found = status(fleet)
    assert (found.entries, found.hits, found.misses, found.stores) == (3, 3, 2, 3)
    assert found.hit_rate == 0.6
    assert found.bytes == 3 * len('"aa"')


def test_one_or_all_of_a_prefix_are_removed(fleet: Fleet) -> None:
    for key in ("a/1", "a/2", "b/1"):
        fleet.cache.set(SPACE, key, 1, ttl_s=60)
    assert fleet.cache.delete(SPACE, "b/1")
    assert not fleet.cache.delete(SPACE, "b/1")
    assert fleet.cache.delete_all(SPACE, "a/") == 2
    assert status(fleet).entries == 0


def test_of_many_who_miss_at_once_one_computes_and_all_get_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    found = together(ask_slowly, 8, fleet_database.dsn("worker"))
    assert {answer for answer, _ in found} == {"dear"}
    assert sum(computed for _, computed in found) == 1
    fleet.cache.delete(SPACE, "eth")
    with planted(
        owner,
        "begin_cached",
        ("is_free := coalesce(known.computing_until <= real, true);", "is_free := true;"),
    ):
        found = together(ask_slowly, 8, fleet_database.dsn("worker"))
    assert sum(computed for _, computed in found) > 1


def ask_slowly(start: Callable[[], None], dsn: str) -> tuple[str, int]:
    computed: list[int] = []
    with connect(dsn, "asker") as fleet:

        def compute() -> str:
            computed.append(1)
            Event().wait(0.3)
            return "dear"

        start()
        return fleet.cache.get_or_compute(SPACE, "eth", compute, ttl_s=60), len(computed)


def test_while_one_computes_anew_the_others_get_the_stale_value(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.cache.set(SPACE, "eth", "old", ttl_s=60, stale_s=7200)
    grow_old(owner)
    with fleet_database.connect("other") as other:

        def compute() -> str:
            assert other.cache.get_or_compute(SPACE, "eth", lambda: "twice", ttl_s=60) == "old"
            return "new"

        assert fleet.cache.get_or_compute(SPACE, "eth", compute, ttl_s=60) == "new"
        assert other.cache.get_or_compute(SPACE, "eth", lambda: "twice", ttl_s=60) == "new"
    assert status(fleet).stale_hits == 1


def test_who_waits_gets_the_value_once_it_is_there(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    waits: list[float] = []
    answers: list[str] = []
    with fleet_database.connect("other") as other:

        def ask() -> None:
            answers.append(
                other.cache.get_or_compute(
                    SPACE,
                    "eth",
                    lambda: "twice",
                    ttl_s=60,
                    pause=lambda s: (waits.append(s), Event().wait(s)),
                )
            )

        thread = Thread(target=ask)

        def compute() -> str:
            thread.start()
            until(lambda: len(waits) > 1, 10)
            return "once"

        assert fleet.cache.get_or_compute(SPACE, "eth", compute, ttl_s=60) == "once"
        thread.join()
    assert answers == ["once"]
    assert all(0 < wait <= 0.25 for wait in waits)


def test_who_may_not_wait_computes_itself(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    with fleet_database.connect("other") as other:

        def compute() -> str:
            return other.cache.get_or_compute(SPACE, "eth", lambda: "own", ttl_s=60, pause=lambda _s: False)

        assert fleet.cache.get_or_compute(SPACE, "eth", compute, ttl_s=60) == "own"


def test_who_fails_to_compute_lets_the_next_one_try(fleet: Fleet) -> None:
    def broken() -> str:
        raise OSError("no prices")

    with pytest.raises(OSError, match="no prices"):
        fleet.cache.get_or_compute(SPACE, "eth", broken, ttl_s=60)
    assert fleet.cache.get_or_compute(SPACE, "eth", lambda: "dear", ttl_s=60) == "dear"


def test_where_computing_fails_as_was_allowed_for_the_stale_value_does_as_long_as_there_is_one(
    fleet: Fleet, owner: Owner
) -> None:
    def broken() -> str:
        raise OSError("no prices")

    def ask(*instead: type[Exception]) -> str:
        return fleet.cache.get_or_compute(SPACE, "eth", broken, ttl_s=60, instead_of=instead)

    with pytest.raises(OSError, match="no prices"):
        ask(OSError)  # there is nothing yet
    fleet.cache.set(SPACE, "eth", "old", ttl_s=60, stale_s=7200)
    grow_old(owner)
    assert ask(KeyError, OSError) == "old"
    assert ask(OSError) == "old"
    assert status(fleet).stale_hits == 2
    with pytest.raises(OSError, match="no prices"):
        ask(KeyError)
    grow_old(owner, 7200)
    with pytest.raises(OSError, match="no prices"):
        ask(OSError)


def test_what_is_past_its_stale_time_is_given_to_nobody_while_it_is_computed_anew(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet.cache.set(SPACE, "eth", "old", ttl_s=60)
    grow_old(owner)
    with fleet_database.connect("other") as other:

        def compute() -> str:
            return other.cache.get_or_compute(SPACE, "eth", lambda: "own", ttl_s=60, pause=lambda _s: False)

        assert fleet.cache.get_or_compute(SPACE, "eth", compute, ttl_s=60) == "own"


def begin_to_compute(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "computer")
    keep(fleet)
    return fleet.session.call("begin_cached", namespace=SPACE, key="eth", lease_s=3600)["found"]


def test_what_a_killed_process_computed_is_computed_by_the_next(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    with victim(begin_to_compute, fleet_database.dsn("worker")) as computer:
        assert computer.result == "compute"
        computer.kill()
        assert fleet.cache.get_or_compute(SPACE, "eth", lambda: "dear", ttl_s=60) == "dear"


def test_who_is_late_stores_nothing_over_who_took_over(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    with fleet_database.connect("other") as other:

        def slow() -> str:
            grow_old(owner)  # past the lease
            assert other.cache.get_or_compute(SPACE, "eth", lambda: "new", ttl_s=60) == "new"
            return "late"

        assert fleet.cache.get_or_compute(SPACE, "eth", slow, ttl_s=60) == "late"
        assert other.cache.get(SPACE, "eth") == "new"


def test_what_is_removed_while_it_is_computed_is_not_stored(fleet: Fleet) -> None:
    def compute() -> str:
        fleet.cache.delete(SPACE, "eth")
        return "outdated"

    assert fleet.cache.get_or_compute(SPACE, "eth", compute, ttl_s=60) == "outdated"
    assert fleet.cache.get(SPACE, "eth") is None


def test_it_keeps_its_size_and_counts_what_went(fleet: Fleet, console: Database, owner: Owner) -> None:
    set_setting(console, "cache_max_entries", 100, actor="me", reason="test")
    for number in range(500):
        fleet.cache.set(SPACE, f"key-{number}", number, ttl_s=1000 + number)
    found = status(fleet)
    assert 100 <= found.entries <= 150
    assert found.evictions == 500 - found.entries
    assert fleet.cache.get(SPACE, "key-499") == 499  # what would be over first went first
    grow_old(owner, 10_000)
    for number in range(50):
        fleet.cache.set(SPACE, f"new-{number}", number, ttl_s=1000)
    assert status(fleet).entries <= 50


def test_what_is_computed_now_keeps_its_place_in_a_full_cache(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    """Its lease ends before all that is kept: yet nobody else computes it meanwhile, and it is stored."""
    set_setting(console, "cache_max_entries", 100, actor="me", reason="test")

    def compute() -> str:
        for number in range(200):
            fleet.cache.set(SPACE, f"key-{number}", number, ttl_s=3600)
        answer = other.session.call("begin_cached", namespace=SPACE, key="eth", lease_s=30.0)
        assert answer["found"] == "wait"
        return "dear"

    with fleet_database.connect("other") as other:
        assert fleet.cache.get_or_compute(SPACE, "eth", compute, ttl_s=7200) == "dear"
        assert other.cache.get(SPACE, "eth") == "dear"


def test_what_can_not_be_kept_is_given_all_the_same_and_keeps_nobody_waiting(fleet: Fleet) -> None:
    """A text from outside may have anything in it, and be of any length."""
    much = "x" * 300_000
    for _ in range(2):
        assert fleet.cache.get_or_compute(SPACE, "much", lambda: much, ttl_s=60) == much
    assert status(fleet).misses == 2
    fleet.cache.get_or_compute(SPACE, "nul", lambda: {"text": "a\0b\ud800"}, ttl_s=60)
    assert fleet.cache.get(SPACE, "nul") == {"text": "a\ufffdb?"}
    with pytest.raises(InvalidValueError, match="ttl_s"):  # what is asked for wrongly is told
        fleet.cache.get_or_compute(SPACE, "wrong", lambda: 1, ttl_s=-1)


def test_without_the_cache_work_goes_on(fleet: Fleet, console: Database, owner: Owner) -> None:
    fleet.cache.set(SPACE, "eth", "dear", ttl_s=60)
    owner.execute("ALTER TABLE fleet.cache RENAME TO elsewhere")
    try:
        assert fleet.cache.get(SPACE, "eth", "default") == "default"
        assert fleet.cache.get_many(SPACE, ["eth"]) == {}
        fleet.cache.set(SPACE, "eth", "dear", ttl_s=60)
        assert fleet.cache.get_or_compute(SPACE, "eth", lambda: "computed", ttl_s=60) == "computed"
        assert get_cache_status(console) == []  # the console shows the rest
    finally:
        owner.execute("ALTER TABLE fleet.elsewhere RENAME TO cache")
    assert fleet.cache.get(SPACE, "eth") == "dear"


def test_nothing_of_it_is_flushed_or_logged(owner: Owner) -> None:
    kinds = rows(owner, "SELECT relpersistence FROM pg_class WHERE relname IN ('cache', 'cache_counts')")
    assert kinds == [("u",), ("u",)]


@pytest.mark.parametrize(
    ("change", "field", "given"),
    [
        ({"namespace": "No"}, "namespace", "No"),
        ({"key": ""}, "key", ""),
        ({"key": None}, "key", None),
        ({"value": None}, "value", None),
        ({"ttl_s": 0}, "ttl_s", "0"),
        ({"ttl_s": float("nan")}, "ttl_s", "NaN"),
        ({"ttl_s": None}, "ttl_s", None),
        ({"stale_s": -1}, "stale_s", "-1"),
    ],
)
def test_bad_values_are_refused_by_name(
    fleet: Fleet, owner: Owner, change: dict[str, Any], field: str, given: str | None
) -> None:
    asked: dict[str, Any] = {
        "namespace": SPACE,
        "key": "k",
        "value": "1",
        "ttl_s": 60,
        "stale_s": 0,
        **change,
    }
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("put_cached", **asked)
    assert_refused(refusal, field, given)
    assert value(owner, "SELECT count(*) FROM fleet.cache") == 0


def test_what_is_dropped_is_named(fleet: Fleet) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.session.call("drop_cached", namespace=None, prefix="a")
    assert_refused(refusal, "namespace", None)
