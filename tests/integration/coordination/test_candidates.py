"""The pool: offered, taken with a lease, decided once, kept at its size."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.candidates import Find
from coordination.errors import InvalidValueError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, rows, value

ACCOUNT = "sandbox"
POOL = 100


@pytest.fixture
def now(owner: Owner) -> datetime:
    return value(owner, "SELECT fleet.now()")


def find(number: int, score: float, now: datetime, **changes: Any) -> Find:
    made = Find(
        platform_id=str(number),
        author_id=f"9{number}",
        handle=f"person{number}",
        text=f"Post number {number}",
        topic="gardens",
        origin="search",
        posted_at=now - timedelta(hours=1),
        metrics={"likes": number},
        score=score,
        parts={"freshness": {"value": 0.9, "weight": 20}},
    )
    return replace(made, **changes)


def states(owner: Owner) -> dict[str, str]:
    return dict(rows(owner, "SELECT platform_id, state FROM fleet.candidates"))


def reason(owner: Owner, platform_id: str) -> str:
    return value(owner, "SELECT reason FROM fleet.candidates WHERE platform_id = %s", platform_id)


def free_now(owner: Owner) -> None:
    """The lease's real time is over; nobody waits for it here."""
    owner.execute("UPDATE fleet.candidates SET taken_until = clock_timestamp() - interval '1 second'")


def test_the_best_are_taken_first_with_every_part_of_their_score(fleet: Fleet, now: datetime) -> None:
    offered = fleet.candidates.offer(
        ACCOUNT, [find(1, 50, now), find(2, 90, now), find(3, 70, now)], pool_size=POOL
    )
    assert (offered.added, offered.refreshed, offered.known) == (3, 0, 0)
    taken = fleet.candidates.take(ACCOUNT, 2)
    assert [(c.platform_id, c.score) for c in taken] == [("2", 90), ("3", 70)]
    assert taken[0].parts == {"freshness": {"value": 0.9, "weight": 20}}
    assert taken[0].metrics == {"likes": 2}
    assert taken[0].posted_at == now - timedelta(hours=1)
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 2)] == ["1"]


def test_a_minimum_score_leaves_the_weaker_waiting(fleet: Fleet, now: datetime) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 39, now), find(2, 40, now)], pool_size=POOL)
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 5, min_score=40)] == ["2"]
    assert fleet.candidates.pool(ACCOUNT).waiting == 1


def test_one_that_waits_is_scored_anew_and_a_decided_one_is_never_revived(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now), find(2, 40, now)], pool_size=POOL)
    again = fleet.candidates.offer(ACCOUNT, [find(2, 60, now, text="edited")], pool_size=POOL)
    assert (again.added, again.refreshed, again.known) == (0, 1, 0)
    (first,) = fleet.candidates.take(ACCOUNT, 1)
    assert (first.platform_id, first.score, first.text) == ("2", 60, "edited")
    assert fleet.candidates.decide(ACCOUNT, "2", "passed", reason="not for us")
    late = fleet.candidates.offer(ACCOUNT, [find(2, 99, now)], pool_size=POOL)
    assert (late.added, late.refreshed, late.known) == (0, 0, 1)
    assert states(owner) == {"1": "waiting", "2": "passed"}


def test_the_pool_keeps_its_size_and_says_why_the_lowest_went(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(n, n, now) for n in range(1, 6)], pool_size=5)
    offered = fleet.candidates.offer(ACCOUNT, [find(10, 99, now), find(11, 0.5, now)], pool_size=5)
    assert (offered.added, offered.given_up) == (2, 2)
    assert {i for i, state in states(owner).items() if state == "given_up"} == {"1", "11"}
    assert "pool of 5 is full" in reason(owner, "1")
    pool = fleet.candidates.pool(ACCOUNT)
    assert (pool.waiting, pool.best) == (5, 99)


