"""The commands of `socialfleet` on a real fleet's database, as a person at the shell meets them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordination.conflicts import Contender
from coordination.database import Database
from coordination.schedules import CronLine
from host import cli
from host.logins import Logins
from host.state_directory import Role, StateDirectory
from tests.integration.conftest import PASSWORDS, FleetDatabase
from tests.integration.coordination.acts import sending

Run = Callable[..., int]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDirectory:
    """An empty state directory that the environment names, away from any `.env`."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "DEBUG", "X_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(tmp_path / "state"))
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    return directory


@pytest.fixture
def fleet_state(state: StateDirectory, fleet_database: FleetDatabase) -> StateDirectory:
    """A state directory as a fleet leaves it, with two workers in the database."""
    state.put("dsn/console", fleet_database.dsn("console"))
    state.put("account", "sandbox")
    maintainer = fleet_database.database("maintainer")
    for name in ("planner", "poster"):
        ensure_worker(maintainer, name)
    maintainer.close()
    return state


def ensure_worker(maintainer: Database, name: str, *roles: str) -> None:
    maintainer.call("ensure_worker", name=name, description=f"The {name}.", roles=list(roles))


@pytest.fixture
def run() -> Run:
    def command(*arguments: str) -> int:
        return cli.main(arguments, manage=None)

    return command


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def printed_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(printed(capsys))


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("socialfleet: ")
    return line


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    "arguments",
    [("status",), ("stop", "poster"), ("post", "hello"), ("ledger", "list"), ("kill-switch", "status")],
)
def test_without_a_fleet_every_command_says_what_to_run(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(*arguments) == 1
    assert "no fleet here yet" in (said := complaint(capsys))
    assert "run make up" in said


def test_an_unreachable_database_is_exit_code_4(
    run: Run, state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    state.put("dsn/console", "postgresql://me:secret@127.0.0.1:1/none")
    assert run("status") == 4
    assert "PostgreSQL can't be reached" in (said := complaint(capsys))
    assert "secret" not in said


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("stauts",), "did you mean status?"),
        (("frobnicate",), "allowed: up, status,"),
        (("kill-switch", "on", "--reason", "r", "--account", "a"), "--account"),
        (("kill-switch", "on"), "--reason"),
        (("ledger", "show", "x1"), "an intent's number"),
        (("messages", "show", "x1"), "a message's number"),
        (("ledger", "lst"), "action is 'lst': did you mean list?"),
        (("ledger", "list", "--jsn"), "there is no option --jsn: did you mean --json?"),
        (("ledger", "list", "--lim", "5"), "there is no option --lim: did you mean --limit?"),
        (("status", "poster"), "'poster' is one word too many"),
        (("events", "--severity", "eror"), "--severity is 'eror': did you mean error?"),
        (("events", "--since", "soon"), "--since is 'soon': allowed are 30s"),
        (("restart", "poster/"), "slot is '': allowed is a number from 1 on, such as poster/1"),
        (("restart", "poster/0"), "slot is '0'"),
        (("restart", "poster/-1"), "slot is '-1'"),
        (("restart", "poster/1/2"), "slot is '1/2'"),
        (("restart", "poster/\u0663"), "slot is '\u0663'"),
        (("restart", "poster/12345"), "slot is '12345'"),
        (("stop", "poster/"), "slot is ''"),
        (("worker", "run", "poster", "--slot", "0"), "from 1 to 1000"),
        (("post", "hi", "--at", "soon"), "--at is 'soon'"),
        (("post", "x" * 300), "weighted length 300"),
        (("settings", "set", "poster_interval_s", "often", "--reason", "r"), "poster_interval_s is 'often'"),
        (("settings", "set", "postr_interval_s", "1", "--reason", "r"), "belongs to no worker"),
    ],
)
def test_mistakes_are_usage_errors_that_say_what_is_allowed(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], hint: str
) -> None:
    assert run(*arguments) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.usefixtures("fleet_state")
