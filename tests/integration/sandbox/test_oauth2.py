"""OAuth 2.0: the code flow with PKCE, tokens that serve once, scopes; by tweepy's own handler."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import tweepy

from tests.integration.sandbox.running import Sandbox, running, write_world

ALL = ("tweet.read", "tweet.write", "users.read", "offline.access")
CALLBACK = "https://fleet.example/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BAD_TOKEN = {
    "error": "invalid_request",
    "error_description": "Value passed for the token was invalid.",
}
BAD_CODE = {
    "error": "invalid_request",
    "error_description": "Value passed for the authorization code was invalid.",
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    directory = tmp_path_factory.mktemp("oauth2")
    world = write_world(directory / "world.csv", [("ada", "Tea")])
    with running(directory / "state", "--world", world, "--people", "5") as started:
        yield started


def asked(sandbox: Sandbox, **changed: str) -> requests.Response:
    """A request to authorize, its parameters good unless changed."""
    parameters = {
        "response_type": "code",
        "client_id": sandbox.keys["x_client_id"],
        "redirect_uri": CALLBACK,
        "scope": " ".join(ALL),
        "state": "my state",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changed,
    }
    path = f"{sandbox.url}/i/oauth2/authorize"
    return requests.get(path, params=parameters, allow_redirects=False, timeout=10)


def a_code(sandbox: Sandbox) -> str:
    return parse_qs(urlsplit(asked(sandbox).headers["location"]).query)["code"][0]


def exchange(sandbox: Sandbox, code: str, **changed: str) -> requests.Response:
    form = {"redirect_uri": CALLBACK, "code_verifier": VERIFIER, **changed}
    return sandbox.token(grant_type="authorization_code", code=code, **form)


def refresh(sandbox: Sandbox, token: str) -> requests.Response:
    return sandbox.token(grant_type="refresh_token", refresh_token=token)


def me(sandbox: Sandbox, token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{sandbox.url}/2/users/me", headers=headers, timeout=10)


def test_tweepys_own_flow_ends_with_a_user_who_posts(sandbox: Sandbox) -> None:
    granted = sandbox.authorize(*ALL)
    assert (granted["token_type"], granted["expires_in"]) == ("bearer", 7200)
    assert granted["refresh_token"]
    client = sandbox.oauth2_client(granted["access_token"])
    assert client.get_me(user_auth=False).data.username == "fleet"
    made = client.create_tweet(text="By OAuth 2.0", user_auth=False).data
    assert sandbox.own("writes")[-1]["id"] == made["id"]


def test_a_refresh_token_serves_once_and_its_second_use_ends_the_family(sandbox: Sandbox) -> None:
    first = exchange(sandbox, a_code(sandbox)).json()
    second = refresh(sandbox, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert me(sandbox, second["access_token"]).status_code == 200
    third = refresh(sandbox, second["refresh_token"]).json()
    stolen = refresh(sandbox, first["refresh_token"])
    assert (stolen.status_code, stolen.json()) == (400, BAD_TOKEN)
    for token in (first, second, third):
        assert me(sandbox, token["access_token"]).status_code == 401
    assert refresh(sandbox, third["refresh_token"]).json() == BAD_TOKEN


def test_another_authorization_is_another_family(sandbox: Sandbox) -> None:
    burnt = exchange(sandbox, a_code(sandbox)).json()
    other = exchange(sandbox, a_code(sandbox)).json()
    for _ in range(2):
        refresh(sandbox, burnt["refresh_token"])
    assert me(sandbox, burnt["access_token"]).status_code == 401
    assert me(sandbox, other["access_token"]).status_code == 200


def test_a_code_serves_once_and_its_second_use_ends_what_came_of_it(sandbox: Sandbox) -> None:
    code = a_code(sandbox)
    granted = exchange(sandbox, code).json()
    again = exchange(sandbox, code)
    assert (again.status_code, again.json()) == (400, BAD_CODE)
    assert me(sandbox, granted["access_token"]).status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": "guess" * 10},
        {"redirect_uri": "https://elsewhere.example/"},
        {"code_verifier": ""},
    ],
)
def test_a_code_is_worth_nothing_without_its_verifier_and_address(
    sandbox: Sandbox, changed: dict[str, str]
) -> None:
    code = a_code(sandbox)
    assert exchange(sandbox, code, **changed).json() == BAD_CODE
    assert exchange(sandbox, code).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_id", "guess"),
        ("response_type", "token"),
        ("code_challenge_method", "plain"),
        ("code_challenge", "short"),
        ("redirect_uri", "javascript:alert(1)"),
        ("scope", "tweet.read everything"),
        ("state", ""),
    ],
)
def test_a_bad_request_to_authorize_names_the_parameter(sandbox: Sandbox, name: str, value: str) -> None:
    refused = asked(sandbox, **{name: value})
    assert refused.status_code == 400
    assert name in str(refused.json())


def test_the_state_comes_back_as_it_was(sandbox: Sandbox) -> None:
    location = urlsplit(asked(sandbox).headers["location"])
    assert location._replace(query="").geturl() == CALLBACK
    assert parse_qs(location.query)["state"] == ["my state"]


def test_a_stranger_gets_no_token(sandbox: Sandbox) -> None:
    form = {"grant_type": "authorization_code", "code": a_code(sandbox), "code_verifier": VERIFIER}
    path = f"{sandbox.url}/2/oauth2/token"
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"auth": (sandbox.keys["x_client_id"], "guess")},
        {"headers": {"Authorization": "Basic %%%"}},
    )
    for options in wrong:
        refused = requests.post(path, data=form, timeout=10, **options)
        assert refused.status_code == 401
        assert refused.json() == {
            "error": "unauthorized_client",
            "error_description": "Missing valid authorization header",
        }
    public = {**form, "redirect_uri": CALLBACK, "client_id": sandbox.keys["x_client_id"]}
    assert requests.post(path, data=public, timeout=10).status_code == 200
    assert sandbox.token(grant_type="password").json()["error"] == "unsupported_grant_type"


def test_without_offline_access_there_is_nothing_to_refresh(sandbox: Sandbox) -> None:
    assert "refresh_token" not in sandbox.authorize("tweet.read", "users.read")


def test_a_token_does_what_its_scopes_allow_and_no_more(sandbox: Sandbox) -> None:
    token = sandbox.authorize("tweet.read", "users.read")["access_token"]
    client = sandbox.oauth2_client(token)
    assert client.search_recent_tweets("tea", user_auth=False).data
    with pytest.raises(tweepy.Forbidden):
        client.create_tweet(text="Not allowed", user_auth=False)
    with pytest.raises(tweepy.Forbidden):
        client.like(1, user_auth=False)


def test_bookmarks_want_oauth_2_0(sandbox: Sandbox) -> None:
    refused = sandbox.call("GET", f"/2/users/{sandbox.keys['user_id']}/bookmarks")
    assert refused.status_code == 403
    assert "OAuth 1.0a User Context is forbidden for this endpoint" in refused.json()["detail"]


def test_a_revoked_token_takes_its_family_along(sandbox: Sandbox) -> None:
    granted = exchange(sandbox, a_code(sandbox)).json()
    auth = (sandbox.keys["x_client_id"], sandbox.keys["x_client_secret"])
    form = {"token": granted["access_token"], "token_type_hint": "access_token"}
    revoked = requests.post(f"{sandbox.url}/2/oauth2/revoke", data=form, auth=auth, timeout=10)
    assert (revoked.status_code, revoked.json()) == (200, {"revoked": True})
    assert me(sandbox, granted["access_token"]).status_code == 401
    assert refresh(sandbox, granted["refresh_token"]).json() == BAD_TOKEN


def test_tokens_outlive_a_killed_sandbox_and_stand_nowhere_in_its_file(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    state = tmp_path_factory.mktemp("killed") / "state"
    with running(state, "--people", "5", "--posts", "20") as first:
        granted = first.authorize(*ALL)
        first.process.kill()
        first.process.wait(5)
    with running(state, "--people", "5", "--posts", "20") as second:
        assert me(second, granted["access_token"]).status_code == 200
        assert refresh(second, granted["refresh_token"]).status_code == 200
        assert refresh(second, granted["refresh_token"]).json() == BAD_TOKEN
    kept = b"".join(path.read_bytes() for path in state.glob("x.sqlite*"))
    assert granted["access_token"].encode() not in kept
    assert granted["refresh_token"].encode() not in kept
