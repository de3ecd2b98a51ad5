"""events, alerts, black-boxes, hosts, status and account unblock on a real fleet's database."""

import sys

import pytest

from coordination import alerts, black_boxes
from coordination.desired import Part
from tests.host_process import eventually
from tests.integration.host.scripted_manager import Said, ScriptedManager, managing
from tests.integration.host.shell import Shell, following

BIDI = "\u202egnp.exe"


def tell(shell: Shell, severity: str, source: str, message: str) -> None:
    with shell.database.owner() as owner:
        owner.execute("SELECT fleet.emit(%s, 'told', %s, %s)", (severity, source, message))


def test_events_are_narrowed_by_severity_source_and_time(shell: Shell) -> None:
    tell(shell, "info", "poster/1", "long ago")
    with shell.database.owner() as owner:
        owner.execute("UPDATE fleet.events SET at = at - interval '3 hours'")
    tell(shell, "debug", "poster/1", "a detail")
    tell(shell, "warning", "poster/2", "a worry")
    tell(shell, "error", "planner/1", "a fault")
    assert shell.run("events") == 0
    heads, *lines = shell.lines()
    assert heads.split() == ["AT", "SEVERITY", "SOURCE", "KIND", "MESSAGE"]
    assert [line.rpartition("  ")[2] for line in lines] == ["long ago", "a detail", "a worry", "a fault"]

    def told(*arguments: str) -> list[str]:
        assert shell.run("events", *arguments) == 0
        return [line.rpartition("  ")[2] for line in shell.lines()[1:]]

    assert told("--severity", "warning") == ["a worry", "a fault"]
    assert told("--source", "poster") == ["long ago", "a detail", "a worry"]
    assert told("--source", "poster/2") == ["a worry"]
    assert told("--since", "1h") == ["a detail", "a worry", "a fault"]
    assert told("--since", "2001-01-01T00:00:00+00:00", "-n", "2") == ["a worry", "a fault"]


def test_events_for_programs_are_an_object_a_line(
    shell: Shell,
) -> None:
    tell(shell, "info", "poster/1", f"red \x1b[31m {BIDI}")
    assert shell.run("events", "--json") == 0
    raw = shell.printed.readouterr().out
    assert r"\u001b[31m \u202egnp.exe" in raw
    assert "\u202e" not in raw
    assert shell.run("events") == 0
    (_, line) = shell.lines()
    assert line.endswith("red \N{REPLACEMENT CHARACTER}[31m \N{REPLACEMENT CHARACTER}gnp.exe")


def test_events_are_followed(shell: Shell) -> None:
    tell(shell, "info", "poster/1", "before")
    with following("events", "-f", "--severity", "warning", "--source", "poster") as lines:
        assert next(lines).startswith("AT")
        tell(shell, "warning", "planner/1", "elsewhere")
        tell(shell, "info", "poster/1", "too little")
        tell(shell, "error", "poster/1", "now")
        assert next(lines).endswith("error poster/1 told now")


def test_alerts_are_listed_worst_first_and_acknowledged(shell: Shell) -> None:
    maintainer = shell.database.database("maintainer")
    raised: list[tuple[alerts.Severity, str]] = [("warning", "disk"), ("critical", "crash_loop:poster/1")]
    for severity, key in raised:
        alerts.raise_alert(
            maintainer, key, severity=severity, kind="k", source="poster/1", message=f"{key} {BIDI}"
        )
    assert shell.run("status") == 0
    assert shell.lines()[-1].startswith("alert: crash_loop:poster/1")
    assert shell.run("alerts", "list", "--json") == 0
    worst, other = shell.json()
    assert (worst["severity"], other["key"]) == ("critical", "disk")
    assert shell.run("alerts", "ack", worst["id"], "--reason", "on it") == 0
    assert shell.lines()[0].startswith(f"alert {worst['id']} is acknowledged by ")
    alerts.clear_alert(maintainer, "disk")
    maintainer.close()
    assert shell.run("alerts", "list") == 0
    (_, line) = shell.lines()
    assert "@here" in line
    assert "\u202e" not in line
    assert shell.run("alerts", "list", "--all") == 0
    assert len(shell.lines()) == 3
    assert shell.run("alerts", "ack", "999") == 2
    assert "999" in shell.complaint()
    assert shell.rows("SELECT reason FROM fleet.audits") == [("on it",)]


