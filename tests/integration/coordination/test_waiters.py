"""The line for a content: who waits, who is passed over, who gets it, and how soon."""

import time
import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.engagement import Lease, LockType, Refusal
from coordination.errors import InvalidValueError, LockLostError
from coordination.settings import set_setting
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.lock_lines import line_up, poll, unhurried
from tests.integration.coordination.tables import Owner, planted, rows, value


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for workers that wait, each with a life of its own."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture(name="unhurried")
def nobody_hurries(owner: Owner) -> Iterator[None]:
    with unhurried(owner):
        yield


by_hand = pytest.mark.usefixtures("unhurried")


def held(fleet: Fleet, content: str = "1", lock_type: LockType = "analysis", minutes: float = 15) -> Lease:
    lease = fleet.engagement.request_lock(content, fleet.incarnation.worker, lock_type, minutes)
    assert lease is not None
    return lease


def waiters(owner: Owner) -> int:
    return int(value(owner, "SELECT count(*) FROM fleet.lock_waiters"))


def silent(owner: Owner, waiter: int) -> None:
    """Its owner stopped polling a second ago."""
    owner.execute(
        "UPDATE fleet.lock_waiters SET poll_by = clock_timestamp() - interval '1 ms' WHERE id = %s", (waiter,)
    )


@contextmanager
def several(database: FleetDatabase, *names: str) -> Generator[list[Fleet]]:
    lives = [database.connect(name) for name in names]
    try:
        yield lives
    finally:
        for life in lives:
            life.close()


# Waiting


def test_without_a_wait_nobody_stands_in_line(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet)
    with fleet_database.connect("other") as other:
        answer = other.engagement.ask("1", "other/1", "analysis")
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.holder) == ("held", "tester")
    assert waiters(owner) == 0


def test_who_waits_gets_the_lock_when_it_is_given_back(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    lease = held(fleet)
    with fleet_database.connect("waiter") as waiter:
        waiting: Future[Lease | None] = pool.submit(
            waiter.engagement.request_lock, "1", "waiter/1", "analysis", wait_s=30
        )
        until(lambda: waiters(owner) == 1, 5)
        fleet.engagement.release_lock(lease)
        got = waiting.result(10)
        assert got is not None
        assert got.fencing_token > lease.fencing_token
        assert waiters(owner) == 0
        with pytest.raises(LockLostError):
            fleet.engagement.renew_lock(lease)


def test_the_wait_ends_in_time_and_says_who_held_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet)
    with fleet_database.connect("waiter") as waiter:
        began = time.monotonic()
        answer = waiter.engagement.ask("1", "waiter/1", "analysis", wait_s=0.4)
        assert time.monotonic() - began >= 0.4
        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.holder) == ("timed_out", "tester")
    assert waiters(owner) == 0


def test_a_wait_whose_place_was_swept_at_its_end_timed_out(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    held(fleet)

    def swept() -> bool:
        until(lambda: fleet.retention.sweep("lock_waiters", keep_s=0) == 1, 5)
        return True

    with fleet_database.connect("waiter") as waiter:
        answer = waiter.engagement.ask("1", "waiter/1", "analysis", wait_s=0.2, keep_waiting=swept)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.holder) == ("timed_out", "tester")


def test_who_is_told_to_stop_waiting_leaves_the_line(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet)
    with fleet_database.connect("waiter") as waiter:
        turns = iter((True, True, False))
        answer = waiter.engagement.request_lock(
            "1", "waiter/1", "analysis", wait_s=60, keep_waiting=lambda: next(turns)
        )
        assert answer is None
        assert waiters(owner) == 0


def test_an_error_while_waiting_leaves_the_line(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet)

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with fleet_database.connect("waiter") as waiter, pytest.raises(KeyboardInterrupt):
        waiter.engagement.request_lock("1", "waiter/1", "analysis", wait_s=60, keep_waiting=interrupted)
    assert waiters(owner) == 0


