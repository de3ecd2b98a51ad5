"""Which account a configuration means: the sandbox's own, or a real one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from config import X_CREDENTIALS, Config
from host.x_account import CredentialsMissingError, choose, get_json, sandbox_health

KEYS = dict.fromkeys(X_CREDENTIALS, "value")


class Handler(BaseHTTPRequestHandler):
    """Answers as the sandbox's health does."""

    tier: object = "free"

    def do_GET(self) -> None:
        body = json.dumps({"sandbox": "x", "tier": self.tier}).encode()
        self.send_response(200 if self.path == "/_sandbox/health" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Say nothing."""


@pytest.fixture
def sandbox() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*X_CREDENTIALS, "x_api_url", "x_tier"):
        monkeypatch.delenv(name.upper(), raising=False)


def config(**values: object) -> Config:
    return Config.model_validate(values)


def test_without_anything_it_is_the_fleets_own_sandbox() -> None:
    account = choose(config(socialfleet_sandbox_port=8791))
    assert (account.name, account.api_url, account.sandbox) == ("sandbox", "http://127.0.0.1:8791", True)


def test_credentials_alone_mean_x_itself() -> None:
    account = choose(config(**KEYS))
    assert (account.name, account.api_url, account.sandbox) == ("default", "https://api.x.com", False)


def test_a_sandbox_that_answers_on_loopback_is_one(sandbox: str) -> None:
    account = choose(config(x_api_url=sandbox, **KEYS))
    assert (account.name, account.api_url, account.sandbox) == ("sandbox", sandbox, True)


def test_the_fleets_own_sandbox_allows_everything_unless_a_person_says_otherwise() -> None:
    assert choose(config(x_tier="free")).tier == "enterprise"
    assert choose(config(), sandbox_tier="pay_per_use").tier == "pay_per_use"


def test_a_real_account_has_the_tier_that_the_environment_says() -> None:
    assert choose(config(**KEYS)).tier == "pay_per_use"
    assert choose(config(x_tier="enterprise", **KEYS)).tier == "enterprise"


@pytest.mark.parametrize(
    ("said", "tier"), [("free", "free"), ("gold", "enterprise"), (None, "enterprise"), ([], "enterprise")]
)
def test_a_sandbox_that_a_person_runs_says_its_own_tier(
    sandbox: str, monkeypatch: pytest.MonkeyPatch, said: object, tier: str
) -> None:
    monkeypatch.setattr(Handler, "tier", said)
    assert choose(config(x_api_url=sandbox, x_tier="pay_per_use", **KEYS)).tier == tier


def test_what_does_not_answer_as_one_is_taken_for_real() -> None:
    assert not choose(config(x_api_url="http://127.0.0.1:1", **KEYS)).sandbox
    assert not choose(config(x_api_url="https://x.example", **KEYS)).sandbox


def test_an_x_without_credentials_names_the_variables() -> None:
    with pytest.raises(CredentialsMissingError, match=r"X_API_URL is 'https://x\.example'.*X_CONSUMER_KEY"):
        choose(config(x_api_url="https://x.example"))


def test_health_is_a_200_with_an_object_or_nothing(sandbox: str) -> None:
    assert sandbox_health(sandbox) == {"sandbox": "x", "tier": "free"}
    assert get_json(sandbox, "/other") is None
    assert sandbox_health("http://127.0.0.1:1") is None