def test_a_black_box_is_shown_with_its_stacks(shell: Shell) -> None:
    maintainer = shell.database.database("maintainer")
    number = black_boxes.keep_black_box(
        maintainer,
        "here",
        worker="poster",
        slot=1,
        incarnation=None,
        pid=7,
        reason="no progress for 120 s",
        report={"stacks": "Thread 1\n  File x", "log": ["one", "two \x1b"], "locks": [], "step": "send"},
    )
    maintainer.close()
    assert shell.run("black-boxes", "list", "--worker", "poster") == 0
    assert shell.lines()[1].split()[0] == number
    assert shell.run("black-boxes", "show", number) == 0
    lines = shell.lines()
    assert {"stacks:", "    Thread 1", "      File x", "    two \N{REPLACEMENT CHARACTER}"} <= set(lines)
    assert shell.run("black-boxes", "show", number, "--json") == 0
    assert shell.json()["report"]["step"] == "send"
    assert shell.run("black-boxes", "show", "999") == 1
    assert "there is no black box 999" in shell.complaint()
    assert shell.run("black-boxes", "list", "--worker", "postr") == 2
    assert "did you mean poster?" in shell.complaint()


def test_hosts_are_listed_drained_and_declared_gone(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database, labels={"zone": "a"})):
        assert shell.run("hosts", "list") == 0
        (_, line) = shell.lines()
        assert line.startswith("here (here)  live")
        assert "zone=a" in line
        assert shell.run("hosts", "gone", "here", "--reason", "sure", "--yes") == 2
        assert "a host whose manager ended" in shell.complaint()
        assert shell.run("hosts", "drain", "here", "--dry-run") == 0
        assert shell.lines()[0].startswith("would say: here drains")
        assert shell.run("hosts", "drain", "here", "--reason", "new memory") == 0
        shell.lines()
        assert shell.run("hosts", "list", "--json") == 0
        assert shell.json()[0]["draining"] is True
        assert shell.run("hosts", "undrain", "her") == 2
        assert "did you mean here?" in shell.complaint()
        assert shell.run("hosts", "undrain", "here") == 0
        shell.lines()
    assert shell.run("hosts", "gone", "here", "--reason", "sure") == 2
    assert "give --yes where nobody can be asked" in shell.complaint()
    assert shell.run("hosts", "gone", "here", "--reason", "sure", "--yes") == 0
    assert shell.rows("SELECT state FROM fleet.hosts") == [("gone",)]
    audits = shell.rows("SELECT action, reason FROM fleet.audits ORDER BY id")
    assert audits[0] == ("drain_host", "new memory")
    assert audits[-1] == ("declare_host_gone", "sure")