@by_hand
def test_a_content_engaged_meanwhile_ends_the_wait(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease = held(fleet, lock_type="quote")
    with fleet_database.connect("waiter") as other:
        waiter = line_up(other, lock_type="reply")
        owner.execute(
            "INSERT INTO fleet.engagements (content, action, worker_id, success, engaged_at) "
            "VALUES ('1', 'quote', 'tester', true, fleet.now())"
        )
        fleet.engagement.release_lock(lease)
        answer = poll(other, waiter)
        assert (answer["granted"], answer["over"], answer["reason"]) == (False, True, "recent_engagement")
        assert waiters(owner) == 0


@by_hand
def test_a_grant_whose_answer_was_lost_is_told_again_and_can_be_given_up(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease = held(fleet)
    with fleet_database.connect("waiter") as other:
        waiter = line_up(other)
        fleet.engagement.release_lock(lease)
        first, again = poll(other, waiter), poll(other, waiter)
        assert first["granted"]
        assert first == again
        with fleet_database.connect("thief") as thief:  # another life's number opens nothing
            assert poll(thief, waiter)["reason"] == "gone"
        assert other.session.call("leave_line", waiter=waiter)["left"]
        assert value(owner, "SELECT count(*) FROM fleet.engagement_locks") == 0
        assert poll(other, waiter)["reason"] == "gone"


def test_a_place_that_a_crash_forgot_is_asked_for_again(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    lease = held(fleet)
    with fleet_database.connect("waiter") as waiter:
        waiting: Future[Lease | None] = pool.submit(
            waiter.engagement.request_lock, "1", "waiter/1", "analysis", wait_s=30
        )
        until(lambda: waiters(owner) == 1, 5)
        owner.execute("DELETE FROM fleet.lock_waiters")
        until(lambda: waiters(owner) == 1, 5)
        fleet.engagement.release_lock(lease)
        assert waiting.result(10) is not None


@by_hand
def test_two_who_ask_in_one_life_have_a_place_each_and_one_the_lock(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    lease = held(fleet)
    with fleet_database.connect("waiter") as other:
        one, two = line_up(other), line_up(other)
        assert one != two
        fleet.engagement.release_lock(lease)
        got = poll(other, one)
        assert got["granted"]
        assert poll(other, two)["reason"] == "held"
        other.session.call("leave_line", waiter=two)
        assert poll(other, one)["fencing_token"] == got["fencing_token"]


@by_hand
def test_who_asks_again_after_a_silence_keeps_its_place(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet)
    with several(fleet_database, "first", "second") as (first, second):
        place = line_up(first)
        line_up(second)
        silent(owner, place)
        again = line_up(first, wait_s=120)
        assert poll(first, again)["position"] == 1
        assert poll(first, place)["reason"] == "gone"  # who was only slow shares nothing
        assert waiters(owner) == 2


@by_hand
def test_who_asks_again_for_what_is_free_by_now_has_it_at_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease = held(fleet)
    with several(fleet_database, "first", "second") as (first, second):
        place = line_up(first)
        line_up(second)
        fleet.engagement.release_lock(lease)
        assert second.engagement.request_lock("1", "second", "analysis") is None
        silent(owner, place)
        again = first.engagement.request_lock("1", "first", "analysis")
        assert again is not None
        assert poll(first, place)["reason"] == "gone"
        assert waiters(owner) == 1


# The order


@by_hand
def test_the_higher_priority_goes_first_then_who_came_first(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    lease = held(fleet)
    names = ("low", "medium", "second-medium", "high", "critical")
    with several(fleet_database, *names) as lives:
        standing = {
            life.incarnation.worker: (
                life,
                line_up(life, priority=life.incarnation.worker.removeprefix("second-")),  # type: ignore[arg-type]
            )
            for life in lives
        }
        order: list[str] = []
        for _ in names:
            fleet.engagement.release_lock(lease) if not order else None
            granted = [name for name, (life, waiter) in standing.items() if poll(life, waiter)["granted"]]
            assert len(granted) == 1, granted
            order += granted
            life, waiter = standing.pop(granted[0])
            life.session.call("leave_line", waiter=waiter)
        assert order == ["critical", "high", "medium", "second-medium", "low"]


@by_hand
def test_waiting_raises_priority(fleet_database: FleetDatabase, fleet: Fleet, console: Database) -> None:
    set_setting(console, "engagement_ageing_s", 0.05, actor="me", reason="test")
    lease = held(fleet)
    with several(fleet_database, "patient", "important") as (patient, important):
        low = line_up(patient, priority="low")
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 0.16, 5)  # three steps of priority
        critical = line_up(important, priority="critical")
        fleet.engagement.release_lock(lease)
        assert not poll(important, critical)["granted"]
        assert poll(patient, low)["granted"]


@by_hand
def test_of_equal_priority_the_better_content_goes_first_and_a_step_of_priority_beats_any_score(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    lease = held(fleet)
    with several(fleet_database, "fair", "best", "urgent") as (fair, best, urgent):
        places = [
            line_up(fair, score=10),
            line_up(best, score=99),
            line_up(urgent, priority="critical", score=0),
        ]
        fleet.engagement.release_lock(lease)
        positions = [poll(life, place)["granted"] for life, place in zip((fair, best), places, strict=False)]
        assert positions == [False, False]
        assert poll(fair, places[0])["position"] == 3
        assert poll(best, places[1])["position"] == 2
        assert poll(urgent, places[2])["granted"]


@by_hand
def test_who_does_not_wait_takes_nobodys_turn_unless_it_is_more_important(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    lease = held(fleet)
    with several(fleet_database, "waiter", "passer-by") as (waiter, passer):
        line_up(waiter)
        fleet.engagement.release_lock(lease)
        refused = passer.engagement.ask("1", "passer/1", "analysis", priority="medium")
        assert isinstance(refused, Refusal)
        assert (refused.reason, refused.holder) == ("line", "waiter")
        assert passer.engagement.request_lock("1", "passer/1", "analysis", priority="critical") is not None


# Who is passed over


@by_hand
def test_a_silent_waiter_is_passed_over_and_keeps_its_place(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease = held(fleet)
    with several(fleet_database, "first", "second") as (first, second):
        head, tail = line_up(first), line_up(second)
        fleet.engagement.release_lock(lease)
        assert not poll(second, tail)["granted"]
        silent(owner, head)
        got = poll(second, tail)
        assert got["granted"]
        place = poll(first, head)  # it is back, and the first again
        assert (place["reason"], place["position"]) == ("held", 1)
        second.session.call("leave_line", waiter=tail)
        assert poll(first, head)["granted"]


@by_hand
def test_a_silent_waiter_loses_its_place_at_its_deadline(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet)
    with several(fleet_database, "first", "second") as (first, second):
        head, tail = line_up(first), line_up(second)
        owner.execute(
            "UPDATE fleet.lock_waiters SET deadline_at = clock_timestamp(), poll_by = clock_timestamp() "
            "WHERE id = %s",
            (head,),
        )
        assert poll(second, tail)["position"] == 1
        assert fleet.retention.sweep("lock_waiters", keep_s=0) == 1
        assert poll(first, head) == {"granted": False, "over": True, "reason": "gone"}


def _wait_dead(keep: Callable[[object], None], dsn: str) -> int:
    fleet = connect(dsn, "doomed")
    keep(fleet)
    return line_up(fleet)


def test_a_killed_waiter_is_passed_over_at_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease = held(fleet)
    with fleet_database.connect("second") as second, victim(_wait_dead, fleet_database.dsn("worker")) as dead:
        tail = line_up(second)
        fleet.engagement.release_lock(lease)
        owner.execute(  # not its silence shows that it is dead
            "UPDATE fleet.lock_waiters SET poll_by = clock_timestamp() + interval '1 hour' WHERE id = %s",
            (dead.result,),
        )
        assert not poll(second, tail)["granted"]
        dead.kill()
        until(lambda: poll(second, tail)["granted"], 5)


def _hold(keep: Callable[[object], None], dsn: str) -> int:
    fleet = connect(dsn, "doomed")
    keep(fleet)
    return held(fleet, minutes=60).fencing_token


def test_a_waiter_inherits_from_a_killed_holder_i8(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, pool: ThreadPoolExecutor
) -> None:
    with victim(_hold, fleet_database.dsn("worker")) as holder:
        waiting: Future[Lease | None] = pool.submit(
            fleet.engagement.request_lock, "1", "tester/1", "analysis", wait_s=30
        )
        until(lambda: waiters(owner) == 1, 5)
        holder.kill()
        lease = waiting.result(10)
        assert lease is not None
        assert lease.fencing_token > holder.result
    assert fleet.engagement.get_lock_measures()["taken_over"] == 1


@by_hand
def test_with_a_head_that_is_not_passed_over_the_others_would_starve(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    lease = held(fleet)
    with (
        planted(owner, "lock_obstacle", ("w.poll_by > real AND ", "")),
        several(fleet_database, "first", "second") as (first, second),
    ):
        head, tail = line_up(first), line_up(second)
        fleet.engagement.release_lock(lease)
        silent(owner, head)
        assert not poll(second, tail)["granted"]


# What a poll costs


@contextmanager
def mutex_taken(dsn: str, content: str = "1") -> Generator[None]:
    """Another session has the content's mutex: who waits for it, waits."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(fleet.lock_key('content', %s))", (content,))
        yield


@by_hand
def test_a_poll_takes_the_mutex_only_for_a_free_content_and_the_first(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    lease = held(fleet)
    with several(fleet_database, "first", "second") as (first, second):
        head, tail = line_up(first), line_up(second)
        for life in (first, second):
            life.database.call("get_kill_switch")
        with mutex_taken(fleet_database.superuser_dsn):
            assert poll(first, head)["reason"] == "held"
            assert poll(second, tail)["reason"] == "held"
            # Nor does one who doesn't wait, as long as somebody holds it.
            assert second.engagement.request_lock("1", "second/1", "analysis") is None
        fleet.engagement.release_lock(lease)
        with mutex_taken(fleet_database.superuser_dsn):
            assert poll(second, tail)["reason"] == "line"
            with pytest.raises(Exception, match="lock timeout"), planted_timeout(fleet_database):
                poll(first, head)


@contextmanager
def planted_timeout(database: FleetDatabase) -> Generator[None]:
    """Who waits for a mutex in poll_lock gives up at once."""
    with psycopg.connect(database.superuser_dsn, autocommit=True) as admin:
        admin.execute("ALTER FUNCTION fleet.poll_lock SET lock_timeout = '50ms'")
        try:
            yield
        finally:
            admin.execute("ALTER FUNCTION fleet.poll_lock SET lock_timeout = '5s'")


def test_a_waiters_row_is_written_twice_a_second_and_not_flushed(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet)
    with fleet_database.connect("waiter") as other:
        waiter = line_up(other)
        line = "SELECT polled_at FROM fleet.lock_waiters WHERE id = %s"
        first = value(owner, line, waiter)
        poll(other, waiter)
        assert value(owner, line, waiter) == first
        owner.execute(
            "UPDATE fleet.lock_waiters SET polled_at = polled_at - interval '501 ms', "
            "poll_by = poll_by - interval '501 ms'"
        )
        poll(other, waiter)
        assert value(owner, line, waiter) > first
        with psycopg.connect(fleet_database.dsn("worker")) as connection:
            for _ in range(2):
                connection.execute("SELECT fleet.poll_lock(%s, %s)", (other.incarnation.id, waiter))
                assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


# Many


def _take_turns(start: Callable[[], int], dsn: str, times: int) -> list[tuple[int, float, float]]:
    """Wait for one content so many times; give (token, from, to) of each ownership."""
    owned: list[tuple[int, float, float]] = []
    with connect(dsn, "contender") as fleet:
        start()
        for _ in range(times):
            lease = fleet.engagement.request_lock("one", "contender", "analysis", 1, wait_s=60)
            assert lease is not None
            began = time.monotonic()
            fleet.engagement.has_recent_engagement("one")
            owned.append((lease.fencing_token, began, time.monotonic()))
            fleet.engagement.release_lock(lease)
    return owned


def test_16_processes_that_wait_get_it_one_after_another_and_each_its_turns_i1_i2(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    owned = sorted(
        (one for life in together(_take_turns, 16, fleet_database.dsn("worker"), 4) for one in life),
        key=lambda one: one[1],
    )
    assert len(owned) == 16 * 4
    for (token, _, ended), (following, began, _) in pairwise(owned):
        assert ended < began
        assert token < following
    assert waiters(owner) == 0


# Escalation


def test_a_long_wait_is_told_to_the_coordinator_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held(fleet, "1999")
    with fleet_database.connect("waiter") as other:
        waiter = line_up(other, "1999", worker_id="waiter/7")
        assert not poll(other, waiter)["escalated"]
        long_ago = (
            "UPDATE fleet.lock_waiters SET waits_since = clock_timestamp() - interval '61 s', "
            "polled_at = polled_at - interval '1 s'"
        )
        owner.execute(long_ago)
        assert poll(other, waiter)["escalated"]
        owner.execute(long_ago)
        assert not poll(other, waiter)["escalated"]
    (message,) = rows(
        owner, "SELECT type, recipient_kind, recipient, priority, sender, payload FROM fleet.messages"
    )
    assert message[:5] == ("PRIORITY_ESCALATION", "role", "coordinator", "high", "waiter")
    payload = message[5]
    assert (payload["kind"], payload["content"]) == ("engagement_lock", "1999")
    assert (payload["worker_id"], payload["holders"]) == ("waiter/7", ["tester"])
    assert payload["waited_s"] >= 61


# Refusals


def test_a_waiter_that_is_none_is_told_so(fleet: Fleet) -> None:
    assert poll(fleet, 999)["reason"] == "gone"
    assert fleet.session.call("leave_line", waiter=999) == {"left": False, "wake": None}
    with pytest.raises(InvalidValueError, match="sleeper"):
        fleet.database.call("wake_incarnation", sleeper=None)
    fleet.database.call("wake_incarnation", sleeper=uuid.uuid4())  # nobody listens: nothing happens
