"""What every test can ask for: a PostgreSQL server, chosen with --postgres."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres_servers import Choice, ContainerServer, LocalServer, choices

# A person's shell has it not, and what is printed too late would not be seen with it.
os.environ.pop("PYTHONUNBUFFERED", None)
# Nor this: what each test starts would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
ON_EVERY_SERVER = ("integration/coordination/", "migration/")


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
