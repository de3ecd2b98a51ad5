from pathlib import Path

import pytest

import config


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in config.Config.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_any_variable_the_fleet_runs_against_its_own_sandbox() -> None:
    read = config.load()
    assert read.runs_sandbox
    assert read.x_url == "http://127.0.0.1:8790"
    assert read.database_url is None
    assert (read.socialfleet_console_port, read.socialfleet_sandbox_port) == (8780, 8790)
    assert read.state_dir == Path.cwd() / ".socialfleet"


def test_with_credentials_the_address_is_x(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in config.X_CREDENTIALS:
        monkeypatch.setenv(name.upper(), "value")
    read = config.load()
    assert read.x_url == "https://api.x.com"
    assert read.has_credentials
    assert not read.runs_sandbox


def test_an_address_that_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_API_URL", "http://127.0.0.1:9999/")
    assert config.load().x_url == "http://127.0.0.1:9999"


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("SOCIALFLEET_CONSOLE_PORT=9001\nSOCIALFLEET_SANDBOX_PORT=9002\nDEBUG=true\n")
    monkeypatch.setenv("SOCIALFLEET_SANDBOX_PORT", "9003")
    read = config.load()
    assert (read.socialfleet_console_port, read.socialfleet_sandbox_port, read.debug) == (9001, 9003, True)


def test_every_fault_is_told_at_once_with_name_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOCIALFLEET_CONSOLE_PORT", "70000")
    monkeypatch.setenv("X_API_URL", "ftp://x")
    monkeypatch.setenv("DATABASE_URL", "mysql://me:hidden@host/db")
    monkeypatch.setenv("X_CONSUMER_KEY", "only-this")
    with pytest.raises(config.ConfigError) as caught:
        config.load()
    faults = str(caught.value).split("\n")
    assert len(faults) == 4
    assert any("SOCIALFLEET_CONSOLE_PORT is '70000'" in fault and "65535" in fault for fault in faults)
    assert any("X_API_URL is 'ftp://x'" in fault and "http" in fault for fault in faults)
    assert any("DATABASE_URL" in fault and "postgresql://" in fault for fault in faults)
    assert any("X_CONSUMER_SECRET, X_ACCESS_TOKEN, X_ACCESS_TOKEN_SECRET" in fault for fault in faults)
    assert "hidden" not in str(caught.value)
    assert "only-this" not in str(caught.value)


def test_a_tier_that_X_does_not_sell_is_refused_with_those_it_does(  # noqa: N802  X is a name
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert config.load().x_tier == "pay_per_use"
    monkeypatch.setenv("X_TIER", "enterprise")
    assert config.load().x_tier == "enterprise"
    monkeypatch.setenv("X_TIER", "gold")
    with pytest.raises(config.ConfigError, match=r"X_TIER is 'gold'.*'free', 'pay_per_use' or 'enterprise'"):
        config.load()


def test_two_servers_can_not_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCIALFLEET_CONSOLE_PORT", "8790")
    with pytest.raises(config.ConfigError, match="both 8790: they must differ"):
        config.load()


def test_no_secret_shows_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "OPENAI_API_KEY", *(name.upper() for name in config.X_CREDENTIALS)):
        monkeypatch.setenv(name, "postgresql://u:canary@h/d")
    assert "canary" not in repr(config.load())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:canary%zz@host/fleet",
        "postgresql://me:canary%@host/fleet",
        "postgresql://me:canary%00@host/fleet",
        "postgresql://me:secret@canary@host/fleet",
        "postgresql://me:secret/canary@host/fleet",
        "postgresql://me:5432/canary@host/fleet",
        "postgresql://me:secret?canary@host/fleet",
        "postgresql://me:secret?a/canary@host/fleet",
        "postgresql://me:5432?canary/x@host/fleet",
        "postgresql://host:canary/fleet",
        "postgresql://host:70000/canary",
        "postgresql://one:5432,two:canary/fleet",
        "postgresql://[::1/canary",
        "http://me:canary@host/fleet",
    ],
)
def test_a_database_url_that_could_be_misread_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(config.ConfigError) as caught:
        config.load()
    said = str(caught.value)
    assert said.startswith("DATABASE_URL: ")
    assert "\n" not in said
    assert not {piece for piece in ("canary", "secret", "host/", "70000", "fleet") if piece in said}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:a%40b%2Fc%3F%25:#@host:5432/fleet?sslmode=require",
        "postgres://host",
        "postgresql://me:p@/fleet?host=/run/pg&port=5433",
        "postgresql:///fleet",
        "postgresql://me@[::1]:5432/fleet",
        "postgresql://one:5432,two/fleet?target_session_attrs=read-write",
        "postgresql://me:p@%2Frun%2Fpg/fleet",
    ],
)
def test_a_database_url_that_libpq_reads_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    read = config.load().database_url
    assert read is not None
    assert read.get_secret_value() == url


