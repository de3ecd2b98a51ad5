"""A sandbox as its own process, and the clients that tests drive it with."""

import csv
import json
import select
import subprocess
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
import tweepy
from requests_oauthlib import OAuth1 as TypedOAuth1

START_S = 30

Flow: Any = tweepy.OAuth2UserHandler

# Its types want keywords for what everybody gives in order.
OAuth1: Any = TypedOAuth1


class Redirected(requests.Session):
    """Sends to the sandbox what is meant for X."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def request(self, method: str, url: str, **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().request(method, url.replace("https://api.twitter.com", self._url), **options)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A running sandbox: its process, address and credentials."""

    process: subprocess.Popen[str]
    url: str
    keys: dict[str, str]

    def client(self, **options: Any) -> Any:
        """tweepy's own client, sent here instead of to X."""
        return self._redirected(
            tweepy.Client(
                bearer_token=self.keys["x_bearer_token"],
                consumer_key=self.keys["x_consumer_key"],
                consumer_secret=self.keys["x_consumer_secret"],
                access_token=self.keys["x_access_token"],
                access_token_secret=self.keys["x_access_token_secret"],
                **options,
            )
        )

    def oauth2_client(self, access_token: str, **options: Any) -> Any:
        """tweepy's own client with an OAuth 2.0 user token, sent here instead of to X."""
        return self._redirected(tweepy.Client(access_token, **options))

    def _redirected(self, client: Any) -> Any:
        client.session.close()
        client.session = Redirected(self.url)
        return client

    def authorize(self, *scopes: str, handler: Any = None) -> dict[str, Any]:
        """An OAuth 2.0 token for these scopes, by tweepy's own flow with PKCE."""
        with handler or self.oauth2_handler(*scopes) as flow:
            asked = requests.get(
                flow.get_authorization_url().replace("https://twitter.com", self.url),
                allow_redirects=False,
                timeout=10,
            )
            assert asked.status_code == 302, asked.text
            return dict(flow.fetch_token(asked.headers["location"]))

    def oauth2_handler(self, *scopes: str) -> Any:
        """tweepy's handler of the flow, sent here instead of to X."""
        here = self.url

        class Handler(Flow):
            def request(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:
                # requests-oauthlib wants TLS; the sandbox is on loopback.
                if url.startswith("https://api.twitter.com/2/oauth2"):
                    form = options["data"]
                    return requests.request(
                        method,
                        url.replace("https://api.twitter.com", here),
                        data=form,
                        auth=options["auth"],
                        timeout=10,
                    )
                return Flow.request(self, method, url, *arguments, **options)

        return Handler(
            client_id=self.keys["x_client_id"],
            client_secret=self.keys["x_client_secret"],
            redirect_uri="https://fleet.example/callback",
            scope=list(scopes),
        )

    def token(self, **form: str) -> requests.Response:
        """A request to the token endpoint as the confidential client."""
        auth = (self.keys["x_client_id"], self.keys["x_client_secret"])
        return requests.post(f"{self.url}/2/oauth2/token", data=form, auth=auth, timeout=10)

    def call(self, method: str, path: str, *, secret: str | None = None, **options: Any) -> requests.Response:
        """A request signed as the account; another `secret` forges it."""
        names = ("x_consumer_key", "x_consumer_secret", "x_access_token")
        token_secret = secret or self.keys["x_access_token_secret"]
        auth = OAuth1(*(self.keys[name] for name in names), token_secret)
        return requests.request(method, self.url + path, auth=auth, timeout=10, **options)

    def bearer(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request with the app-only token."""
        headers = {"Authorization": f"Bearer {self.keys['x_bearer_token']}"}
        return requests.request(method, self.url + path, headers=headers, timeout=10, **options)

    def own(self, name: str) -> Any:
        """What the sandbox says of itself."""
        return requests.get(f"{self.url}/_sandbox/{name}", timeout=10).json()


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sandbox", "x", *map(str, arguments)]


@contextmanager
def running(state: Path, *arguments: str | Path) -> Generator[Sandbox]:
    process = subprocess.Popen(
        command("--port", "0", "--state", state, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    with process, process.stdout, process.stderr:
        try:
            assert select.select([process.stdout], [], [], START_S)[0], "the sandbox said nothing"
            line = process.stdout.readline()
            assert line.startswith("sandbox: X at http://127.0.0.1:"), line + process.stderr.read()
            keys = json.loads((state / "credentials.json").read_text())
            yield Sandbox(process=process, url=line.split()[3], keys=keys)
        finally:
            process.kill()


def write_world(path: Path, posts: Iterable[tuple[str, str]]) -> Path:
    """A world of these posts, each an author and a text, a minute apart; its people don't talk."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["created_at", "user", "text"])
        for number, (user, text) in enumerate(posts):
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
            rows.writerow([at.isoformat(), user, text])
    return path