def test_status_names_the_host_and_says_why_nobody_runs_a_worker(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("worker", "set", "planner", "--placement", "gpu=yes") == 0
        shell.lines()
        assert shell.run("status") == 0
        heads, planner, poster = shell.lines()
        assert heads.split()[3:8] == ["HOST", "PID", "RESTARTS", "CPU", "MEMORY"]
        assert poster.split()[:8] == ["poster/1", "READY", "no", "here", "4711", "0", "1.5%", "64"]

        def only_the_poster_is_here() -> bool:
            assert shell.run("status", "--host", "here", "--json") == 0
            return [slot["name"] for slot in shell.json()] == ["poster"]

        eventually(only_the_poster_is_here, within_s=30, what="the planner has left this host")
        assert shell.run("status", "--host", "her") == 2
        assert "host is 'her': did you mean here?" in shell.complaint()
        assert planner.startswith("planner/1")
        shell.run("status")
    assert shell.run("status", "--check") == 3


def test_another_hosts_log_is_a_commands_result(shell: Shell) -> None:
    def answer(part: Part) -> Said:
        if part.action != "logs":
            return Said()
        assert part.args == {"lines": 2}
        return Said(output='{"level": "info", "message": "posted"}\nnot JSON \x1b[2J\n')

    with managing(ScriptedManager(database=shell.database, host="there", answer=answer)):
        assert shell.run("logs", "poster", "-n", "2") == 0
        assert shell.lines() == ["info    posted", "not JSON \N{REPLACEMENT CHARACTER}[2J"]
        assert shell.run("logs", "poster/1", "-f") == 2
        assert "poster/1 runs on there: follow it there" in shell.complaint()
        # What this host wrote before the slot moved is not what is asked for.
        (shell.state.logs / "poster-1.jsonl").write_text("old\n")
        assert shell.run("logs", "poster", "-n", "2") == 0
        assert "old" not in shell.lines()
        assert shell.run("logs", "poster", "-n", "2", "--host", "here") == 0
        assert shell.lines() == ["old"]
    assert shell.rows("SELECT DISTINCT action, reason FROM fleet.audits") == [("logs", "to read a log")]


def test_a_host_that_does_not_answer_leaves_a_log_unread(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database, host="there", answer=lambda _: None)):
        assert shell.run("logs", "poster", "--timeout", "0.5") == 5
        assert "poster/1 on there: not done in time" in shell.complaint()


def test_logs_of_this_host_need_no_database(shell: Shell) -> None:
    shell.state.put("dsn/console", "postgresql://me@127.0.0.1:1/none")
    (shell.state.logs / "poster-1.jsonl").write_text("one\n")
    assert shell.run("logs", "poster") == 0
    assert shell.lines() == ["one"]


def test_a_blocked_endpoint_is_unblocked_by_a_person(shell: Shell) -> None:
    with shell.database.connect("poster") as fleet:
        fleet.rate_limits.configure("tweets", [(10, 900)], account="sandbox")
    with shell.database.owner() as owner:
        owner.execute("UPDATE fleet.rate_limits SET blocked_until = fleet.now() + interval '1 hour'")
    assert shell.run("account", "unblock", "sandbox", "tweets", "--reason", "X says so") == 0
    assert shell.lines()[0].startswith("sandbox may use tweets again (it was blocked until 20")
    blocked = "SELECT blocked_until FROM fleet.rate_limits WHERE endpoint = 'tweets' AND account = 'sandbox'"
    assert shell.rows(blocked) == [(None,)]
    assert shell.run("account", "unblock", "sandbox", "tweet") == 2
    assert "tweets" in shell.complaint()


def test_flags_and_settings_can_be_tried_dry_and_answer_programs(shell: Shell) -> None:
    assert shell.run("flags", "set", "poster_enabled", "off", "--reason", "r", "--dry-run") == 0
    assert shell.lines() == ["poster_enabled would be off; it is on"]
    assert (
        shell.run("settings", "set", "poster_interval_s", "30", "--reason", "r", "--dry-run", "--json") == 0
    )
    assert shell.json() == {"key": "poster_interval_s", "value": 30, "before": None, "changed": False}
    assert shell.rows("SELECT count(*) FROM fleet.audits") == [(0,)]
    assert shell.run("flags", "set", "poster_enabled", "off", "--reason", "r", "--json") == 0
    assert shell.json() == {"name": "poster_enabled", "enabled": False, "before": True, "changed": True}


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals_that_want_them(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, coloured: bool
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tell(shell, "error", "poster/1", "a fault")
    assert shell.run("events") == 0
    assert "\x1b" not in shell.printed.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert shell.run("events") == 0
    assert ("\x1b[31m" in shell.printed.readouterr().out) is coloured
