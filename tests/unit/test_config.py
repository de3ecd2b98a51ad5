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


def test_two_servers_can_not_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCIALFLEET_CONSOLE_PORT", "8790")
    with pytest.raises(config.ConfigError, match="both 8790: they must differ"):
        config.load()


def test_no_secret_shows_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "OPENAI_API_KEY", *(name.upper() for name in config.X_CREDENTIALS)):
        monkeypatch.setenv(name, "postgresql://u:canary@h/d")
    assert "canary" not in repr(config.load())