class TestWithAFleet:
    def test_status_lists_each_slot(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("status", "--json") == 0
        slots = printed_json(capsys)
        assert [slot["name"] for slot in slots] == ["planner", "poster"]
        assert {"healthy", "enabled", "lastRun", "errorRate", "restartCount", "pid"} <= slots[0].keys()
        assert run("status") == 0
        assert "poster/1" in printed(capsys)
        assert run("status", "--check") == 3

    def test_a_mistyped_worker_is_asked_about(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("restart", "postr") == 2
        assert "worker is 'postr': did you mean poster?" in complaint(capsys)

    def test_a_slot_that_the_worker_does_not_have_is_refused_and_nothing_is_asked_for(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        assert run("restart", "poster/2") == 2
        assert "slot is '2': allowed is a number from 1 to 1" in complaint(capsys)
        with fleet_database.owner() as owner:
            assert owner.execute("SELECT count(*) FROM fleet.commands").fetchall() == [(0,)]

    def test_messages_are_listed_shown_and_dead_ones_sent_once_more(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        with fleet_database.connect("poster") as poster:
            waiting = poster.messages.send("TASK_DELEGATION", "colour", {"kind": "do", "n": 1}, to="role")
            number = poster.messages.send("TASK_DELEGATION", "poster", {"kind": "do", "n": 2}, ttl_s=60)
            poster.messages.reject(poster.messages.claim()[0], "it can't be read", None)
            assert run("messages", "list", "--json") == 0
            assert [row["id"] for row in printed_json(capsys)] == [number, waiting]
            assert run("messages", "list", "--state", "dead", "--to", "poster") == 0
            (_, line) = printed(capsys).splitlines()
            assert line.startswith(number)
            assert line.endswith("it can't be read")
            assert run("messages", "show", number, "--json") == 0
            shown = printed_json(capsys)
            assert (shown["payload"], shown["errors"][0]["error"]) == (
                {"kind": "do", "n": 2},
                "it can't be read",
            )
            assert run("messages", "show", number) == 0
            assert "it can't be read" in printed(capsys)
            fleet_database.advance(61)
            assert run("messages", "replay", number, "--reason", "mended") == 0
            assert printed(capsys) == f"message {number} waits again for poster\n"
            (again,) = poster.messages.claim()
            assert (again.id, again.attempt, again.payload) == (number, 1, {"kind": "do", "n": 2})
            poster.messages.acknowledge(again)
            assert run("messages", "replay", number) == 1
            assert f"message {number} is acknowledged: only a dead letter" in complaint(capsys)
        with fleet_database.owner() as owner:
            audited = owner.execute("SELECT action, target, reason FROM fleet.audits").fetchall()
            kept = owner.execute(
                "SELECT errors->0->>'error' FROM fleet.messages WHERE state <> 'waiting'"
            ).fetchall()
        assert audited == [("replay_message", number, "mended")]
        assert kept == [("it can't be read",)]

    def test_jobs_are_listed_counted_shown_cancelled_and_started_anew(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        with fleet_database.connect("poster") as poster:
            dead = poster.jobs.enqueue("analyse", {"n": 1}, max_attempts=1).id
            poster.jobs.fail(poster.jobs.claim("analyse")[0], "it can't be read")
            waiting = poster.jobs.enqueue("analyse").id
            poster.jobs.enqueue("other")
        assert run("jobs", "list", "--kind", "analyse") == 0
        (_, first, second) = printed(capsys).splitlines()
        assert first.startswith(waiting)
        assert second.startswith(dead)
        assert second.endswith("it can't be read")
        assert run("jobs", "list", "--state", "dead", "--json") == 0
        assert [row["id"] for row in printed_json(capsys)] == [dead]
        assert run("jobs", "status") == 0
        assert printed(capsys).splitlines()[1].split()[:3] == ["analyse", "1", "0"]
        assert run("jobs", "show", dead) == 0
        assert "it can't be read" in printed(capsys)
        assert run("jobs", "cancel", waiting, "--reason", "not needed") == 0
        assert printed(capsys) == f"job {waiting} is cancelled\n"
        assert run("jobs", "replay", dead, "--reason", "mended", "--json") == 0
        assert printed_json(capsys) == {"id": dead, "state": "available"}
        assert run("jobs", "replay", dead) == 1
        assert f"job {dead} is available" in complaint(capsys)
        assert run("jobs", "show", "7777") == 1
        with fleet_database.owner() as owner:
            audited = owner.execute("SELECT action, target, reason FROM fleet.audits ORDER BY id").fetchall()
        assert audited == [("cancel_job", waiting, "not needed"), ("replay_job", dead, "mended")]

    def test_schedules_are_listed_paused_and_resumed(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        with fleet_database.connect("poster") as poster:
            poster.schedules.fire("poster", 60)
            poster.schedules.fire("night", CronLine(line="0 2 * * *", zone="Europe/Paris"))
        assert run("schedules", "pause", "night", "--reason", "a holiday") == 0
        assert run("schedules", "list") == 0
        listed = printed(capsys)
        assert "0 2 * * * in Europe/Paris" in listed
        assert "a holiday" in listed
        assert run("schedules", "resume", "night", "--json") == 0
        assert not printed_json(capsys)["paused"]
        assert run("schedules", "pause", "nothing") == 2
        assert "socialfleet schedules list" in complaint(capsys)

    def test_routes_are_set_listed_and_taken_away(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        order = ("messages", "route", "TASK_DELEGATION", "paint", "painters")
        assert run(*order, "--policy", "first", "--priority", "high", "--reason", "so it is") == 0
        assert printed(capsys) == "TASK_DELEGATION of kind paint goes to role painters\n"
        assert run("messages", "routes") == 0
        (line,) = [line for line in printed(capsys).splitlines() if " paint " in line]
        assert line.split()[2:5] == ["painters", "high", "first"]
        assert run("messages", "unroute", "TASK_DELEGATION", "paint", "--json") == 0
        assert printed_json(capsys)["role"] == "painters"
        assert run("messages", "unroute", "TASK_DELEGATION", "paint") == 2
        assert "a kind of TASK_DELEGATION that has a route" in complaint(capsys)
        assert run("messages", "route", "GOSSIP", "x", "y") == 2
        assert "TASK_DELEGATION" in complaint(capsys)

    def test_a_person_decides_a_conflict_and_sees_how_messages_stand(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        with fleet_database.connect("poster") as poster:
            equals = [Contender(worker="poster"), Contender(worker="planner")]
            settled = poster.conflicts.resolve("k", "resource", "post 7", equals)
        assert run("messages", "conflicts", "--state", "open") == 0
        assert "post 7" in printed(capsys)
        assert run("messages", "decide", settled.id, "planner", "--reason", "it was asked") == 0
        assert printed(capsys) == f"conflict {settled.id} over post 7: planner gets it\n"
        assert run("messages", "decide", settled.id, "poster") == 1
        assert "is decided" in complaint(capsys)
        assert run("messages", "status", "--json") == 0
        assert printed_json(capsys)["conflicts_by_strategy"] == {"person": 1}
        assert run("messages", "status") == 0
        assert "person: 1" in printed(capsys)

    def test_a_role_s_dead_letter_is_routed_anew(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        maintainer = fleet_database.database("maintainer")
        ensure_worker(maintainer, "planner", "colour")
        with fleet_database.connect("planner") as planner:
            number = planner.messages.send("TASK_DELEGATION", "colour", {"kind": "do"}, to="role")
            planner.messages.route()
            planner.messages.reject(planner.messages.claim()[0], "no", None)
            ensure_worker(maintainer, "planner")
            ensure_worker(maintainer, "poster", "colour")
            assert run("messages", "replay", number, "--json") == 0
            assert printed_json(capsys)["recipient"] == "colour"
            assert [one.worker for one in planner.messages.route()] == ["poster"]
        maintainer.close()

    def test_a_message_that_is_not_there_is_said_so(
        self, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("messages", "show", "7") == 1
        assert "there is no message 7" in complaint(capsys)
        assert run("messages", "replay", "7") == 2
        assert "message is '7'" in complaint(capsys)
        assert run("messages", "list", "--state", "ded") == 2
        assert "did you mean dead?" in complaint(capsys)

    def test_a_post_is_proposed_once_and_again_when_asked(
        self, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("post", "hello", "--json") == 0
        first = printed_json(capsys)
        assert first == {"id": first["id"], "state": "ready", "created": True}
        assert run("post", "hello", "--json") == 0
        assert printed_json(capsys) == {**first, "created": False}
        assert run("post", "hello", "--again", "--json") == 0
        assert printed_json(capsys)["created"]

    def test_the_ledger_is_listed_shown_and_decided(
        self, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("post", "hello", "--json")
        number = printed_json(capsys)["id"]
        assert run("ledger", "list", "--state", "ready", "--json") == 0
        assert [row["id"] for row in printed_json(capsys)] == [number]
        assert run("ledger", "cancel", number, "--reason", "a typo") == 0
        assert printed(capsys) == f"post {number} is cancelled\n"
        assert run("ledger", "show", number, "--json") == 0
        shown = printed_json(capsys)
        assert (shown["state"], [row["to"] for row in shown["transitions"]]) == (
            "cancelled",
            ["ready", "cancelled"],
        )
        assert run("ledger", "show", number) == 0
        assert "cancelled" in printed(capsys)
        assert run("ledger", "resume", number, "--reason", "no") == 1
        assert f"intent {number} is cancelled" in complaint(capsys)
        assert run("ledger", "list", "--state", "redy") == 2
        assert "did you mean ready?" in complaint(capsys)

    def test_a_decision_needs_no_reason_and_the_audit_has_one(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        run("post", "hello", "--json")
        number = printed_json(capsys)["id"]
        assert run("ledger", "cancel", number) == 0
        with fleet_database.owner() as owner:
            audited = owner.execute("SELECT reason FROM fleet.audits WHERE action LIKE '%cancel%'").fetchall()
        assert audited == [("decided at the shell",)]
        for decision in (("approve",), ("resume",), ("mark-posted", "--platform-id", "7")):
            assert run("ledger", *decision, number) == 1
            assert f"intent {number} is cancelled" in complaint(capsys)

    def test_a_shown_intent_has_its_attempts(
        self, run: Run, capsys: pytest.CaptureFixture[str], fleet_database: FleetDatabase
    ) -> None:
        with fleet_database.connect() as fleet:
            act = sending(fleet)
            number = act.claim.intent
            fleet.ledger.settle(
                number, 1, "posted", "tester/1", platform_id="1234567", status=201, reason="sent"
            )
        assert run("ledger", "show", number, "--json") == 0
        (attempt,) = printed_json(capsys)["attempts"]
        assert (attempt["attempt"], attempt["outcome"], attempt["status"], attempt["reason"]) == (
            1,
            "posted",
            201,
            "sent",
        )
        assert attempt["platform_id"] == "1234567"
        assert run("ledger", "show", number) == 0
        (line,) = [row for row in printed(capsys).splitlines() if row.startswith("1  ")]
        assert {"posted", "201", "1234567", "sent"} <= set(line.split())

    def test_the_kill_switch_answers_as_agreed(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("kill-switch", "on", "--reason", "drill", "--json") == 0
        answer = printed_json(capsys)
        assert list(answer) == ["on", "scope", "acknowledged_at", "in_flight"]
        assert (answer["on"], answer["scope"], answer["in_flight"]) == (True, "global", [])
        assert run("kill-switch", "status") == 0
        assert "drill" in printed(capsys)
        assert run("kill-switch", "off", "--reason", "done") == 0
        assert run("kill-switch", "on", "--reason", " ") == 2

    def test_settings_and_flags_are_set_and_listed(
        self, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("settings", "set", "poster_interval_s", "30", "--reason", "calmer") == 0
        assert run("flags", "set", "planer_enabled", "off", "--reason", "holiday") == 2
        assert run("flags", "set", "planner_enabled", "off", "--reason", "holiday") == 0
        capsys.readouterr()
        run("settings", "list", "--json")
        (setting,) = [row for row in printed_json(capsys) if row["key"] == "poster_interval_s"]
        assert (setting["value"], setting["reason"]) == (30, "calmer")
        run("flags", "list", "--json")
        (flag,) = printed_json(capsys)
        assert (flag["name"], flag["enabled"], flag["reason"]) == ("planner_enabled", False, "holiday")

    def test_a_setting_is_shown_with_its_history_and_goes_back(
        self, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for value in ("30", "60"):
            assert run("settings", "set", "poster_interval_s", value, "--reason", f"now {value}") == 0
        capsys.readouterr()
        run("settings", "history", "poster_interval_s", "--json")
        changes = printed_json(capsys)
        assert [(one["value"], one["reason"]) for one in changes][:2] == [(60, "now 60"), (30, "now 30")]
        assert run("settings", "revert", "poster_interval_s", "--reason", "too slow") == 0
        assert "poster_interval_s is 30 again" in capsys.readouterr().out
        assert run("settings", "revert", "poster_interval_s", "999999", "--reason", "x") == 2
        assert str(changes[0]["version"]) in complaint(capsys)
        run("settings", "get", "poster_interval_s")
        shown = capsys.readouterr().out
        assert "poster_interval_s is 30, set by" in shown
        assert "from 1 to 31622400, or null" in shown
        assert run("settings", "unset", "poster_interval_s", "--reason", "as it was") == 0
        capsys.readouterr()
        run("settings", "get", "poster_interval_s", "--json")
        assert not printed_json(capsys)["is_set"]
        assert run("settings", "get", "poster_intervall_s") == 2
        assert "did you mean poster_interval_s?" in complaint(capsys)
        assert run("settings", "revert", "planner_spacing_s", "--reason", "x") == 2
        run("settings", "list", "--all", "--json")
        assert {"poster_interval_s", "engagement_window_hours"} <= {
            row["key"] for row in printed_json(capsys)
        }

    def test_a_flag_goes_back_too(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        for word in ("off", "on"):
            assert run("flags", "set", "planner_enabled", word, "--reason", word) == 0
        capsys.readouterr()
        run("flags", "history", "planner_enabled")
        assert "off" in capsys.readouterr().out
        assert run("flags", "revert", "planner_enabled", "--reason", "no") == 0
        assert "planner_enabled is off again" in capsys.readouterr().out

    def test_breakers_are_listed_and_reset(
        self, run: Run, fleet_database: FleetDatabase, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with fleet_database.connect() as fleet:
            passage = fleet.breakers.allow("sandbox", "posting")
            for _ in range(15):
                fleet.breakers.record(
                    "sandbox", "posting", passage, succeeded=False, status=503, error="not well"
                )
        capsys.readouterr()
        assert run("breakers", "list") == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in ("posting", "open", "15 of 15", "not well"))
        assert run("breakers", "reset", "sandbox", "postin", "--reason", "it is back") == 2
        assert "posting" in complaint(capsys)
        assert run("breakers", "reset", "sandbox", "posting", "--reason", "it is back") == 0
        capsys.readouterr()
        run("breakers", "list", "--json")
        (breaker,) = printed_json(capsys)
        assert (breaker["state"], breaker["reset_attempts"]) == ("closed", 1)

    def test_topics_are_an_accounts_own(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("account", "topics", "sandbox", "tea", "open data") == 0
        capsys.readouterr()
        run("account", "list", "--json")
        topics = {row["name"]: row["topics"] for row in printed_json(capsys)}
        assert topics["sandbox"] == ["tea", "open data"]
        assert topics["default"] == ["gardens", "databases"]
        assert run("account", "topics", "sandbax", "tea") == 2
        assert "did you mean sandbox?" in complaint(capsys)


@pytest.mark.usefixtures("fleet_state")
@pytest.mark.parametrize(
    "arguments", [("post", "hello"), ("flags", "set", "a", "off", "--reason", "x"), ("status",)]
)
def test_a_database_of_a_newer_program_is_not_written_to(
    run: Run,
    fleet_database: FleetDatabase,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.schema_revision SET version_num = '9999'")
        assert run(*arguments) == 1
        said = complaint(capsys)
        assert "the database is at revision 9999, this program knows up to 00" in said
        assert "run the newer program" in said
        for table in ("intents", "flags", "audits"):
            assert owner.execute(f"SELECT count(*) FROM fleet.{table}".encode()).fetchone() == (0,)


@pytest.mark.usefixtures("fleet_state")
def test_the_kill_switch_is_thrown_in_whatever_database(
    run: Run, fleet_database: FleetDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.schema_revision SET version_num = '9999'")
        assert run("kill-switch", "on", "--reason", "storm", "--json") == 0
        assert printed_json(capsys)["on"] is True


@pytest.mark.usefixtures("fleet_state")
def test_a_person_gives_an_account_an_interval_of_its_own(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("account", "interval", "default", "600", "--reason", "new account") == 0
    assert "default lets 600 s pass between two quotes, replies or likes" in printed(capsys)
    assert run("account", "interval", "default", "fleet") == 0
    assert "default lets 0 s pass" in printed(capsys)
    for nonsense in ("soon", "-1", "90000", "nan"):
        assert run("account", "interval", "default", nonsense) == 2
        capsys.readouterr()


@pytest.mark.usefixtures("fleet_state")
def test_an_account_shows_what_it_may_do_and_a_person_changes_its_tier(
    run: Run, fleet_database: FleetDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("account", "policy", "default", "--json") == 0
    policy = printed_json(capsys)
    assert policy["reply"]["rule"] == "summoned"
    assert policy["like"] == {"rule": "deny", "reason": "X prohibits automated likes"}
    assert run("account", "policy", "default") == 0
    assert "summoned" in printed(capsys)
    assert run("account", "tier", "default", "enterprise", "--reason", "signed") == 0
    assert "default is enterprise until the fleet starts anew, which goes by X_TIER" in printed(capsys)
    assert run("account", "tier", "sandbox", "free") == 0
    assert "goes by --tier" in printed(capsys)
    assert run("account", "list") == 0
    shown = printed(capsys)
    assert "TIER" in shown
    assert "enterprise" in shown
    assert run("account", "tier", "default", "gold") == 2
    assert "gold" in capsys.readouterr().err
    assert run("account", "tier", "defalt", "free") == 2
    assert "did you mean default?" in complaint(capsys)
    with fleet_database.owner() as owner:
        audits = owner.execute("SELECT target, reason FROM fleet.audits ORDER BY id").fetchall()
    assert audits == [("default", "signed"), ("sandbox", "asked for at the shell")]


@pytest.mark.usefixtures("fleet_state")
def test_the_ledgers_list_says_which_act_an_intent_is_and_takes_one_action(
    run: Run, fleet_database: FleetDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    with fleet_database.connect() as fleet:
        fleet.ledger.propose("sandbox", "post", "plan:1", "Hello")
        like = fleet.ledger.propose("sandbox", "like", "1999", "", origin={"author_id": "7"})
        fleet.ledger.propose("sandbox", "reply", "1998", "Well said", origin={"author_id": "7"})
    assert run("ledger", "list") == 0
    shown = printed(capsys)
    assert "like of 1999" in shown
    assert "reply to 1998" in shown
    assert run("ledger", "list", "--action", "like", "--json") == 0
    assert [row["id"] for row in printed_json(capsys)] == [like.id]
    assert run("ledger", "list", "--action", "lik") == 2
    assert "did you mean like?" in complaint(capsys)
    assert run("ledger", "cancel", like.id) == 0
    assert printed(capsys) == f"like {like.id} is cancelled\n"


@pytest.mark.usefixtures("fleet_state")
def test_a_post_that_the_policy_refuses_is_told_with_its_reason(
    run: Run, fleet_database: FleetDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    with fleet_database.owner() as owner:
        owner.execute("DELETE FROM fleet.policy_rules WHERE action = 'post'")
    assert run("post", "hello") == 1
    assert "is refused: policy: no rule lets tier enterprise post" in complaint(capsys)


def test_logs_are_readable_without_a_database(
    run: Run, state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {
        "at": "2030-01-01T00:00:00+00:00",
        "level": "info",
        "worker": "poster",
        "message": "posted",
        "intent": "7",
    }
    (state.logs / "poster-1.jsonl").write_text(f"{json.dumps(line)}\nnot JSON \x1b[2J\n")
    (state.logs / "console.log").write_text("one\ntwo\nthree\n")
    assert run("logs", "poster") == 0
    first, second = printed(capsys).splitlines()
    assert first.endswith("info    posted intent=7")
    assert second.startswith("not JSON")
    assert "\x1b" not in second
    assert run("logs", "console", "-n", "2") == 0
    assert printed(capsys) == "two\nthree\n"
    assert run("logs", "postr") == 2
    assert "did you mean poster?" in complaint(capsys)


def test_a_logged_traceback_is_a_block_and_nothing_else_makes_lines(
    run: Run, state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "2030-01-01 00:00:00 info    all is well"
    crashed = {"level": "error", "message": f"crashed\n{forged}", "item": f"a\n{forged}"}
    crashed["error"] = f"Traceback (most recent call last):\n  here\nValueError: bad\n{forged}\n"
    brief = {"level": "warning", "message": "late", "error": "in a word"}
    (state.logs / "poster-1.jsonl").write_text(f"{json.dumps(crashed)}\n{json.dumps(brief)}\n")
    assert run("logs", "poster") == 0
    first, *block, last = printed(capsys).splitlines()
    assert first == f"error   crashed\\n{forged} item=a\\n{forged}"
    assert block == [
        "    Traceback (most recent call last):",
        "      here",
        "    ValueError: bad",
        f"    {forged}",
    ]
    assert last == "warning late error=in a word"


@pytest.mark.usefixtures("state")
def test_the_programs_workers_are_listed_without_a_fleet(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("worker", "list") == 0
    assert {"planner", "poster", "metrics"} <= {line.split()[0] for line in printed(capsys).splitlines()}


def test_migrate_works_on_a_given_database_and_keeps_its_logins(
    run: Run, state: StateDirectory, fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", fleet_database.migrator_dsn)
    assert run("migrate") == 0
    assert state.dsn("migrator") == fleet_database.migrator_dsn
    assert "fleet_console" in state.dsn("console")


def test_migrate_lets_the_programs_settings_be_set(
    run: Run, fleet_state: StateDirectory, fleet_database: FleetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles: list[Role] = ["owner", "worker", "console", "reader", "maintainer", "migrator"]
    # The test server's logins are every test's: none is derived anew.
    known = Logins(dsns={role: fleet_database.dsn(role) for role in roles}, passwords=PASSWORDS)

    def derive(*_: object) -> Logins:
        return known

    monkeypatch.setattr("host.logins.derive", derive)
    monkeypatch.setenv("DATABASE_URL", fleet_database.migrator_dsn)
    with fleet_database.owner() as owner:
        owner.execute("DELETE FROM fleet.setting_definitions")
    assert fleet_state.dsn("console") == fleet_database.dsn("console")
    assert run("settings", "set", "poster_interval_s", "30", "--reason", "calmer") == 2
    assert run("migrate") == 0
    assert run("settings", "set", "poster_interval_s", "30", "--reason", "calmer") == 0


@pytest.mark.usefixtures("state")
def test_clean_removes_the_directory_and_is_content_without_one(
    run: Run, state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    state.ensure_token("console")
    assert run("clean") == 0
    assert not state.path.exists()
    assert run("clean") == 0
    assert "nothing to remove" in printed(capsys)


def test_clean_needs_no_valid_configuration(
    run: Run, state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCIALFLEET_CONSOLE_PORT", "many")
    assert run("status") == 2
    assert run("clean") == 0
    assert not state.path.exists()