def test_an_offer_waits_for_the_one_before_it_so_that_the_pool_keeps_its_size(
    fleet: Fleet, fleet_database: FleetDatabase, now: datetime
) -> None:
    first, second = find(1, 50, now), find(2, 60, now)
    row = json.dumps([{**asdict(first), "posted_at": first.posted_at.isoformat()}])
    with psycopg.connect(fleet_database.dsn("worker")) as earlier, ThreadPoolExecutor(1) as pool:
        earlier.execute(
            "SELECT fleet.offer_candidates(%s, %s, %s::jsonb, 1)", (fleet.incarnation.id, ACCOUNT, row)
        )
        later = pool.submit(fleet.candidates.offer, ACCOUNT, [second], pool_size=1)
        with pytest.raises(TimeoutError):
            later.result(0.3)
        earlier.commit()
        assert later.result(10).given_up == 1
    assert fleet.candidates.pool(ACCOUNT).states == {"waiting": 1, "given_up": 1}


def test_a_better_copy_puts_the_weaker_one_out_of_the_pool(fleet: Fleet, owner: Owner, now: datetime) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now), find(2, 40, now)], pool_size=POOL)
    fleet.candidates.take(ACCOUNT, 1)
    offered = fleet.candidates.offer(ACCOUNT, [find(3, 80, now, replaces=("1", "2", "3"))], pool_size=POOL)
    assert (offered.added, offered.given_up) == (1, 1)
    assert states(owner) == {"1": "taken", "2": "given_up", "3": "waiting"}
    assert "near-duplicate of 3" in reason(owner, "2")


def test_the_fleets_own_posts_and_those_who_opted_out_stay_outside(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.accounts.confirm_identity("default", "777", "other_of_the_fleet")
    owner.execute(
        "INSERT INTO fleet.opt_outs VALUES ('x', '888', 'quiet', 'sandbox', '5', 'stop', clock_timestamp())"
    )
    finds = [
        find(1, 90, now, author_id="777"),
        find(2, 90, now, author_id="888"),
        find(3, 90, now, author_id="999"),
    ]
    offered = fleet.candidates.offer(ACCOUNT, finds, pool_size=POOL)
    assert (offered.added, offered.fleet, offered.opted_out) == (1, 1, 1)
    assert states(owner) == {"3": "waiting"}


def _take(keep: Callable[[object], None], dsn: str) -> list[str]:
    fleet = connect(dsn, "engagement")
    keep(fleet)
    return [candidate.platform_id for candidate in fleet.candidates.take(ACCOUNT, 1, lease_s=3600)]


def test_what_the_dead_held_goes_back(
    fleet: Fleet, fleet_database: FleetDatabase, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now)], pool_size=POOL)
    with victim(_take, fleet_database.dsn("worker")) as holder:
        assert holder.result == ["1"]
        assert fleet.candidates.take(ACCOUNT, 1) == []
        holder.kill()
        until(lambda: bool(fleet.candidates.take(ACCOUNT, 1)), within_s=60)
    assert value(owner, "SELECT taken_by FROM fleet.candidates") == fleet.incarnation.id


def _take_all(start: Callable[[], int], dsn: str) -> list[str]:
    taken: list[str] = []
    with connect(dsn, "engagement") as fleet:
        start()
        while found := fleet.candidates.take(ACCOUNT, 3):
            taken += [candidate.platform_id for candidate in found]
            for candidate in found:
                fleet.candidates.decide(ACCOUNT, candidate.platform_id, "passed", reason="seen")
    return taken


def test_4_processes_take_every_candidate_once(
    fleet_database: FleetDatabase, fleet: Fleet, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(n, n % 100, now) for n in range(120)], pool_size=1000)
    taken = [one for ones in together(_take_all, 4, fleet_database.dsn("worker")) for one in ones]
    assert sorted(taken) == sorted(map(str, range(120)))