def test_a_mistyped_name_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCIALFLEET_STATEDIR", "/srv/fleet")
    Path(".env").write_text("X_CONSUMER_KEYS=k\nOPENAI_KEY=k\nSOCIALFLEET_PORT=1\nOTHER=1\n")
    with pytest.raises(config.ConfigError) as caught:
        config.load()
    faults = dict(line.split(": ", 1) for line in str(caught.value).split("\n"))
    assert faults.keys() == {"SOCIALFLEET_STATEDIR", "X_CONSUMER_KEYS", "OPENAI_KEY", "SOCIALFLEET_PORT"}
    assert faults["SOCIALFLEET_STATEDIR"].endswith("did you mean SOCIALFLEET_STATE_DIR?")
    assert faults["X_CONSUMER_KEYS"].endswith("did you mean X_CONSUMER_KEY?")


def test_names_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("X_SERVER", "OPENAI_ORG_ID", "SOCIALFLEET_CRASH_AT"):
        monkeypatch.setenv(name, "1")
    Path(".env").write_text("SOCIALFLEET_CRASH_AT=later\nDATABASE_NAME=1\n")
    assert config.load().database_url is None


def test_the_way_around_a_pooler_needs_the_way_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCIALFLEET_DIRECT_DATABASE_URL", "postgresql://me:hidden@db:5432/fleet")
    with pytest.raises(config.ConfigError, match="SOCIALFLEET_DIRECT_DATABASE_URL: needs DATABASE_URL"):
        config.load()
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hidden@pooler:6432/fleet")
    found = config.load().socialfleet_direct_database_url
    assert found is not None
    assert found.get_secret_value() == "postgresql://me:hidden@db:5432/fleet"
    monkeypatch.setenv("SOCIALFLEET_DIRECT_DATABASE_URL", "mysql://me:hidden@db/fleet")
    with pytest.raises(config.ConfigError, match="must be a URL that starts with postgresql") as caught:
        config.load()
    assert "hidden" not in str(caught.value)


def test_the_account_is_a_lower_case_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.load().socialfleet_account is None
    monkeypatch.setenv("SOCIALFLEET_ACCOUNT", "sandbox")
    assert config.load().socialfleet_account == "sandbox"
    monkeypatch.setenv("SOCIALFLEET_ACCOUNT", "Sand Box")
    with pytest.raises(
        config.ConfigError, match="SOCIALFLEET_ACCOUNT is 'Sand Box': must be a lower-case name"
    ):
        config.load()


def test_the_place_is_read_whatever_the_rest_says() -> None:
    Path(".env").write_text("SOCIALFLEET_STATE_DIR=here\nSOCIALFLEET_CONSOLE_PORT=many\nX_CONSUMER_KEY=k\n")
    assert config.load_place().state_dir == Path.cwd() / "here"


def test_white_space_in_a_database_url_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hid den@host/db")
    with pytest.raises(config.ConfigError, match="DATABASE_URL: holds white space") as caught:
        config.load()
    assert "den@" not in str(caught.value)
