"""Mentions are stored once, the cursor never passes one that was not, and each is in one pair of hands."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.errors import IncarnationLostError, InvalidValueError
from coordination.interactions import Cursor, Mention, Noted, Page
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until, victim
from tests.integration.coordination.tables import Owner, kill_session, rows, value

ACCOUNT = "sandbox"


def mention(fleet: Fleet, number: int, **changes: Any) -> Mention:
    made: dict[str, Any] = {
        "platform_id": str(number),
        "author_id": "7",
        "handle": "ann",
        "text": "@fleet what about gardens?",
        "conversation_id": str(number),
        "kind": "direct",
        "summons": True,
        "request": "answer",
        "subject": None,
        "reason": None,
        "posted_at": cursor(fleet).now + timedelta(hours=1),
    }
    return Mention(**{**made, **changes})


def cursor(fleet: Fleet) -> Cursor:
    return fleet.interactions.get_cursor(ACCOUNT)


def note(fleet: Fleet, *numbers: int, last: bool = True, at: Cursor | None = None, **changes: Any) -> Noted:
    """One page, as it is read now."""
    page = Page(
        mentions=[mention(fleet, number, **changes) for number in sorted(numbers, reverse=True)],
        newest=str(max(numbers)) if numbers else None,
        oldest=str(min(numbers)) if numbers else None,
        is_last=last,
        cursor=at or cursor(fleet),
    )
    return fleet.interactions.note(ACCOUNT, page)


def states(owner: Owner) -> dict[str, str]:
    found = rows(owner, "SELECT platform_id, state FROM fleet.interactions")
    return {str(platform_id): str(state) for platform_id, state in found}


def test_before_the_first_reading_there_is_no_position_but_a_time(fleet: Fleet) -> None:
    found = cursor(fleet)
    assert (found.position, found.baseline, found.ceiling, found.reached) == (None, None, None, None)
    assert found.now <= datetime.now(UTC) + timedelta(minutes=1)


def test_the_first_page_is_the_baseline_and_nothing_on_it_is_acted_on(fleet: Fleet, owner: Owner) -> None:
    noted = note(fleet, 100, 99, 98, last=False)
    assert (noted.cursor.position, noted.cursor.baseline, noted.open) == ("100", "100", 0)
    assert set(states(owner).values()) == {"ignored"}
    assert fleet.interactions.take(ACCOUNT, 10) == []
    assert (
        value(owner, "SELECT DISTINCT reason FROM fleet.interactions")
        == "older than the first look at mentions"
    )


def test_a_mention_older_than_the_first_look_is_not_acted_on_however_late_it_shows(fleet: Fleet) -> None:
    first = note(fleet, 100)
    assert first.cursor.started_at is not None
    assert note(fleet, 50).open == 0
    assert note(fleet, 150, posted_at=first.cursor.started_at - timedelta(seconds=1)).open == 0
    assert note(fleet, 151).open == 1


def test_who_said_stop_before_the_first_look_is_open_to_be_heard(fleet: Fleet, owner: Owner) -> None:
    fleet.accounts.confirm_identity(ACCOUNT, "42", "fleet")
    assert note(fleet, 100, 99, request="opt_out").open == 2
    assert note(fleet, 50, request="opt_out").open == 1
    assert note(fleet, 49, request="opt_out", author_id="42").open == 0
    assert note(fleet, 48).open == 0
    taken = fleet.interactions.take(ACCOUNT, 10)
    assert [(item.platform_id, item.request) for item in taken] == [
        ("50", "opt_out"),
        ("99", "opt_out"),
        ("100", "opt_out"),
    ]
    assert states(owner)["48"] == states(owner)["49"] == "ignored"


def test_without_any_mention_at_the_first_look_its_time_is_the_bound(fleet: Fleet) -> None:
    first = note(fleet)
    assert (first.cursor.position, first.cursor.baseline) == ("0", "0")
    assert first.cursor.started_at is not None
    assert note(fleet, 5, posted_at=first.cursor.started_at - timedelta(hours=1)).open == 0
    assert note(fleet, 6).open == 1


def test_a_page_stored_twice_is_stored_once_and_the_cursor_only_rises(fleet: Fleet, owner: Owner) -> None:
    note(fleet, 100)
    assert note(fleet, 101, 102).noted == 2
    again = note(fleet, 101, 102)
    assert (again.noted, again.cursor.position) == (0, "102")
    assert note(fleet, 100).cursor.position == "102"
    assert note(fleet).cursor.position == "102"
    assert len(states(owner)) == 3


def test_ids_compare_as_numbers(fleet: Fleet) -> None:
    note(fleet, 9)
    assert note(fleet, 10).cursor.position == "10"
    assert note(fleet, 1_999_999_999_999_999_999).cursor.position == "1999999999999999999"
    assert [item.platform_id for item in fleet.interactions.take(ACCOUNT, 10)] == [
        "10",
        "1999999999999999999",
    ]


def test_the_cursor_waits_until_a_walk_of_several_pages_has_arrived(fleet: Fleet) -> None:
    note(fleet, 100)
    first = note(fleet, 400, 350, last=False)
    assert (first.cursor.position, first.cursor.ceiling, first.cursor.reached) == ("100", "400", "350")
    second = note(fleet, 300, 250, last=False)
    assert (second.cursor.position, second.cursor.ceiling, second.cursor.reached) == ("100", "400", "250")
    last = note(fleet, 200, last=True)
    assert (last.cursor.position, last.cursor.ceiling, last.cursor.reached) == ("400", None, None)
    assert len(fleet.interactions.take(ACCOUNT, 10)) == 5


def test_who_read_from_an_older_cursor_stores_and_moves_nothing(fleet: Fleet, owner: Owner) -> None:
    old = note(fleet, 100).cursor
    note(fleet, 400, 300, last=False)
    late = note(fleet, 500, at=old)
    assert (late.moved, late.noted) == (False, 1)
    assert (late.cursor.position, late.cursor.ceiling, late.cursor.reached) == ("100", "400", "300")
    assert states(owner)["500"] == "seen"


def test_own_posts_and_the_fleets_are_known_by_the_database(fleet: Fleet, owner: Owner) -> None:
    fleet.accounts.confirm_identity(ACCOUNT, "42", "fleet")
    fleet.accounts.confirm_identity("default", "43", "sister")
    note(fleet, 1)
    note(fleet, 2, author_id="42")
    note(fleet, 3, author_id="43")
    assert note(fleet, 4).open == 1
    found = rows(
        owner, "SELECT platform_id, kind, request, state FROM fleet.interactions WHERE platform_id <> '1'"
    )
    assert sorted(found) == [
        ("2", "own", "none", "ignored"),
        ("3", "fleet", "none", "ignored"),
        ("4", "direct", "answer", "seen"),
    ]


def test_what_is_not_to_be_acted_on_is_settled_with_its_reason_at_once(fleet: Fleet, owner: Owner) -> None:
    note(fleet, 1)
    note(fleet, 2, kind="indirect", request="none", reason="talks about the account, not to it")
    found = rows(
        owner, "SELECT state, reason, settled_at IS NOT NULL FROM fleet.interactions WHERE platform_id = '2'"
    )
    assert found == [("ignored", "talks about the account, not to it", True)]


def test_opt_outs_come_first_then_the_oldest_and_nobody_gets_what_another_holds(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    note(fleet, 1)
    note(fleet, 5, 4, 3)
    note(fleet, 6, request="opt_out")
    assert [item.platform_id for item in fleet.interactions.take(ACCOUNT, 2)] == ["6", "3"]
    with fleet_database.connect("other") as other:
        assert [item.platform_id for item in other.interactions.take(ACCOUNT, 10)] == ["4", "5"]
        assert other.interactions.take(ACCOUNT, 10) == []


def test_what_a_dead_holder_had_is_free_at_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    note(fleet, 1)
    note(fleet, 2)
    with fleet_database.connect("dying") as dying:
        assert len(dying.interactions.take(ACCOUNT, 1, lease_s=3600)) == 1
        assert fleet.interactions.take(ACCOUNT) == []
        kill_session(owner, "dying/1 incarnation")
        assert [item.platform_id for item in fleet.interactions.take(ACCOUNT)] == ["2"]


def test_what_somebody_locks_keeps_nobody_from_the_rest_of_the_dead(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    note(fleet, 1)
    note(fleet, 2, 3)
    assert len(fleet.interactions.take(ACCOUNT, 10, lease_s=3600)) == 2
    owner.execute("UPDATE fleet.interactions SET taken_by = gen_random_uuid()")
    with psycopg.connect(fleet_database.superuser_dsn) as other:
        other.execute("SELECT 1 FROM fleet.interactions WHERE platform_id = '2' FOR UPDATE")
        assert [item.platform_id for item in fleet.interactions.take(ACCOUNT)] == ["3"]


def test_an_answer_settles_it_for_good(fleet: Fleet, owner: Owner) -> None:
    note(fleet, 1)
    note(fleet, 2)
    fleet.interactions.take(ACCOUNT)
    assert fleet.interactions.answered(ACCOUNT, "2", "17") == "answered"
    assert fleet.interactions.ignored(ACCOUNT, "2", "too late") == "answered"
    assert rows(owner, "SELECT state, intent, reason FROM fleet.interactions WHERE platform_id = '2'") == [
        ("answered", 17, None)
    ]
    assert fleet.interactions.ignored(ACCOUNT, "404", "no such") is None


def take_over(keep: Callable[[object], None], dsn: str) -> list[str]:
    """Take what another process held until its lease ran out, and hold it."""
    other = connect(dsn, "other")
    keep(other)
    taken: list[str] = []

    def is_free() -> bool:
        taken.extend(item.platform_id for item in other.interactions.take(ACCOUNT))
        return bool(taken)

    until(is_free, within_s=60)
    return taken


def test_of_two_processes_only_the_one_that_holds_it_says_what_came_of_it(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    note(fleet, 1)
    note(fleet, 2)
    assert len(fleet.interactions.take(ACCOUNT, lease_s=0.001)) == 1
    with victim(take_over, fleet_database.dsn("worker")) as other:
        assert other.result == ["2"]
        before = rows(owner, "SELECT * FROM fleet.interactions WHERE platform_id = '2'")
        assert fleet.interactions.ignored(ACCOUNT, "2", "too late") is None
        assert fleet.interactions.delegated(ACCOUNT, "2", "5", due_in_s=1) is None
        assert fleet.interactions.put_off(ACCOUNT, "2", "too late", due_in_s=1) is None
        assert fleet.interactions.answered(ACCOUNT, "2", "17") is None
        assert rows(owner, "SELECT * FROM fleet.interactions WHERE platform_id = '2'") == before
        assert fleet.interactions.found(ACCOUNT, "2", {"score": 70}) == "seen"
        assert fleet.interactions.take(ACCOUNT) == []
        other.kill()
    until(lambda: bool(fleet.interactions.take(ACCOUNT)), within_s=60)
    assert fleet.interactions.ignored(ACCOUNT, "2", "in hand again") == "ignored"


def test_a_lease_that_ran_out_and_that_nobody_took_still_holds(fleet: Fleet) -> None:
    note(fleet, 1)
    note(fleet, 2)
    fleet.interactions.take(ACCOUNT, lease_s=0.001)
    assert fleet.interactions.answered(ACCOUNT, "2", "17") == "answered"


def test_what_is_put_off_stays_open_with_its_reason_and_is_due_later(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    note(fleet, 1)
    note(fleet, 2)
    fleet.interactions.take(ACCOUNT)
    assert fleet.interactions.put_off(ACCOUNT, "2", "waits for words", due_in_s=600) == "seen"
    assert fleet.interactions.take(ACCOUNT) == []
    assert rows(
        owner, "SELECT state, reason, settled_at FROM fleet.interactions WHERE platform_id = '2'"
    ) == [("seen", "waits for words", None)]
    fleet_database.advance(601)
    assert [item.platform_id for item in fleet.interactions.take(ACCOUNT)] == ["2"]


def test_a_delegation_is_due_again_when_its_time_is_over(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    note(fleet, 1)
    note(fleet, 2, request="analyse", subject="777")
    fleet.interactions.take(ACCOUNT)
    assert fleet.interactions.delegated(ACCOUNT, "2", "5", due_in_s=600) == "delegated"
    assert fleet.interactions.take(ACCOUNT) == []
    fleet_database.advance(601)
    again = fleet.interactions.take(ACCOUNT)
    assert [(item.state, item.subject, item.finding) for item in again] == [("delegated", "777", None)]


def test_a_finding_makes_it_due_now_also_when_it_comes_before_the_delegation_is_noted(fleet: Fleet) -> None:
    note(fleet, 1)
    note(fleet, 2, 3, request="analyse")
    fleet.interactions.take(ACCOUNT, 2)
    fleet.interactions.delegated(ACCOUNT, "2", "5", due_in_s=600)
    fleet.interactions.found(ACCOUNT, "2", {"score": 70.5})
    fleet.interactions.found(ACCOUNT, "3", {"score": 80})
    fleet.interactions.delegated(ACCOUNT, "3", "6", due_in_s=600)
    taken = fleet.interactions.take(ACCOUNT, 5)
    assert [(item.platform_id, item.finding) for item in taken] == [
        ("2", {"score": 70.5}),
        ("3", {"score": 80}),
    ]


def test_with_a_mention_come_the_answers_that_its_author_and_conversation_had(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    note(fleet, 1)
    note(fleet, 2, 3, conversation_id="2")
    for item in fleet.interactions.take(ACCOUNT, 2):
        fleet.interactions.answered(ACCOUNT, item.platform_id, "17")
    note(fleet, 4, conversation_id="2")
    note(fleet, 5, author_id="8", conversation_id="2")
    note(fleet, 6)
    found = [(i.answers_to_author, i.answers_in_conversation) for i in fleet.interactions.take(ACCOUNT, 3)]
    assert found == [(2, 2), (0, 2), (2, 0)]
    fleet_database.advance(3601)
    note(fleet, 7, conversation_id="2")
    assert [(i.answers_to_author, i.answers_in_conversation) for i in fleet.interactions.take(ACCOUNT)] == [
        (0, 2)
    ]


def test_the_reply_proposed_before_a_crash_comes_with_the_mention(fleet: Fleet) -> None:
    note(fleet, 1)
    note(fleet, 2)
    intent = fleet.ledger.propose(
        ACCOUNT, "reply", "2", "An answer", origin={"author_id": "7", "handle": "ann"}
    )
    assert [item.proposed for item in fleet.interactions.take(ACCOUNT)] == [intent.id]


def test_text_from_outside_is_stored_as_plain_text(fleet: Fleet, owner: Owner) -> None:
    note(fleet, 1)
    note(fleet, 2, text="@fleet \0 \ud800 '; DROP TABLE", handle="a\0b")
    assert rows(owner, "SELECT text FROM fleet.interactions WHERE platform_id = '2'") == [
        ("@fleet \ufffd ? '; DROP TABLE",)
    ]


def test_what_can_not_be_is_refused_by_name(fleet: Fleet) -> None:
    start = cursor(fleet)
    empty = Page(mentions=[], newest=None, oldest=None, is_last=True, cursor=start)
    with pytest.raises(InvalidValueError, match="newest"):
        fleet.interactions.note(ACCOUNT, replace(empty, newest="12a"))
    with pytest.raises(InvalidValueError, match="account"):
        fleet.interactions.note("nobody", empty)
    with pytest.raises(InvalidValueError, match="n is"):
        fleet.interactions.take(ACCOUNT, 0)
    note(fleet, 1)
    note(fleet, 2)
    with pytest.raises(InvalidValueError, match="outcome"):
        fleet.interactions.ignored(ACCOUNT, "2", "")
    with pytest.raises(InvalidValueError, match="outcome"):
        fleet.interactions.put_off(ACCOUNT, "2", "", due_in_s=1)


def test_an_ended_life_notes_nothing(fleet_database: FleetDatabase) -> None:
    with fleet_database.connect("ended") as fleet:
        start = cursor(fleet)
        fleet.incarnation.close("over")
        with pytest.raises(IncarnationLostError):
            note(fleet, 1, at=start)