def _offer_all(start: Callable[[], int], dsn: str) -> int:
    with connect(dsn, "discovery") as fleet:
        at = datetime.now(UTC)
        start()
        return sum(
            fleet.candidates.offer(
                ACCOUNT, [find(n, n % 100, at) for n in range(first, first + 30)], pool_size=50
            ).added
            for first in range(0, 120, 10)
        )


def test_the_pool_keeps_its_size_under_4_offers_at_once(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    added = sum(together(_offer_all, 4, fleet_database.dsn("worker")))
    assert added == 140
    assert fleet.candidates.pool(ACCOUNT).waiting == 50


def test_a_lease_that_is_over_frees_it_also_for_its_own_holder(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now)], pool_size=POOL)
    fleet.candidates.take(ACCOUNT, 1)
    assert fleet.candidates.take(ACCOUNT, 1) == []
    free_now(owner)
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 1)] == ["1"]


def test_a_decision_by_somebody_who_lost_it_changes_nothing(
    fleet: Fleet, fleet_database: FleetDatabase, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now)], pool_size=POOL)
    fleet.candidates.take(ACCOUNT, 1)
    free_now(owner)
    with fleet_database.connect("engagement") as other:
        other.candidates.take(ACCOUNT, 1)
        assert not fleet.candidates.decide(ACCOUNT, "1", "passed", reason="late")
        assert states(owner) == {"1": "taken"}
        assert other.candidates.decide(ACCOUNT, "1", "waiting", reason="no grant")
    assert states(owner) == {"1": "waiting"}
    assert reason(owner, "1") == "no grant"


def test_what_is_stale_or_weak_is_given_up_with_its_reason(
    fleet: Fleet, owner: Owner, fleet_database: FleetDatabase, now: datetime
) -> None:
    fleet.candidates.offer(
        ACCOUNT,
        [
            find(1, 90, now, posted_at=now - timedelta(hours=23)),
            find(2, 30, now),
            find(3, 90, now),
        ],
        pool_size=POOL,
    )
    assert fleet.candidates.give_up(ACCOUNT, max_age_h=24, min_score=40) == {"stale": 0, "weak": 1}
    fleet_database.advance(7200)
    assert fleet.candidates.give_up(ACCOUNT, max_age_h=24, min_score=40) == {"stale": 1, "weak": 0}
    assert states(owner) == {"1": "given_up", "2": "given_up", "3": "waiting"}
    assert reason(owner, "1") == "posted more than 24 h ago"
    assert "scores 30" in reason(owner, "2")


def test_the_pool_tells_its_texts_where_they_are_asked_for(fleet: Fleet, now: datetime) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now), find(2, 40, now), find(3, 30, now)], pool_size=POOL)
    fleet.candidates.take(ACCOUNT, 1)
    assert fleet.candidates.pool(ACCOUNT).posts == ()
    pool = fleet.candidates.pool(ACCOUNT, posts=True)
    assert {(p.platform_id, p.waiting) for p in pool.posts} == {("1", False), ("2", True), ("3", True)}
    assert pool.oldest == now - timedelta(hours=1)
    assert pool.states == {"taken": 1, "waiting": 2}


def act_on(owner: Owner, platform_id: str, state: str = "ready") -> int:
    """An intent of the fleet's on that post."""
    return value(
        owner,
        "INSERT INTO fleet.intents (account, action, target, content, text, state, not_before, proposed_by, "
        "by_person, origin, created_at, updated_at) VALUES ('sandbox', 'reply', %s, %s, 'Nice', %s, "
        "fleet.now(), 'tester/1', false, '{}', fleet.now(), fleet.now()) RETURNING id",
        platform_id,
        platform_id,
        state,
    )


def test_one_whose_act_the_dead_had_proposed_already_is_proposed_not_taken_again(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now), find(2, 40, now)], pool_size=POOL)
    fleet.candidates.take(ACCOUNT, 2)
    intent = act_on(owner, "1")
    free_now(owner)
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 5)] == ["2"]
    assert rows(owner, "SELECT state, intent FROM fleet.candidates WHERE platform_id = '1'") == [
        ("proposed", intent)
    ]


