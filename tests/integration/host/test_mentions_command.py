"""`socialfleet mentions`: a person sees who named the account, and why each was answered or not."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination import Fleet
from coordination.interactions import Mention, Page
from host import cli
from host.state_directory import StateDirectory
from tests.integration.conftest import FleetDatabase
from tests.integration.workers.answer_ends import AUTHOR, DEADLINE_S, KEPT, LOST, REASONS


@pytest.fixture
def noted(fleet_database: FleetDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that answered mention 2, waits for 3 and ignored 4."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "DEBUG", "X_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(tmp_path / "state"))
    state = StateDirectory(tmp_path / "state")
    state.make()
    state.put("dsn/console", fleet_database.dsn("console"))
    state.put("account", "sandbox")
    with fleet_database.connect("mentions") as fleet:
        interactions = fleet.interactions
        start = interactions.get_cursor("sandbox")
        interactions.note("sandbox", Page(mentions=[], newest="1", oldest="1", is_last=True, cursor=start))
        mentions = [
            Mention(
                platform_id=str(number),
                author_id=AUTHOR,
                handle="ann",
                text=f"@fleet number {number} \x1b[31m",
                conversation_id=None,
                kind="direct",
                summons=True,
                request="answer",
                subject=None,
                reason=None,
                posted_at=start.now + timedelta(minutes=number),
            )
            for number in (2, 3, 4)
        ]
        page = Page(
            mentions=mentions, newest="4", oldest="2", is_last=True, cursor=interactions.get_cursor("sandbox")
        )
        interactions.note("sandbox", page)
        intent = fleet.ledger.propose(
            "sandbox",
            "reply",
            "2",
            "Slowly.",
            deadline=start.now + timedelta(seconds=DEADLINE_S),
            origin={"author_id": AUTHOR, "handle": "ann"},
        )
        interactions.take("sandbox", 3)
        interactions.answered("sandbox", "2", intent.id, "spoke to the account")
        interactions.ignored("sandbox", "4", "cap: 3 answers to this author within the hour")


def run(*arguments: str) -> int:
    return cli.main(["mentions", *arguments], manage=None)


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What is known of mention 2."""
    assert run("show", "2", "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("noted")
def test_the_list_has_the_newest_first_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["platform_id"], row["state"]) for row in found] == [
        ("4", "ignored"),
        ("3", "seen"),
        ("2", "answered"),
    ]
    assert run("list", "--state", "ignored") == 0
    shown = capsys.readouterr().out
    assert "cap: 3 answers to this author within the hour" in shown
    assert "number 3" not in shown
    assert "\x1b" not in shown


@pytest.mark.usefixtures("noted")
def test_one_mention_is_shown_with_what_became_of_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "2") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        f"why             spoke to the account; answer {answer(capsys)['intent']} ready\n"
    )
    assert "Slowly." in shown
    assert answer(capsys)["intent_state"] == "ready"


@pytest.mark.usefixtures("noted")
@pytest.mark.parametrize("end", [*LOST, *KEPT])
def test_an_answer_that_came_to_another_end_is_not_shown_as_given(
    fleet: Fleet, fleet_database: FleetDatabase, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    intent = answer(capsys)["intent"]
    {**LOST, **KEPT}[end](fleet, fleet_database, intent)
    expected = f"answer {intent} {end}"
    if end in REASONS:
        expected += f": {REASONS[end]}"
    assert run("show", "2") == 0
    assert capsys.readouterr().out.startswith(f"why             spoke to the account; {expected}")
    assert run("list", "--state", "answered") == 0
    heads, row = capsys.readouterr().out.splitlines()
    assert expected in row
    assert row[heads.index("ANSWER") :].split()[0] == end
    assert run("list", "--json") == 0
    listed = {row["platform_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert [listed[one]["intent_state"] for one in "234"] == [end, None, None]


@pytest.mark.usefixtures("noted")
def test_what_was_put_off_says_why(fleet_database: FleetDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    with fleet_database.connect("mentions") as fleet:
        held = fleet.interactions.take("sandbox")
        assert [one.platform_id for one in held] == ["3"]
        fleet.interactions.put_off("sandbox", "3", "waits for words: the model is away", due_in_s=600)
    assert run("list", "--state", "seen") == 0
    assert "waits for words: the model is away; tried again at " in capsys.readouterr().out


@pytest.mark.usefixtures("noted")
def test_what_is_not_there_or_no_id_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "99") == 1
    assert "no mention 99 was seen" in capsys.readouterr().err
    assert run("show", "x") == 2
    assert run("list", "--state", "lost") == 2
    assert "allowed" in capsys.readouterr().err
