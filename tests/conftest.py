"""What every test can ask for: a PostgreSQL server, chosen with --postgres."""

from collections.abc import Iterator

import pytest

from tests.postgres_servers import Choice, Server, choices


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
        wanted = str(metafunc.config.getoption("--postgres"))
        metafunc.parametrize("postgres", choices(wanted), indirect=True, scope="session")


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
