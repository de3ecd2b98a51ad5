"""Mentions on a real ledger, before an X whose timeline a test writes."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest

from config import Config
from coordination import Fleet
from coordination.intents import Queue
from coordination.interactions import Page
from coordination.messages import Message
from tests.integration.conftest import FleetDatabase
from tests.integration.platforms.scripted import credentials
from tests.integration.workers.answer_ends import DEADLINE_S, KEPT, LOST, REASONS, End
from tests.integration.workers.mention_timeline import HANDLE, US, MentionTimeline
from workers.context import Context
from workers.crash_points import CRASH_POINTS, VARIABLE, CrashPoints
from workers.errors import NeedNotMetError
from workers.fleet.mentions import PUT_OFF_S, Mentions, MentionsSettings
from workers.platforms.writers import Draft, WriterExhausted
from workers.platforms.writers.answers import AnswerBrief, BuiltinAnswerer
from workers.platforms.writers.model import DEADLINE_S as DEADLINE_OF_MODEL_S
from workers.platforms.x import X
from workers.progress import Progress
from workers.tasks import PostAnalysed

ACCOUNT = "sandbox"


@pytest.fixture
def x() -> Iterator[MentionTimeline]:
    timeline = MentionTimeline()
    yield timeline
    timeline.close()


@pytest.fixture
def enterprise(fleet_database: FleetDatabase) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.accounts SET tier = 'enterprise' WHERE name = 'sandbox'")


@pytest.fixture
def mentions(fleet: Fleet, x: MentionTimeline, enterprise: None) -> Mentions:
    """The worker after its first look at an empty timeline."""
    assert enterprise is None
    made = worker(fleet, x)
    made.step()
    return made


def worker(fleet: Fleet, x: MentionTimeline, **settings: Any) -> Mentions:
    context = Context(config=Config(), account=ACCOUNT)
    context.__dict__["x"] = X(x.url, credentials())
    made = Mentions(context=context, fleet=fleet, progress=Progress(), draining=Event())
    made.settings = MentionsSettings(**settings)
    return made


def interactions(fleet_database: FleetDatabase) -> dict[str, tuple[str, str | None]]:
    with fleet_database.owner() as owner:
        found = owner.execute("SELECT platform_id, state, reason FROM fleet.interactions").fetchall()
    return {row[0]: (row[1], row[2]) for row in found}


def replies(fleet_database: FleetDatabase) -> dict[str, str]:
    """The texts proposed, by the post that they answer."""
    with fleet_database.owner() as owner:
        found = owner.execute("SELECT target, text FROM fleet.intents WHERE action = 'reply'").fetchall()
    assert len(found) == len({row[0] for row in found})
    return dict(found)


def test_who_calls_the_account_is_answered_once(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    called = x.mention("@fleet what about gardens?")
    mentions.step()
    mentions.step()
    assert list(replies(fleet_database)) == [called]
    assert interactions(fleet_database)[called] == ("answered", "spoke to the account")
    with fleet_database.owner() as owner:
        origin = owner.execute("SELECT origin FROM fleet.intents").fetchone()
    assert origin is not None
    assert (
        origin[0].items()
        >= {
            "worker": "mentions",
            "author_id": "700",
            "handle": "person700",
            "why": "spoke to the account",
        }.items()
    )


def proposed_before(fleet: Fleet, mention: str) -> str:
    """The answer of a process that was killed before it could say so."""
    now = fleet.interactions.get_cursor(ACCOUNT).now
    return fleet.ledger.propose(
        ACCOUNT,
        "reply",
        mention,
        "Slowly.",
        deadline=now + timedelta(seconds=DEADLINE_S),
        origin={"author_id": "700", "handle": "person700"},
    ).id


@pytest.mark.parametrize(("state", "lose"), LOST.items())
def test_after_a_crash_an_answer_that_was_lost_is_not_said_to_be_given_nor_proposed_again(
    fleet: Fleet,
    fleet_database: FleetDatabase,
    x: MentionTimeline,
    mentions: Mentions,
    state: str,
    lose: End,
) -> None:
    called = x.mention("@fleet what about gardens?")
    intent = proposed_before(fleet, called)
    lose(fleet, fleet_database, intent)
    mentions.step()
    mentions.step()
    settled, reason = interactions(fleet_database)[called]
    assert settled == "ignored"
    assert str(reason).startswith(f"answer {intent} {state}: {REASONS[state]}")
    assert replies(fleet_database) == {called: "Slowly."}


@pytest.mark.parametrize("end", [None, *KEPT.values()])
def test_after_a_crash_an_answer_that_lives_or_was_posted_is_the_answer(
    fleet: Fleet,
    fleet_database: FleetDatabase,
    x: MentionTimeline,
    mentions: Mentions,
    end: End | None,
) -> None:
    called = x.mention("@fleet what about gardens?")
    intent = proposed_before(fleet, called)
    if end is not None:
        end(fleet, fleet_database, intent)
    mentions.step()
    assert interactions(fleet_database)[called] == ("answered", "spoke to the account")
    assert replies(fleet_database) == {called: "Slowly."}


def test_talk_about_the_account_is_kept_with_its_reason_and_not_answered(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    talk = x.mention("I agree with @fleet about gardens.")
    mentions.step()
    assert replies(fleet_database) == {}
    assert interactions(fleet_database)[talk] == ("ignored", "talks about the account, not to it")


def test_an_inherited_handle_is_told_by_the_post_that_is_answered(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    x.others["5"] = {"id": "5", "text": "@fleet hello", "author_id": "8"}
    x.others["6"] = {"id": "6", "text": "Bread needs time.", "author_id": "8"}
    inherited = x.mention("@ann @fleet Right.", answers="5", to="8")
    called_in = x.mention("@ann @fleet Right.", answers="6", to="8")
    mentions.step()
    assert list(replies(fleet_database)) == [called_in]
    assert interactions(fleet_database)[inherited][0] == "ignored"


@pytest.mark.usefixtures("enterprise")
def test_ten_thousand_old_mentions_are_not_answered_and_cost_one_request(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline
) -> None:
    now = datetime.now(UTC)
    for number in range(10_000):
        x.mention("@fleet what about gardens?", at=now - timedelta(seconds=10 + number))
    made = worker(fleet, x, overlap_s=3600)
    made.step()
    assert len(x.reads()) == 1
    made.step()
    new = x.mention("@fleet and now?")
    late = x.mention("@fleet I was there all along", at=now - timedelta(seconds=5))
    made.step()
    assert list(replies(fleet_database)) == [new]
    assert interactions(fleet_database)[late] == ("ignored", "older than the first look at mentions")
    assert len(x.reads()) == 3


@pytest.mark.usefixtures("enterprise")
def test_who_said_stop_before_the_first_look_is_left_alone_and_not_answered(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline
) -> None:
    now = datetime.now(UTC)
    stops: set[str] = set()
    for number in range(10_000):
        stop = number % 20 == 7
        text = "@fleet please stop replying to me" if stop else "@fleet what about gardens?"
        asked = x.mention(text, author=1000 + number, at=now - timedelta(seconds=10 + number))
        if stop and number < 100:  # X gives the newest 100 of them at once
            stops.add(asked)
    made = worker(fleet, x)
    made.step()
    assert len(x.reads()) == 1
    authors = [str(1000 + number) for number in range(10_000)]
    assert fleet.opt_outs.among(ACCOUNT, authors) == {"1007", "1027", "1047", "1067", "1087"}
    found = interactions(fleet_database)
    assert {one for one, told in found.items() if told == ("ignored", "asked to be left alone")} == stops
    assert {state for state, _ in found.values()} == {"ignored"}
    late = x.mention("@fleet stop", author=5, at=now - timedelta(seconds=5))
    made.step()
    assert interactions(fleet_database)[late] == ("ignored", "asked to be left alone")
    assert fleet.opt_outs.has(ACCOUNT, "5")
    assert replies(fleet_database) == {}


def test_an_opt_out_is_heard_also_where_an_answer_was_proposed_before(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    stop = x.mention("@fleet stop", author=7)
    fleet.ledger.propose(ACCOUNT, "reply", stop, "Slowly.", origin={"author_id": "7", "handle": "person7"})
    mentions.step()
    assert fleet.opt_outs.has(ACCOUNT, "7")
    assert interactions(fleet_database)[stop] == ("ignored", "asked to be left alone")


def test_a_mention_that_the_timeline_showed_late_is_still_answered(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    early = datetime.now(UTC) + timedelta(seconds=5)
    late_text = ("@fleet me first?", early)
    newer = x.mention("@fleet me second?", at=early + timedelta(seconds=10))
    mentions.step()
    late = x.mention(late_text[0], at=late_text[1])
    mentions.step()
    assert set(replies(fleet_database)) == {newer, late}


def test_a_gap_of_many_pages_is_read_through_however_few_pages_a_step_may_read(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    first = x.mention("@fleet first?", author=1)
    mentions.step()
    called = {first} | {x.mention("@fleet what now?", author=1000 + number) for number in range(1000)}
    few = worker(fleet, x, pages_per_step=3, batch_size=1000)
    positions: list[str | None] = []
    for _ in range(4):
        few.step()
        positions.append(fleet.interactions.get_cursor(ACCOUNT).position)
    assert positions == [first, first, first, max(called, key=int)]
    assert set(replies(fleet_database)) == called


def test_what_comes_during_a_long_walk_is_the_next_walks(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    called = {x.mention("@fleet first?", author=1)}
    mentions.step()
    slow = worker(fleet, x, pages_per_step=1, batch_size=1000)
    for turn in range(6):
        called |= {x.mention("@fleet what now?", author=100 * turn + n) for n in range(100, 160)}
        slow.step()
    for _ in range(6):
        slow.step()
    assert set(replies(fleet_database)) == called


def test_an_opt_out_is_kept_and_not_answered_and_comes_before_all_else(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    asked = x.mention("@fleet what about gardens?", author=7)
    stop = x.mention("@fleet please stop replying to me", author=7)
    mentions.step()
    later = x.mention("@fleet hello?", author=7)
    mentions.step()
    assert replies(fleet_database) == {}
    assert fleet.opt_outs.has(ACCOUNT, "7")
    found = interactions(fleet_database)
    assert found[stop] == ("ignored", "asked to be left alone")
    for refused in (asked, later):
        assert found[refused][0] == "ignored"
        assert str(found[refused][1]).startswith("policy: ")


def test_neither_itself_nor_another_account_of_the_fleet_is_answered(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    fleet.accounts.confirm_identity("default", "43", "sister")
    own = x.mention("@fleet to myself", author=int(US))
    sister = x.mention("@fleet hello sister", author=43)
    mentions.step()
    assert replies(fleet_database) == {}
    assert {interactions(fleet_database)[one][0] for one in (own, sister)} == {"ignored"}


def test_a_loop_with_another_bot_ends_by_itself(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    """The other one answers each answer with a mention, for ever."""
    first = x.mention("@fleet hello?", author=9)
    for _ in range(10):
        mentions.step()
        x.mention("@fleet and then?", author=9, answers=first, to=US, conversation_id=first)
    assert len(replies(fleet_database)) == 3
    for _ in range(10):
        fleet_database.advance(3700)
        x.mention("@fleet and then?", author=9, answers=first, to=US, conversation_id=first)
        mentions.step()
    assert len(replies(fleet_database)) == 6
    reasons = {reason for state, reason in interactions(fleet_database).values() if state == "ignored"}
    assert any("in this conversation" in str(reason) for reason in reasons)
    assert any("within the hour" in str(reason) for reason in reasons)


def test_look_at_this_is_delegated_once_and_its_finding_reported(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    pointed = x.mention("@fleet check out this: https://x.com/ann/status/555")
    mentions.step()
    mentions.step()
    assert replies(fleet_database) == {}
    assert interactions(fleet_database)[pointed] == ("delegated", "asked to look at post 555")
    with fleet_database.owner() as owner:
        sent = owner.execute("SELECT id, recipient_kind, recipient, payload FROM fleet.messages").fetchall()
    assert [row[1:] for row in sent] == [
        (
            "role",
            "content_analysis",
            {"kind": "analyse_post", "account": ACCOUNT, "post_id": "555", "mention_id": pointed},
        )
    ]
    finding = PostAnalysed(
        account=ACCOUNT,
        post_id="555",
        mention_id=pointed,
        found=True,
        score=71.4,
        topic="gardens",
        reason="fits",
    )
    for _ in range(2):
        mentions.analysed(message(finding), finding)
    (text,) = replies(fleet_database).values()
    assert "71" in text
    assert "gardens" in text
    assert interactions(fleet_database)[pointed] == (
        "answered",
        "asked to look at post 555: with what was found",
    )


def message(finding: PostAnalysed) -> Message:
    now = datetime.now(UTC)
    return Message(
        id="1",
        type="TASK_DELEGATION",
        sender="discovery",
        to="worker",
        payload=finding.model_dump(),
        priority="medium",
        reply_to=None,
        attempt=1,
        lease=1,
        sent_at=now,
        expires_at=now,
    )


def test_a_delegation_that_nothing_comes_of_is_answered_without_it(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    pointed = x.mention("@fleet check out this: https://x.com/ann/status/555")
    mentions.step()
    fleet_database.advance(601)
    mentions.step()
    assert list(replies(fleet_database)) == [pointed]
    assert interactions(fleet_database)[pointed][1] == "asked to look at post 555: nothing came back in time"


def test_a_finding_for_an_unknown_mention_is_no_error(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    known = x.mention("@fleet what about gardens?")
    mentions.step()
    before = interactions(fleet_database), replies(fleet_database)
    assert list(before[1]) == [known]
    finding = PostAnalysed(account=ACCOUNT, post_id="1", mention_id="2", found=False, reason="gone")
    mentions.analysed(message(finding), finding)
    assert (interactions(fleet_database), replies(fleet_database)) == before
    with fleet_database.owner() as owner:
        kept = owner.execute("SELECT 1 FROM fleet.interactions WHERE finding IS NOT NULL").fetchall()
    assert kept == []


def test_a_bad_item_is_kept_with_its_reason_and_the_others_go_on(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    before = x.mention("@fleet before?", author=1)
    nameless = x.mention("@fleet nobody?", author_id=None)
    x.bad = [{"id": "77", "text": 5}, "what", {"text": "no id"}]
    after = x.mention("@fleet after?", author=2)
    mentions.step()
    mentions.step()
    assert set(replies(fleet_database)) == {before, after}
    with fleet_database.owner() as owner:
        kept = owner.execute("SELECT item, error FROM fleet.failed_items").fetchall()
    items = {row[0] for row in kept}
    assert {f"mention:{nameless}", "mention:77"} <= items
    assert len(items) == 4
    x.bad = []
    newer = x.mention("@fleet newer?", author=3)
    mentions.step()
    assert newer in replies(fleet_database)


def test_a_mention_that_can_not_be_answered_is_given_up_and_said_so(
    fleet: Fleet,
    fleet_database: FleetDatabase,
    x: MentionTimeline,
    mentions: Mentions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = x.mention("@fleet break?", author=1)
    fine = x.mention("@fleet fine?", author=2)
    asked = fleet.policy.check

    def check(account: str, action: str, target: str | None = None, author_id: str | None = None) -> Any:
        if author_id == "1":
            raise ValueError("cannot be judged")
        return asked(account, action, target, author_id)

    monkeypatch.setattr(fleet.policy, "check", check)
    mentions.settings = MentionsSettings(max_item_attempts=1)
    mentions.step()
    assert list(replies(fleet_database)) == [fine]
    state, reason = interactions(fleet_database)[broken]
    assert (state, "dead letter" in str(reason)) == ("ignored", True)


class Wordless:
    """An answerer that finds no words, after doing what a test wants done meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._meanwhile = meanwhile

    def write(self, brief: AnswerBrief) -> Draft:
        self._meanwhile()
        raise WriterExhausted(f"all was said of {brief.words}")


