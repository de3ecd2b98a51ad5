"""What every test can ask for: a PostgreSQL server, chosen with --postgres."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol  # there is no public way to run a test again
from hypothesis import settings

from tests.postgres_servers import Choice, ContainerServer, LocalServer, choices
from tests.quickly import TRIES

# A person's shell has it not, and what is printed too late would not be seen with it.
os.environ.pop("PYTHONUNBUFFERED", None)
# Nor this: what each test starts would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
ON_EVERY_SERVER = ("integration/coordination/", "migration/")
MISSED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        default="default",
        choices=("default", "wheel", "system", "testcontainers"),
        help="the PostgreSQL that tests run on: the wheel's and a system version where installed (default), "
        "one of these, or a Docker container",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "postgres" in metafunc.fixturenames:
        found = choices(str(metafunc.config.getoption("--postgres")))
        # What the database itself promises is shown on every server; what stands on it, on one.
        place = metafunc.definition.path.relative_to(Path(__file__).parent).as_posix()
        every = place.startswith(ON_EVERY_SERVER)
        metafunc.parametrize("postgres", found if every else found[:1], indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Try a test with a bound in seconds again when it failed; the summary tells."""
    if not any(item.get_closest_marker(name) for name in ("acceptance", "timed")):
        return None
    reports: list[pytest.TestReport] = []
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(TRIES)):
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        failure = next((report for report in reports if report.failed), None)
        if failure is None or failure.when != "call" or not left:
            break
        crash = getattr(failure.longrepr, "reprcrash", None)
        said = str(crash.message).partition("\n")[0] if crash else "failed"
        item.config.stash.setdefault(MISSED, list[str]()).append(f"{item.nodeid}: {said}")
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the tests that were tried again."""
    for missed in config.stash.get(MISSED, list[str]()):
        terminalreporter.write_line(f"TRIED AGAIN {_valid(missed)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a report travel from the process that ran its test: what tests write may be no valid text."""
    report = yield
    report.sections = [(_valid(name), _valid(text)) for name, text in report.sections]
    if report.longrepr is not None and (text := str(report.longrepr)) != _valid(text):
        report.longrepr = _valid(text)
    return report


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[Choice, LocalServer | ContainerServer]]:
    """Every server that a test asked for; each runs until the session ends, whichever comes between."""
    running: dict[Choice, LocalServer | ContainerServer] = {}
    try:
        yield running
    finally:
        for server in running.values():
            server.remove()


@pytest.fixture(scope="session")
def postgres(
    request: pytest.FixtureRequest, servers: dict[Choice, LocalServer | ContainerServer]
) -> LocalServer | ContainerServer:
    """A running server, the same one for the whole session; roles are shared by all its databases."""
    choice: Choice = request.param
    if choice not in servers:
        servers[choice] = choice()
        servers[choice].start()
    return servers[choice]