def test_what_the_fleet_acts_on_by_another_way_is_neither_offered_nor_taken(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now)], pool_size=POOL)
    act_on(owner, "1")
    act_on(owner, "2")
    act_on(owner, "3", state="cancelled")
    offered = fleet.candidates.offer(ACCOUNT, [find(2, 50, now), find(3, 50, now)], pool_size=POOL)
    assert (offered.added, offered.known) == (1, 1)
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 5)] == ["3"]
    assert states(owner)["1"] == "passed"
    assert "acts on it already" in reason(owner, "1")


def test_however_many_the_fleet_acts_on_already_the_rest_is_taken(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(n, 90 - n, now) for n in range(1, 8)], pool_size=POOL)
    for number in ("1", "2", "3", "5"):
        act_on(owner, number)
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 2)] == ["4", "6"]
    assert states(owner)["7"] == "waiting"
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 2)] == ["7"]


def test_however_many_the_living_hold_what_the_dead_had_is_free(
    fleet: Fleet, owner: Owner, now: datetime
) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now)], pool_size=POOL)
    assert len(fleet.candidates.take(ACCOUNT, 1, 3600)) == 1
    owner.execute(
        "INSERT INTO fleet.candidates SELECT (jsonb_populate_record(c, jsonb_build_object('platform_id', "
        "n::text, 'taken_until', c.taken_until - interval '1 minute'))).* "
        "FROM fleet.candidates c, generate_series(2, 1500) n"
    )
    owner.execute("UPDATE fleet.candidates SET taken_by = gen_random_uuid() WHERE platform_id = '1'")
    assert [c.platform_id for c in fleet.candidates.take(ACCOUNT, 1)] == ["1"]


def test_the_pool_counts_what_the_caller_proposed_in_the_last_day(
    fleet: Fleet, owner: Owner, fleet_database: FleetDatabase
) -> None:
    act_on(owner, "1")
    act_on(owner, "2", state="rejected")
    assert fleet.candidates.pool(ACCOUNT).proposed == {"reply": 1}
    with fleet_database.connect("other") as other:
        assert other.candidates.pool(ACCOUNT).proposed == {}
    fleet_database.advance(86_400)
    assert fleet.candidates.pool(ACCOUNT).proposed == {}


@pytest.mark.parametrize(
    ("changes", "field", "given"),
    [
        ({"platform_id": "12a"}, "platform_id", "12a"),
        ({"score": 100.5}, "score", "100.5"),
    ],
)
def test_a_find_that_cannot_be_is_refused(
    fleet: Fleet, owner: Owner, now: datetime, changes: dict[str, Any], field: str, given: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        fleet.candidates.offer(
            ACCOUNT, [find(7, 50, now), replace(find(1, 50, now), **changes)], pool_size=POOL
        )
    assert_refused(refusal, field, given)
    assert states(owner) == {}


def test_proposed_needs_its_intent_and_passed_its_reason(fleet: Fleet, now: datetime) -> None:
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now)], pool_size=POOL)
    fleet.candidates.take(ACCOUNT, 1)
    with pytest.raises(InvalidValueError) as refusal:
        fleet.candidates.decide(ACCOUNT, "1", "proposed")
    assert_refused(refusal, "intent", None)
    with pytest.raises(InvalidValueError) as refusal:
        fleet.candidates.decide(ACCOUNT, "1", "passed")
    assert_refused(refusal, "reason", None)


def test_a_hostile_text_is_stored_as_it_is(fleet: Fleet, now: datetime) -> None:
    text = '\'; DROP TABLE x; -- " {"a": 1} \\u0000 \ud83d \x00 end 👩‍👩‍👧'
    fleet.candidates.offer(ACCOUNT, [find(1, 50, now, text=text)], pool_size=POOL)
    (taken,) = fleet.candidates.take(ACCOUNT, 1)
    assert taken.text == text.replace("\x00", "\ufffd").replace("\ud83d", "?")
