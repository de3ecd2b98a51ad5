from pathlib import Path

import pytest

from config import Config
from workers.context import Context, default_account
from workers.errors import NeedNotMetError


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOCIALFLEET_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:url%40secret@db/fleet")
    monkeypatch.setenv("X_BEARER_TOKEN", "bearer-secret")
    (tmp_path / "dsn").mkdir()
    (tmp_path / "dsn" / "worker").write_text("postgresql://fleet_worker:dsn-secret@/fleet?host=/run\n")
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "credentials.json").write_text(
        '{"x_access_token": "token-secret", "user_id": "1"}'
    )
    return Config()


def test_every_secret_that_the_process_knows_is_named_for_the_logs(config: Config) -> None:
    secrets = Context(config=config, account="sandbox").secrets()
    assert {"url%40secret", "url@secret", "bearer-secret", "dsn-secret", "token-secret"} <= set(secrets)


def test_without_credentials_the_account_is_the_sandboxs(config: Config) -> None:
    assert default_account(config) == "sandbox"


def test_a_worker_run_by_hand_acts_for_the_account_of_its_fleet(config: Config) -> None:
    (config.state_dir / "account").write_text("default\n")
    assert default_account(config) == "default"


def test_credentials_that_are_missing_are_a_persons_matter(config: Config) -> None:
    with pytest.raises(NeedNotMetError, match=r"credentials\.json can't be read"):
        _ = Context(config=config, account="sandbox").x_credentials
