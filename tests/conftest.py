"""What every test can ask for: a PostgreSQL server, chosen with --postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_servers import Choice, Server, choices

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


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server, the same one for the whole session; roles are shared by all its databases."""
    choice: Choice = request.param
    server = choice()
    try:
        server.start()
        yield server
    finally:
        server.remove()