def test_without_words_a_mention_waits_as_long_as_it_takes_and_a_person_is_told_once(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    called = {x.mention("@fleet what about gardens?", author=number) for number in range(1, 9)}
    mentions.settings = MentionsSettings(max_item_attempts=1)
    mentions.__dict__["_answerer"] = Wordless()
    for _ in range(7):
        mentions.step()
        fleet_database.advance(PUT_OFF_S + 1)
    waiting = interactions(fleet_database)
    assert {one for one, (state, _) in waiting.items() if state == "seen"} == called
    assert all(str(reason).startswith("waits for words: all was said") for _, reason in waiting.values())
    assert fleet.failed_items.among([f"mention:{one}" for one in called]) == {}
    with fleet_database.owner() as owner:
        told = owner.execute("SELECT message FROM fleet.events WHERE kind = 'answers_put_off'").fetchall()
    assert len(told) == 1
    mentions.__dict__["_answerer"] = BuiltinAnswerer()
    mentions.step()
    assert set(replies(fleet_database)) == called


def test_what_is_put_off_is_not_asked_for_again_before_it_is_due(
    x: MentionTimeline, mentions: Mentions
) -> None:
    asked: list[None] = []
    x.mention("@fleet what about gardens?")
    mentions.__dict__["_answerer"] = Wordless(lambda: asked.append(None))
    mentions.step()
    mentions.step()
    assert len(asked) == 1


def test_answers_avoid_the_texts_of_a_day_and_not_those_of_a_month(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    avoided: list[frozenset[str]] = []

    class Noting(BuiltinAnswerer):
        def write(self, brief: AnswerBrief) -> Draft:
            avoided.append(brief.avoid)
            return super().write(brief)

    mentions.__dict__["_answerer"] = Noting()
    days = (0, 0.9, 0.9)
    for author, since in enumerate(days, 1):
        fleet_database.advance(since * 86_400)
        x.mention("@fleet what about gardens?", author=author)
        mentions.step()
    first, second, _ = replies(fleet_database).values()
    assert avoided == [frozenset(), {first}, {second}]


def test_the_texts_are_asked_for_only_when_an_answer_is_to_be_written(
    fleet: Fleet, x: MentionTimeline, mentions: Mentions, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    queue = fleet.ledger.queue

    def noting(account: str, targets: str = "", *, texts_of_days: float = 30) -> Queue:
        asked.append(texts_of_days)
        return queue(account, targets, texts_of_days=texts_of_days)

    monkeypatch.setattr(fleet.ledger, "queue", noting)
    x.mention("@fleet stop", author=1)
    mentions.step()
    assert asked == []
    x.mention("@fleet what now?", author=2)
    x.mention("@fleet what about gardens?", author=3)
    mentions.step()
    assert asked == [pytest.approx(1 + 3600 / 86_400)]


def test_who_is_slower_than_its_lease_leaves_the_word_to_the_other(
    fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions, caplog: pytest.LogCaptureFixture
) -> None:
    called = x.mention("@fleet what about gardens?")
    with fleet_database.connect("mentions", slot=2) as second:
        other = worker(second, x)
        held: list[str] = []

        def meanwhile() -> None:
            with fleet_database.owner() as owner:
                owner.execute("UPDATE fleet.interactions SET taken_until = clock_timestamp()")
            held.extend(one.platform_id for one in second.interactions.take(ACCOUNT))

        mentions.__dict__["_answerer"] = Wordless(meanwhile)
        mentions.step()
        assert held == [called]
        assert interactions(fleet_database)[called] == ("seen", None)
        with fleet_database.owner() as owner:
            owner.execute("UPDATE fleet.interactions SET taken_until = clock_timestamp()")
        other.step()
    assert list(replies(fleet_database)) == [called]
    assert interactions(fleet_database)[called][0] == "answered"
    assert "too late: another has it" in caplog.messages


def test_a_lease_is_longer_than_a_model_may_take() -> None:
    assert MentionsSettings().lease_s > 2 * DEADLINE_OF_MODEL_S


def test_where_the_tier_has_no_mentions_it_idles_and_says_why_once(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.accounts SET tier = 'free' WHERE name = 'sandbox'")
    made = worker(fleet, x)
    made.step()
    made.step()
    assert x.reads() == []
    with fleet_database.owner() as owner:
        told = owner.execute("SELECT message FROM fleet.events WHERE kind = 'mentions_denied'").fetchall()
    assert len(told) == 1
    assert "free tier doesn't read mentions" in told[0][0]


def test_a_summons_lets_an_account_reply_that_may_only_where_it_was_called(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.accounts SET tier = 'pay_per_use' WHERE name = 'sandbox'")
    made = worker(fleet, x)
    made.step()
    called = x.mention("@fleet what about gardens?")
    made.step()
    assert list(replies(fleet_database)) == [called]
    refused = fleet.ledger.propose(ACCOUNT, "reply", "31", "Hello", origin={"author_id": "8", "handle": "b"})
    assert refused.state == "rejected"


def test_a_page_read_with_an_older_cursor_ends_the_walk(
    fleet: Fleet, fleet_database: FleetDatabase, x: MentionTimeline, mentions: Mentions
) -> None:
    """Two readers at once: none moves the cursor past what the other has not stored."""
    called = {x.mention("@fleet what now?", author=number) for number in range(100, 400)}
    old = fleet.interactions.get_cursor(ACCOUNT)
    empty = Page(mentions=[], newest=None, oldest=None, is_last=False, cursor=old)
    mentions.settings = MentionsSettings(pages_per_step=1, batch_size=1)
    mentions.step()
    assert not fleet.interactions.note(ACCOUNT, empty).moved
    mentions.settings = MentionsSettings(batch_size=1000)
    mentions.step()
    assert set(replies(fleet_database)) == called


def test_crash_points_are_for_the_sandbox_and_by_their_names(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, real = fleet.accounts.get("sandbox"), fleet.accounts.get("default")
    CrashPoints(real).pass_by(CRASH_POINTS[0])
    monkeypatch.setenv(VARIABLE, CRASH_POINTS[0])
    CrashPoints(sandbox).pass_by(CRASH_POINTS[1])
    with pytest.raises(NeedNotMetError, match="no sandbox's account"):
        CrashPoints(real)
    monkeypatch.setenv(VARIABLE, "mentions.nowhere")
    with pytest.raises(NeedNotMetError, match=r"mentions\.nowhere"):
        CrashPoints(sandbox)


def test_who_the_account_is_is_asked_before_its_first_look(fleet: Fleet, mentions: Mentions) -> None:
    assert mentions.name == "mentions"
    known = fleet.accounts.get(ACCOUNT)
    assert (known.platform_user_id, known.handle) == (US, HANDLE)
