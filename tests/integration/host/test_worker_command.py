"""worker list and worker show: what the fleet wants of each worker, who said so, and why."""

import socket

from tests.integration.host.scripted_manager import ScriptedManager, managing
from tests.integration.host.shell import Shell

WANTED = ("worker", "set", "poster", "--placement", "host=here", "--memory-limit-mb", "400")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_place_and_limits_of_each_worker_are_listed_with_who_changed_them_and_why(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run(*WANTED, "--cpu-limit-percent", "50", "--nice", "3", "--reason", "little room") == 0
        assert shell.run("scale", "planner", "2", "--reason", "a busy day") == 0
    shell.lines()
    assert shell.run("worker", "list") == 0
    heads, *lines = shell.lines()
    assert cells(heads)[:7] == ["NAME", "SLOTS", "RUNS", "PLACEMENT", "MEMORY", "CPU", "NICE"]
    shown = {line.split()[0]: cells(line) for line in lines}
    assert shown["poster"][:7] == ["poster", "1", "yes", "host=here", "400 MB", "50%", "3"]
    assert shown["poster"][7].endswith("@here")
    assert shown["poster"][9] == "little room"
    assert shown["planner"][:7] == ["planner", "2", "yes", "any", "512 MB", "none", "0"]
    assert shown["planner"][9] == "a busy day"


def test_for_programs_a_worker_has_all_that_is_wanted_of_it(shell: Shell) -> None:
    with managing(ScriptedManager(database=shell.database)):
        assert shell.run("worker", "set", "poster", "--placement", "zone=a", "--reason", "near the wire") == 0
    shell.printed.readouterr()
    assert shell.run("worker", "list", "--json") == 0
    found = {worker["name"]: worker for worker in shell.json()}
    poster = found["poster"]
    assert poster["placement"] == {"labels": {"zone": "a"}}
    assert (poster["replicas"], poster["memory_limit_mb"], poster["nice"]) == (1, 512, 0)
    assert (poster["reason"], poster["known"], poster["here"]) == ("near the wire", True, True)
    assert found["metrics"].keys() == {"name", "description", "here", "known"}
    assert found["metrics"]["known"] is False


def test_one_worker_is_shown_line_by_line_and_says_why_it_does_not_run(shell: Shell) -> None:
    assert shell.run("stop", "poster", "--no-wait", "--reason", "holiday") == 0
    shell.lines()
    assert shell.run("worker", "show", "poster") == 0
    shown = {line[:16].strip(): line[16:].strip() for line in shell.lines()}
    assert shown["should run"] == "stopped"
    assert shown["why not"].startswith("stopped by ")
    assert shown["why not"].endswith(": holiday")
    assert (shown["reason"], shown["placement"], shown["memory limit"]) == (
        "holiday",
        "any",
        "512 MB with all its children",
    )
    assert shell.run("start", "poster", "--no-wait") == 0
    shell.lines()
    with shell.database.owner() as owner:
        owner.execute(
            "INSERT INTO fleet.flags (name, enabled, version, changed_by, reason, changed_at) "
            "VALUES ('poster_enabled', false, 1, 'somebody', 'why', now())"
        )
    assert shell.run("worker", "show", "poster") == 0
    assert "flag poster_enabled is off" in shell.printed.readouterr().out
    assert shell.run("worker", "show", "postr") == 2
    assert "worker is 'postr': did you mean poster?" in shell.complaint()


def test_a_worker_that_only_the_program_has_is_told_as_new(shell: Shell) -> None:
    assert shell.run("worker", "list") == 0
    told = shell.printed.readouterr()
    (metrics,) = [line for line in told.out.splitlines() if line.startswith("metrics")]
    assert set(metrics.split()[1:10]) == {"-"}
    assert "metrics" in told.err
    assert "new in this program; socialfleet up makes it known when it starts" in told.err


def test_with_the_database_away_the_programs_workers_are_listed_and_the_exit_code_is_4(shell: Shell) -> None:
    with socket.socket() as bound:  # it doesn't listen: connections are refused
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        shell.state.put("dsn/console", f"host=127.0.0.1 port={port} dbname=none connect_timeout=2")
        assert shell.run("worker", "list") == 4
    told = shell.printed.readouterr()
    assert {"planner", "poster", "metrics"} <= {line.split()[0] for line in told.out.splitlines()}
    assert told.err.strip().endswith("this is only what the program has")
